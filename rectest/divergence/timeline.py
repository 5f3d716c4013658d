"""Rows for the page: which stage of which step is equal in both runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rectest.divergence.pairs import Pair, differs

__all__ = ["STAGES_SHOWN", "timeline"]

STAGES_SHOWN = ("batch", "input", "forward", "loss", "gradient", "parameter", "rng")
_MOST_STEPS = 200
_BEFORE = 150
"""How many steps before the divergence are shown, where not all are."""


def timeline(pair: Pair, *, around: int) -> tuple[Mapping[str, Any], ...]:
    """One row a step and stage with ``equal`` true, false, or null where a run has no such event.

    Args:
        pair: the tapes of one process.
        around: the step at which the runs part; of more than 200 steps those around it are shown.
    """
    last = max(pair.num_steps)
    start = max(1, min(around - _BEFORE, last - _MOST_STEPS + 1))
    steps = range(start, min(last, start + _MOST_STEPS - 1) + 1)
    return tuple(
        {"step": step, "stage": stage, "equal": _equal(pair, step, stage)} for step in steps for stage in STAGES_SHOWN
    )


def _equal(pair: Pair, step: int, stage: str) -> bool | None:
    one, two = pair.events(step, stage)
    if stage == "rng":
        one, two = ([e for e in events if pair.controlled.get(e.name, step) < step] for events in (one, two))
    if not one and not two:
        return None
    if not one or not two:
        return None if step > min(pair.num_steps) else False
    return [e.name for e in one] == [e.name for e in two] and not any(map(differs, one, two))
