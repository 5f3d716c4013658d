"""The log-uniform candidate sampler of sampled softmax, with TensorFlow's semantics.

Class c of a range of R has P(c) = ln((c + 2) / (c + 1)) / ln(R + 1), so classes must be in order of falling
popularity. Classes are drawn until `num` distinct ones are found; with T draws the log-Q correction uses the expected
count 1 - (1 - P(c))^T (TensorFlow, ``log_uniform_candidate_sampler`` with ``unique=True``). That is an estimate, since
T itself was chosen by the draws; `inclusion_probability` gives the exact value for small ranges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rectest.errors import DataError

__all__ = ["LogUniformNegatives", "Sampled", "inclusion_probability", "log_uniform_law"]

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_MAX_CHUNK = 1 << 20


def log_uniform_law(num_classes: int) -> _Floats:
    """P(c) for c = 0..R-1.

    >>> log_uniform_law(3).round(4).tolist()
    [0.5, 0.2925, 0.2075]
    """
    classes = np.arange(num_classes, dtype=np.float64)
    law: _Floats = np.log1p(1.0 / (classes + 1.0)) / np.log(num_classes + 1.0)
    return law


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sampled:
    """One batch of distinct negatives and what the log-Q correction needs."""

    ids: _Ints
    """Distinct item ids, [num], in the order in which they were found."""
    num_tries: int
    """Raw draws made, the last new one included."""
    expected_count: _Floats
    """[V+1]: 1 - (1 - P)^num_tries per item id; 1 for every drawable id when all of them were asked for."""

    def log_q(self, ids: ArrayLike) -> _Floats:
        """log of the expected count of the given ids, to be subtracted from their logits; 0 where it is 1.

        DataError for an id that the sampler cannot draw (a target outside its range).
        """
        counts = self.expected_count[np.asarray(ids, dtype=np.int64)]
        if (counts <= 0).any():
            msg = "log Q is asked for an id that this sampler can never draw"
            raise DataError(msg)
        return np.log(counts)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogUniformNegatives:
    """Distinct negatives shared by a batch; class c stands for the item ``order[c]``."""

    order: _Ints
    """Item id of each class, most popular first; normally a permutation of 1..V."""
    num_items: int

    def __post_init__(self) -> None:
        order = np.asarray(self.order)
        if order.ndim != 1 or order.dtype.kind not in "iu" or len(order) == 0:
            msg = f"order must be a non-empty integer array, got {order.dtype} of shape {order.shape}"
            raise ValueError(msg)
        if order.min() < 0 or order.max() > self.num_items or len(np.unique(order)) != len(order):
            msg = f"order must hold distinct ids in 0..{self.num_items}"
            raise ValueError(msg)
        frozen = order.astype(np.int64, copy=True)
        frozen.setflags(write=False)
        object.__setattr__(self, "order", frozen)

    @classmethod
    def by_popularity(cls, counts: ArrayLike) -> LogUniformNegatives:
        """Classes in order of falling counted popularity [V+1]; ties go to the smaller id, and padding is no class."""
        counted = np.asarray(counts)
        return cls(order=1 + np.argsort(-counted[1:], kind="stable"), num_items=len(counted) - 1)

    @classmethod
    def by_raw_id(cls, num_items: int, *, with_padding: bool = False) -> LogUniformNegatives:
        """Classes in order of item id: right only if ids happen to be sorted by popularity.

        With `with_padding`, class c is id c and the padding is the likeliest negative of all: the historical fault.
        """
        return cls(order=np.arange(0 if with_padding else 1, num_items + 1), num_items=num_items)

    @property
    def num_classes(self) -> int:
        return len(self.order)

    def probability(self) -> _Floats:
        """The law of one raw draw, float64[V+1], by item id."""
        return self._by_id(log_uniform_law(self.num_classes))

    def draw(self, rng: np.random.Generator, num: int) -> Sampled:
        """`num` distinct ids; ValueError when there are not that many classes."""
        if not 1 <= num <= self.num_classes:
            msg = f"num must be in 1..{self.num_classes}, got {num}"
            raise ValueError(msg)
        if num == self.num_classes:
            every = self._by_id(np.ones(num))
            return Sampled(ids=rng.permutation(self.order), num_tries=num, expected_count=every)
        classes, num_tries = self._distinct(rng, num)
        expected = -np.expm1(num_tries * np.log1p(-log_uniform_law(self.num_classes)))
        return Sampled(ids=self.order[classes], num_tries=num_tries, expected_count=self._by_id(expected))

    def _distinct(self, rng: np.random.Generator, num: int) -> tuple[_Ints, int]:
        """The first `num` distinct classes of a stream of raw draws, and how many draws that took."""
        found = np.zeros(0, dtype=np.int64)
        met = np.zeros(self.num_classes, dtype=bool)
        tries, chunk = 0, 2 * num
        while True:
            raw = self._raw(rng, chunk)
            first = np.sort(np.unique(raw, return_index=True)[1])
            first = first[~met[raw[first]]]
            missing = num - len(found)
            found = np.concatenate([found, raw[first[:missing]]])
            if len(first) >= missing:
                return found, tries + int(first[missing - 1]) + 1
            met[raw[first]] = True
            tries, chunk = tries + chunk, min(2 * chunk, _MAX_CHUNK)

    def _raw(self, rng: np.random.Generator, num: int) -> _Ints:
        """Raw draws by inversion: floor(exp(u ln(R + 1))) - 1."""
        places = np.floor(np.exp(rng.random(num) * np.log(self.num_classes + 1.0))) - 1
        classes: _Ints = np.minimum(places, self.num_classes - 1).astype(np.int64)
        return classes

    def _by_id(self, per_class: _Floats) -> _Floats:
        by_id = np.zeros(self.num_items + 1)
        by_id[self.order] = per_class
        return by_id


def inclusion_probability(law: ArrayLike, num: int) -> _Floats:
    """Exact P(class is among the first `num` distinct classes) when drawing from `law` with replacement, [R].

    Poissonisation: let class j arrive first after an exponential time of rate p_j; the order of first arrivals is the
    order of first draws. Class c is in when fewer than `num` others arrived before it, so the answer is the integral
    over c's arrival time of a Poisson-binomial tail, taken by the double-exponential rule (error about 1e-12). Cost
    grows with R^3, hence at most 64 classes; the entries sum to `num`.
    """
    p = np.asarray(law, dtype=np.float64)
    if p.ndim != 1 or not 1 <= len(p) <= 64 or (p <= 0).any() or abs(p.sum() - 1.0) > 1e-9:
        msg = f"law must be 1 to 64 positive probabilities that sum to 1, got shape {p.shape}"
        raise ValueError(msg)
    if not 1 <= num <= len(p):
        msg = f"num must be in 1..{len(p)}, got {num}"
        raise ValueError(msg)
    if num == len(p):
        return np.ones(len(p))
    x = np.arange(-4.0, 4.5, 0.02)
    scaled = np.exp(x - np.exp(-x))  # p_c times the arrival time of c
    weight = np.exp(-scaled) * scaled * (1.0 + np.exp(-x)) * 0.02
    return np.array([weight @ _fewer_others(p, c, scaled / p[c], num) for c in range(len(p))])


def _fewer_others(p: _Floats, c: int, time: _Floats, num: int) -> _Floats:
    """P(fewer than `num` classes other than c arrived by each time), by the Poisson-binomial recursion."""
    counts = np.zeros((num, len(time)))
    counts[0] = 1.0
    for rate in np.delete(p, c):
        arrived = -np.expm1(-rate * time)
        counts[1:] = counts[1:] * (1.0 - arrived) + counts[:-1] * arrived
        counts[0] *= 1.0 - arrived
    fewer: _Floats = counts.sum(axis=0)
    return fewer
