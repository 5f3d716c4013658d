"""`RawIds`: millions of raw ids as bytes in one buffer, hashed, compared and looked up without an object for each.

Equal hashes are never taken for equal ids: what hashes alike is compared byte by byte. The judges of id maps work on
it; what an id should look like is in `mapping_format.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "LONG", "PADDED", "RawIds", "Words", "each_block", "equal_hashes", "mixed"]

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64] | slice

T = TypeVar("T")

BLOCK = 1 << 16
"""Ids of one block: its words stay in the cache of a core."""

LONG = 64
"""Ids of more bytes than this are hashed one by one; so that one absurd id does not cost a pass for all."""

PADDED = 16
"""Bytes of no meaning that a buffer of ids ends with, so that eight bytes can be read anywhere in it."""

_FEW = 1 << 17
_MANY_BLOCKS = 4
_TABLE_BITS = 25
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_SHIFT = np.uint64(29)
_ROUND = np.uint64(0xD6E8FEB86659FD93)
_ALL = (1 << 64) - 1
_ALL_WORD = np.uint64(_ALL)
_EACH_BYTE = 0x0101010101010101
_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_FROM_A, _FROM_AFTER_Z = np.uint64(0x3F3F3F3F3F3F3F3F), np.uint64(0x2525252525252525)


class RawIds:
    """Raw ids as UTF-8 in `data`, each from its `start` for its `length` bytes.

    Memory: the bytes, 16 bytes an id, and 8 more where hashes were asked for.
    """

    def __init__(self, data: npt.NDArray[np.uint8], start: Ints, length: Ints) -> None:
        """Take arrays as they are; `data` ends in at least `PADDED` bytes that belong to no id."""
        self._data, self._start, self._length = data, start, length
        self._words: Words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        self._hashes: Words | None = None
        self._order: Ints | None = None
        self._first_bytes: npt.NDArray[np.uint8] | None = None

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> RawIds:
        """The ids of an iterable of texts; a lone surrogate is kept as three bytes."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        length = np.fromiter(map(len, encoded), np.int64, len(encoded))
        data = np.frombuffer(b"".join([*encoded, bytes(PADDED)]), dtype=np.uint8)
        return cls(data, np.cumsum(length) - length, length)

    @classmethod
    def from_array(cls, texts: npt.NDArray[np.str_]) -> RawIds:
        """The ids of an array of texts."""
        width = texts.dtype.itemsize // 4
        if not texts.size or not width:
            return cls.from_texts(texts.tolist())
        points = np.ascontiguousarray(texts).view(np.uint32).reshape(len(texts), width)
        if points.max() >= 128:
            return cls.from_texts(texts.tolist())
        length = width - (points[:, ::-1] != 0).argmax(axis=1)
        length[~points.any(axis=1)] = 0
        data = np.concatenate([points.astype(np.uint8).reshape(-1), np.zeros(PADDED, np.uint8)])
        return cls(data, np.arange(len(texts), dtype=np.int64) * width, length.astype(np.int64))

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, place: int) -> str:
        first, num = int(self._start[place]), int(self._length[place])
        return self._data[first : first + num].tobytes().decode("utf-8", "surrogatepass")

    @property
    def length(self) -> Ints:
        """Bytes of each id."""
        return self._length

    @property
    def ascii(self) -> bool:
        """Whether every byte of the buffer is ASCII; false may be owed to bytes between ids."""
        return not len(self._data) or int(self._data.max()) < 128

    def has(self, byte: int) -> bool:
        """Whether this byte is anywhere in the buffer; true may be owed to bytes between ids."""
        return any((self._data[i : i + (1 << 20)] == byte).any() for i in range(0, len(self._data), 1 << 20))

    def texts(self, places: Iterable[int] | None = None) -> list[str]:
        """The ids at these places, or all of them."""
        return [self[place] for place in (range(len(self)) if places is None else places)]

    def take(self, places: npt.NDArray[Any]) -> RawIds:
        """The ids at these places (or of this mask), in the same buffer."""
        return RawIds(self._data, self._start[places], self._length[places])

    def first_bytes(self) -> npt.NDArray[np.uint8]:
        """The first byte of each id; of an empty one, 0. Kept."""
        if self._first_bytes is None:
            self._first_bytes = np.where(self._length > 0, self._data[self._start], np.uint8(0))
        return self._first_bytes

    def last_bytes(self) -> npt.NDArray[np.uint8]:
        """The last byte of each id; of an empty one, 0."""
        return np.where(self._length > 0, self._data[self._start + np.maximum(self._length, 1) - 1], np.uint8(0))

    def without_leading(self, mask: npt.NDArray[np.bool_], byte: int) -> RawIds:
        """The ids without their leading `byte`s where `mask` holds; the last byte of an id always stays."""
        start, length = self._start.copy(), self._length.copy()
        todo = np.flatnonzero(mask)
        while len(todo):
            todo = todo[(length[todo] > 1) & (self._data[start[todo]] == byte)]
            start[todo] += 1
            length[todo] -= 1
        return RawIds(self._data, start, length)

    def words(self, block: slice, *, fill: int = 0) -> Iterator[tuple[Words, Places]]:
        """Eight bytes at a time of the ids of a block: the words, and the places in the block that they are of.

        Bytes after the end of an id are `fill`. Ids of more than `LONG` bytes are left out.
        """
        start, length = self._start[block], self._length[block]
        longest = int(length.max(initial=0))
        filled = np.uint64(fill * _EACH_BYTE)
        if longest <= LONG and longest == length.min(initial=LONG):
            return self._words_of_one_length(start, longest, filled)
        return self._words_of_any_length(start, length, filled)

    def _words_of_one_length(self, start: Ints, length: int, filled: np.uint64) -> Iterator[tuple[Words, Places]]:
        for offset in range(0, length, 8):
            words = self._words[start + offset]
            if length - offset < 8:
                keep = np.uint64((1 << 8 * (length - offset)) - 1)
                words &= keep
                words |= filled & ~keep
            yield words, slice(None)

    def _words_of_any_length(self, start: Ints, length: Ints, filled: np.uint64) -> Iterator[tuple[Words, Places]]:
        places = np.flatnonzero((length > 0) & (length <= LONG))
        offset = 0
        while len(places):
            rest = length[places] - offset
            keep = _ALL_WORD >> (np.uint64(64) - (np.minimum(rest, 8) << 3).view(np.uint64))
            yield (self._words[start[places] + offset] & keep) | (filled & ~keep), places
            offset += 8
            places = places[rest > 8]

    def blocks(self) -> Iterator[slice]:
        """Slices over all ids, `BLOCK` at a time."""
        return (slice(i, min(i + BLOCK, len(self))) for i in range(0, len(self), BLOCK))

    def hashes(self, *, folded: bool = False) -> Words:
        """A hash of each id; `folded`: the same for ids that differ in the case of ASCII letters alone."""
        if self._hashes is not None and not folded:
            return self._hashes
        found = np.empty(len(self), dtype=np.uint64)

        def hash_block(block: slice) -> None:
            found[block] = self._hashes_of(block, folded=folded)

        each_block(hash_block, len(self))
        for place in np.flatnonzero(self._length > LONG).tolist():
            found[place] = _long_hash(self[place].lower() if folded else self[place])
        if not folded:
            self._hashes = found
        return found

    def _hashes_of(self, block: slice, *, folded: bool) -> Words:
        found = self._length[block].astype(np.uint64)
        for words, places in self.words(block):
            if folded:
                words = _folded(words)
            found[places] = mixed(found[places], words)
        return found

    def repeated(self) -> list[list[int]]:
        """Groups of places that hold the same id, in the order of their first places."""
        groups: dict[str, list[int]] = {}
        for place in equal_hashes(self.hashes()).tolist():
            groups.setdefault(self[place], []).append(place)
        return sorted(group for group in groups.values() if len(group) > 1)

    def find(self, others: RawIds) -> Ints:
        """The last place of each of the `others` among these ids; -1 where it is absent."""
        if not len(self) or not len(others):
            return np.full(len(others), -1, dtype=np.int64)
        if self._order is None:
            self._order = np.argsort(self.hashes(), kind="stable")
        wanted, order = others.hashes(), self._order
        at = np.searchsorted(self.hashes(), wanted, side="right", sorter=order) - 1
        places = np.where(at >= 0, order[at], -1)
        places[(places >= 0) & (self.hashes()[places] != wanted)] = -1
        known = np.flatnonzero(places >= 0)
        differ = known[~self.same(places[known], others, known)]
        for i in differ.tolist():
            places[i] = self._find_slowly(others[i], wanted[i])
        return places

    def _find_slowly(self, text: str, hashed: np.uint64) -> int:
        alike = np.flatnonzero(self.hashes() == hashed).tolist()
        return next((place for place in reversed(alike) if self[place] == text), -1)

    def same(self, places: Ints, others: RawIds, their_places: Ints) -> npt.NDArray[np.bool_]:
        """Whether ids are equal byte by byte, pair by pair."""
        mine, theirs = self.take(places), others.take(their_places)
        equal: npt.NDArray[np.bool_] = mine._length == theirs._length
        for block in mine.blocks():
            part = equal[block]
            short = part & (mine._length[block] <= LONG)
            left, right = _only(mine, block, short), _only(theirs, block, short)
            agree = np.ones(len(left), dtype=bool)
            whole = slice(0, len(left))
            for (a, where), (b, _) in zip(left.words(whole), right.words(whole), strict=True):
                agree[where] &= a == b
            part[np.flatnonzero(short)] = agree
        for place in np.flatnonzero(equal & (mine._length > LONG)).tolist():
            equal[place] = mine[place] == theirs[place]
        return equal


