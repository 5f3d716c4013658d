"""`StoredTensor` and `StoredRows`: where the numbers of a table lie in files, and their rows read from there.

Owns reading bytes and turning them into native floating point. Which tensors a file holds is told by `table_formats`
and `table_pt`; which of them is the table, by `tables`. Plain reads of one buffer keep a table of any size out of
memory, where a mapping would count all of it as resident.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rectest.errors import DataError

__all__ = ["FLOATS", "StoredRows", "StoredTensor"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

FLOATS = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}
"""The types a table may be stored in, with the bits of their mantissas."""

ITEM_SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor in a file: its name there, what it is, and where its first element lies."""

    name: str
    """Empty where the file holds nothing but this tensor."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    """As NumPy and torch call it, ``float32`` or ``bfloat16``."""

    offset: int = 0
    """Bytes before the first element."""

    strides: tuple[int, ...] = ()
    """Elements, not bytes, from one index to the next."""

    big_endian: bool = False

    @property
    def is_table(self) -> bool:
        """Whether it is floating point [rows, dim], with at least one row and one column."""
        return len(self.shape) == 2 and self.dtype in FLOATS and 0 not in self.shape

    @property
    def num_bytes(self) -> int:
        """Bytes from the first element to the end of the last one."""
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * ITEM_SIZES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name or self.path.name} {self.dtype} [{', '.join(map(str, self.shape))}]"


class StoredRows:
    """The rows of one or more stored tensors, one below the other; a `RowSource`."""

    def __init__(self, tensors: Sequence[StoredTensor]) -> None:
        first = tensors[0]
        for tensor in tensors:
            if (tensor.shape[1], tensor.dtype) != (first.shape[1], first.dtype):
                problem = f"{tensor} does not continue {first} of {first.path}"
                raise DataError(problem, path=tensor.path, hint="parts of one table have one dim and one type")
            _require_whole(tensor)
        self.tensors = tuple(tensors)
        self._starts = np.cumsum([0, *(tensor.shape[0] for tensor in tensors)])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all parts, and dim."""
        return int(self._starts[-1]), self.tensors[0].shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the rows as they are handed out: bfloat16 becomes float32, which holds it exactly."""
        stored = self.tensors[0].dtype
        return np.dtype(np.float32 if stored == "bfloat16" else stored)

    @property
    def mantissa_bits(self) -> int:
        """Bits of the mantissa as stored."""
        return FLOATS[self.tensors[0].dtype]

    def chunks(self, num_rows: int, *, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array]]:
        """Rows read into one buffer, which the next chunk overwrites; a chunk may span parts.

        Raises:
            DataError: a file ended early or cannot be read any more.
        """
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        with ExitStack() as files:
            readers = _Readers(files)
            buffer = np.empty((max(1, min(num_rows, stop - start)), self.shape[1]), self.dtype)
            for first in range(start, stop, max(1, num_rows)):
                rows = buffer[: min(first + num_rows, stop) - first]
                self._fill(rows, first, readers)
                yield first, rows

    def take(self, rows: Ints) -> Array:
        """A copy of the rows of these numbers, in their order; neighbours are read together."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < self.shape[0]:
            msg = f"rows {rows.min()} to {rows.max()} are outside of a table of {self.shape[0]} rows"
            raise IndexError(msg)
        taken = np.empty((len(rows), self.shape[1]), self.dtype)
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        with ExitStack() as files:
            readers = _Readers(files)
            for low, high in zip([0, *breaks.tolist()], [*breaks.tolist(), len(rows)], strict=True):
                if high > low:
                    self._fill(taken[low:high], int(rows[low]), readers)
        return taken

    def _fill(self, out: Array, first: int, readers: _Readers) -> None:
        """Write the rows from `first` on into all of `out`."""
        done = 0
        while done < len(out):
            part = int(np.searchsorted(self._starts, first + done, side="right")) - 1
            local = first + done - int(self._starts[part])
            num = min(len(out) - done, self.tensors[part].shape[0] - local)
            readers.of(self.tensors[part]).fill(out[done : done + num], local)
            done += num


def _require_whole(tensor: StoredTensor) -> None:
    size = tensor.path.stat().st_size
    if tensor.offset < 0 or min(tensor.strides) < 0 or tensor.offset + tensor.num_bytes > size:
        problem = f"{tensor} needs {tensor.offset + tensor.num_bytes} bytes, the file has {size}"
        raise DataError(problem, path=tensor.path, hint="the file was cut short: copy or write it again")


class _Readers:
    """The open files of one pass; two passes in two threads share nothing."""

    def __init__(self, files: ExitStack) -> None:
        self._files = files
        self._open: dict[StoredTensor, _Reader] = {}

    def of(self, tensor: StoredTensor) -> _Reader:
        if tensor not in self._open:
            self._open[tensor] = _Reader(tensor, self._files.enter_context(tensor.path.open("rb", buffering=0)))
        return self._open[tensor]


class _Reader:
    """Reads rows of one tensor; the layout decides how."""

    def __init__(self, tensor: StoredTensor, file: BinaryIO) -> None:
        self._tensor = tensor
        self._file = file
        self._wide = tensor.dtype == "bfloat16"
        stored = np.dtype(np.uint16 if self._wide else tensor.dtype)
        self._stored = stored.newbyteorder(">") if tensor.big_endian else stored

    def fill(self, out: Array, first: int) -> None:
        rows, columns = self._tensor.strides
        dim = self._tensor.shape[1]
        if (columns == 1 or dim == 1) and rows == dim:
            self._fill_flat(out, first * dim)
        elif columns == 1 and rows > dim:
            out[...] = self._wider_rows(len(out), first)
        else:
            for column in range(dim):
                out[:, column] = self._strided(len(out), first * rows + column * columns, rows)

    def _fill_flat(self, out: Array, element: int) -> None:
        if not self._wide and self._stored == out.dtype:
            self._read_into(out.reshape(-1).view(np.uint8), element)
        else:
            out[...] = self._elements(out.size, element).reshape(out.shape)

    def _wider_rows(self, num: int, first: int) -> Array:
        """Rows that are columns of a wider matrix; the last one ends before that matrix does."""
        dim, stride = self._tensor.shape[1], self._tensor.strides[0]
        span = np.zeros(num * stride, self._elements(0, 0).dtype)
        span[: (num - 1) * stride + dim] = self._elements((num - 1) * stride + dim, first * stride)
        return span.reshape(num, stride)[:, :dim]

    def _strided(self, num: int, element: int, stride: int) -> Array:
        return (
            self._elements((num - 1) * stride + 1, element)[:: max(1, stride)] if stride else self._elements(1, element)
        )

    def _elements(self, num: int, element: int) -> Array:
        """Elements of the file in native order; bfloat16 is the upper half of a float32."""
        raw = np.empty(num, self._stored)
        self._read_into(raw.view(np.uint8), element)
        if self._wide:
            return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return raw.astype(self._stored.newbyteorder("="), copy=False)

    def _read_into(self, target: npt.NDArray[np.uint8], element: int) -> None:
        self._file.seek(self._tensor.offset + element * self._stored.itemsize)
        view, done = target.data, 0
        while done < len(view):
            num = self._file.readinto(view[done:])  # type: ignore[attr-defined]
            if not num:
                msg = "the file ended while it was read"
                raise DataError(msg, path=self._tensor.path)
            done += num


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a C-contiguous tensor.

    >>> contiguous_strides((4, 3, 2))
    (6, 2, 1)
    """
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
