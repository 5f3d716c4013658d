"""From samples to the figures of a report: what a call takes on each side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rectest.benchmarks.pairs import Block
from rectest.benchmarks.plan import Subject
from rectest.benchmarks.results import Clock, Measurement

__all__ = ["measurement"]


def measurement(
    subject: Subject, side: str, *, pairs: Sequence[Sequence[Block]], clock: Clock, calls: int
) -> Measurement:
    """The figures of one side, over all its processes."""
    by_process = [[sample for block in pair for sample in getattr(block, side)] for pair in pairs]
    medians = {
        name: [statistics.median(getattr(sample, name) for sample in samples) for samples in by_process]
        for name in ("wall", "cpu")
    }
    seen = getattr(subject, side)
    return Measurement(
        name=subject.name,
        seconds=statistics.median(medians["wall"]),
        cpu_seconds=statistics.median(medians["cpu"]),
        clock=clock,
        process_seconds=tuple(medians[clock]),
        num_samples=sum(map(len, by_process)),
        calls_per_sample=calls,
        peak_bytes=seen.peak_bytes,
        device_peak_bytes=seen.device_peak_bytes,
    )
