"""`RawIds`: millions of raw ids as bytes in one buffer, hashed, compared and looked up without an object for each.

Equal hashes are never taken for equal ids: what hashes alike is compared byte by byte. The judges of id maps work on
it; what an id should look like is in `mapping_format.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_hashes import (
    BLOCK,
    EACH_BYTE,
    SPREAD,
    each_block,
    equal_hashes,
    folded,
    long_hash,
    mixed,
    narrowest,
)

__all__ = ["LONG", "PADDED", "RawIds", "Words"]

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64] | slice

LONG = 64
"""Ids of more bytes than this are hashed one by one; so that one absurd id does not cost a pass for all."""

PADDED = 16
"""Bytes of no meaning that a buffer of ids ends with, so that eight bytes can be read anywhere in it."""

_ALL_WORD = np.uint64((1 << 64) - 1)
_ZERO = ord("0")


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
        self._alphabet = 2
        self._span: tuple[int, int] | None = None

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
    def shortest(self) -> int:
        """Bytes of the shortest id; 0 where there is none."""
        return self._spanned()[0]

    @property
    def longest(self) -> int:
        """Bytes of the longest id; 0 where there is none."""
        return self._spanned()[1]

    def _spanned(self) -> tuple[int, int]:
        if self._span is None:
            length = self._length[:1] if self._length.strides == (0,) else self._length
            self._span = (int(length.min()), int(length.max())) if len(length) else (0, 0)
        return self._span

    @property
    def all_digits(self) -> bool:
        """Whether the ids hold nothing but ASCII digits, and none is empty or longer than `LONG`."""
        return self._alphabet_of_short() < 1

    @property
    def all_capitals(self) -> bool:
        """Whether the ids hold nothing but ASCII capitals and digits, and none is empty or longer than `LONG`."""
        return self._alphabet_of_short() < 2

    def _alphabet_of_short(self) -> int:
        if not 1 <= self.shortest <= self.longest <= LONG:
            return 2
        self.hashes()
        return self._alphabet

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
        filled = np.uint64(fill) * EACH_BYTE
        if longest <= LONG and longest == length.min(initial=LONG):
            return self._words_of_one_length(start, longest, filled)
        return self._words_of_any_length(start, length, filled)

    def _words_of_one_length(self, start: Ints, length: int, filled: np.uint64) -> Iterator[tuple[Words, Places]]:
        """As `words`; each id is fetched once, since many places cost more than many bytes."""
        width = -(-length // 8) * 8
        if not width or not len(start):
            return
        rows = np.ndarray((len(self._data) - width + 1,), f"V{width}", self._data, strides=(1,))[start]
        for offset in range(0, length, 8):
            words = np.ndarray((len(start),), "<u8", rows, offset=offset, strides=(width,))
            if length - offset < 8:
                keep = np.uint64((1 << 8 * (length - offset)) - 1)
                words = (words & keep) | (filled & ~keep)
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

    def hashes(self, *, fold: bool = False) -> Words:
        """A hash of each id; `fold`: the same for ids that differ in the case of ASCII letters alone."""
        if self._hashes is not None and not fold:
            return self._hashes
        found = np.empty(len(self), dtype=np.uint64)
        alphabet = 0

        def hash_block(block: slice) -> None:
            nonlocal alphabet
            # Spread over all bits: in the lowest byte alone the lengths of "1" and "300" undid their other difference.
            hashes = self._length[block].astype(np.uint64) * SPREAD
            for words, places in self.words(block, fill=_ZERO):
                if not fold and alphabet < 2:
                    alphabet = max(alphabet, narrowest(words, alphabet))
                hashes[places] = mixed(hashes[places], folded(words) if fold else words)
            found[block] = hashes

        each_block(hash_block, len(self))
        for place in np.flatnonzero(self._length > LONG).tolist() if self.longest > LONG else ():
            found[place] = long_hash(self[place].lower() if fold else self[place])
        if not fold:
            self._hashes, self._alphabet = found, alphabet
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
