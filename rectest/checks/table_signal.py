"""Signal against noise: whether the rows of an item table know which items go together.

Norms, means, zero rows and coverage all look healthy on normalised random numbers; report 003 verified such a table.
What noise cannot have is that items bought together are nearer to each other than items that are not. This file owns
that one property; a shifted table (row i holds item i + 1) fails it too, since its rows belong to other items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, judged, not_measured
from rectest.record import RunRecord

__all__ = ["MIN_SIGMAS", "consecutive_pairs", "signal", "table_signal"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

MIN_SIGMAS = 5.0
"""A noise table passes with a probability of 3e-7; a trained one is tens of deviations away."""

MIN_PAIRS = 50
NUM_SHUFFLES = 64
"""Shuffles estimate a standard deviation, which 64 of them do to 9 % (1 / sqrt(2 (n - 1)))."""


def consecutive_pairs(items: Ints, offsets: Ints, *, max_pairs: int = 100_000) -> Ints:
    """Pairs [P, 2] of different items that follow each other in a sequence, from items and sequence offsets.

    >>> consecutive_pairs(np.array([1, 2, 3, 3]), np.array([0, 2, 4])).tolist()
    [[1, 2]]
    """
    pairs = np.stack([items[:-1], items[1:]], axis=1)
    inside = np.ones(len(pairs), dtype=bool)
    inside[offsets[(offsets > 0) & (offsets < len(items))] - 1] = False
    pairs = pairs[inside & (pairs[:, 0] != pairs[:, 1])]
    stride = -(-len(pairs) // max_pairs) or 1
    chosen: Ints = pairs[::stride]
    return chosen


def table_signal(table: Array, pairs: Array, name: str = "table", *, seed: int = 0) -> CheckResult:
    """Whether rows that go together point the same way, against the same rows paired at random.

    The mean cosine of `pairs` is held against shuffles of their second column: these keep how often each row occurs,
    so popular rows that point alike earn nothing. Rows that are zero or not finite are left out, and counted.
    """
    check = "embeddings/signal"
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < len(table):
        return not_measured(check, name, f"pairs name rows {pairs.min()} to {pairs.max()} of {len(table)}")
    left, right = (_directions(table[pairs[:, side]]) for side in (0, 1))
    usable = left.any(axis=1) & right.any(axis=1)
    left, right = left[usable], right[usable]
    if len(left) < MIN_PAIRS:
        return not_measured(check, name, f"{len(left)} usable pairs of {len(pairs)}, at least {MIN_PAIRS} are needed")
    obtained = float(np.einsum("ij,ij->i", left, right).mean())
    expected = float(left.mean(axis=0) @ right.mean(axis=0))
    rng = np.random.default_rng(seed)
    shuffled = [np.einsum("ij,ij->i", left, right[rng.permutation(len(right))]).mean() for _ in range(NUM_SHUFFLES)]
    deviation = float(np.sqrt(np.mean((np.array(shuffled) - expected) ** 2)))
    sigmas = (obtained - expected) / max(deviation, 1e-12)
    return judged(
        check,
        name,
        ok=sigmas > MIN_SIGMAS,
        figure=f"mean cosine of {len(left)} pairs {obtained:.4f}, {sigmas:.1f} deviations above random pairs",
        expected=f"random pairs of the same rows: {expected:.4f} +- {deviation:.2g}",
        limit=f"> {MIN_SIGMAS:g} deviations",
        outside=f"{len(pairs) - len(left)} pairs have a zero or broken row" if len(pairs) > len(left) else "",
        detail=""
        if sigmas > MIN_SIGMAS
        else "the rows carry no collaborative signal: random numbers, or rows of "
        "other items (shifted by one, another id map)",
        advice="find out how the file was made, and compare its id map with the one in use",
    )


def _directions(rows: Array) -> npt.NDArray[np.float32]:
    """Rows of length one; zero where a row is zero or not finite."""
    values = rows.astype(np.float32)
    values[~np.isfinite(values).all(axis=1)] = 0
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    directions = np.zeros_like(values)
    np.divide(values, lengths, out=directions, where=lengths > 0)
    return directions


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
        return [not_measured("embeddings/signal", name, "no pairs are recorded", advice=advice) for name in frozen]
    return [table_signal(record[f"table/{name}"], np.asarray(pairs), name) for name in frozen]
