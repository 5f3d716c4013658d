"""How far two runs of the same seed lie apart that were trained in one environment: not at all, by rounding, beyond.

The rule for rounding is that of the paired lane (`paired`), with one of the two runs in the place of the stored one:
the stored twins still say how far rounding carries such a run. Without twins only the floors of that rule are left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from rectest.baseline.ensemble import percent
from rectest.baseline.exact import differing_groups, digests, final_values
from rectest.baseline.features import raw_feature
from rectest.baseline.paired import PairingState, judge_pair
from rectest.baseline.schema import Baseline, ExactEntry, SeedEntry, Streams
from rectest.baseline.sidecar import PREFIX_STEPS, Sidecar, build_sidecar, prefix_digest
from rectest.errors import RecordError
from rectest.record import RunRecord

__all__ = ["Apart", "Pair", "pair_of"]

_MOST_FEATURES = 4


class Apart(StrEnum):
    """How two runs of one seed differ."""

    EQUAL = "equal bit for bit"
    ROUNDING = "equal but for rounding"
    BEYOND = "different beyond rounding"


_ORDER = tuple(Apart)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two commits on the seeds that both trained."""

    apart: Apart
    """Of the seed on which they differ most."""

    seeds: tuple[int, ...]
    first: str = ""
    """First group of arrays that differs, in the order of training; empty where none does."""

    lines: tuple[str, ...] = ()
    """What was found, for people."""


def pair_of(base: Sequence[RunRecord], tree: Sequence[RunRecord], baseline: Baseline, sidecar: Sidecar | None) -> Pair:
    """Compare two commits seed by seed.

    Raises:
        ValueError: they have no seed in common.
    """
    others = {record.spec.seed: record for record in tree}
    pairs = [(record, others[record.spec.seed]) for record in base if record.spec.seed in others]
    if not pairs:
        msg = "base and tree have no seed in common"
        raise ValueError(msg)
    found = [_one(old, new, baseline, sidecar) for old, new in pairs]
    worst = max(found, key=lambda one: _ORDER.index(one[0]))
    seeds = tuple(old.spec.seed for old, _ in pairs)
    lines = [f"{worst[0]}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}", *worst[2]]
    if worst[0] is not Apart.EQUAL:
        lines += [*_environments(*pairs[0]), *_settings(*pairs[0]), *_moved(pairs, baseline)]
    return Pair(apart=worst[0], seeds=seeds, first=worst[1], lines=tuple(lines))


def _one(base: RunRecord, tree: RunRecord, baseline: Baseline, sidecar: Sidecar | None) -> tuple[Apart, str, list[str]]:
    """How far apart, the first group that differs, and lines for people."""
    old, new = digests(base), digests(tree)
    changed = differing_groups(old, new)
    if not changed:
        return Apart.EQUAL, "", []
    count = f"{len(changed)} of {len(old.keys() | new.keys())} groups: {', '.join(changed)}"
    lines = [f"first to differ: {changed[0]} ({count})", _streams(base, tree)]
    stored, bulk = _anchored(base, baseline, sidecar)
    pairing = judge_pair(tree, stored, bulk)
    rounding = pairing.state is PairingState.WITHIN
    if pairing.state is PairingState.NO_PAIR:
        lines.append("whether that is rounding is not known: one of them has no loss curve")
    else:
        least = "" if baseline.ensemble.twins else " (no rounding twins are stored: the least tolerance)"
        lines.append(f"seed {base.spec.seed}, with the base for the stored run: {pairing.figure}{least}")
    return (Apart.ROUNDING if rounding else Apart.BEYOND), changed[0], lines


