"""What two tapes hold besides the comparison: who drew how many random numbers, the environments, orders of sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rectest.divergence.finding import Cause
from rectest.divergence.tapes import Event, Run

__all__ = ["DrawRow", "draw_table", "environment_of", "order_causes"]

_MOST_ORDERS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawRow:
    """All draws of one function from one generator at one line."""

    process: str
    site: str
    function: str
    generator: str
    count: tuple[int, int]
    """How many in each run."""

    first_step: int
    """The step of the earliest; 0 before training."""

    equal: bool
    """Whether both runs drew the same numbers in the same blocks."""


@dataclass
class _Side:
    """The blocks of one row in one run."""

    count: int = 0
    first_step: int | None = None
    digests: list[str] = field(default_factory=list)


def draw_table(first: Run, second: Run) -> tuple[DrawRow, ...]:
    """One row a process, line, function and generator; those that differ come first, then by first step."""
    sides = _sides(first), _sides(second)
    keys = dict.fromkeys([*sides[0], *sides[1]])
    rows = [_row(key, sides[0].get(key, _Side()), sides[1].get(key, _Side())) for key in keys]
    return tuple(sorted(rows, key=lambda row: (row.equal, row.first_step)))


def _sides(run: Run) -> dict[tuple[str, str, str, str], _Side]:
    found: dict[tuple[str, str, str, str], _Side] = {}
    for process, event in _events(run, "draw"):
        key = process, event.site, event.name, str(event.info.get("generator", ""))
        side = found.setdefault(key, _Side())
        side.count += int(event.info.get("count", 1))
        side.digests.append(event.digest)
        if side.first_step is None:
            side.first_step = 0 if event.phase == "setup" else event.step
    return found


def _row(key: tuple[str, str, str, str], first: _Side, second: _Side) -> DrawRow:
    process, site, function, generator = key
    steps = [side.first_step for side in (first, second) if side.first_step is not None]
    return DrawRow(
        process=process,
        site=site,
        function=function,
        generator=generator,
        count=(first.count, second.count),
        first_step=min(steps),
        equal=first.digests == second.digests,
    )


def environment_of(run: Run) -> dict[str, str]:
    """Versions, flags and threads of the process that trained, by name; of what changed, the last value."""
    found: dict[str, str] = {}
    for tape in (run.trainers or tuple(run.tapes.values()))[:1]:
        for event in tape.of("environment"):
            found.update(_flat(event.info))
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return flat


def order_causes(first: Run, second: Run) -> tuple[Cause, ...]:
    """The sets of strings that were iterated in another order, the first one first, from runs that located orders.

    Such a run differs from others only in that the order of every set of strings is on its tape.
    """
    other: dict[tuple[str, str, str], list[str]] = {}
    for process, event in _events(second, "order"):
        other.setdefault((process, event.site, event.name), []).append(event.digest)
    causes: dict[str, Cause] = {}
    for process, event in _events(first, "order"):
        digests = other.get((process, event.site, event.name), [])
        if not digests or digests.pop(0) != event.digest:
            causes.setdefault(event.site, _order_cause(process, event))
    return tuple(causes.values())[:_MOST_ORDERS]


def _order_cause(process: str, event: Event) -> Cause:
    return Cause(
        kind="hash_order",
        what=f"the strings of {event.name} come in an order that depends on the hash seed of the process",
        site=event.site,
        step=0 if event.phase == "setup" else event.step,
        process=process,
        advice=f"iterate over sorted({event.name})",
        pin="hash",
    )


def _events(run: Run, kind: str) -> Iterator[tuple[str, Event]]:
    """Events of all processes, the first process's first."""
    for process in sorted(run.tapes):
        for event in run.tapes[process].of(kind):
            yield process, event
