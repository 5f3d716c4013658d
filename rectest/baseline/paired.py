"""The paired lane: the same seed then and now, with rounding as the only noise between them.

Two runs that draw the same random numbers differ by rounding only, unless the code computes something else. How far
rounding carries a run is measured, not guessed: each stored seed has a twin that began one float away. A difference
beyond that is a change of the code or of the environment; whether it is a change for the worse is for the ensemble
lane. Which stored bits are equal is for `judge`, and what the lanes say together for `levels`.

    streams   digests of the first batches and negatives equal, first initial values equal up to rounding
    protocol  as many users, steps and groups of arrays as when stored; looked at without a pair, too
    gradients lengths of the first step's, within ten twin differences: see `first_gradients`
    prefix    |loss_t - stored loss_t| <= max(10 x largest twin difference so far, 1e-4 x stored loss), 50 steps
    windows   |D_f| <= t(alpha w_f / 2, n0) s_d,  D_f = ln feature - ln stored feature of the same seed
              s_d = rms of ln twin - ln run over the n0 stored seeds, at least 0.1 run-to-run sd
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.ensemble import feature_floor, percent, relative_change, signed_logs
from rectest.baseline.exact import differing_groups, digests, final_values
from rectest.baseline.features import raw_feature, weights
from rectest.baseline.first_gradients import moved_gradient
from rectest.baseline.power import t_quantile
from rectest.baseline.schema import Baseline
from rectest.baseline.sequential import Decision
from rectest.baseline.sidecar import PREFIX_STEPS, Sidecar, prefix_digest
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = ["Pairing", "PairingState", "Prefix", "Window", "judge_pair", "pairs_exclude", "prefix_of"]

ALPHA = 1e-3
"""False-alarm rate of the windows of one pair when nothing but rounding differs."""

MISS = 1e-3
"""Probability with which pairs exclude a change that is there: hardly more than nothing beside the gate's 0.1."""

ENVELOPE_FACTOR = 10.0
LEAST_ENVELOPE = 1e-4
"""Relative to the loss. Of the 80 stored twins of five systems 2 lie beyond what their 15 fellows allow, at most one of
a system, which a test counts again: therefore one pair beyond is not a change yet."""

INIT_TOLERANCE = 1e-4
"""Relative difference of initial values that rounding, or another library's initialiser formula, stays far below, and
another draw does not."""

LEAST_SHARE = 0.1
"""Smallest twin sd that is believed, as a share of the run-to-run sd: twins of short runs are often bit-equal."""

_DISCRETE = ("id_map", "batches")
"""Groups of bits without arithmetic in them: rounding never changes those."""


class PairingState(StrEnum):
    """How a run stands to the stored run of its own seed."""

    NO_PAIR = "no pair"
    OTHER_PROTOCOL = "other protocol"
    """Fewer users are scored, or less is recorded, or more or fewer steps are trained: no environment explains it."""

    OTHER_STREAMS = "other streams"
    """Something without arithmetic differs: random numbers, ids, batches, initial draws."""

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
class Window:
    """One feature of a pair, on the log scale and in the direction in which down is worse."""

    name: str
    stored: float
    obtained: float
    shift: float
    """D_f; NaN or infinite where `obtained` has no logarithm."""

    sd: float
    """s_d, what rounding alone does to the shift."""

    limit: float

    @property
    def within(self) -> bool:
        """Whether rounding explains the shift."""
        return abs(self.shift) <= self.limit


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """What the comparison of one run with the stored run of its seed found."""

    state: PairingState
    figure: str
    """The fact that decided, for people."""

    seed: int
    prefix: Prefix | None = None
    windows: tuple[Window, ...] = ()
    """One per feature, in the order of the baseline; none where the lane ended before them."""