def _anchored(base: RunRecord, baseline: Baseline, sidecar: Sidecar | None) -> tuple[Baseline, Sidecar]:
    """A baseline that has `base` as the stored run of its seed, with the noise of the stored runs around it."""
    seed, ensemble = base.spec.seed, baseline.ensemble
    values, twins = {}, {}
    for name, stored in ensemble.features.items():
        factor = _positive(base, name) / stored[0]
        if math.isfinite(factor):
            values[name] = tuple(factor * value for value in stored)
            twins[name] = tuple(factor * value for value in ensemble.twins.get(name, stored))
    others = [known for known in ensemble.seeds if known != seed]
    # The paired lane takes a baseline without twins for one that cannot be paired with.
    changes = {"seeds": (seed, *others)[: len(ensemble.seeds)], "features": values, "twins": twins or {"": ()}}
    streams = {str(seed): Streams(batches=prefix_digest(base, "batch"), negatives=prefix_digest(base, "negatives"))}
    changed = {"ensemble": ensemble.model_copy(update=changes), "streams": streams, "exact": _bits(base, baseline)}
    return baseline.model_copy(update=changed), _bulk(base, sidecar)


def _bits(base: RunRecord, baseline: Baseline) -> dict[str, ExactEntry]:
    """The bits of `base` as those of its environment."""
    pattern = next(iter(baseline.exact.values()))
    kept = SeedEntry.model_construct(digests=digests(base), values=final_values(base))
    changes = {"environment": base.environment.to_dict(), "seeds": {str(base.spec.seed): kept}}
    return {base.environment.fingerprint: pattern.model_copy(update=changes)}


def _bulk(base: RunRecord, sidecar: Sidecar | None) -> Sidecar:
    """The sidecar of `base` alone, its twin as far away as any stored twin is from its run."""
    made = build_sidecar([base])
    if "prefix/loss" not in made:
        return made
    loss = made["prefix/loss"]
    apart = np.zeros(loss.shape[1])
    if sidecar is not None and "prefix/twin" in sidecar:
        known = np.abs(sidecar["prefix/twin"] - sidecar["prefix/loss"])
        widest = np.where(np.isfinite(known), known, 0.0).max(axis=0)[: len(apart)]
        apart[: len(widest)] = widest
    return Sidecar(arrays={**made.arrays, "prefix/twin": loss + apart})


def _positive(record: RunRecord, name: str) -> float:
    """The value of a feature; NaN where there is none that has a logarithm."""
    try:
        value = raw_feature(record, name)
    except RecordError:
        return math.nan
    return value if value > 0 else math.nan


def _streams(base: RunRecord, tree: RunRecord) -> str:
    names = {"batches": "batch", "negatives": "negatives"}
    other = [name for name, stage in names.items() if prefix_digest(base, stage) != prefix_digest(tree, stage)]
    if not other:
        return "random streams: the first batches and negatives are the same"
    return f"random streams: the {' and '.join(other)} of the first {PREFIX_STEPS} steps are others"


def _environments(base: RunRecord, tree: RunRecord) -> list[str]:
    """What the commits changed in the environment of their children, such as threads or flags."""
    differences = base.environment.differences(tree.environment)
    parts = [f"{key} {old!r} -> {new!r}" for key, (old, new) in sorted(differences.items())]
    return [f"the commits run in other environments: {', '.join(parts)}"] if parts else []


def _settings(base: RunRecord, tree: RunRecord) -> list[str]:
    """Settings in force that differ although the run specs are the same: a default that was changed."""
    old, new = (record.facts.get("settings") or {} for record in (base, tree))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    parts = [f"{key} {old.get(key)!r} -> {new.get(key)!r}" for key in changed]
    return [f"settings in force: {', '.join(parts)}"] if parts else []


def _moved(pairs: Sequence[tuple[RunRecord, RunRecord]], baseline: Baseline) -> list[str]:
    """The features that moved most from base to tree, as geometric means over the seeds."""
    shifts = {}
    for name in baseline.ensemble.features:
        ratios = [_positive(new, name) / _positive(old, name) for old, new in pairs]
        shifts[name] = float(np.exp(np.mean(np.log(ratios)))) - 1
    lost = [name for name, shift in shifts.items() if not math.isfinite(shift)]
    known = sorted((name for name in shifts if name not in lost), key=lambda name: -abs(shifts[name]))
    parts = [f"{name} {percent(shifts[name])}" for name in known[:_MOST_FEATURES]]
    parts += [f"{name} has no value in one of them" for name in lost[:_MOST_FEATURES]]
    return [f"from base to tree: {', '.join(parts)}"]
