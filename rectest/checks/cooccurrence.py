"""How much nearer the rows of items that go together are than those of random items, and how much that may vary.

Owns the pairs and the arithmetic, not the verdict, which is in `table_signal.py`. Pairs share items, so they are not
independent, and popular items may lie alike for no other reason than being popular. Both are in the null law: the rows
change places at random among items of like popularity, and the pairs stay. Its mean is zero and its deviation has a
closed form (a quadratic assignment, Mantel 1967), so nothing is shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Excess", "ItemPairs", "consecutive_pairs", "directions", "excess"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]

NUM_BLOCKS, MIN_BLOCK = 10, 20
"""Groups of like popularity, each of a tenth of the pairs and of enough items to change places with."""

CHUNK = 1 << 15


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemPairs:
    """Unordered pairs of different items that go together, each kept once."""

    items: Ints
    """int64[N] ids that occur, ascending."""

    left: Ints
    """int64[E] places in `items`, smaller than `right`."""

    right: Ints
    count: Floats
    """float64[E] how often the pair occurs."""

    @classmethod
    def from_array(cls, pairs: Array) -> ItemPairs:
        """Of ids [P, 2] in any order, pairs of an item with itself left out.

        >>> ItemPairs.from_array(np.array([[7, 5], [5, 7], [5, 5]])).count.tolist()
        [2.0]
        """
        pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        items, places = np.unique(pairs, return_inverse=True)
        places = places.reshape(-1, 2)
        low, high = places.min(axis=1), places.max(axis=1)
        keys, counts = np.unique((low * len(items) + high)[low != high], return_counts=True)
        width = max(1, len(items))
        return cls(items=items, left=keys // width, right=keys % width, count=counts.astype(np.float64))

    def __len__(self) -> int:
        return int(self.count.sum())

    def thinned(self, num: int) -> ItemPairs:
        """About `num` of the distinct pairs, evenly taken, and the items that they name."""
        step = max(1, len(self.left) // max(1, num))
        return self._chosen(slice(None, None, step))

    def within(self, first: int, last: int) -> ItemPairs:
        """The pairs both of whose ids are from `first` to `last`.

        >>> ItemPairs.from_array(np.array([[1, 2], [2, 7], [7, 8]])).within(7, 9).items.tolist()
        [7, 8]
        """
        inside = (self.items >= first) & (self.items <= last)
        return self._chosen(inside[self.left] & inside[self.right])

    def _chosen(self, which: slice | npt.NDArray[np.bool_]) -> ItemPairs:
        left, right = self.left[which], self.right[which]
        used = np.unique(np.concatenate([left, right]))
        left, right = np.searchsorted(used, left), np.searchsorted(used, right)
        return ItemPairs(items=self.items[used], left=left, right=right, count=self.count[which])


def consecutive_pairs(items: Ints, offsets: Ints, *, max_pairs: int = 100_000, reach: int = 1) -> Ints:
    """Pairs [P, 2] of different items that follow each other in a sequence, from items and sequence offsets.

    Up to `reach` places apart; where there are more than `max_pairs`, evenly taken ones.

    >>> consecutive_pairs(np.array([1, 2, 3, 3]), np.array([0, 2, 4])).tolist()
    [[1, 2]]
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    found = []
    for gap in range(1, reach + 1):
        pairs = np.stack([items[:-gap], items[gap:]], axis=1)
        found.append(pairs[(owner[:-gap] == owner[gap:]) & (pairs[:, 0] != pairs[:, 1])])
    together = np.concatenate(found)
    stride = -(-len(together) // max_pairs) or 1
    chosen: Ints = together[::stride]
    return chosen


def directions(rows: Array) -> Rows:
    """Rows of length one; zero where a row is zero or not finite."""
    with np.errstate(over="ignore"):
        values = rows.astype(np.float32)
    values[~np.isfinite(values).all(axis=1)] = 0
    values /= np.maximum(np.abs(values).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    found = np.zeros_like(values)
    np.divide(values, lengths, out=found, where=lengths > 0)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Excess:
    """The mean cosine of pairs, over that of random pairs of the same popularity."""

    mean: float
    expected: float
    deviation: float
    """Of `mean` for rows that have changed places; zero where all rows are alike."""

    num_pairs: int
    """Pairs whose rows are both there, not zero and finite."""

    @property
    def excess(self) -> float:
        """Zero in expectation for rows that know nothing of the pairs."""
        return self.mean - self.expected

    @property
    def sigmas(self) -> float:
        """Standard normal, nearly, for rows that know nothing; 0 where nothing can vary."""
        return self.excess / self.deviation if self.deviation > 0 else 0.0


def excess(pairs: ItemPairs, rows: Rows) -> Excess:
    """The excess of `pairs` in `rows` [N, D], the directions of `pairs.items` in their order."""
    there: npt.NDArray[np.bool_] = np.asarray(rows.any(axis=1))
    keep = there[pairs.left] & there[pairs.right]
    used = np.unique(np.concatenate([pairs.left[keep], pairs.right[keep]]))
    left, right = np.searchsorted(used, pairs.left[keep]), np.searchsorted(used, pairs.right[keep])
    total = float(pairs.count[keep].sum())
    if len(used) < 2:
        return Excess(mean=0.0, expected=0.0, deviation=0.0, num_pairs=int(total))
    graph = _Graph(left, right, pairs.count[keep] / (2 * total), len(used))
    x = rows[used]
    cosines, expected = _dots(x, left, right), graph.expected(x)
    deviation = float(np.sqrt(max(0.0, graph.variance(x))))
    return Excess(
        mean=2 * float(graph.weight @ cosines),
        expected=expected,
        deviation=deviation if deviation > np.finfo(np.float32).eps else 0.0,
        num_pairs=round(total),
    )


def _dots(rows: Rows, left: Ints, right: Ints) -> Floats:
    dots = np.empty(len(left))
    for start in range(0, len(left), CHUNK):
        part = slice(start, start + CHUNK)
        dots[part] = np.einsum("ij,ij->i", rows[left[part]], rows[right[part]])
    return dots


class _Graph:
    """Pairs with their weights A (both ways, sum 1), and the weights E that chance gives them: W = A - E.

    E_ij = g_de p_i p_j with p the share of an item, d and e the blocks of i and j, and g such that E and A agree in
    the sum over each two blocks; an item is never paired with itself.
    """

    def __init__(self, left: Ints, right: Ints, weight: Floats, num_items: int) -> None:
        self.left, self.right, self.weight = left, right, weight
        self.share: Floats = _sums(left, weight, num_items) + _sums(right, weight, num_items)
        self.block = _blocks(self.share)
        self.num = int(self.block.max()) + 1
        self.sizes = np.bincount(self.block)
        mass, squares = self._by_block(self.share), self._by_block(self.share**2)
        free = np.outer(mass, mass) - np.diag(squares)
        self.rate = np.divide(self._by_blocks(weight), free, out=np.zeros_like(free), where=free > 1e-15)
        self.mass, self.squares = mass, squares

    def _by_block(self, values: Floats) -> Floats:
        return _sums(self.block, values, self.num)

    def _by_blocks(self, values: Floats) -> Floats:
        """Sums over both directions of each pair [blocks, blocks]."""
        cells = _sums(self.block[self.left] * self.num + self.block[self.right], values, self.num**2)
        square = cells.reshape(self.num, self.num)
        both: Floats = square + square.T
        return both

    def expected(self, x: Rows) -> float:
        """Sum of E_ij x_i x_j."""
        sums = np.stack([self.share[rows] @ x[rows].astype(np.float64) for rows in self._members()])
        lengths = np.einsum("ij,ij->i", x, x).astype(np.float64)
        own = np.diag(self._by_block(self.share**2 * lengths))
        return float((self.rate * (sums @ sums.T - own)).sum())

    def _members(self) -> list[Ints]:
        return [np.flatnonzero(self.block == d) for d in range(self.num)]

    def variance(self, x: Rows) -> float:
        """Of the sum of W_ij x_i x_j when rows change places within their blocks.

        With x_i = m_d + y_i it is 2 sum W_ij^2 E(y_i y_j)^2 + 4 sum v_i C_d v_i, where C_d is the covariance of a
        block and v_i = sum_e W_ie m_e.
        """
        means = np.stack([x[rows].mean(axis=0, dtype=np.float64) for rows in self._members()])
        linear = self._surplus() @ means
        spread, fourth, total = [], np.zeros(self.num), 0.0
        for d, rows in enumerate(self._members()):
            y = x[rows] - means[d].astype(np.float32)
            covariance = (y.T @ y).astype(np.float64) / len(rows)
            fourth[d] = float((np.einsum("ij,ij->i", y, y).astype(np.float64) ** 2).sum())
            v = linear[rows] - linear[rows].mean(axis=0)
            total += 4 * float(np.einsum("ij,ij->", v @ covariance, v))
            spread.append(covariance.ravel())
        products = np.stack(spread) @ np.stack(spread).T
        n = self.sizes.astype(np.float64)
        np.fill_diagonal(products, (n**2 * np.diag(products) - fourth) / np.maximum(1, n * (n - 1)))
        return total + 2 * float((self._squared_weights() * products).sum())

    def _surplus(self) -> Floats:
        """W summed over the partners of each item in each block [items, blocks]."""
        cells = self.num * len(self.share)
        one = _sums(self.left * self.num + self.block[self.right], self.weight, cells)
        two = _sums(self.right * self.num + self.block[self.left], self.weight, cells)
        partners = np.tile(self.mass, (len(self.share), 1))
        partners[np.arange(len(self.share)), self.block] -= self.share
        by_chance = self.rate[self.block] * self.share[:, None] * partners
        surplus: Floats = (one + two).reshape(-1, self.num) - by_chance
        return surplus

    def _squared_weights(self) -> Floats:
        """Sum of W_ij^2 over each two blocks."""
        chance = self.rate[self.block[self.left], self.block[self.right]] * self.share[self.left]
        chance = chance * self.share[self.right]
        squares = np.outer(self.squares, self.squares) - np.diag(self._by_block(self.share**4))
        found: Floats = self._by_blocks(self.weight**2 - 2 * self.weight * chance) + self.rate**2 * squares
        return found


def _sums(groups: Ints, values: Floats, num: int) -> Floats:
    return np.bincount(groups, values, num).astype(np.float64)


def _blocks(share: Floats) -> Ints:
    """Items by popularity, equal ones together: blocks of a tenth of all pairs and at least `MIN_BLOCK` items."""
    values, inverse, sizes = np.unique(-share.round(12), return_inverse=True, return_counts=True)
    number, mass, items = np.zeros(len(values), dtype=np.int64), 0.0, 0
    for place, (value, size) in enumerate(zip(-values, sizes, strict=True)):
        number[place] = number[place - 1] if place else 0
        if mass >= 1 / NUM_BLOCKS and items >= MIN_BLOCK:
            number[place], mass, items = number[place] + 1, 0.0, 0
        mass, items = mass + value * size, items + size
    if items < MIN_BLOCK:
        number[number == number[-1]] = max(0, number[-1] - 1)
    blocks: Ints = number[inverse.ravel()]
    return blocks
