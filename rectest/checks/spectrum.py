"""How the rows of a table fill their space: effective rank, one direction above all, dead columns, and noise.

Owns what the second moments of a sample tell. Rows that are evenly spread over all directions are what a generator of
random numbers gives and hardly any training does; that can be said without interactions. What the rows mean can not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, Verdict, count_of, percent, places
from rectest.checks.row_sample import RowSample

__all__ = ["dead_dimensions", "effective_rank", "isotropy", "one_direction", "rank", "spread_sigmas"]

Floats = npt.NDArray[np.float64]

PART = 2048

MIN_ROWS = 200
"""Rows from which on an even spread can be told from a trained one."""

RANDOM_SIGMAS = 5.0
"""Noise is within them in all but 6e-7 of tables for each of the two figures. Of 84 trained tables, those that had
left their initial values were 12 or more away in one of them."""

MIN_RANK_SHARE = 0.1
"""Of the columns; the least of 84 tables was 0.56, at strong popularity."""

MIN_RANK = 2.0

MAX_TOP_SHARE = 0.9
"""Of the variance in one direction; the most of 84 tables was 0.62."""

DEAD_SHARE = 1e-4
"""Deviation of a column over the median one; the least of 84 tables was 0.3."""


def eigenvalues(vectors: npt.NDArray[np.float32]) -> Floats:
    """Of the covariance of the columns, descending; those below the rounding of the sum are zero.

    Of fewer rows than columns there are as many as rows: the others are zero, and the products of rows are smaller.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    scale = max((float(np.abs(part - mean).max()) for part in _parts(vectors)), default=0.0) or 1.0
    few = len(vectors) < len(mean)
    total = np.zeros((min(vectors.shape), min(vectors.shape)))
    means = np.broadcast_to(mean, vectors.shape)
    pair = (vectors.T, means.T) if few else (vectors, means)
    for part, own in zip(_parts(pair[0]), _parts(pair[1]), strict=True):
        centred = (part - own) / scale
        total += centred.T @ centred
    found: Floats = np.linalg.eigvalsh(total / len(vectors))[::-1].astype(np.float64)
    floor = found[0] * len(found) * np.finfo(np.float32).eps ** 2
    return np.where(found > floor, found, 0.0) * scale**2


