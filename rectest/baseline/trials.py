"""Drawn runs for comparing rules: many baselines, each with a candidate, their features and their curves together.

Each replicate draws a whole new baseline and a candidate from what was recorded, so that the error of the stored mean
and sd is part of every rule's figures. How runs are drawn is for `resample`; who says yes or no to them for `rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.ensemble import feature_floor
from rectest.baseline.features import higher_is_better, split_of
from rectest.baseline.looks import MAX_RUNS, promised_drop
from rectest.baseline.resample import drawn, stored_logs
from rectest.baseline.schema import Baseline
from rectest.baseline.sidecar import Sidecar

__all__ = ["Trial", "declared_drop", "trial_of"]

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Replicates of one question, each a baseline and the runs of one candidate: R replicates, F features."""

    name: str
    """``system`` or ``system@world``."""

    features: tuple[str, ...]
    floors: Array
    """[F] the smallest sds that our gate believes, log scale."""

    stored: Array
    """[R, n0, F] raw values."""

    new: Array
    """[R, k, F] raw values."""

    stored_curves: Mapping[str, Array]
    """By validation feature, [R, n0, evaluations]; empty where the baseline has no curves."""

    new_curves: Mapping[str, Array]

    def worse(self, share: float) -> Trial:
        """The same candidates, each of their metrics worse by `share`; losses stay."""
        factors = np.array([_factor(name, share) for name in self.features])
        curves = {name: curve * _factor(name, share) for name, curve in self.new_curves.items()}
        return replace(self, new=self.new * factors, new_curves=curves)

    def first(self, num: int) -> Trial:
        """The first `num` replicates."""
        curves = ({name: curve[:num] for name, curve in kind.items()} for kind in (self.stored_curves, self.new_curves))
        return replace(
            self,
            stored=self.stored[:num],
            new=self.new[:num],
            stored_curves=next(curves),
            new_curves=next(curves),
        )

    @property
    def finals(self) -> list[int]:
        """Columns of the final test values, which people compare first."""
        return [place for place, name in enumerate(self.features) if split_of(name) == "test"]


def _factor(name: str, share: float) -> float:
    if split_of(name) is None:
        return 1.0
    return 1 - share if higher_is_better(name) else 1 / (1 - share)


def trial_of(
    baseline: Baseline,
    sidecar: Sidecar | None,
    rng: np.random.Generator,
    *,
    num_resamples: int,
    num_new: int = MAX_RUNS,
) -> Trial:
    """Draw baselines and candidates from the recorded runs; a draw has features and curves of one run, on logs.

    Raises:
        ValueError: fewer than one resample or one new run.
    """
    if num_resamples < 1 or num_new < 1:
        msg = f"needed at least one resample and one new run, got {num_resamples} and {num_new}"
        raise ValueError(msg)
    curves = _curves(baseline, sidecar)
    recorded = np.concatenate([stored_logs(baseline), *curves.values()], axis=1)
    num_stored, num_features = len(recorded), len(baseline.ensemble.features)
    values = np.exp(drawn(recorded, rng, num_resamples * (num_stored + num_new)))
    values = values.reshape(num_resamples, num_stored + num_new, -1)
    ends = num_features + np.cumsum([0, *(curve.shape[1] for curve in curves.values())])
    parts = {name: values[..., ends[i] : ends[i + 1]] for i, name in enumerate(curves)}
    return Trial(
        name=baseline.name,
        features=tuple(baseline.ensemble.features),
        floors=np.array([feature_floor(name, baseline) for name in baseline.ensemble.features]),
        stored=values[:, :num_stored, :num_features],
        new=values[:, num_stored:, :num_features],
        stored_curves={name: part[:, :num_stored] for name, part in parts.items()},
        new_curves={name: part[:, num_stored:] for name, part in parts.items()},
    )


def declared_drop(baseline: Baseline) -> float:
    """The smallest drop that the gate promises to catch in one of the metrics: the hardest that it must see."""
    names = [name for name in baseline.ensemble.features if split_of(name) is not None]
    return min(promised_drop(baseline, name) for name in names or baseline.ensemble.features)


def _curves(baseline: Baseline, sidecar: Sidecar | None) -> dict[str, Array]:
    """Logs of the curves [n0, E] of the gated validation measures, where every seed has a value above zero."""
    gated = {name.rpartition("/")[0] for name in baseline.ensemble.features if split_of(name) == "valid"}
    found = {}
    for name in sorted(gated):
        if sidecar is not None and f"curve/{name}" in sidecar:
            curve = np.asarray(sidecar[f"curve/{name}"], np.float64)
            usable = (np.isfinite(curve) & (curve > 0)).all(axis=0)
            if usable.any():
                found[name] = np.log(curve[:, usable])
    return found
