"""Cells of delimited text as arrays: where they begin and end in a block of bytes, their texts, their numbers.

Everything is vectorised over the rows of a block, with no Python object for a cell, so that logs of tens of millions
of rows can be read. What a file's columns mean is `logs`' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rectest.errors import DataError

__all__ = ["Block", "Cells", "blocks", "split_block", "split_words", "texts", "whole_numbers"]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

BLOCK_BYTES = 1 << 24
NEWLINE = ord("\n")
WIDEST = 256
"""Bytes of the longest cell that may be an id; fixed-width text costs four bytes a character for every row."""

_BLANKS = (ord(" "), ord("\t"), NEWLINE)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Whole lines of a file, each ended by a newline, without carriage returns."""

    path: Path
    data: Bytes
    first_line: int

    def line_at(self, place: int) -> int:
        """The number of the line in which a byte lies."""
        return self.first_line + int(np.count_nonzero(self.data[:place] == NEWLINE))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cells:
    """One cell a row: the bytes from `start` to `stop` of a block."""

    block: Block
    start: Ints
    stop: Ints

    def line(self, row: int) -> int:
        """The number of the line of a row."""
        return self.block.line_at(int(self.start[row]))

    def text(self, row: int) -> str:
        """One cell."""
        return self.block.data[int(self.start[row]) : int(self.stop[row])].tobytes().decode(errors="replace")


def blocks(path: Path, *, num_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The lines of a UTF-8 text file, about `num_bytes` at a time.

    Raises:
        DataError: the file cannot be read, is empty, or is not text.
    """
    first_line, held, any_text = 1, b"", False
    try:
        with path.open("rb") as file:
            while piece := file.read(num_bytes):
                held += piece
                cut = held.rfind(b"\n") + 1
                if cut:
                    block = _block(path, held[:cut], first_line)
                    held = held[cut:]
                    first_line += int(np.count_nonzero(block.data == NEWLINE))
                    any_text = any_text or not _is_blank(block.data)
                    yield block
    except OSError as error:
        msg = f"cannot be read ({error.strerror or error}), needed a text file"
        raise DataError(msg, path=path) from error
    if held.strip():
        any_text = True
        yield _block(path, held + b"\n", first_line)
    if not any_text:
        msg = "is empty, needed at least one row"
        raise DataError(msg, path=path)


def _is_blank(data: Bytes) -> bool:
    return bool(np.isin(data, _BLANKS).all())


def _block(path: Path, content: bytes, first_line: int) -> Block:
    if first_line == 1:
        content = content.removeprefix(b"\xef\xbb\xbf")
    binary = content.find(b"\0")
    if binary >= 0:
        msg = "holds a NUL byte, needed UTF-8 text"
        raise DataError(msg, path=path, line=first_line + content.count(b"\n", 0, binary))
    try:
        content.isascii() or content.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"byte {content[error.start]:#04x} is not UTF-8, needed UTF-8 text"
        raise DataError(msg, path=path, line=first_line + content.count(b"\n", 0, error.start)) from error
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
    return Block(path=path, data=np.frombuffer(content, dtype=np.uint8), first_line=first_line)


def split_block(block: Block, names: list[str], separator: str) -> list[Cells]:
    """The named columns of a block, in which every line must have as many cells; blank lines must be at the end.

    Raises:
        DataError: a line has more or fewer cells; the message has its number.
    """
    data, width = _without_last_blanks(block.data), len(names)
    is_cut = data == ord(separator)
    is_cut |= data == NEWLINE
    cuts = np.flatnonzero(is_cut)
    ends_line = data[cuts] == NEWLINE
    whole = len(cuts) % width == 0
    if whole:
        grid = ends_line.reshape(-1, width)
        whole = bool(grid[:, -1].all()) and not grid[:, :-1].any()
    if not whole:
        raise _ragged(block, data, cuts[ends_line], names, separator)
    begins = np.zeros(len(cuts), dtype=np.int64)
    begins[1:] = cuts[:-1] + 1
    starts, stops = begins.reshape(-1, width), cuts.reshape(-1, width)
    return [Cells(block=block, start=starts[:, column], stop=stops[:, column]) for column in range(width)]


def _without_last_blanks(data: Bytes) -> Bytes:
    """The bytes without the empty lines that some programs end a file with."""
    end = len(data)
    while end > 1 and data[end - 1] == NEWLINE and data[end - 2] == NEWLINE:
        end -= 1
    return data[:0] if end == 1 and data[0] == NEWLINE else data[:end]


def _ragged(block: Block, data: Bytes, line_ends: Ints, names: list[str], separator: str) -> DataError:
    seen = np.concatenate([[0], np.cumsum(data == ord(separator))[line_ends]])
    num_cells = 1 + np.diff(seen)
    row = int(np.argmax(num_cells != len(names)))
    last = row == len(line_ends) - 1
    hint = " (is the file truncated here?)" if last else ""
    msg = f"found {num_cells[row]} cells{hint}, needed {len(names)}: {', '.join(names)}"
    return DataError(msg, path=block.path, line=block.first_line + row)


def split_words(block: Block) -> tuple[Cells, Ints]:
    """Every word of a block (what stands between blanks), and the row of its line in the block."""
    blank = np.isin(block.data, _BLANKS)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], blank, [True]]).astype(np.int8)))
    start, stop = edges[0::2], edges[1::2]
    line_of = np.cumsum(block.data == NEWLINE)
    return Cells(block=block, start=start, stop=stop), line_of[start].astype(np.int64)


def texts(cells: Cells) -> NDArray[np.str_]:
    """The cells as text.

    Raises:
        DataError: a cell is longer than `WIDEST` bytes, so that it is no id.
    """
    lengths = cells.stop - cells.start
    width = int(lengths.max(initial=1)) or 1
    if width > WIDEST:
        row = int(np.argmax(lengths))
        msg = f"a cell of {width} bytes, needed ids of at most {WIDEST}"
        raise DataError(msg, path=cells.block.path, line=cells.line(row))
    wide = np.zeros((len(lengths), width), dtype=np.uint32)
    for place in range(width):
        wide[:, place] = _byte(cells, lengths, place)
    if wide.size and int(wide.max()) > 127:
        raw = wide.astype(np.uint8).view(f"S{width}").reshape(-1)
        return np.asarray(np.char.decode(raw, "utf-8"), dtype=np.str_)
    return wide.view(f"<U{width}").reshape(-1)


def _byte(cells: Cells, lengths: Ints, place: int) -> Bytes:
    """The byte at `place` of every cell; 0 after its end."""
    data = cells.block.data
    found: Bytes = data[np.minimum(cells.start + place, len(data) - 1)] * (lengths > place)
    return found


def whole_numbers(cells: Cells, *, plain: bool = False) -> Ints | None:
    """The cells as integers, or None where one of them is anything but 1 to 18 digits.

    With `plain`, a leading zero is refused as well, so that text and number stand for each other.
    """
    lengths = cells.stop - cells.start
    if plain and ((lengths > 1) & (_byte(cells, lengths, 0) == ord("0"))).any():
        return None
    if not lengths.size or lengths.min() < 1 or lengths.max() > 18:
        return None
    values = np.zeros(len(lengths), dtype=np.int64)
    for place in range(int(lengths.max())):
        digit = _byte(cells, lengths, place) - np.uint8(ord("0"))
        live = lengths > place
        if (live & (digit > 9)).any():
            return None
        values = np.where(live, 10 * values + digit, values)
    return values