def _only(ids: RawIds, block: slice, mask: npt.NDArray[np.bool_]) -> RawIds:
    return ids.take(np.arange(block.start, block.stop)[mask])


def mixed(hashes: Words, words: Words) -> Words:
    """Hashes that have taken in one more word each."""
    found = (hashes ^ words) * _MIX[0]
    found ^= found >> _SHIFT
    found *= _MIX[1]
    found ^= found >> _SHIFT
    return found


def _folded(words: Words) -> Words:
    """Words with their ASCII capitals made small: both sums leave the top bit of a byte set where it is a capital."""
    low = words & _LOW_BITS
    capitals = (low + _FROM_A) & ~(low + _FROM_AFTER_Z) & ~words & ~_LOW_BITS
    return words | (capitals >> np.uint64(2))


def _long_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def equal_hashes(hashes: Words) -> Ints:
    """Ascending places of all values that occur more than once.

    Every place writes its number into a table at a slot that its hash names; who reads another's number there has met
    it, or goes on to the next round with other slots. That is three times as fast as sorting ten million hashes.
    """
    alive = np.arange(len(hashes), dtype=np.uint32)
    met: list[npt.NDArray[np.uint32]] = []
    bits = min(_TABLE_BITS, max(10, len(hashes).bit_length() + 1))
    factor = _ROUND
    while len(alive) > _FEW:
        winner = _winners(hashes, alive, factor, bits)
        lost = np.flatnonzero(winner != alive)
        alive, winner = alive[lost], winner[lost]
        same = hashes[alive] == hashes[winner]
        met += [alive[same], winner[same]]
        alive = alive[~same]
        factor = np.uint64(int(factor) * int(_ROUND) & _ALL)
    if len(alive):
        values = np.sort(hashes[alive])
        twice = np.unique(values[1:][values[1:] == values[:-1]])
        met.append(alive[np.isin(hashes[alive], twice)])
    return np.unique(np.concatenate([*met, np.zeros(0, np.uint32)])).astype(np.int64)


def _winners(hashes: Words, alive: npt.NDArray[np.uint32], factor: np.uint64, bits: int) -> npt.NDArray[np.uint32]:
    """For each place, a place that wrote to its slot; which of them wins a slot does not matter."""
    table = np.empty(1 << bits, dtype=np.uint32)
    winner = np.empty_like(alive)
    shift = np.uint64(64 - bits)
    whole = len(alive) == len(hashes)

    def slots(part: slice) -> Ints:
        return ((hashes[part if whole else alive[part]] * factor) >> shift).view(np.int64)

    def write(part: slice) -> None:
        table[slots(part)] = alive[part]

    def read(part: slice) -> None:
        winner[part] = table[slots(part)]

    each_block(write, len(alive))
    each_block(read, len(alive))
    return winner


def each_block(work: Callable[[slice], T], num: int) -> list[T]:
    """What `work` gives for each `BLOCK` of `num` places, in their order; two threads work where there are many."""
    blocks = [slice(i, min(i + BLOCK, num)) for i in range(0, num, BLOCK)]
    if len(blocks) < _MANY_BLOCKS:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(max_workers=2) as threads:
        return list(threads.map(work, blocks))
