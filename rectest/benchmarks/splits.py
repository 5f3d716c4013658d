"""The statistics of steps in one series: where it splits, with p-values by permutation, and how sure the place is.

Each part of a series is looked at twice, at half of the level each. First for one step, by `baseline.trend`:

    max over k of n (mean_before - mean)^2 n_before / n_after

then for a stretch that differs from what is around it (worse at one commit, mended at another), which one step cannot
see where the stretch lies in the middle: circular binary segmentation (Olshen, Venkatraman, Lucito and Wigler 2004,
Biostatistics 5:557), the same sum of squares, maximised over all stretches. Parts are then looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.trend import MIN_POINTS, MIN_SEGMENT, change_point, points_needed

__all__ = ["Split", "fewest_points", "find_splits"]

Array: TypeAlias = NDArray[np.float64]

_FIRST_LOOK = 499
"""Permutations that send most series away."""

_ENTERS = 0.03
"""p-value of the first look under which all permutations are made; both must agree, which makes alarms rarer only."""

_LEAST, _PER_LEVEL = 9999, 20
"""Permutations of the second look: at least, and in units of 1 / level, so that p can come well below the level."""

_BLOCK = 1 << 20
"""Numbers that are permuted at a time."""

_PLAUSIBLE = 7.0
"""Places whose log likelihood lies at most half as far below the best: 97 % of simulated steps of a tenth lie in them,
on noise of 2 to 3 % with one busy run in ten (`tests/benchmarks/test_changes.py`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A significant step."""

    place: int
    """Values before it."""

    p: float
    first: int
    """The earliest and the latest place that the values between the neighbouring steps leave plausible."""

    last: int


def find_splits(values: Array, level: float, rng: np.random.Generator) -> list[Split]:
    """The steps of a series by place; the probability of any where there is none is at most `level`."""
    found = dict(_search(values, 0, level, rng))
    ends = [0, *sorted(found), len(values)]
    splits = []
    for number, place in enumerate(sorted(found), start=1):
        start = ends[number - 1]
        near = _plausible(values[start : ends[number + 1]], place - start)
        splits.append(Split(place=place, p=found[place], first=start + near[0], last=start + near[-1]))
    return splits


def fewest_points(level: float) -> int:
    """How long a series must be for a perfect step to show.

    >>> fewest_points(0.01), fewest_points(0.0001)
    (12, 19)
    """
    # Estimated p-values scatter around the smallest that is possible.
    return points_needed(0.7 * level / 2)


def _search(values: Array, offset: int, level: float, rng: np.random.Generator) -> Iterator[tuple[int, float]]:
    """Places and p-values in a part of a series that begins at `offset`."""
    if len(values) < MIN_POINTS:
        return
    places, p = _one_step(values, level / 2, rng)
    if not places:
        places, p = _stretch(values, level / 2, rng)
    if not places:
        return
    yield from ((offset + place, p) for place in places)
    for start, stop in zip([0, *places], [*places, len(values)], strict=True):
        yield from _search(values[start:stop], offset + start, level, rng)


def _one_step(values: Array, level: float, rng: np.random.Generator) -> tuple[list[int], float]:
    def look(num: int) -> tuple[list[int], float]:
        place, _, p = change_point(values, rng, num_permutations=num)
        return [place], p

    return _two_looks(look, level)


def _stretch(values: Array, level: float, rng: np.random.Generator) -> tuple[list[int], float]:
    centred = values - values.mean()
    reached, places = _best_stretch(centred[None])
    if not places:
        return [], 1.0
    least = float(reached[0]) * (1 - 1e-9)

    def look(num: int) -> tuple[list[int], float]:
        hits, left = 0, num
        while left:
            rows = min(left, max(1, _BLOCK // len(centred)))
            hits += int((_best_stretch(rng.permuted(np.tile(centred, (rows, 1)), axis=1))[0] >= least).sum())
            left -= rows
        return places, (1 + hits) / (1 + num)

    return _two_looks(look, level)


def _two_looks(look: Callable[[int], tuple[list[int], float]], level: float) -> tuple[list[int], float]:
    """Places and p-value where both looks say so; no places where one does not."""
    _, p = look(_FIRST_LOOK)
    if p > max(_ENTERS, level):
        return [], p
    places, p = look(max(_LEAST, math.ceil(_PER_LEVEL / level)))
    return (places, p) if p <= level else ([], p)


def _best_stretch(rows: Array) -> tuple[Array, list[int]]:
    """[R] the largest sum of squares between a stretch and the rest, and the ends of the first row's stretch.

    Both sides of the stretch have `MIN_SEGMENT` values at least. Rows have the mean zero.
    """
    num = rows.shape[1]
    sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    best, places = np.zeros(len(rows)), []
    for length in range(MIN_SEGMENT, num - 2 * MIN_SEGMENT + 1):
        starts = np.arange(MIN_SEGMENT, num - MIN_SEGMENT - length + 1)
        between = (sums[:, starts + length] - sums[:, starts]) ** 2 * num / (length * (num - length))
        if between[0].max() > best[0]:
            start = int(starts[np.argmax(between[0])])
            places = [start, start + length]
        best = np.maximum(best, between.max(axis=1))
    return best, places


def _plausible(values: Array, place: int) -> list[int]:
    """Places of the one step in `values` that are about as likely as `place`, under normal noise."""
    ends = np.arange(1, len(values))
    within = np.array([values[:k].var() * k + values[k:].var() * (len(values) - k) for k in ends])
    floor = max(within[place - 1], 1e-12 * float(values.var() * len(values)))
    likely = ends[len(values) * np.log(np.maximum(within, floor) / floor) <= _PLAUSIBLE]
    return [int(k) for k in likely] or [place]
