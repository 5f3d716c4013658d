"""`open_table`: the rows of an embedding table in a file, a checkpoint or several parts, whatever the format.

Owns choosing: which files are the parts of one table and which of their tensors it is. The formats are in
`table_formats` and `table_pt`, the folders and indices in `shards`, the reading of rows in `table_files`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rectest.audits.shards import part_paths
from rectest.audits.table_files import StoredRows, StoredTensor
from rectest.audits.table_formats import npy_tensors, safetensors_tensors
from rectest.audits.table_pt import pt_tensors
from rectest.errors import DataError

__all__ = ["SUFFIXES", "OpenTable", "open_table", "table_names"]

READERS = {".npy": npy_tensors, ".safetensors": safetensors_tensors}
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
SUFFIXES = (*READERS, *PICKLED)
SHOWN = 12

OPTIMIZER = re.compile(r"(\w+\.)?optim")
"""State of an optimizer has tables of the same shape beside each weight; it is found by name only."""


class OpenTable(StoredRows):
    """A table in files; a `RowSource` that also knows where it is from."""

    def __init__(self, tensors: Sequence[StoredTensor]) -> None:
        super().__init__(tensors)
        first = tensors[0]
        self.path: Path = first.path
        self.paths = tuple(tensor.path for tensor in tensors)
        self.name: str = first.name or first.path.stem
        self.stored: str = first.dtype
        """The type in the file: ``bfloat16`` is handed out as float32."""

    def close(self) -> None:
        """Nothing is kept open between two passes, so this only completes the protocol of a file."""

    def __enter__(self) -> OpenTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_table(path: str | Path | Sequence[str | Path], *, name: str | None = None) -> OpenTable:
    """Open the table of a file, of the parts of a sharded one, or of a folder of parts.

    Args:
        path: a ``.npy``, ``.safetensors``, ``.pt``, ``.pth``, ``.ckpt`` or ``.bin`` file, one of several files named
            ``x-00001-of-00004``, a ``.index.json``, a folder, or a list of parts. Parts that hold a tensor of one name
            are put one below the other in the natural order of their file names.
        name: which tensor; needed where more than one is floating point [rows, dim].

    Raises:
        DataError: the file cannot be read, is damaged, holds no such tensor, or parts do not fit together.
    """
    groups = _tensors_by_name(path)
    if name is None:
        names = _candidates(groups)
        if len(names) != 1:
            raise _undecided(groups, names)
        name = names[0]
    elif name not in groups:
        problem = f"no tensor is named {name!r}"
        raise DataError(problem, path=_first_path(groups), hint=f"it holds {_listed(groups, list(groups))}")
    tensors = groups[name]
    for tensor in tensors:
        if not tensor.is_table:
            msg = f"{tensor} is no floating-point table [rows, dim]"
            raise DataError(msg, path=tensor.path)
    return OpenTable(tensors)


def table_names(path: str | Path | Sequence[str | Path]) -> list[str]:
    """The names among which `open_table` chooses; a file that holds one unnamed array gives ``[""]``."""
    return _candidates(_tensors_by_name(path))


def _candidates(groups: dict[str, list[StoredTensor]]) -> list[str]:
    """Names of tables, one for each place in the files: tied weights have several, and the first one counts."""
    tables = {name: tensors for name, tensors in groups.items() if tensors[0].is_table}
    weights = [name for name in tables if not OPTIMIZER.match(name)] or list(tables)
    places = {(tables[name][0].path, tables[name][0].offset, tables[name][0].shape): name for name in reversed(weights)}
    chosen = set(places.values())
    return [name for name in weights if name in chosen]


def _tensors_by_name(path: str | Path | Sequence[str | Path]) -> dict[str, list[StoredTensor]]:
    parts = part_paths(path, suffixes=SUFFIXES)
    groups: dict[str, list[StoredTensor]] = {}
    for part in parts:
        for tensor in _tensors(part):
            groups.setdefault(tensor.name, []).append(tensor)
    for name, tensors in groups.items():
        missing = sorted({*parts} - {tensor.path for tensor in tensors})
        if len(tensors) > 1 and missing:
            problem = f"tensor {name!r} is in {len(tensors)} of {len(parts)} parts"
            raise DataError(problem, path=missing[0], hint="this one lacks it, so rows are missing")
    return groups


def _tensors(path: Path) -> list[StoredTensor]:
    reader = READERS.get(path.suffix.lower(), pt_tensors)
    try:
        if not path.stat().st_size:
            raise DataError("the file is empty", path=path)
        return reader(path)
    except OSError as error:
        msg = f"cannot be read ({error.strerror or error})"
        raise DataError(msg, path=path) from None


def _first_path(groups: dict[str, list[StoredTensor]]) -> Path | None:
    return next((tensors[0].path for tensors in groups.values()), None)


def _listed(groups: dict[str, list[StoredTensor]], names: list[str]) -> str:
    shown = ", ".join(str(groups[name][0]) for name in names[:SHOWN])
    return f"{shown}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}" if names else "no tensor"


def _undecided(groups: dict[str, list[StoredTensor]], names: list[str]) -> DataError:
    if names:
        problem = f"{len(names)} tensors are tables"
        return DataError(problem, path=_first_path(groups), hint=f"name one of {_listed(groups, names)}")
    problem = f"no floating-point table [rows, dim] with at least one row: {_listed(groups, list(groups))}"
    return DataError(problem, path=_first_path(groups))