def _parts(vectors: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """A few rows at a time, so that float64 copies stay small."""
    yield from (vectors[start : start + PART] for start in range(0, len(vectors), PART))


def effective_rank(values: Floats) -> float:
    """The exponential of the entropy of the singular values (Roy and Vetterli 2007), from the eigenvalues.

    >>> round(effective_rank(np.array([1.0, 1.0, 1.0])), 3), round(effective_rank(np.array([1.0, 0.0])), 3)
    (3.0, 1.0)
    """
    singular = np.sqrt(values[values > 0])
    if not singular.size:
        return 0.0
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rank(sample: RowSample, name: str) -> CheckResult:
    """Whether the rows use more than a few of their columns."""
    found, dim = effective_rank(eigenvalues(sample.vectors)), sample.vectors.shape[1]
    full = min(dim, len(sample.rows) - 1)
    least = max(min(MIN_RANK, full / 2), MIN_RANK_SHARE * full)
    ok = found >= least
    return _warned(
        "embeddings/effective_rank",
        name,
        ok=ok,
        figure=f"effective rank {found:.1f} of {dim} columns, of {sample.words}",
        expected="half of the columns or more",
        limit=f">= {least:.3g}",
        detail="" if ok else "the rows lie in a space of few dimensions: most columns repeat others or say nothing",
        advice="look for repeated columns, a loss without negatives, or a weight decay far too strong",
    )


def one_direction(sample: RowSample, name: str) -> CheckResult:
    """Whether most of what tells rows apart is a place along one line."""
    values = eigenvalues(sample.vectors)
    total = float(values.sum())
    share = float(values[0]) / total if total > 0 else 1.0
    ok = share <= MAX_TOP_SHARE or sample.vectors.shape[1] == 1
    return _warned(
        "embeddings/one_direction",
        name,
        ok=ok,
        figure=f"{percent(share)} of the variance lies in one direction, of {sample.words}",
        expected=f"{percent(1 / sample.vectors.shape[1])} for random rows, up to 60 % at strong popularity",
        limit=f"<= {percent(MAX_TOP_SHARE)}",
        detail=""
        if ok
        else "the rows differ along one line only, popularity as a rule, or a few rows outgrew the rest",
        advice="look at embeddings/exploding and at the negatives: popularity alone separates these rows",
    )


def dead_dimensions(sample: RowSample, name: str) -> CheckResult:
    """Whether each column differs between rows."""
    deviations = sample.vectors.std(axis=0, dtype=np.float64)
    typical = float(np.median(deviations[deviations > 0])) if deviations.any() else 0.0
    dead = np.flatnonzero(deviations <= DEAD_SHARE * typical)
    return _warned(
        "embeddings/dead_dimensions",
        name,
        ok=not dead.size,
        figure=count_of(dead.size, len(deviations), "columns are the same in all rows"),
        limit=f"deviation > {DEAD_SHARE:g} of the median column's",
        worst=f"column {dead[0]}: {float(sample.vectors[:, dead[0]].mean()):.4g} +- {deviations[dead[0]]:.2g}"
        if dead.size
        else "",
        outside=f"columns {places(dead.tolist(), limit=10)}" if dead.size else "",
        rows=places(dead.tolist()),
        detail="a column that is the same for every item cannot tell two of them apart" if dead.size else "",
        advice="look for columns that were never filled, or that a decay without gradient took to zero",
    )


def spread_sigmas(unit: npt.NDArray[np.float32]) -> tuple[float, float]:
    """How far the spread of directions, and their mean, are from those of random directions, in deviations.

    For n independent even directions in D dimensions the squared cosines of different rows have mean 1/D and variance
    2 (D - 1) / (D^2 (D + 2)), and are uncorrelated; the sum of their n (n - 1) / 2 pairs follows from the second
    moments. The squared length of the mean direction times n D is chi-square with D degrees of freedom, nearly.
    """
    n, dim = unit.shape
    moments = (unit.T @ unit).astype(np.float64)
    pairs = n * (n - 1)
    mean_square = (float((moments**2).sum()) - n) / pairs
    deviation = np.sqrt(2 * (dim - 1) / (dim**2 * (dim + 2)) * 2 / pairs)
    mean = unit.mean(axis=0, dtype=np.float64)
    return (mean_square - 1 / dim) / deviation, (n * dim * float(mean @ mean) - dim) / np.sqrt(2 * dim)


def isotropy(sample: RowSample, name: str) -> CheckResult:
    """Whether the rows are spread as evenly over all directions as random numbers are, which training seldom does."""
    check, (n, dim) = "embeddings/isotropy", sample.vectors.shape
    moments = f"entries have mean {sample.vectors.mean(dtype=np.float64):.2g} and sd {sample.vectors.std():.4g}"
    if n < MIN_ROWS or dim < 2:
        words = f"{n} rows of {dim} numbers are too few to tell an even spread from a trained one; {moments}"
        return _warned(check, name, ok=True, figure=words)
    spread, mean = spread_sigmas(sample.unit)
    ok = abs(spread) > RANDOM_SIGMAS or abs(mean) > RANDOM_SIGMAS
    return _warned(
        check,
        name,
        ok=ok,
        figure=f"the spread of directions is {spread:.1f}, their mean {mean:.1f} deviations from random directions; "
        f"{moments}, of {sample.words}",
        expected=f"a trained table is dozens away in one of them; sd {1 / np.sqrt(dim):.4g} follows from length 1",
        limit=f"> {RANDOM_SIGMAS:g} deviations in one of them",
        detail=""
        if ok
        else "no pass over the rows can tell them from random numbers: not trained, or not the file meant",
        advice="give --interactions: co-occurring items tell noise from signal",
    )


def _warned(check: str, name: str, *, ok: bool, figure: str, **texts: str) -> CheckResult:
    """PASS, or SUSPICIOUS: possible, and rarely meant."""
    if ok:
        texts.pop("advice", None)
    return CheckResult(
        check=check, subject=name, verdict=Verdict.PASS if ok else Verdict.SUSPICIOUS, figure=figure, **texts
    )
