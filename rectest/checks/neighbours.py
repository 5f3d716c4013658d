"""Nearest neighbours of rows: hubs that are near everything, and rows that nearly repeat another.

Owns `nearest`, whose ties are settled by rule (the higher cosine first, then the smaller number), and two judgements on
a sample. Rows equal bit by bit are counted on the whole table in `embeddings.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, Verdict, count_of, percent, places, sample
from rectest.checks.row_sample import RowSample
from rectest.checks.spectrum import effective_rank, eigenvalues

__all__ = ["NEAR", "accidental_neighbours", "close_pairs", "hubness", "near_duplicates", "nearest", "occurrences"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float32]

K = 10
HUB_ROWS = 4_000
"""Rows among which hubs are looked for: 16 M cosines, half a second."""

MIN_ROWS = 20 * K

MAX_HUB_SHARE = 0.2
MAX_TOP_SHARE = 0.3
"""A hub is among the `K` nearest of a fifth of the rows, or the top hundredth of rows takes 30 % of all places. The
trained tables of the calibration reached 0.13 and 0.09 (tests/checks/test_neighbours.py)."""

NEAR = 2.0**-17
"""1 - cosine of two copies of a row, each rounded to bfloat16: entries differ by 2^-8 of their size at most, and
1 - cos <= (2^-8)^2 / 2. Coarser than every other way to store a row twice."""

MAX_PAIRS = 100_000
CHANCE = 1e-3
COLD = 2
"""Items of so few events often share all of them, and a factorisation then gives them one direction."""


def nearest(unit: Rows, k: int, *, block: int = 128) -> tuple[Ints, Rows]:
    """Numbers and cosines [n, k] of the nearest other rows of directions [n, D]: cosine descending, then number.

    >>> rows = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=np.float32)
    >>> nearest(rows, 2)[0].tolist()
    [[2, 3], [0, 2], [0, 3], [0, 2]]

    Raises:
        ValueError: there are no `k` other rows.
    """
    num = len(unit)
    if not 1 <= k < num:
        msg = f"k must be between 1 and the number of other rows, got {k} of {num - 1}"
        raise ValueError(msg)
    found, cosines = np.empty((num, k), dtype=np.int64), np.empty((num, k), dtype=np.float32)
    for start in range(0, num, block):
        scores = unit[start : start + block] @ unit.T
        own = np.arange(len(scores))
        scores[own, start + own] = -np.inf
        part = slice(start, start + len(scores))
        found[part], cosines[part] = _highest(scores, k)
    return found, cosines


def _highest(scores: Rows, k: int) -> tuple[Ints, Rows]:
    limit = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k][:, None]
    above, equal = scores > limit, scores == limit
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    numbers = np.nonzero(chosen)[1].reshape(len(scores), k)
    values = np.take_along_axis(scores, numbers, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(numbers, order, axis=1), np.take_along_axis(values, order, axis=1)


def occurrences(unit: Rows, k: int = K) -> Ints:
    """How often each row is among the `k` nearest of the others [n]."""
    counts: Ints = np.bincount(nearest(unit, k)[0].ravel(), minlength=len(unit)).astype(np.int64)
    return counts


def hubness(drawn: RowSample, name: str, *, seed: int = 0) -> CheckResult:
    """Whether a few rows are neighbours of everything (Radovanovic et al. 2010)."""
    check, rng = "embeddings/hubness", np.random.default_rng(seed)
    num = min(HUB_ROWS, len(drawn.rows))
    if num < MIN_ROWS:
        figure = f"{num} rows are too few for neighbour lists of {K} ({MIN_ROWS} are needed)"
        return CheckResult(check=check, subject=name, verdict=Verdict.PASS, figure=figure)
    chosen = np.sort(rng.choice(len(drawn.rows), num, replace=False))
    counts = occurrences(drawn.unit[chosen])
    share, top = counts.max() / num, np.sort(counts)[-math.ceil(num / 100) :].sum() / counts.sum()
    ok = bool(share <= MAX_HUB_SHARE and top <= MAX_TOP_SHARE)
    hubs = np.argsort(-counts, kind="stable")[:5]
    rows = drawn.rows[chosen]
    return CheckResult(
        check=check,
        subject=name,
        verdict=Verdict.PASS if ok else Verdict.SUSPICIOUS,
        figure=f"one row is among the {K} nearest of {percent(share)} of {num:,} rows, the top hundredth of rows takes "
        f"{percent(top)} of all places, skewness {_skewness(counts):.2f}",
        expected=f"random directions: {percent(K / num)} each, skewness {_random_skewness():.2f} or little more",
        limit=f"<= {percent(MAX_HUB_SHARE)} and {percent(MAX_TOP_SHARE)}",
        worst=f"row {rows[hubs[0]]}: near {counts[hubs[0]]} rows",
        outside="" if ok else f"rows {sample(rows[hubs].tolist())}",
        rows="" if ok else places(np.sort(rows[counts > MAX_HUB_SHARE * num]).tolist()),
        detail="" if ok else "such rows are recommended beside everything, and crowd out what is really near",
        advice="" if ok else "look for default vectors, averages stored as items, and rows that were not centred",
    )


def _skewness(counts: Ints) -> float:
    deviation = float(counts.std())
    return float(((counts - counts.mean()) ** 3).mean()) / deviation**3 if deviation else 0.0


def _random_skewness() -> float:
    """Of a Poisson law with mean `K`: rows without hubs are drawn into lists independently."""
    return 1 / math.sqrt(K)


def accidental_neighbours(num_rows: int, dim: float, near: float = NEAR) -> float:
    """An upper bound of the expected pairs of random directions whose cosine is above ``1 - near``.

    The share of the sphere within an angle t of a point is at most sin(t)^(D-1) / 2.

    >>> accidental_neighbours(20_000, 64) < 1e-100, accidental_neighbours(4_000, 3) > 1
    (True, True)
    """
    sine = math.sqrt(near * (2 - near))
    return float(num_rows * (num_rows - 1) / 4 * sine ** max(0.0, dim - 1))


def near_duplicates(drawn: RowSample, name: str, *, popularity: Ints | None = None) -> CheckResult:
    """Whether a row is another one up to rounding; rows that are equal bit by bit are another check's.

    Args:
        drawn: the rows that are compared, all with all.
        name: the table.
        popularity: [rows of the table] events of each id; pairs of ids with at most `COLD` are left out.
    """
    check, rank = "embeddings/near_duplicates", effective_rank(eigenvalues(drawn.vectors))
    expected = accidental_neighbours(len(drawn.rows), rank)
    if expected > CHANCE:
        figure = f"rows of effective rank {rank:.1f} are near each other by chance ({expected:.2g} pairs)"
        return CheckResult(check=check, subject=name, verdict=Verdict.PASS, figure=figure)
    pairs, cut = close_pairs(drawn.unit)
    pairs = pairs[(drawn.vectors[pairs[:, 0]] != drawn.vectors[pairs[:, 1]]).any(axis=1)]
    if popularity is not None and len(pairs):
        pairs = pairs[(popularity[drawn.rows[pairs]] > COLD).any(axis=1)]
    bad = drawn.rows[np.unique(pairs)]
    return CheckResult(
        check=check,
        subject=name,
        verdict=Verdict.SUSPICIOUS if bad.size else Verdict.PASS,
        figure=count_of(bad.size, len(drawn.rows), "rows have the direction of another one")
        + (f"; comparing stopped at {MAX_PAIRS:,} pairs" if cut else f"; {drawn.words} were compared with each other"),
        expected="random rows never get so near",
        limit=f"1 - cosine > {NEAR:.2g}, the rounding of bfloat16",
        worst=f"rows {drawn.rows[pairs[0, 0]]} and {drawn.rows[pairs[0, 1]]}" if bad.size else "",
        rows=places(bad.tolist()),
        detail="one vector stored twice, rounded or scaled: these items cannot be told apart" if bad.size else "",
        advice="look for ids mapped twice; items with the same few events may share a direction (give --interactions)"
        if bad.size
        else "",
    )


def close_pairs(unit: Rows, near: float = NEAR) -> tuple[Ints, bool]:
    """Pairs [P, 2] of places whose cosine is at least ``1 - near``, and whether there are more than `MAX_PAIRS`.

    Near rows have near projections, so that only neighbours in the order of one projection are looked at, and of these
    only those near in two others; what is left is computed in float64.
    """
    rng = np.random.default_rng(0)
    width = math.sqrt(2 * near) + 1e-6
    axes = np.linalg.qr(rng.standard_normal((unit.shape[1], min(3, unit.shape[1]))))[0]
    places_on = unit.astype(np.float64) @ axes
    order = np.argsort(places_on[:, 0], kind="stable")
    sorted_places, found, num = places_on[order], [np.zeros((0, 2), dtype=np.int64)], 0
    for gap in range(1, len(unit)):
        near_first = sorted_places[gap:, 0] - sorted_places[:-gap, 0] <= width
        if not near_first.any() or num > MAX_PAIRS:
            break
        low = np.flatnonzero(near_first)
        low = low[(np.abs(sorted_places[low + gap] - sorted_places[low]) <= width).all(axis=1)]
        pairs = np.stack([order[low], order[low + gap]], axis=1)
        left, right = unit[pairs[:, 0]].astype(np.float64), unit[pairs[:, 1]].astype(np.float64)
        pairs = pairs[((left - right) ** 2).sum(axis=1) <= 2 * near]
        found.append(pairs)
        num += len(pairs)
    together = np.sort(np.concatenate(found), axis=1)
    return together[np.lexsort((together[:, 1], together[:, 0]))], num > MAX_PAIRS
