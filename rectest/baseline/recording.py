"""Recording a baseline: which runs it takes, and what is made of them. Who trains is given as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rectest.baseline.build import build_baseline, twin_of
from rectest.baseline.schema import MIN_SEEDS, Baseline
from rectest.baseline.sidecar import Sidecar, build_sidecar
from rectest.errors import UpdateRefused
from rectest.record import RunRecord, RunSpec

__all__ = ["Recording", "record_baseline"]

TrainMany = Callable[[Sequence[RunSpec]], list[RunRecord]]
"""Trains several specs and gives their records in the same order, or raises a `RectestError`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """A new baseline and its bulk, ready for `BaselineStore.save`."""

    baseline: Baseline
    sidecar: Sidecar


def record_baseline(spec: RunSpec, train: TrainMany, *, num_seeds: int, reason: str) -> Recording:
    """Train consecutive seeds from that of `spec`, and the rounding twin of each, and make a baseline of them.

    A user's training function has no twins: only a `System` can be planted.

    Raises:
        ValueError: `reason` is blank.
        RectestError: a training failed, or the runs cannot become a baseline (see `build_baseline`).
    """
    if not reason.strip():
        msg = "a baseline needs a reason: one line that tells a reviewer why the numbers are what they are"
        raise ValueError(msg)
    if num_seeds < MIN_SEEDS:
        msg = f"{num_seeds} seeds cannot carry a gate, at least {MIN_SEEDS} are needed (16 halve what it misses)"
        raise UpdateRefused(msg)
    if spec.plant:
        msg = f"{spec.describe()}: a run with a planted fault never becomes a baseline"
        raise UpdateRefused(msg)
    seeds = [spec.with_(seed=spec.seed + offset) for offset in range(num_seeds)]
    records = train(seeds)
    # Only the loop of a `System` records its settings.
    twins = train([twin_of(seed) for seed in seeds]) if "settings" in records[0].facts else []
    baseline = build_baseline(records, twins=twins, reason=reason)
    return Recording(baseline=baseline, sidecar=build_sidecar(records, twins))
