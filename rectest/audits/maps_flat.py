"""Flat JSON objects of indices, ``{"B00...": 17, ...}``, read as columns: no Python object for an entry.

Every byte of the file is accounted for: a quoted name, one separator for all, plain digits, one separator for all. A
part of the text with other values or with escapes is read by `maps_odd.py`; a file with escaped quotes, other spaces or
nesting is not read here but by `maps_json.py`. All give the same entries for every file that this one reads.
"""

from __future__ import annotations

import codecs
import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rectest.audits.maps_odd import odd_indices, renamed, unescaped
from rectest.checks.columns import reuse_memory
from rectest.checks.mapping_entries import Entries, OddIndex
from rectest.checks.mapping_ids import LONG, PADDED, RawIds

__all__ = ["flat_entries", "padded"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_SCAN = 1 << 19
_NEAR = 256
_ENDS = 4096
_MAX_DIGITS = 16
_HEAD = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"[^"]*"([ \t\r\n]*:[ \t\r\n]*)[0-9]+([ \t\r\n]*,[ \t\r\n]*)"')
_TAIL = re.compile(rb"([0-9]+)[ \t\r\n]*\}[ \t\r\n]*\Z")
_LOW, _HIGH = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0xF0F0F0F0F0F0F0F0)
_ZEROS, _SIXES = np.uint64(0x3030303030303030), np.uint64(0x0606060606060606)
_THREE, _SIXTY_FOUR = np.uint64(3), np.uint64(64)
_POWERS = np.array([10**i for i in range(_MAX_DIGITS + 1)], dtype=np.uint64)
_LEAST = np.array([0, 0, *(10**i for i in range(1, _MAX_DIGITS))], dtype=np.uint64)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """What a part of a text holds."""

    quotes: int
    controls: int
    escaped_quotes: bool
    ascii: bool


def padded(path: Path) -> Bytes:
    """The bytes of a file and `PADDED` zeros."""
    with path.open("rb", buffering=0) as file:
        size, num = path.stat().st_size, 0
        content = np.empty(size + PADDED, dtype=np.uint8)
        view = content.data
        while got := file.readinto(view[num:size]):
            num += got
    content[num:] = 0
    return content[: num + PADDED]