def judge_pair(record: RunRecord, baseline: Baseline, sidecar: Sidecar | None) -> Pairing:
    """Hold a run against the stored run of its seed; settings and world are known to be the same."""
    seed = record.spec.seed
    protocol = _other_users(record, baseline) or _less_recorded(record, baseline) or _other_length(record, sidecar)
    if protocol:
        return Pairing(state=PairingState.OTHER_PROTOCOL, figure=protocol, seed=seed)
    missing = _no_pair(record, baseline, sidecar)
    if missing or sidecar is None:
        return Pairing(state=PairingState.NO_PAIR, figure=missing, seed=seed)
    other = _other_streams(record, baseline, sidecar) or _never_rounded(record, baseline, sidecar)
    if other:
        return Pairing(state=PairingState.OTHER_STREAMS, figure=other, seed=seed)
    prefix = prefix_of(record, sidecar)
    try:
        windows = tuple(_windows(record, baseline))
    except RecordError as e:
        return Pairing(state=PairingState.BEYOND, figure=str(e), seed=seed, prefix=prefix)
    beyond = moved_gradient(record, sidecar) or _outside_prefix(prefix) or _outside_windows(windows)
    if beyond:
        return Pairing(state=PairingState.BEYOND, figure=beyond, seed=seed, prefix=prefix, windows=windows)
    worst = float(np.max(np.abs(prefix.obtained - prefix.stored) / np.maximum(prefix.envelope, np.finfo(float).tiny)))
    figure = f"the first {len(prefix.stored)} losses use {100 * worst:.2g} % of what rounding explains"
    return Pairing(state=PairingState.WITHIN, figure=figure, seed=seed, prefix=prefix, windows=windows)


def prefix_of(record: RunRecord, sidecar: Sidecar) -> Prefix:
    """The first losses of a run beside those of its seed, which must be stored.

    A run with fewer losses than are stored is outside from its first missing one on.
    """
    row = sidecar.row(record.spec.seed)
    stored = _without_padding(sidecar["prefix/loss"][row])
    obtained = np.full(len(stored), np.nan)
    losses = np.asarray(record["loss/total"], np.float64)[: len(stored)]
    obtained[: len(losses)] = losses
    apart = np.abs(sidecar["prefix/twin"] - sidecar["prefix/loss"])[:, : len(stored)]
    # A twin that ended earlier or diverged explains nothing.
    largest = np.maximum.accumulate(np.where(np.isfinite(apart), apart, 0.0).max(axis=0))
    envelope = np.maximum(ENVELOPE_FACTOR * largest, LEAST_ENVELOPE * np.abs(stored))
    return Prefix(stored=stored, obtained=obtained, envelope=envelope)


def pairs_exclude(pairings: Sequence[Pairing], decision: Decision, *, num_stored: int) -> bool:
    """Whether pairs rule out every drop and rise that the gate promises to see.

    Twins may lie as far apart as seeds do. A pair within such wide limits says that rounding explains the difference,
    and nothing about quality. With k pairs, a chaotic one among them: ``mean D_f + delta_f > t(MISS, n0) s_d /
    sqrt(k)``, and the same upwards.
    """
    for place, (drop, rise) in enumerate(zip(decision.drops, decision.rises, strict=True)):
        found = [pairing.windows[place] for pairing in pairings if pairing.windows]
        if len(found) < len(pairings):
            return False
        shift = math.fsum(window.shift for window in found) / len(found)
        least = t_quantile(MISS, float(num_stored)) * found[0].sd / math.sqrt(len(found))
        if not (shift + drop.delta > least and rise.delta - shift > least):
            return False
    return True


def _no_pair(record: RunRecord, baseline: Baseline, sidecar: Sidecar | None) -> str:
    """Why there is nothing to pair a run with; empty where there is."""
    if sidecar is None or "prefix/twin" not in sidecar or not baseline.ensemble.twins:
        return "the baseline has no rounding twins; record it anew to have them"
    row = sidecar.row(record.spec.seed)
    if row is None:
        return f"seed {record.spec.seed} is not among the stored ones"
    if "loss/total" not in record:
        return "the run has no loss curve"
    if not _without_padding(sidecar["prefix/loss"][row]).size:
        return f"no finite loss is stored for seed {record.spec.seed}"
    return ""


