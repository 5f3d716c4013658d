"""Runs that were never trained, drawn like the recorded ones: what the gate's self-test judges.

Sixteen recorded runs cannot be divided anew thousands of times, so runs are drawn from a smooth distribution around
them, on the logarithms of the features, all features of a run together:

    x* = m + a ((x_i - m) + h e) / sqrt(1 + h^2),    e = c sum_j g_j (x_j - m) / sqrt(n0)

i is a random stored run, g_j are standard normal, ``h = (4 / (3 n0))^(1/5)`` (Silverman 1986, eq. 3.28), and c makes
e a multivariate t with 5 degrees of freedom and the covariance of the runs. With ``a = sqrt(n0 / (n0 - 1))`` mean and
covariance of x* are exactly the recorded ones. The centres keep what the recorded runs show of skewness; the t kernel
gives every direction tails far heavier than normal ones, which so few runs could neither show nor exclude: a gate that
holds its rate here holds it on runs that are better behaved. A drawn run becomes a `RunRecord` whose features are these
values and nothing else, and goes through the judge that real ones go through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.features import LOSS, WINDOWS
from rectest.baseline.schema import Baseline
from rectest.environment import Environment
from rectest.record import RunRecord, RunSpec

__all__ = ["KERNEL_DF", "Runs", "bandwidth", "drawn", "runs_of", "stored_logs"]

Array: TypeAlias = NDArray[np.float64]

KERNEL_DF = 5.0
"""Degrees of freedom of the smoothing kernel: the heaviest tails with which the witness rule was designed to live."""

_FIRST_SEED = 1_000_000
"""Drawn runs have seeds that nothing is stored for: there is no bit and no pair to compare them with."""


def stored_logs(baseline: Baseline) -> Array:
    """[n0, F] logarithms of the stored values, features in the order of the baseline."""
    return np.log(np.array(list(baseline.ensemble.features.values()), np.float64)).T


def bandwidth(num_stored: int) -> float:
    """Smoothing of one coordinate, in standard deviations.

    >>> round(bandwidth(16), 2)
    0.61
    """
    return math.pow(4 / (3 * num_stored), 0.2)


def drawn(stored: Array, rng: np.random.Generator, size: int, *, kernel_df: float = KERNEL_DF) -> Array:
    """[size, F] new runs from the smoothed distribution around the runs of `stored` [n0, F].

    Raises:
        ValueError: fewer than two stored runs, or a kernel without a variance.
    """
    if stored.ndim != 2 or len(stored) < 2 or not kernel_df > 2:
        msg = f"needed [runs, features] with two runs or more and kernel_df > 2, got {stored.shape} and {kernel_df!r}"
        raise ValueError(msg)
    num_stored = len(stored)
    middle = stored.mean(axis=0)
    apart, width = stored - middle, bandwidth(num_stored)
    normal = rng.standard_normal((size, num_stored)) @ apart / math.sqrt(num_stored)
    if math.isfinite(kernel_df):
        normal *= np.sqrt((kernel_df - 2) / rng.chisquare(kernel_df, (size, 1)))
    chosen = apart[rng.integers(0, num_stored, size)]
    found: Array = middle + math.sqrt(num_stored / (num_stored - 1)) * (chosen + width * normal) / math.hypot(1, width)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Turns logarithms of features into what the judge reads."""

    baseline: Baseline
    names: tuple[str, ...]
    specs: tuple[RunSpec, ...]
    """One per run of a gate."""

    environment: Environment
    gate: dict[str, object]
    curves: tuple[tuple[str, tuple[int, ...]], ...]
    """Array key, and the columns whose values are its entries; a curve of 3, 2 or 1 evaluations has one in each of its
    windows."""

    def stored(self, logs: Array) -> Baseline:
        """The baseline with other stored runs, [n0, F]; everything else is as it is."""
        features = dict(zip(self.names, map(tuple, np.exp(logs).T.tolist()), strict=True))
        # Copies are not validated again, which would take longer than the judge does.
        seeds = self.baseline.ensemble.seeds[: len(logs)]
        ensemble = self.baseline.ensemble.model_copy(update={"features": features, "seeds": seeds, "twins": {}})
        return self.baseline.model_copy(update={"ensemble": ensemble})

    def new(self, logs: Array) -> list[RunRecord]:
        """One record for each row of [k, F], k at most the number of `specs`."""
        values, facts = np.exp(logs), {"gate": self.gate, "inputs": {"world": self.baseline.world_digest}}
        return [
            RunRecord(
                spec=self.specs[place],
                environment=self.environment,
                arrays={key: row[list(columns)] for key, columns in self.curves},
                facts=facts,
            )
            for place, row in enumerate(values)
        ]


def runs_of(baseline: Baseline, *, max_runs: int) -> Runs:
    """The maker of runs of this baseline's kind."""
    names = tuple(baseline.ensemble.features)
    spec = RunSpec(
        system=baseline.system,
        world=baseline.world,
        steps=baseline.spec.steps,
        eval_every=baseline.spec.eval_every,
        config=baseline.spec.config,
    )
    measures = [name.removeprefix("test/") for name in names if name.startswith("test/")]
    return Runs(
        baseline=baseline,
        names=names,
        specs=tuple(spec.with_(seed=_FIRST_SEED + place) for place in range(max_runs)),
        environment=baseline.exact[baseline.ensemble.fingerprint].described(),
        gate={"metrics": measures, "loss": any(name.startswith(f"{LOSS}/") for name in names)},
        curves=tuple(_curves(names)),
    )


def _curves(names: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    windows: dict[str, dict[str, int]] = {}
    for column, name in enumerate(names):
        stem, _, part = name.rpartition("/")
        if part in WINDOWS:
            windows.setdefault(stem, {})[part] = column
        else:
            found.append((f"metric/{name}", (column,)))
    for stem, columns in windows.items():
        key = "loss/total" if stem == LOSS else f"metric/{stem}"
        found.append((key, _columns(columns)))
    return found


def _columns(windows: dict[str, int]) -> tuple[int, ...]:
    """Entries of a curve by window; a window that is not judged borrows the value of another one."""
    least = 3 if "mid" in windows else 2 if "early" in windows else 1
    wanted = {3: WINDOWS, 2: ("early", "late"), 1: ("late",)}[least]
    any_of = next(iter(windows.values()))
    return tuple(windows.get(part, any_of) for part in wanted)
