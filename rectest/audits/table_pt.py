"""Which tensors a ``.pt``, ``.pth``, ``.ckpt`` or ``.bin`` file holds, and where in the file their numbers lie.

Owns torch's two file formats, the zip archive and what came before it. The pickle in them is read by `table_pickle`,
so torch is not needed and nothing that the file names is run.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from rectest.audits.table_files import FLOATS, StoredTensor
from rectest.audits.table_pickle import STORAGES, Inert, PickledTensor, Storage, read_pickle
from rectest.errors import DataError

__all__ = ["pt_tensors"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LOCAL_HEADER = struct.Struct("<4s22xHH")
HOLDERS = {"_modules", "_parameters", "_buffers"}
"""Attributes of a pickled module that are no part of a parameter's name."""

ITEM_BYTES = dict(STORAGES.values())


def pt_tensors(path: Path) -> list[StoredTensor]:
    """Every dense tensor of a checkpoint, named by the keys and attributes that lead to it, joined by dots.

    Raises:
        DataError: the file is no checkpoint of torch, is damaged, or its pickle names what runs commands.
    """
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == b"PK":
            return _zipped(file, path)
        if start[:1] == b"\x80":
            return _legacy(file, path)
    problem = "it is no checkpoint of torch: neither a zip archive nor a pickle"
    raise DataError(problem, path=path)


def _zipped(file: BinaryIO, path: Path) -> list[StoredTensor]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            root = next((name.removesuffix("data.pkl") for name in infos if name.endswith("/data.pkl")), None)
            if root is None:
                problem = "the zip archive holds no data.pkl"
                raise DataError(problem, path=path, hint="torch.save writes one")
            with archive.open(infos[f"{root}data.pkl"]) as pickled:
                held = read_pickle(pickled, path)  # type: ignore[arg-type]
            order = archive.read(infos[f"{root}byteorder"]) if f"{root}byteorder" in infos else b"little"
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        problem = f"its zip archive is damaged or was cut short ({error})"
        raise DataError(problem, path=path) from None
    places = {
        tensor.storage.key: _entry_offset(file, infos.get(f"{root}data/{tensor.storage.key}"), tensor.storage, path)
        for _, tensor in _walk(held)
        if tensor.dtype in FLOATS
    }
    return _stored(held, places, path, big_endian=order.strip() == b"big")


def _entry_offset(file: BinaryIO, info: zipfile.ZipInfo | None, storage: Storage, path: Path) -> int:
    """Where the bytes of an archive's entry begin: after its local header, which repeats the name."""
    if info is None:
        problem = f"the archive lacks the storage {storage.key}"
        raise DataError(problem, path=path)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < storage.num_items * storage.item_bytes:
        problem = f"the storage {storage.key} is compressed or too short"
        raise DataError(problem, path=path, hint="write the file anew with torch.save")
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        problem = f"the archive has no entry where its list says the storage {storage.key} is"
        raise DataError(problem, path=path)
    _, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
    return int(info.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes)


def _legacy(file: BinaryIO, path: Path) -> list[StoredTensor]:
    if read_pickle(file, path) != LEGACY_MAGIC:
        problem = "it is a pickle that torch.save did not write"
        raise DataError(problem, path=path, hint="save the table with numpy.save or torch.save")
    read_pickle(file, path)
    system = read_pickle(file, path)
    held = read_pickle(file, path)
    keys = read_pickle(file, path)
    storages = {tensor.storage.key: tensor.storage for _, tensor in _walk(held)}
    places, size = {}, path.stat().st_size
    for key in keys if isinstance(keys, list) else []:
        count = file.read(8)
        storage = storages.get(str(key))
        if storage is None or len(count) < 8:
            break
        places[storage.key] = file.tell()
        file.seek(struct.unpack("<q", count)[0] * storage.item_bytes, 1)
    big = isinstance(system, Mapping) and system.get("little_endian") is False
    if missing := sorted(set(storages) - set(places)):
        problem = f"the file was cut short or holds other objects with storages: {missing[0]} is not found"
        raise DataError(problem, path=path, hint=f"it has {size} bytes; write it anew with torch.save")
    return _stored(held, places, path, big_endian=big)


def _stored(held: Any, places: Mapping[str, int], path: Path, *, big_endian: bool) -> list[StoredTensor]:
    found = []
    for name, tensor in _walk(held):
        stored = StoredTensor(name=name, path=path, shape=tensor.shape, dtype=tensor.dtype, strides=tensor.strides)
        if stored.is_table:
            first = (tensor.storage.first + tensor.offset) * ITEM_BYTES[tensor.dtype]
            stored = replace(stored, offset=places[tensor.storage.key] + first, big_endian=big_endian)
            _require_inside(tensor, stored)
        found.append(stored)
    return found


def _require_inside(tensor: PickledTensor, stored: StoredTensor) -> None:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    room = tensor.storage.num_items * tensor.storage.item_bytes // ITEM_BYTES[tensor.dtype]
    if tensor.offset < 0 or tensor.offset + last >= room:
        problem = f"tensor {stored} reaches out of its storage of {room} numbers"
        raise DataError(problem, path=stored.path)


def _walk(held: Any) -> Iterator[tuple[str, PickledTensor]]:
    """Names and tensors below an object, in its order; an object that is met again is not entered again."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), held)]
    entered: set[int] = set()
    while waiting:
        names, one = waiting.pop()
        if isinstance(one, PickledTensor):
            yield ".".join(names), one
            continue
        below = one.held if isinstance(one, Inert) else one
        if isinstance(below, list | tuple):
            below = dict(enumerate(below))
        if not isinstance(below, Mapping) or id(one) in entered:
            continue
        entered.add(id(one))
        inner = [((*names, str(key)) if key not in HOLDERS else names, value) for key, value in below.items()]
        waiting += reversed(inner)
