"""`audit_table_files`: an embedding table in files, judged by itself, beside its id map and beside interactions.

Owns which checks are asked and what was not asked. A large table is read once: neighbours and the spectrum are those
of a sample, and signal is that of the rows that the pairs name; a small one is kept as a whole for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.audits.logs import read_log
from rectest.audits.maps import RawMapping, read_mapping
from rectest.audits.report import Audit
from rectest.audits.table_items import LoggedItems, item_orders, join_items
from rectest.audits.tables import OpenTable, open_table
from rectest.checks.embeddings import TableFacts, audit_table
from rectest.checks.neighbours import hubness, near_duplicates
from rectest.checks.result import CheckResult, Verdict
from rectest.checks.row_sample import RowSample, sample_rows
from rectest.checks.rowsource import ArrayRows, RowSource
from rectest.checks.spectrum import dead_dimensions, isotropy, one_direction, rank
from rectest.checks.table_items import coverage, popular_items, rows_match
from rectest.checks.table_signal import SIGNAL, table_signal

__all__ = ["Beside", "audit_rows", "audit_table_files"]

Ints = npt.NDArray[np.int64]

MAX_KEPT = 1 << 22
"""Entries of a table that is kept in memory, 16 MiB of float32; of a larger one, rows are read when asked for."""

NO_INTERACTIONS = (
    "without --interactions noise cannot be told from signal: lengths, means, zero rows and coverage are in order on "
    "normalised random numbers, too, and sd = 1/sqrt(D) follows from length 1. What can be said: whether the rows are "
    "spread as evenly as random numbers (embeddings/isotropy). Whether they belong to the items of a map can not"
)
ZERO_ROW = "row 0 is all zero; if it is padding, say so with --padding 0"
NO_MAPPING = "no --mapping: the items of the interactions were taken as row numbers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What lies beside a table."""

    mapping: RawMapping | None = None
    items: LoggedItems | None = None


def audit_table_files(
    paths: Sequence[str | Path],
    *,
    name: str | None = None,
    padding: int | None = None,
    norm: float | None = None,
    mapping: str | Path | None = None,
    interactions: str | Path | None = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    threads: int = 1,
) -> Audit:
    """Everything that can be said about the table in `paths`.

    Args:
        name: the tensor, where a file holds several.
        padding: the row that promises to be zero.
        norm: the length that every row promises.
        mapping: a file that gives the row of each raw id.
        interactions: a log of users and items; without `mapping`, its items are row numbers.
        user: the column of users in `interactions`; `item` and `time` likewise.
        threads: Python threads that read the table.

    Raises:
        DataError: a file cannot be read or is not what it was named for.
        ValueError: `padding` is no row of the table, `norm` no length, or columns of no log were named.
    """
    _require(norm=norm, threads=threads, columns=(user, item, time), interactions=interactions)
    with open_table(list(paths) if len(paths) > 1 else paths[0], name=name) as table:
        if padding is not None and not 0 <= padding < table.shape[0]:
            msg = f"the padding row {padding} is outside of the {table.shape[0]} rows of {table.path}"
            raise ValueError(msg)
        read = read_mapping(mapping) if mapping is not None else None
        items = None
        if interactions is not None:
            log = read_log(interactions, user=user, item=item, time=time)
            items = join_items(log, table.shape[0], dim=table.shape[1], mapping=read)
        beside = Beside(mapping=read, items=items)
        promises = TableFacts(padding_row=padding, norm=norm)
        judged = audit_rows(table, table.name, facts=promises, beside=beside, threads=threads)
        return Audit(
            kind="table",
            subject=", ".join(map(str, paths)),
            results=judged.results,
            facts={**_stored(table), **judged.facts},
            notes=judged.notes,
        )


def _require(*, norm: float | None, threads: int, columns: Sequence[str | None], interactions: object) -> None:
    if norm is not None and not 0 < norm < np.inf:
        msg = f"a promised length must be positive and finite, got {norm}"
        raise ValueError(msg)
    if threads < 1:
        msg = f"at least one thread must read, got {threads}"
        raise ValueError(msg)
    if interactions is None and any(columns):
        msg = "columns of users, items or times are named, and no interactions (--interactions FILE)"
        raise ValueError(msg)


