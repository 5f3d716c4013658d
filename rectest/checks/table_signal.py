"""Signal against noise: whether the rows of an item table know which items go together.

Norms, means, zero rows and coverage all look healthy on normalised random numbers; report 003 verified such a table.
What noise cannot have is that items bought together are nearer to each other than items that are not. This file owns
that verdict; the arithmetic is in `cooccurrence.py`, rows that belong to other items are looked for in `alignment.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.alignment import best_other, better, excess_at
from rectest.checks.cooccurrence import Excess, ItemPairs, consecutive_pairs
from rectest.checks.result import CheckResult, Verdict, judged, not_measured, places
from rectest.checks.rowsource import RowSource, as_source
from rectest.checks.tolerance import z_limit
from rectest.record import RunRecord

__all__ = ["MIN_SIGMAS", "SIGNAL", "WEAKEST", "consecutive_pairs", "detectable", "signal", "table_signal"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

SIGNAL = "embeddings/signal"

MIN_SIGMAS = 5.0
"""A noise table passes with a probability of 3e-7 by the normal law, and of less than 1e-3 whatever the law of its
excess (tests/checks/test_cooccurrence.py measures it); a trained one is tens of deviations away."""

POWER_SIGMAS = 2.33
"""A real excess this much above `MIN_SIGMAS` is seen in 99 of 100 tables."""

WEAKEST = 0.05
"""A table is called noise only by pairs that would have shown a mean cosine this much above that of random pairs. Most
trained tables of the calibration have 0.1 to 0.43, the least 0.02 (and many more pairs than it takes to show that)."""

MIN_PAIRS = 50

NUM_PARTS = 4
"""Quarters of the rows in their order, each asked for signal among its own pairs."""

SILENT_SHARE = 0.25
"""A quarter is called silent only where its pairs would have shown this share of the largest excess of a quarter: one
that has the share is then 7.3 deviations up, and below the limit of 3.3 once in 40,000. Sound tables have more, in the
order of ids and in that of popularity (tests/checks/test_table_signal.py)."""


def detectable(found: Excess) -> float:
    """The smallest true excess that these pairs show in 99 of 100 tables."""
    return (MIN_SIGMAS + POWER_SIGMAS) * found.deviation


def table_signal(
    table: Array | RowSource, pairs: Array, name: str = "table", *, orders: Mapping[str, Ints] | None = None
) -> CheckResult:
    """Whether rows that go together point the same way, against rows of the same popularity paired at random.

    Where the pairs are much nearer in other rows (moved by a few, from last to first, in one of `orders`), the table
    belongs to other items, and that is named. Rows that are zero or not finite are left out, and counted.

    Args:
        table: [rows, dim].
        pairs: [P, 2] rows of items that go together.
        name: the table, for the report.
        orders: for each other order of the ids that may have been used, the row there of each row; -1 for none.
    """
    source = as_source(table)
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < source.shape[0]:
        return not_measured(SIGNAL, name, f"pairs name rows {pairs.min()} to {pairs.max()} of {source.shape[0]}")
    graph = ItemPairs.from_array(pairs)
    own = excess_at(source, graph)
    if own.num_pairs < MIN_PAIRS:
        missing = f"{own.num_pairs} usable pairs of {len(pairs)}, at least {MIN_PAIRS} are needed"
        return not_measured(SIGNAL, name, missing)
    other = best_other(source, graph, orders)
    if other is not None and better(other[1], own):
        return _misplaced(name, own, other[0].words, other[1])
    result = _own_verdict(name, own, num_lost=len(graph) - own.num_pairs)
    return _with_parts(result, source, graph) if result.verdict is Verdict.PASS else result


def _with_parts(result: CheckResult, source: RowSource, graph: ItemPairs) -> CheckResult:
    """A warning in place of a table in order where a quarter of the rows has no signal and others have."""
    rows = [part for part in np.array_split(np.arange(source.shape[0]), NUM_PARTS) if part.size]
    found = [(int(part[0]), int(part[-1]), graph.within(int(part[0]), int(part[-1]))) for part in rows]
    parts = [(first, last, excess_at(source, own)) for first, last, own in found if len(own) >= MIN_PAIRS]
    most = max((part.excess for _, _, part in parts if part.sigmas > MIN_SIGMAS), default=0.0)
    silent = [
        (first, last, part)
        for first, last, part in parts
        if 0 < detectable(part) <= SILENT_SHARE * most and part.sigmas <= z_limit()
    ]
    if not silent:
        return result
    named = " and ".join(f"{first} to {last}" for first, last, _ in silent)
    first, last, worst = min(silent, key=lambda part: part[2].sigmas)
    return replace(
        result,
        verdict=Verdict.SUSPICIOUS,
        figure=f"{result.figure}; none among rows {named}",
        worst=f"rows {first} to {last}: excess {worst.excess:.4f} of {worst.num_pairs} pairs, {worst.sigmas:.1f} "
        f"deviations, and {most:.4f} in another quarter",
        detail="a part of the rows knows nothing of its items: never trained, stale, or made with another id map",
        advice="look at how these rows were filled; where ids are in the order of popularity, the last are the rarest",
        rows=places([row for first, last, _ in silent for row in range(first, last + 1)]),
    )


def _misplaced(name: str, own: Excess, words: str, other: Excess) -> CheckResult:
    return CheckResult(
        check=SIGNAL,
        subject=name,
        verdict=Verdict.FAIL,
        figure=f"{_figure(own)}; the signal is elsewhere: {words}",
        expected=f"there the mean cosine of the pairs is {other.mean:.4f}, {other.sigmas:.1f} deviations above "
        f"random pairs ({other.expected:.4f})",
        limit="no other order of the rows fits the pairs better",
        detail="the rows are good, and belong to other items: every item is scored with the vector of another one",
        advice="move the rows back, or make the table with the id map in use: 0-based and 1-based indices mixed, a "
        "padding row missing or added twice, another order of the ids",
    )


def _own_verdict(name: str, own: Excess, *, num_lost: int) -> CheckResult:
    texts = {
        "expected": f"random pairs of the same popularity: {own.expected:.4f} +- {own.deviation:.2g}",
        "limit": f"> {MIN_SIGMAS:g} deviations; a true excess of {detectable(own):.2g} is seen in 99 of 100 tables",
        "outside": f"{num_lost} pairs have a zero or broken row" if num_lost else "",
    }
    if own.sigmas > MIN_SIGMAS:
        return judged(SIGNAL, name, ok=True, figure=_figure(own), **texts)
    if abs(own.sigmas) > z_limit(num_tests=2):
        weak = "too much for chance and too little to rely on: barely trained, or a few rows know and the rest do not"
        apart = "items that go together point apart: the rows know the pairs the wrong way round (a sign, or an "
        apart += "output table beside another input table)"
        detail = weak if own.sigmas > 0 else apart
        return CheckResult(
            check=SIGNAL, subject=name, verdict=Verdict.SUSPICIOUS, figure=_figure(own), detail=detail, **texts
        )
    if detectable(own) > WEAKEST:
        return _too_few(name, own)
    return judged(
        SIGNAL,
        name,
        ok=False,
        figure=_figure(own),
        detail="the rows carry no collaborative signal: random numbers, or rows of other items (another id map)",
        advice="find out how the file was made, and compare its id map with the one in use",
        **texts,
    )


def _figure(own: Excess) -> str:
    if not own.deviation:
        return f"mean cosine of {own.num_pairs} pairs {own.mean:.4f}, that of any two rows: all point one way"
    return f"mean cosine of {own.num_pairs} pairs {own.mean:.4f}, {own.sigmas:.1f} deviations above random pairs"


def _too_few(name: str, own: Excess) -> CheckResult:
    """The deviation falls with the square root of the number of pairs, as long as they are of new items."""
    needed = int(own.num_pairs * (detectable(own) / WEAKEST) ** 2) + 1
    missing = (
        f"{own.num_pairs} pairs show an excess of {detectable(own):.2g} or more, and there is none "
        f"({own.sigmas:.1f} deviations); weaker signal needs about {needed:,} pairs (to show {WEAKEST:g})"
    )
    return not_measured(SIGNAL, name, missing, advice="give more interactions, of more items")


def signal(record: RunRecord) -> list[CheckResult]:
    """`table_signal` of every frozen item table of a run, on the pairs in ``facts["inputs"]["consecutive_items"]``.

    A frozen table was made before training, and nothing in training can tell that it says nothing. A run without such
    tables gives nothing; one that has them and no pairs is NOT MEASURED.
    """
    tables = record.facts.get("tables") or {}
    frozen = [name for name, facts in sorted(tables.items()) if facts.get("frozen") and facts.get("space") == "item"]
    pairs = (record.facts.get("inputs") or {}).get("consecutive_items")
    if frozen and not pairs:
        advice = "give pairs of items that go together as consecutive_items in System.input_facts"
        return [not_measured(SIGNAL, name, "no pairs are recorded", advice=advice) for name in frozen]
    return [table_signal(record[f"table/{name}"], np.asarray(pairs), name) for name in frozen]
