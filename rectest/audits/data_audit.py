"""The audit of a data set: its logs, its splits, the stages before them, and what was made of them.

Reads files and asks `rectest.checks`; nothing is judged here. Ids get one vocabulary over all files of an audit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectest.audits.candidates import matched, read_candidates
from rectest.audits.log_codes import Codes, codes_of
from rectest.audits.logs import read_columns, read_ids, read_lists
from rectest.audits.report import Audit
from rectest.checks.candidate_sets import Law, candidate_checks, law_of, same_law
from rectest.checks.event_log import Events, log_checks, time_values
from rectest.checks.held_out_features import counted_parts, list_holds_target
from rectest.checks.result import CheckResult, percent
from rectest.checks.splits import cut_of, disjoint, split_checks
from rectest.checks.stages import stage_checks
from rectest.errors import DataError

__all__ = ["DataFiles", "audit_data"]

Ints = NDArray[np.int64]

_COUNTS = ("count", "counts", "popularity", "num", "frequency", "freq")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFiles:
    """What is audited."""

    parts: tuple[Path, ...]
    """Training, then what is held out: valid and test, or test alone."""
    stages: tuple[Path, ...] = ()
    """Earlier forms of the same log, the rawest first."""
    candidates: tuple[Path, ...] = ()
    """Candidate sets of the last held-out part, or of each of them."""
    counts: Path | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.parts) <= 3:
            msg = f"an audit takes one to three parts (train, valid, test), got {len(self.parts)}"
            raise ValueError(msg)
        if self.candidates and len(self.parts) < 2:
            msg = "candidate sets belong to held-out events: name training and test files"
            raise ValueError(msg)
        if len(self.candidates) not in (0, 1, len(self.parts) - 1):
            msg = (
                f"got {len(self.candidates)} candidate files for {len(self.parts) - 1} held-out parts, needed one each"
            )
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Coded:
    """All logs of an audit under common codes."""

    parts: list[Events]
    stages: list[Events]
    users: Codes
    items: Codes
    item_column: str


def audit_data(files: DataFiles, *, now: float, protocol: str = "") -> Audit:
    """Audit one to three files of events, and what belongs to them.

    Args:
        now: seconds since 1970; later times are in the future.
        protocol: one of `rectest.checks.splits.PROTOCOLS`; empty to infer it from the rows.

    Raises:
        DataError: a file cannot be read as what it is said to be.
    """
    coded = _read(files)
    parts = coded.parts
    results = [result for part in parts for result in log_checks(part, now=now)]
    if len(parts) > 1:
        results += _common_unit(parts, now=now)
        results += split_checks(parts, protocol=protocol)
    results += _stage_results(coded)
    results += _list_results(files, coded)
    results += _candidate_results(files, coded)
    if files.counts is not None:
        counts = _read_counts(files.counts, coded)
        results.append(counted_parts(counts, parts, name=files.counts.name))
    facts = {
        "users": _num_codes([part.user for part in parts]),
        "items": _num_codes([part.item for part in parts]),
        "events": " + ".join(str(len(part)) for part in parts),
    }
    notes = tuple(_notes(files, coded))
    return Audit(
        kind="data", subject=", ".join(map(str, files.parts)), results=tuple(results), facts=facts, notes=notes
    )


def _num_codes(columns: Sequence[Ints]) -> int:
    return int(np.count_nonzero(np.bincount(np.concatenate(columns))))


def _read(files: DataFiles) -> _Coded:
    paths = [*files.parts, *files.stages]
    logs = [read_ids(path, user=files.user, item=files.item, time=files.time) for path in paths]
    users, items = codes_of([log.user for log in logs]), codes_of([log.item for log in logs])
    names = [path.name for path in paths]
    names = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    events = []
    for name in names:
        log = logs.pop(0)
        events.append(
            Events(
                name=name,
                user=users.encode(log.user),
                item=items.encode(log.item),
                time=log.time,
                first_line=log.first_line,
            )
        )
    num = len(files.parts)
    return _Coded(
        parts=events[:num], stages=events[num:], users=users, items=items, item_column=files.item or "item_id"
    )


def _common_unit(parts: Sequence[Events], *, now: float) -> Iterator[CheckResult]:
    """The unit of the times of all parts together: each alone may be of one unit."""
    if any(part.time is None for part in parts):
        return
    whole = _together(parts, " and ".join(part.name for part in parts))
    yield from (result for result in time_values(whole, now=now) if result.check == "data/time_unit")


def _together(parts: Sequence[Events], name: str) -> Events:
    times: list[Any] = [part.time for part in parts]
    return Events(
        name=name,
        user=np.concatenate([part.user for part in parts]),
        item=np.concatenate([part.item for part in parts]),
        time=None if any(time is None for time in times) else np.concatenate(times),
    )


def _stage_results(coded: _Coded) -> Iterator[CheckResult]:
    names = coded.users.names if coded.stages else ()
    for before, after in zip(coded.stages, coded.stages[1:], strict=False):
        yield from stage_checks(before, after, names=names)
    if coded.stages:
        whole = _together(coded.parts, " and ".join(part.name for part in coded.parts))
        yield from stage_checks(coded.stages[-1], whole, is_split=True, names=names)


def _list_results(files: DataFiles, coded: _Coded) -> Iterator[CheckResult]:
    """Lists of past items that stand beside their target, and held-out events in the lists of training."""
    for place, (path, part) in enumerate(zip(files.parts, coded.parts, strict=True)):
        found = read_lists(path).get(f"{coded.item_column}_list")
        if found is None or not len(found.row):
            continue
        words = coded.items.encode(found.values)
        yield from list_holds_target(words, found.row, part.item, name=f"{part.name} {coded.item_column}_list")
        if place == 0 and len(coded.parts) > 1:
            longest = _longest_lists(words, found.row, part)
            yield from disjoint([longest, *(_untimed(other) for other in coded.parts[1:])])


def _longest_lists(words: Ints, row: Ints, part: Events) -> Events:
    """The longest list of every user as events."""
    size = np.bincount(row, minlength=len(part))
    order = np.lexsort((size, part.user))
    last = np.append(part.user[order][1:] != part.user[order][:-1], True)
    chosen = np.isin(row, order[last])
    return Events(name=f"lists of {part.name}", user=part.user[row[chosen]], item=words[chosen])


def _untimed(part: Events) -> Events:
    return Events(name=part.name, user=part.user, item=part.item, first_line=part.first_line)


def _candidate_results(files: DataFiles, coded: _Coded) -> Iterator[CheckResult]:
    held_out = coded.parts[len(coded.parts) - len(files.candidates) :]
    laws: list[tuple[str, Law | None]] = []
    for path, part in zip(files.candidates, held_out, strict=True):
        sets = matched(read_candidates(path), part, coded.users, coded.items)
        yield from candidate_checks(sets, coded.parts[0], num_items=len(coded.items))
        laws.append((sets.name, law_of(sets, coded.parts[0], num_items=len(coded.items))))
    if len(laws) == 2:
        yield from same_law(laws[0], laws[1])


def _read_counts(path: Path, coded: _Coded) -> NDArray[np.float64]:
    """Counts by item code from a table with an item column and a column of counts."""
    columns = read_columns(path)
    names = {name.lower(): name for name in columns}
    label = next((names[name] for name in _COUNTS if name in names), None)
    ids = columns.get(coded.item_column, columns.get("item"))
    if label is None or ids is None:
        msg = f"has the columns {', '.join(columns)}, needed {coded.item_column!r} and one of {', '.join(_COUNTS)}"
        raise DataError(msg, path=path, line=1)
    counts = np.zeros(len(coded.items))
    code = coded.items.encode(ids)
    try:
        values = columns[label].astype(np.float64)
    except ValueError as error:
        msg = f"column {label!r} is not numeric ({error})"
        raise DataError(msg, path=path) from error
    known = code >= 0
    np.add.at(counts, code[known], values[known])
    return counts


def _notes(files: DataFiles, coded: _Coded) -> Iterator[str]:
    parts = coded.parts
    untimed = [part.name for part in parts if part.time is None]
    if untimed:
        yield f"no column of times in {', '.join(untimed)}: order and ties were not judged; name it with --time"
    for held_out in parts[1:]:
        if parts[0].time is not None and held_out.time is not None:
            yield from _notes_of_cut(parts[0], held_out)
    if len(parts) == 1:
        yield "one file: name the held-out parts as well to judge the split"
    elif not files.candidates:
        yield "candidate sets were not given: --candidates FILE judges those of a sampled evaluation"
    if not files.stages:
        yield "earlier stages were not given: --stage FILE, the rawest first, tells who was lost and why"


def _notes_of_cut(train: Events, held_out: Events) -> Iterator[str]:
    """What an ordered split leaves open: who comes last among equals, and what other users did later."""
    cut = cut_of(train, held_out)
    if cut.kind in ("random", "users"):
        return
    if cut.tied:
        yield (
            f"{percent(cut.tied / len(held_out))} of {held_out.name} have the time of their user's last event in "
            f"{train.name}: which of them is held out is the order of the rows, not of the events"
        )
    if cut.overlap:
        yield (
            f"{train.name} has events of other users after the first event of {held_out.name}: each user's order is "
            "kept, that of the world is not; --protocol temporal asks for it"
        )