def _without_padding(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the NaNs behind the last stored loss of a shorter run."""
    known = np.flatnonzero(np.isfinite(row))
    return row[: int(known[-1]) + 1 if known.size else 0]


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
    close = np.abs(obtained - known_init) <= INIT_TOLERANCE * np.maximum(np.abs(known_init), np.abs(obtained))
    if not close.all():
        return f"{int((~close).sum())} of {close.size} initial values that were looked at are other draws"
    return ""


def _other_users(record: RunRecord, baseline: Baseline) -> str:
    """The split of which fewer users are scored than in any stored run, in words; empty where there is none.

    Where a seed draws the users, one that is not stored may score fewer by chance: by five binomial sds at most.
    """
    stored = record.spec.seed in baseline.ensemble.seeds
    for split, known in baseline.ensemble.num_scored.items():
        obtained = (record.facts.get("protocol") or {}).get(split, {}).get("num_scored")
        if obtained is None or obtained < known - (0 if stored else 5 * math.sqrt(known)):
            return f"{obtained or 'an unknown number of'} users of {split} are scored, stored {known}"
    return ""


def _less_recorded(record: RunRecord, baseline: Baseline) -> str:
    """What stored runs have and this one has not, in words; empty where nothing is missing."""
    stored = next(iter(next(iter(baseline.exact.values())).seeds.values()))
    missing = [*(stored.digests.keys() - digests(record).keys()), *(stored.values.keys() - final_values(record).keys())]
    return f"no longer recorded: {', '.join(sorted(missing))}" if missing else ""


def _other_length(record: RunRecord, sidecar: Sidecar | None) -> str:
    """That a run was trained or evaluated for longer or shorter, in words; empty where runs may stop early."""
    stopping = record.facts.get("early_stopping") or {}
    if stopping.get("patience", 0) is not None or sidecar is None or "curve/loss" not in sidecar:
        return ""
    stored = {len(_without_padding(row)) for row in sidecar["curve/loss"]}
    if len(stored) > 1:
        return ""
    lengths = (
        ("steps were trained", "loss/total", stored.pop()),
        ("evaluations were made", "eval/steps", len(sidecar["curve/steps"])),
    )
    for what, key, expected in lengths:
        obtained = len(record.arrays.get(key, ()))
        if obtained != expected:
            return f"{obtained} {what}, stored {expected}, and nothing stops early"
    return ""


def _stored_length(record: RunRecord, sidecar: Sidecar) -> int:
    return len(_without_padding(sidecar["curve/loss"][sidecar.row(record.spec.seed)]))


def _never_rounded(record: RunRecord, baseline: Baseline, sidecar: Sidecar) -> str:
    """What differs from the bits of this seed in this environment and cannot be rounding; empty where nothing does."""
    entry, seed = baseline.exact.get(record.environment.fingerprint), str(record.spec.seed)
    if entry is None or seed not in entry.seeds:
        return ""
    # Where rounding moved an early stop, there are more or fewer batches.
    same_length = _stored_length(record, sidecar) == len(record["loss/total"])
    discrete = _DISCRETE if same_length else _DISCRETE[:1]
    differing = differing_groups(entry.seeds[seed].digests, digests(record))
    if differing == ["tables"]:
        return "the tables are others, although every other stored bit, of losses and metrics too, is equal"
    changed = [name for name in differing if name in discrete]
    return f"the stored bits of {changed[0]} are others, and no arithmetic in them could round" if changed else ""


def _outside_prefix(prefix: Prefix) -> str:
    """The first loss that rounding does not explain, in words; empty where there is none."""
    step = prefix.first_outside
    if step is None:
        return ""
    old, new, most = (float(row[step - 1]) for row in (prefix.stored, prefix.obtained, prefix.envelope))
    return f"first at step {step}: loss {new:.8g}, stored {old:.8g}; rounding explains {most:.2g}"


def _windows(record: RunRecord, baseline: Baseline) -> list[Window]:
    """Every feature of a run beside that of its seed.

    Raises:
        RecordError: the record has no such feature.
    """
    ensemble = baseline.ensemble
    place, shares = ensemble.seeds.index(record.spec.seed), weights(ensemble.features)
    df, found = float(len(ensemble.seeds)), []
    for name, values in ensemble.features.items():
        runs, twins = signed_logs(name, values), signed_logs(name, ensemble.twins[name])
        spread = max(float(runs.std(ddof=1)), feature_floor(name, baseline))
        sd = max(math.sqrt(float(np.mean((twins - runs) ** 2))), LEAST_SHARE * spread)
        obtained = raw_feature(record, name)
        shift = float(signed_logs(name, [obtained])[0] - runs[place]) if obtained > 0 else math.nan
        limit = t_quantile(ALPHA * shares[name] / 2, df) * sd
        found.append(Window(name=name, stored=values[place], obtained=obtained, shift=shift, sd=sd, limit=limit))
    return found


def _outside_windows(windows: Sequence[Window]) -> str:
    """The window that is furthest from what rounding explains, in words; empty where all are within."""
    outside = [window for window in windows if not window.within]
    if not outside:
        return ""
    worst = max(outside, key=lambda window: math.inf if math.isnan(window.shift) else abs(window.shift) / window.limit)
    name, obtained, stored = worst.name, worst.obtained, worst.stored
    if not math.isfinite(worst.shift):
        return f"{name} is {obtained!r}, stored {stored:.6g}"
    return (
        f"{name} is {obtained:.6g}, stored {stored:.6g} ({percent(relative_change(name, worst.shift))}); "
        f"rounding explains {100 * math.expm1(worst.limit):.2g} %"
    )