def flat_entries(content: Bytes) -> Entries | None:
    """The entries of a flat JSON object of whole numbers, or None where the text is anything else.

    `content` ends in `PADDED` zeros. Memory: the text and 24 bytes an entry.
    """
    size = len(content) - PADDED
    last = max(0, size - _ENDS)
    head = _HEAD.match(content[: min(size, _ENDS)].tobytes())
    tail = _TAIL.search(content[last:size].tobytes())
    if head is None or tail is None or max(map(len, head.groups())) >= 8:
        return None
    if size > _SCAN:
        reuse_memory()
    with ThreadPoolExecutor(max_workers=2) as threads:
        return _Reader(content, size, colon=head[1], comma=head[2], threads=threads).entries(tail)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the entries of a text, or of a part of it, are written."""

    start: Ints
    length: Ints
    index: Ints
    first: int = 0
    """The place of the first of these entries among all."""

    odd: list[OddIndex] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    """Names that were written with escapes, by their places among all."""

    def part(self, place: slice) -> _Columns:
        """The rows of some entries."""
        rows = self.start[place], self.length[place], self.index[place]
        return _Columns(*rows, place.start, self.odd, self.names)


class _Reader:
    """Two passes over a text whose separators are known from its first entry.

    The first counts quotes, so that the second knows of each part of the text which entries begin in it.
    """

    def __init__(self, data: Bytes, size: int, *, colon: bytes, comma: bytes, threads: ThreadPoolExecutor) -> None:
        self._data, self._size, self._threads = data, size, threads
        self._words: Words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        self._colon, self._comma = _Literal(colon), _Literal(comma + b'"')
        opened, closed = self._next(0, 2).tolist()
        self._width = closed - opened - 1
        self._parts = [slice(i, min(i + _SCAN, size)) for i in range(0, size, _SCAN)]

    def entries(self, tail: re.Match[bytes]) -> Entries | None:
        """All entries; `tail` is the last number with what follows it."""
        seen = list(self._threads.map(self._look, self._parts))
        quotes = sum(part.quotes for part in seen)
        if quotes % 2 or any(part.escaped_quotes for part in seen):
            return None
        if not all(part.ascii for part in seen) and not _utf8(self._data, self._size):
            return None
        before = [0, *itertools.accumulate(part.quotes for part in seen)]
        start, length, index = (np.empty(quotes // 2, dtype=np.int64) for _ in range(3))
        found = _Columns(start, length, index)
        places = [slice((a + 1) // 2, (b + 1) // 2) for a, b in itertools.pairwise(before)]
        reads = self._threads.map(self._read, self._parts, before, (found.part(place) for place in places))
        if None in (of_one_length := list(reads)):
            return None
        if (last := self._last(int(found.start[-1]), tail)) is None:
            return None
        found.index[-1] = last
        if sum(part.controls for part in seen) != self._controls_expected(int(found.start[0]), quotes // 2, tail):
            return None
        odd = tuple(sorted(found.odd, key=lambda entry: entry.place))
        if all(of_one_length) and not found.names:
            length = np.broadcast_to(np.int64(self._width), quotes // 2)
            return Entries(ids=RawIds(self._data, found.start, length), index=found.index, odd=odd)
        for place in itertools.compress(places, of_one_length):
            found.length[place] = self._width
        ids = renamed(self._data, found.start, found.length, found.names) if found.names else None
        return Entries(ids=ids or RawIds(self._data, found.start, found.length), index=found.index, odd=odd)

    def _look(self, part: slice) -> _Seen:
        """Count what can be told without reading; searching `bytes` would keep the other thread waiting."""
        data = self._data[part]
        lowest = int(data.view(np.int8).min())
        escapes = bool((data == _BACKSLASH).any())
        return _Seen(
            quotes=int(np.count_nonzero(data == _QUOTE)),
            controls=0 if lowest >= ord(" ") else int(np.count_nonzero(data < ord(" "))),
            escaped_quotes=escapes and b'\\"' in self._data[part.start : part.stop + 1].tobytes(),
            ascii=lowest >= 0,
        )

    def _read(self, part: slice, before: int, found: _Columns) -> bool | None:
        """Write the entries that begin in a part; None where they are not as they should be.

        True where all names are as long as the first of the text; their lengths are then not written. The number that
        is the last of the text is left out. `before` is how many quotes stand before the part.
        """
        num = len(found.start)
        if not num:
            return True
        quotes = np.flatnonzero(self._data[part] == _QUOTE)[before % 2 :] + part.start
        quotes = np.concatenate([quotes, self._next(part.stop, 2 * num + 1 - len(quotes))])
        opened, closed, following = quotes[0 : 2 * num : 2], quotes[1 : 2 * num : 2], quotes[2::2]
        known = len(following)
        numbers = self._numbers(opened[:known], closed[:known], following)
        if numbers is None:
            numbers = self._odd_numbers(slice(int(opened[0]), int(following[-1])), known, found)
        if numbers is None or not self._unescape(opened, closed, found):
            return None
        np.add(opened, 1, out=found.start)
        found.index[:known] = numbers
        length = closed - found.start
        if (length == self._width).all():
            return True
        found.length[:] = length
        return False

    def _odd_numbers(self, part: slice, num: int, found: _Columns) -> Ints | None:
        text = self._data[part].tobytes()
        if _controls(text) != num * (_controls(self._colon.text) + _controls(self._comma.text)):
            return None
        if (read := odd_indices(text, num, found.first)) is None:
            return None
        found.odd.extend(read[1])
        return read[0]

    def _unescape(self, opened: Ints, closed: Ints, found: _Columns) -> bool:
        """Whether the names with backslashes, if any, could be read; one outside of a name is left to the numbers."""
        first = int(opened[0])
        escapes = np.flatnonzero(self._data[first : int(closed[-1])] == _BACKSLASH) + first
        for place in np.unique(np.searchsorted(opened, escapes) - 1).tolist() if len(escapes) else ():
            name = unescaped(self._data[opened[place] : closed[place] + 1].tobytes())
            if name is None:
                return False
            found.names[found.first + place] = name
        return True

    def _next(self, first: int, num: int) -> Ints:
        """Places of the next quotes from a place on; fewer where the text ends."""
        stop = first
        found = np.zeros(0, dtype=np.int64)
        while len(found) < num and stop < self._size:
            stop = min(self._size, stop + max(_NEAR, stop - first))
            found = np.flatnonzero(self._data[first:stop] == _QUOTE)[:num] + first
        return found

    def _controls_expected(self, first: int, num: int, tail: re.Match[bytes]) -> int:
        ends = _controls(self._data[:first].tobytes()) + _controls(tail[0])
        return ends + num * _controls(self._colon.text) + (num - 1) * _controls(self._comma.text)

    def _last(self, start: int, tail: re.Match[bytes]) -> int | None:
        """The last number, which must be all between the end of the last name, from `start` on, and the tail."""
        closed = int(self._next(start, 1)[0])
        between = self._data[closed + 1 : self._size].tobytes()
        digits = tail[1]
        if (
            between != self._colon.text + tail[0]
            or len(digits) > _MAX_DIGITS
            or (len(digits) > 1 and digits[:1] == b"0")
        ):
            return None
        return int(digits)

    def _numbers(self, opened: Ints, closed: Ints, following: Ints) -> Ints | None:
        """The numbers between closed quotes and the quotes that follow them; None where there is anything else."""
        first = closed + (1 + len(self._colon.text))
        stop = following - (len(self._comma.text) - 1)
        num_digits = stop - first
        if not len(closed):
            return num_digits
        longest = int(num_digits.max())
        if int(num_digits.min()) < 1 or longest > _MAX_DIGITS:
            return None
        found = self._of_rows(opened, closed, num_digits) if longest <= 8 else None
        colons, digits, commas = found or (self._words[place] for place in (closed + 1, first, stop))
        if not self._colon.stands(colons) or not self._comma.stands(commas):
            return None
        value = _eight(digits, np.minimum(num_digits, 8) if longest > 8 else num_digits)
        if value is not None and longest > 8:
            value = self._longer(value, first, num_digits)
        if value is None or (value < _LEAST[num_digits]).any():
            return None
        return value.view(np.int64)

    def _of_rows(self, opened: Ints, closed: Ints, num_digits: Ints) -> tuple[Words, Words, Words] | None:
        """The words at colons, digits and commas; None where names are long or of many lengths.

        Each entry is fetched once, since many places cost more than many bytes; in it all but the comma has one place.
        """
        name = int(closed[0] - opened[0])
        colon = name + 1
        digits = colon + len(self._colon.text)
        width = -(-(digits + 16) // 8) * 8
        if name > LONG or int(opened[-1]) + width > len(self._data) or (closed - opened != name).any():
            return None
        rows = np.ndarray((len(self._data) - width + 1,), f"V{width}", self._data, strides=(1,))[opened]
        words, low, high = (
            np.ndarray((len(rows),), "<u8", rows, offset=offset, strides=(width,)).copy()
            for offset in (colon, digits, digits + 8)
        )
        bits = num_digits.view(np.uint64) << _THREE
        return words, low, (low >> bits) | (high << (_SIXTY_FOUR - bits))

    def _longer(self, value: Words, first: Ints, num_digits: Ints) -> Words | None:
        long = np.flatnonzero(num_digits > 8)
        rest = num_digits[long] - 8
        low = _eight(self._words[first[long] + 8], rest)
        if low is None:
            return None
        value[long] = value[long] * _POWERS[rest] + low
        return value


def _utf8(data: Bytes, size: int) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for i in range(0, size, _SCAN):
            decoder.decode(data[i : min(i + _SCAN, size)].tobytes())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class _Literal:
    """A text of at most eight bytes that must stand in many places."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._mask = np.uint64((1 << 8 * len(text)) - 1)
        self._word = np.uint64(int.from_bytes(text, "little"))

    def stands(self, words: Words) -> bool:
        """Whether all words begin with the text."""
        return bool(((words & self._mask) == self._word).all())


def _eight(words: Words, num_digits: Ints) -> Words | None:
    """The numbers of the first 1 to 8 characters of words; None where one is no digit.

    Neighbouring digits are joined in all lanes of a word at once: 8 to 4 pairs, to 2 fours, to one number.
    """
    bits = num_digits.view(np.uint64) << _THREE
    words = (words << (_SIXTY_FOUR - bits)) | (_ZEROS >> bits)
    if ((words & _HIGH) != _ZEROS).any() or (((words + _SIXES) & _HIGH) != _ZEROS).any():
        return None
    words = ((words & _LOW) * np.uint64(2561)) >> np.uint64(8)
    words = ((words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601)) >> np.uint64(16)
    return ((words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001)) >> np.uint64(32)


def _controls(text: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) < ord(" ")))
