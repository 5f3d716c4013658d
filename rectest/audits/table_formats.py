"""Which tensors a ``.npy`` or ``.safetensors`` file holds, from its header alone.

Owns the two formats whose headers are plain text. Pickled weights are in `table_pt`; reading numbers in `table_files`.
"""

from __future__ import annotations

import ast
import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rectest.audits.table_files import StoredTensor, contiguous_strides
from rectest.errors import DataError

__all__ = ["npy_tensors", "safetensors_tensors"]

NPY_MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 100_000_000
"""The limit that the safetensors library sets."""

SAFETENSORS_TYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
}


def npy_tensors(path: Path) -> list[StoredTensor]:
    """The array of a ``.npy`` file of header version 1, 2 or 3.

    Raises:
        DataError: the file is no ``.npy`` file, or holds Python objects.
    """
    with path.open("rb") as file:
        header = _npy_header(file, path)
        offset = file.tell()
    try:
        dtype = np.dtype(header["descr"])
        shape = tuple(int(size) for size in header["shape"])
        fortran = bool(header["fortran_order"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"its .npy header does not describe an array ({error})"
        raise DataError(msg, path=path) from None
    if dtype.hasobject:
        msg = "it holds pickled Python objects, which are never loaded"
        raise DataError(msg, path=path)
    strides = contiguous_strides(shape[::-1])[::-1] if fortran else contiguous_strides(shape)
    big = dtype.byteorder == ">" or (dtype.byteorder == "=" and not np.little_endian)
    return [
        StoredTensor(name="", path=path, shape=shape, dtype=dtype.name, offset=offset, strides=strides, big_endian=big)
    ]


def _npy_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    start = file.read(8)
    if start[:6] != NPY_MAGIC or len(start) < 8:
        raise DataError("it is no .npy file", path=path, hint="it does not begin with \\x93NUMPY")
    if start[6] not in (1, 2, 3):
        msg = f"its .npy format is version {start[6]}; 1 to 3 are known"
        raise DataError(msg, path=path)
    kind = "<H" if start[6] == 1 else "<I"
    prefix = file.read(struct.calcsize(kind))
    size = struct.unpack(kind, prefix)[0] if len(prefix) == struct.calcsize(kind) else MAX_HEADER_BYTES
    text = file.read(min(size, MAX_HEADER_BYTES))
    if len(text) < size:
        msg = "its .npy header was cut short"
        raise DataError(msg, path=path)
    try:
        header = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        header = None
    if not isinstance(header, dict):
        msg = "its .npy header cannot be read"
        raise DataError(msg, path=path)
    return header


def safetensors_tensors(path: Path) -> list[StoredTensor]:
    """Every tensor of a ``.safetensors`` file, in the order of the file.

    Raises:
        DataError: the file is no ``.safetensors`` file, or a tensor lies outside of it.
    """
    header, start = _safetensors_header(path)
    found = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            shape = tuple(int(size) for size in entry["shape"])
            begin, end = (int(place) for place in entry["data_offsets"])
            kind = str(entry["dtype"])
        except (KeyError, TypeError, ValueError):
            msg = f"the header entry of tensor {name!r} is broken"
            raise DataError(msg, path=path) from None
        dtype = SAFETENSORS_TYPES.get(kind, kind)
        tensor = StoredTensor(
            name=name, path=path, shape=shape, dtype=dtype, offset=start + begin, strides=contiguous_strides(shape)
        )
        if tensor.is_table and tensor.num_bytes != end - begin:
            problem = f"tensor {tensor} has {end - begin} bytes, its shape needs {tensor.num_bytes}"
            raise DataError(problem, path=path)
        found.append(tensor)
    return sorted(found, key=lambda tensor: tensor.offset)


def _safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            msg = "it is no .safetensors file, or was cut short"
            raise DataError(msg, path=path)
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        msg = "its .safetensors header is no JSON object"
        raise DataError(msg, path=path)
    return header, 8 + length