def _stored(table: OpenTable) -> dict[str, Any]:
    return {"tensor": table.name, "rows": table.shape[0], "columns": table.shape[1], "type": table.stored}


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The answers about one table."""

    results: tuple[CheckResult, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def audit_rows(
    source: RowSource,
    name: str,
    *,
    facts: TableFacts | None = None,
    beside: Beside | None = None,
    threads: int = 1,
) -> Judged:
    """Every check of a table wherever its rows lie: the whole, a sample, the map, the interactions."""
    facts, beside = facts or TableFacts(), beside or Beside()
    counts = beside.items.popularity(source.shape[0]) if beside.items is not None else None
    results = list(audit_table(source, name, facts=facts, popularity=counts, threads=threads))
    source = _kept(source)
    drawn = sample_rows(source, padding_row=facts.padding_row)
    results += _sampled(drawn, name, counts)
    results += _beside(source, name, facts, beside)
    return Judged(
        results=tuple(_settled(results)),
        facts=_moments(drawn, counts),
        notes=tuple(_notes(source, facts, beside)),
    )


def _kept(source: RowSource) -> RowSource:
    """A small table in memory: its rows are asked for many times."""
    if source.shape[0] * source.shape[1] > MAX_KEPT:
        return source
    return ArrayRows(source.take(np.arange(source.shape[0])))


def _sampled(drawn: RowSample, name: str, counts: Ints | None) -> list[CheckResult]:
    """What a sample tells; nothing where no two rows are usable, which other checks say."""
    if len(drawn.rows) < 2:
        return []
    return [
        near_duplicates(drawn, name, popularity=counts),
        hubness(drawn, name),
        rank(drawn, name),
        one_direction(drawn, name),
        dead_dimensions(drawn, name),
        isotropy(drawn, name),
    ]


def _beside(source: RowSource, name: str, facts: TableFacts, beside: Beside) -> Iterator[CheckResult]:
    mapping, items = beside.mapping, beside.items
    if mapping is not None:
        yield rows_match(mapping.index, source.shape[0], name, padding_row=facts.padding_row)
    if items is None:
        return
    yield coverage(items.raws, items.row, items.count, name)
    yield popular_items(source, items.raws, items.row, items.count, name)
    orders = item_orders(source.shape[0], items, mapping)
    yield table_signal(source, items.pairs, name, orders=orders)


FACTORISED = {
    "embeddings/duplicates": "items with exactly the same users have equal rows in a factorisation",
    "embeddings/spread": "lengths grow with popularity in a factorisation of raw counts",
}
"""What rows that were trained from random numbers never are, and others may be; how a file was made is not known."""


def _settled(results: Sequence[CheckResult]) -> Iterator[CheckResult]:
    """An even spread is news only where interactions show no signal, and what factorisations do is a warning."""
    known = any(result.check == SIGNAL and result.verdict is Verdict.PASS for result in results)
    asked = any(result.check == SIGNAL for result in results)
    for result in results:
        if asked and not known and result.check == "embeddings/isotropy" and result.red:
            yield replace(result, advice="read embeddings/signal, which has asked the interactions")
        elif known and result.check == "embeddings/isotropy" and result.red:
            figure = f"{result.figure}; the interactions show signal all the same"
            yield replace(result, verdict=Verdict.PASS, figure=figure, detail="", advice="")
        elif result.verdict is Verdict.FAIL and result.check in FACTORISED:
            detail = f"{result.detail}, unless the table is no trained one: {FACTORISED[result.check]}"
            yield replace(result, verdict=Verdict.SUSPICIOUS, detail=detail)
        else:
            yield result


def _moments(drawn: RowSample, counts: Ints | None) -> dict[str, Any]:
    """Figures for people; a list of median lengths by popularity, rare rows first, where popularity is known."""
    if not len(drawn.rows):
        return {}
    lengths = np.linalg.norm(drawn.vectors.astype(np.float64), axis=1)
    found: dict[str, Any] = {
        "mean": float(f"{drawn.vectors.mean(dtype=np.float64):.3g}"),
        "sd": float(f"{drawn.vectors.std(dtype=np.float64):.4g}"),
    }
    if counts is not None:
        order = np.argsort(counts[drawn.rows], kind="stable")
        parts = [part for part in np.array_split(order, 10) if len(part)]
        found["median norm by popularity decile"] = [float(f"{np.median(lengths[part]):.4g}") for part in parts]
    return found


def _notes(source: RowSource, facts: TableFacts, beside: Beside) -> Iterator[str]:
    if facts.padding_row is None and not source.take(np.zeros(1, dtype=np.int64)).any():
        yield ZERO_ROW
    if beside.items is None:
        yield NO_INTERACTIONS
    elif beside.mapping is None:
        yield NO_MAPPING
