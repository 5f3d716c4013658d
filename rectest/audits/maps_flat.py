"""Flat JSON objects of indices, ``{"B00...": 17, ...}``, read as columns: no Python object for an entry.

Every byte of the file is accounted for: a quoted name, one separator for all, plain digits, one separator for all. A
file that departs from that anywhere (escapes, other spaces, decimals, nesting) is not read here but by
`maps_json.py`, so that both give the same entries for every file that this one reads.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_entries import Entries
from rectest.checks.mapping_ids import PADDED, RawIds

__all__ = ["flat_entries", "padded"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_QUOTE = ord('"')
_SCAN = 1 << 20
_ENDS = 4096
_SMALL = 1 << 22
_TRIES = 100
_MAX_DIGITS = 16
_HEAD = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"[^"\\]*"([ \t\r\n]*:[ \t\r\n]*)[0-9]+([ \t\r\n]*,[ \t\r\n]*)"')
_TAIL = re.compile(rb"([0-9]+)[ \t\r\n]*\}[ \t\r\n]*\Z")
_LOW, _HIGH = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0xF0F0F0F0F0F0F0F0)
_ZEROS, _SIXES = np.uint64(0x3030303030303030), np.uint64(0x0606060606060606)
_THREE, _SIXTY_FOUR = np.uint64(3), np.uint64(64)
_POWERS = np.array([10**i for i in range(_MAX_DIGITS + 1)], dtype=np.uint64)
_LEAST = np.array([0, 0, *(10**i for i in range(1, _MAX_DIGITS))], dtype=np.uint64)


def padded(path: Path) -> bytearray:
    """The bytes of a file and `PADDED` zeros."""
    with path.open("rb", buffering=0) as file:
        content = bytearray(path.stat().st_size + PADDED)
        view, num = memoryview(content), 0
        while got := file.readinto(view[num : len(content) - PADDED]):
            num += got
        del view
    del content[num : len(content) - PADDED]
    return content


def flat_entries(content: bytearray) -> Entries | None:
    """The entries of a flat JSON object of whole numbers, or None where the text is anything else.

    `content` ends in `PADDED` zeros. Memory: the text and 24 bytes an entry.
    """
    size = len(content) - PADDED
    head = _HEAD.match(content, 0, min(size, _ENDS))
    tail = _TAIL.search(content, max(0, size - _ENDS), size)
    if head is None or tail is None or max(map(len, head.groups())) >= 8 or content.find(b"\\", 0, size) >= 0:
        return None
    if not content.isascii() and not _utf8(content, size):
        return None
    return _Reader(content, size, colon=head[1], comma=head[2]).entries(tail)


def _utf8(content: bytearray, size: int) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for i in range(0, size, _SCAN):
            decoder.decode(content[i : min(i + _SCAN, size)])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class _Reader:
    """One pass over a text whose separators are known from its first entry; by two threads where it is long."""

    def __init__(self, content: bytearray, size: int, *, colon: bytes, comma: bytes) -> None:
        self._content = content
        self._data = np.frombuffer(content, dtype=np.uint8)
        self._size = size
        self._words: Words = np.ndarray((len(self._data) - 7,), "<u8", self._data, strides=(1,))
        self._colon, self._comma = _Literal(colon), _Literal(comma + b'"')

    def entries(self, tail: re.Match[bytes]) -> Entries | None:
        """All entries; `tail` is the last number with what follows it."""
        cut = self._cut() if self._size > _SMALL else self._size
        spans = [span for span in (slice(0, cut), slice(cut, self._size)) if span.start < span.stop]
        with ThreadPoolExecutor(max_workers=2) as threads:
            counts = list(threads.map(self._counts, spans))
            if any(num % 2 for num, _ in counts):
                return None
            nums = [num // 2 for num, _ in counts]
            start, length, index = (np.empty(sum(nums), dtype=np.int64) for _ in range(3))
            parts = [slice(0, nums[0]), slice(nums[0], sum(nums))][: len(spans)]
            read = threads.map(
                lambda span, part: self._read(span, start[part], length[part], index[part]), spans, parts
            )
            if not all(read):
                return None
        if (last := self._last(int(start[-1] + length[-1]), tail)) is None:
            return None
        index[-1] = last
        if sum(num for _, num in counts) != self._controls_expected(int(start[0]), len(index), tail):
            return None
        return Entries(ids=RawIds(self._data, start, length), index=index)

    def _cut(self) -> int:
        """The place of a quote near the middle that opens a name; the size of the text where none is found soon.

        A comma and a quote may also be the end of a name; then the number of quotes before is odd.
        """
        before, place = 0, 0
        found = self._size // 2
        for _ in range(_TRIES):
            found = self._content.find(self._comma.text, found, self._size)
            if found < 0:
                break
            found += len(self._comma.text) - 1
            before += self._counts(slice(place, found))[0]
            place = found
            if before % 2 == 0:
                return found
        return self._size

    def _parts(self, span: slice) -> Iterator[tuple[int, Bytes]]:
        for first in range(span.start, span.stop, _SCAN):
            yield first, self._data[first : min(first + _SCAN, span.stop)]

    def _counts(self, span: slice) -> tuple[int, int]:
        """Quotes and control characters."""
        quotes = controls = 0
        for _, part in self._parts(span):
            quotes += int(np.count_nonzero(part == _QUOTE))
            controls += int(np.count_nonzero(part < ord(" ")))
        return quotes, controls

    def _quotes(self, span: slice) -> Iterator[Ints]:
        """Places of the quotes of a span, and of the one after it."""
        for first, part in self._parts(span):
            yield np.flatnonzero(part == _QUOTE) + first
        if span.stop < self._size:
            yield np.array([span.stop])

    def _read(self, span: slice, start: Ints, length: Ints, index: Ints) -> bool:
        """Whether a span is as it should be, with its entries written; the last number of the text is left out."""
        carried, done = np.zeros(0, dtype=np.int64), 0
        for found in self._quotes(span):
            quotes = np.concatenate([carried, found])
            more = max(0, (len(quotes) - 1) // 2)
            opened, closed, following = quotes[0 : 2 * more : 2], quotes[1 : 2 * more : 2], quotes[2 : 2 * more + 1 : 2]
            numbers = self._numbers(closed, following)
            if numbers is None:
                return False
            part = slice(done, done + more)
            start[part], length[part], index[part] = opened + 1, closed - opened - 1, numbers
            carried, done = quotes[2 * more :], done + more
        if span.stop == self._size:
            start[-1], length[-1] = carried[0] + 1, carried[1] - carried[0] - 1
        return True

    def _controls_expected(self, first: int, num: int, tail: re.Match[bytes]) -> int:
        ends = _controls(self._data[:first].tobytes()) + _controls(tail[0])
        return ends + num * _controls(self._colon.text) + (num - 1) * _controls(self._comma.text)

    def _last(self, closed: int, tail: re.Match[bytes]) -> int | None:
        between = self._data[closed + 1 : self._size].tobytes()
        digits = tail[1]
        if (
            between != self._colon.text + tail[0]
            or len(digits) > _MAX_DIGITS
            or (len(digits) > 1 and digits[:1] == b"0")
        ):
            return None
        return int(digits)

    def _numbers(self, closed: Ints, following: Ints) -> Ints | None:
        """The numbers between closed quotes and the quotes that follow them; None where there is anything else."""
        first = closed + (1 + len(self._colon.text))
        stop = following - (len(self._comma.text) - 1)
        num_digits = stop - first
        if not len(closed):
            return num_digits
        longest = int(num_digits.max())
        if int(num_digits.min()) < 1 or longest > _MAX_DIGITS:
            return None
        if not self._colon.stands(self._words[closed + 1]) or not self._comma.stands(self._words[stop]):
            return None
        value = _eight(self._words[first], np.minimum(num_digits, 8) if longest > 8 else num_digits)
        if value is not None and longest > 8:
            value = self._longer(value, first, num_digits)
        if value is None or (value < _LEAST[num_digits]).any():
            return None
        return value.view(np.int64)

    def _longer(self, value: Words, first: Ints, num_digits: Ints) -> Words | None:
        long = np.flatnonzero(num_digits > 8)
        rest = num_digits[long] - 8
        low = _eight(self._words[first[long] + 8], rest)
        if low is None:
            return None
        value[long] = value[long] * _POWERS[rest] + low
        return value


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
    return sum(byte < ord(" ") for byte in text)
