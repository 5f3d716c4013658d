"""Negative samplers that draw independently: uniform, by counted popularity, and a mixture of the two.

The log-uniform sampler with TensorFlow's semantics, which draws distinct classes for a whole batch, is in
`log_uniform` and exported from here too. What a sampler really does is what `probability` says: the law of one draw
before anything is excluded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectest.data.interactions import Sequences
from rectest.data.log_uniform import LogUniformNegatives, Sampled
from rectest.errors import DataError

__all__ = [
    "LogUniformNegatives",
    "MixedNegatives",
    "Negatives",
    "PopularityNegatives",
    "Sampled",
    "UniformNegatives",
]

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Excluded = Sequences | Sequence[ArrayLike]

_MAX_REDRAWS = 32


class Negatives(ABC):
    """A law over the items 1..V from which negatives are drawn one by one, with replacement."""

    @abstractmethod
    def probability(self) -> _Floats:
        """The law of one draw before exclusion, float64[V+1]; column 0 is 0 and the sum is 1."""

    @abstractmethod
    def _draw(self, rng: np.random.Generator, num: int) -> _Ints:
        """`num` independent draws."""

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...], *, exclude: _Excluded | None = None) -> _Ints:
        """Negatives of the given shape; row r (first axis) avoids the ids in ``exclude[r]``.

        An excluded draw is drawn again, so what comes out follows the law restricted to the allowed items. It always
        ends: after a fixed number of redraws the rest is drawn from the restricted law directly. DataError names a
        row whose exclusions leave nothing to draw.
        """
        num = int(np.prod(shape, dtype=np.int64))
        drawn = self._draw(rng, num)
        if exclude is not None and num:
            if len(exclude) != shape[0]:
                msg = f"exclude has {len(exclude)} rows where the sample has {shape[0]}"
                raise ValueError(msg)
            self._avoid(rng, drawn, np.repeat(np.arange(shape[0]), num // shape[0]), exclude)
        return drawn.reshape(shape)

    def _avoid(self, rng: np.random.Generator, drawn: _Ints, row: _Ints, exclude: _Excluded) -> None:
        """Redraw in place what its row excludes."""
        law = self.probability()
        width = len(law)
        pairs = _pairs(exclude, width)
        self._check_possible(law, pairs, len(exclude))
        bad = np.flatnonzero(np.isin(row * width + drawn, pairs))
        for _ in range(_MAX_REDRAWS):
            if not len(bad):
                return
            drawn[bad] = self._draw(rng, len(bad))
            bad = bad[np.isin(row[bad] * width + drawn[bad], pairs)]
        for place in bad:
            allowed = law.copy()
            mine = pairs[(pairs >= row[place] * width) & (pairs < (row[place] + 1) * width)]
            allowed[mine - row[place] * width] = 0.0
            drawn[place] = _inverse(np.cumsum(allowed), rng.random(1))[0]

    def _check_possible(self, law: _Floats, pairs: _Ints, num_rows: int) -> None:
        width = len(law)
        blocked = np.bincount(pairs[law[pairs % width] > 0] // width, minlength=num_rows)
        full = blocked >= int((law > 0).sum())
        if full.any():
            msg = f"row {int(np.argmax(full))} excludes every item that this sampler can draw"
            raise DataError(msg)


def _pairs(exclude: _Excluded, width: int) -> _Ints:
    """Distinct keys row * width + id of all excluded ids; 0 (padding) excludes nothing."""
    rows = [np.asarray(exclude[row], dtype=np.int64).ravel() for row in range(len(exclude))]
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    ids = np.concatenate(rows)
    if len(ids) and (ids.min() < 0 or ids.max() >= width):
        msg = f"excluded ids must be in 0..{width - 1}, got {ids.min()}..{ids.max()}"
        raise ValueError(msg)
    keys: _Ints = np.unique((owner * width + ids)[ids > 0])
    return keys


def _inverse(cumulative: _Floats, places: _Floats) -> _Ints:
    """Index drawn by each place in [0, 1) from an unnormalised cumulative law; never one of weight 0."""
    found = np.searchsorted(cumulative, places * cumulative[-1], side="right")
    last = int(np.searchsorted(cumulative, cumulative[-1], side="left"))
    drawn: _Ints = np.minimum(found, last).astype(np.int64)
    return drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class UniformNegatives(Negatives):
    """Every item alike."""

    num_items: int

    def __post_init__(self) -> None:
        if self.num_items < 1:
            msg = f"num_items must be at least 1, got {self.num_items}"
            raise ValueError(msg)

    def probability(self) -> _Floats:
        law = np.full(self.num_items + 1, 1.0 / self.num_items)
        law[0] = 0.0
        return law

    def _draw(self, rng: np.random.Generator, num: int) -> _Ints:
        return rng.integers(1, self.num_items, size=num, endpoint=True)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PopularityNegatives(Negatives):
    """Proportional to ``counts ** power`` with counts that were counted, not guessed from the ids."""

    counts: _Ints
    """Training events per item, [V+1], counts[0] == 0; an item that never occurred is never drawn."""
    power: float = 0.75
    _cumulative: _Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts)
        if counts.ndim != 1 or len(counts) < 2 or counts.dtype.kind not in "iu" or counts[0] != 0:
            msg = "counts must be an integer array [V+1] with counts[0] == 0"
            raise ValueError(msg)
        if (counts < 0).any() or not counts.any():
            msg = "counts must not be negative and must hold at least one event"
            raise DataError(msg)
        weight = np.zeros(len(counts))
        weight[counts > 0] = counts[counts > 0].astype(np.float64) ** self.power
        if not np.isfinite(weight.sum()):
            msg = f"power {self.power} makes the weights infinite or NaN"
            raise ValueError(msg)
        object.__setattr__(self, "_cumulative", np.cumsum(weight))

    def probability(self) -> _Floats:
        law: _Floats = np.diff(self._cumulative, prepend=0.0) / self._cumulative[-1]
        return law

    def _draw(self, rng: np.random.Generator, num: int) -> _Ints:
        return _inverse(self._cumulative, rng.random(num))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MixedNegatives(Negatives):
    """Each draw is popular with probability `popular_ratio`, else uniform.

    A coin per draw, not a share of n draws rounded down: with one negative per position int(0.3 * 1) would be 0.
    """

    popular: PopularityNegatives
    popular_ratio: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.popular_ratio <= 1.0:
            msg = f"popular_ratio must be in [0, 1], got {self.popular_ratio}"
            raise ValueError(msg)

    @property
    def _uniform(self) -> UniformNegatives:
        return UniformNegatives(num_items=len(self.popular.counts) - 1)

    def probability(self) -> _Floats:
        popular, uniform = self.popular.probability(), self._uniform.probability()
        return self.popular_ratio * popular + (1.0 - self.popular_ratio) * uniform

    def _draw(self, rng: np.random.Generator, num: int) -> _Ints:
        coin = rng.random(num) < self.popular_ratio
        return np.where(coin, self.popular._draw(rng, num), self._uniform._draw(rng, num))
