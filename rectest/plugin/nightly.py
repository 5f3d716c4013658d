"""The nightly gate: fresh seeds every day, at a tenth of the false-alarm rate.

In merges the gate trains the baseline's own first seeds, so that its verdict is the same however often it is asked. The
price is that a false alarm, or a blind spot, of those seeds stays. A nightly run pays it off: other seeds each day,
none of the baseline's, and an alarm rate so low that a year of nights says less than one false word.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rectest.baseline.gating import Judged
    from rectest.baseline.store import BaselineStore
    from rectest.record import RunRecord, RunSpec

__all__ = ["ALPHA_SCALE", "DATE_VARIABLE", "fresh_seeds", "nightly_date", "nightly_look"]

ALPHA_SCALE = 0.1
"""Both false-alarm rates of the gate are multiplied by it."""

DATE_VARIABLE = "RECTEST_NIGHTLY_DATE"
"""A date (2026-08-01) whose night is to be repeated; otherwise it is today's, in UTC."""

_SEEDS_A_NIGHT = 5
"""As many as a gate trains at most, so that no two nights share one."""

_EPOCH = date(1970, 1, 1)
_NEXT_RANGE = 1_000_000


def fresh_seeds(day: date, stored: Collection[int]) -> range:
    """The seeds of one night: of no other night, and none of the stored ones.

    >>> fresh_seeds(date(2026, 8, 1), stored=range(16))
    range(103330, 103335)
    """
    first = (day - _EPOCH).days * _SEEDS_A_NIGHT
    while not set(stored).isdisjoint(range(first, first + _SEEDS_A_NIGHT)):
        first += _NEXT_RANGE
    return range(first, first + _SEEDS_A_NIGHT)


def nightly_date(folder: Path, environ: Mapping[str, str] = os.environ) -> date:
    """The date whose seeds this test run trains: the same for all workers, also when midnight passes meanwhile.

    Args:
        folder: one that the workers of this run share.

    Raises:
        ValueError: the variable holds no date, or one before 1970.
    """
    from filelock import FileLock

    given = environ.get(DATE_VARIABLE, "").strip()
    if given:
        return _parsed(given)
    path = folder / "nightly-date"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "nightly-date.lock"):
        if not path.exists():
            path.write_text(datetime.now(UTC).date().isoformat())
        return _parsed(path.read_text())


def nightly_look(
    store: BaselineStore, spec: RunSpec, train: Callable[..., list[RunRecord]], *, folder: Path, **how: Any
) -> tuple[list[RunRecord], Judged]:
    """As `gating.look`, on the seeds of tonight; every result says so.

    Args:
        folder: one that the workers of this run share.
    """
    from dataclasses import replace

    from rectest.baseline.gating import look

    day = nightly_date(folder)
    seeds = fresh_seeds(day, _stored_seeds(store, spec))
    records, judged = look(store, spec.with_(seed=seeds[0]), train, alpha_scale=ALPHA_SCALE, **how)
    head, *rest = judged.results
    told = f"nightly, fresh seeds {seeds[0]}..{seeds[-1]}: {head.figure}"
    again = f"the same night again: {DATE_VARIABLE}={day.isoformat()} and --rectest-nightly"
    detail = f"{head.detail}; {again}" if head.detail else again
    head = replace(head, figure=told, detail=detail)
    evidence = judged.evidence
    if evidence is not None:
        evidence = replace(evidence, results=(head.to_dict(), *evidence.results[1:]))
    return records, replace(judged, results=(head, *rest), evidence=evidence)


def _stored_seeds(store: BaselineStore, spec: RunSpec) -> set[int]:
    """Seeds of every baseline of this training, whatever its environment; one that cannot be read is the gate's."""
    from rectest.errors import BaselineError

    found: set[int] = set()
    try:
        names = [name for name in store.entries() if (name.system, name.world) == (spec.system, spec.world)]
    except BaselineError:
        return found
    for name in names:
        try:
            found.update(store.read(name).ensemble.seeds)
        except BaselineError:
            continue
    return found


def _parsed(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError as e:
        msg = f"{DATE_VARIABLE} must be a date such as 2026-08-01, got {text!r}"
        raise ValueError(msg) from e
    if found < _EPOCH:
        msg = f"{DATE_VARIABLE} must be a date from 1970 on, got {text}"
        raise ValueError(msg)
    return found
