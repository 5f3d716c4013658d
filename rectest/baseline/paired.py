"""The paired lane: the same seed then and now, with rounding as the only noise between them.

Two runs that draw the same random numbers differ by rounding only, unless the code computes something else. How far
rounding carries a run is measured, not guessed: each stored seed has a twin that began one float away. A difference
beyond that is a change of the code or of the environment; whether it is a change for the worse is for the ensemble
lane. Which stored bits are equal is for `judge`, and what the lanes say together for `levels`.

    streams   digests of the first batches and negatives equal, first initial values equal up to rounding
    prefix    |loss_t - stored loss_t| <= max(10 x largest twin difference so far, 1e-4 x stored loss), 50 steps
    windows   |ln feature - ln stored feature| <= t(alpha w_f / 2, n0) s_d,  s_d = rms of ln twin - ln run, >= 0.1 sd
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.ensemble import feature_floor, percent, signed_logs
from rectest.baseline.features import raw_feature, weights
from rectest.baseline.power import t_quantile
from rectest.baseline.schema import Baseline
from rectest.baseline.sidecar import PREFIX_STEPS, Sidecar, prefix_digest
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = ["Pairing", "PairingState", "Prefix", "judge_pair", "prefix_of"]

ALPHA = 1e-3
"""False-alarm rate of the windows of one pair when nothing but rounding differs."""

ENVELOPE_FACTOR = 10.0
LEAST_ENVELOPE = 1e-4
"""Relative to the loss. Ten times the largest of 16 twins alone still alarmed on 2 % of clean pairs of a small
transformer; with this floor on none of 96 (`gate` simulations, and again in the self-test of this package)."""

INIT_TOLERANCE = 1e-4
"""Relative difference of initial values that rounding, or another library's initialiser formula, stays far below, and
another draw does not."""

LEAST_SHARE = 0.1
"""Smallest twin sd that is believed, as a share of the run-to-run sd: twins of short runs are often bit-equal."""


class PairingState(StrEnum):
    """How a run stands to the stored run of its own seed."""

    NO_PAIR = "no pair"
    OTHER_STREAMS = "other streams"
    BEYOND = "beyond rounding"
    WITHIN = "within rounding"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """The first losses of a pair."""

    stored: NDArray[np.float64]
    obtained: NDArray[np.float64]
    envelope: NDArray[np.float64]
    """Largest absolute difference that rounding explains, by step."""

    @property
    def first_outside(self) -> int | None:
        """First step (from 1) whose loss is outside the envelope or not finite, or None."""
        outside = np.flatnonzero(~(np.abs(self.obtained - self.stored) <= self.envelope))
        return int(outside[0]) + 1 if outside.size else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """What the comparison of one run with the stored run of its seed found."""

    state: PairingState
    figure: str
    """The fact that decided, for people."""

    seed: int
    prefix: Prefix | None = None


def judge_pair(record: RunRecord, baseline: Baseline, sidecar: Sidecar | None) -> Pairing:
    """Hold a run against the stored run of its seed; settings and world are known to be the same."""
    seed = record.spec.seed
    missing = _no_pair(record, baseline, sidecar)
    if missing or sidecar is None:
        return Pairing(state=PairingState.NO_PAIR, figure=missing, seed=seed)
    other = _other_streams(record, baseline, sidecar)
    if other:
        return Pairing(state=PairingState.OTHER_STREAMS, figure=other, seed=seed)
    prefix = prefix_of(record, sidecar)
    step = prefix.first_outside
    if step is not None:
        old, new, most = (float(row[step - 1]) for row in (prefix.stored, prefix.obtained, prefix.envelope))
        figure = f"first at step {step}: loss {new:.8g}, stored {old:.8g}; rounding explains {most:.2g}"
        return Pairing(state=PairingState.BEYOND, figure=figure, seed=seed, prefix=prefix)
    moved = _moved_window(record, baseline)
    if moved:
        return Pairing(state=PairingState.BEYOND, figure=moved, seed=seed, prefix=prefix)
    worst = float(np.max(np.abs(prefix.obtained - prefix.stored) / np.maximum(prefix.envelope, np.finfo(float).tiny)))
    figure = f"the first {len(prefix.stored)} losses use {100 * worst:.2g} % of what rounding explains"
    return Pairing(state=PairingState.WITHIN, figure=figure, seed=seed, prefix=prefix)


def prefix_of(record: RunRecord, sidecar: Sidecar) -> Prefix:
    """The first losses of a run beside those of its seed, which must be stored.

    A run with fewer losses than are stored is outside from its first missing one on.
    """
    row = sidecar.row(record.spec.seed)
    kept = sidecar["prefix/loss"][row]
    stored = kept[: int(np.isfinite(kept).sum())]
    obtained = np.full(len(stored), np.nan)
    losses = np.asarray(record["loss/total"], np.float64)[: len(stored)]
    obtained[: len(losses)] = losses
    apart = np.abs(sidecar["prefix/twin"] - sidecar["prefix/loss"])[:, : len(stored)]
    largest = np.maximum.accumulate(np.nanmax(np.where(np.isnan(apart), 0.0, apart), axis=0))
    envelope = np.maximum(ENVELOPE_FACTOR * largest, LEAST_ENVELOPE * np.abs(stored))
    return Prefix(stored=stored, obtained=obtained, envelope=envelope)


def _no_pair(record: RunRecord, baseline: Baseline, sidecar: Sidecar | None) -> str:
    """Why there is nothing to pair a run with; empty where there is."""
    if sidecar is None or "prefix/twin" not in sidecar or not baseline.ensemble.twins:
        return "the baseline has no rounding twins; record it anew to have them"
    if sidecar.row(record.spec.seed) is None:
        return f"seed {record.spec.seed} is not among the stored ones"
    if "loss/total" not in record:
        return "the run has no loss curve"
    return ""


def _other_streams(record: RunRecord, baseline: Baseline, sidecar: Sidecar) -> str:
    """Which random stream gave something else than stored; empty where all gave the same."""
    seed = str(record.spec.seed)
    stored = baseline.streams.get(seed)
    if stored is not None:
        for name, stage, known in (("batches", "batch", stored.batches), ("negatives", "negatives", stored.negatives)):
            if prefix_digest(record, stage) != known:
                return f"the {name} of the first {PREFIX_STEPS} steps are not those that seed {seed} drew when stored"
    if "init/first" not in sidecar:
        return ""
    if "init/first" not in record:
        return "the run says nothing about its initial parameters"
    known_init, obtained = sidecar["init/first"][sidecar.row(record.spec.seed)], record["init/first"]
    if known_init.shape != obtained.shape:
        return f"the model has other parameters: {obtained.size} first values, stored {known_init.size}"
    apart = np.abs(obtained - known_init) > INIT_TOLERANCE * np.maximum(np.abs(known_init), np.abs(obtained))
    if apart.any():
        return f"{int(apart.sum())} of {apart.size} initial values that were looked at are other draws"
    return ""


def _moved_window(record: RunRecord, baseline: Baseline) -> str:
    """The window that lies further from its stored value than rounding explains, in words; empty where none does."""
    ensemble = baseline.ensemble
    place, shares = ensemble.seeds.index(record.spec.seed), weights(ensemble.features)
    df = float(len(ensemble.seeds))
    worst, words = 1.0, ""
    for name, values in ensemble.features.items():
        runs, twins = signed_logs(name, values), signed_logs(name, ensemble.twins[name])
        spread = max(float(runs.std(ddof=1)), feature_floor(name, baseline))
        sd = max(math.sqrt(float(np.mean((twins - runs) ** 2))), LEAST_SHARE * spread)
        limit = t_quantile(ALPHA * shares[name] / 2, df) * sd
        try:
            obtained = raw_feature(record, name)
        except RecordError as e:
            return str(e)
        if not obtained > 0:
            return f"{name} is {obtained!r}"
        shift = math.log(obtained / values[place])
        if abs(shift) > worst * limit:
            worst = abs(shift) / limit
            words = (
                f"{name} is {obtained:.6g}, stored {values[place]:.6g} ({percent(math.expm1(shift))}); "
                f"rounding explains {100 * limit:.2g} %"
            )
    return words
