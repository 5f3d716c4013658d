"""The object in a pickled checkpoint with every class replaced by a stand-in that does nothing.

Owns the one place where a pickle is read. Nothing that the file names is imported or called: tensors become
descriptions of where they lie, ordered dictionaries stay what they are, everything else becomes an `Inert`. So a
checkpoint whose settings are objects of a library that is not here can be audited, and one made to run a command runs
nothing; where a name has no other use, it is refused by that name.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rectest.errors import DataError

__all__ = ["STORAGES", "Inert", "PickledTensor", "Storage", "read_pickle"]

STORAGES = {
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16),
    "UntypedStorage": ("byte", 1),
}
"""Storage classes of torch with the type and the size of their elements."""

HOSTILE_MODULES = {"os", "posix", "nt", "subprocess", "commands", "pty", "socket", "shutil", "runpy", "ctypes"}
"""Old protocols call subprocess by the name it had in Python 2."""

HOSTILE_NAMES = {"eval", "exec", "execfile", "compile", "open", "__import__", "breakpoint", "input"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """The memory of one or more tensors, by its key in the file."""

    key: str
    dtype: str
    item_bytes: int
    num_items: int
    first: int = 0
    """Items before it in the storage that it is a view of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PickledTensor:
    """A tensor by its storage and layout, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Inert:
    """Whatever a pickle makes of a class or function: its state is kept for looking into, and nothing is done."""

    held: dict[Any, Any]

    def __new__(cls, *_arguments: Any, **_named: Any) -> Inert:
        """A pickle may make objects without initialising them."""
        made = super().__new__(cls)
        made.held = {}
        return made

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        """Accept whatever the class would."""

    def __call__(self, *_arguments: Any, **_named: Any) -> Inert:
        """Another one."""
        return Inert()

    def __setstate__(self, state: Any) -> None:
        states = state if isinstance(state, tuple) else (state,)
        for part in states:
            self.held.update(part if isinstance(part, dict) else {"state": part})

    def __setitem__(self, key: Any, value: Any) -> None:
        self.held[key] = value

    def append(self, value: Any) -> None:
        """As a list."""
        self.held[len(self.held)] = value

    def extend(self, values: Sequence[Any]) -> None:
        """As a list."""
        for value in values:
            self.append(value)

    def add(self, value: Any) -> None:
        """As a set."""
        self.append(value)


def _tensor(storage: Any, offset: int, shape: Sequence[int], strides: Sequence[int], *_rest: Any) -> Any:
    if not isinstance(storage, Storage):
        return Inert()
    return PickledTensor(
        storage=storage, offset=int(offset), shape=_whole(shape), strides=_whole(strides), dtype=storage.dtype
    )


def _tensor_of_type(*arguments: Any) -> Any:
    """Newer types name themselves beside an untyped storage."""
    made = _tensor(*arguments)
    if isinstance(made, PickledTensor) and len(arguments) > 6:
        return PickledTensor(
            storage=made.storage, offset=made.offset, shape=made.shape, strides=made.strides, dtype=str(arguments[6])
        )
    return made


def _whole(sizes: Sequence[int]) -> tuple[int, ...]:
    found = tuple(int(size) for size in sizes)
    if any(size < 0 for size in found):
        msg = f"a tensor has the sizes {found}"
        raise ValueError(msg)
    return found


def _first(made: Any, *_rest: Any) -> Any:
    return made


def _of_subclass(rebuild: Any, _kind: Any, arguments: Sequence[Any], *_rest: Any) -> Any:
    return rebuild(*arguments)


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_subclass,
    ("torch", "Size"): tuple,
}


class _Unpickler(pickle.Unpickler):
    """Hands out stand-ins for every global; nothing of the file's choosing is ever imported."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global.

        Raises:
            DataError: the global is there to run commands.
        """
        builtin = module in ("builtins", "__builtin__") and name in HOSTILE_NAMES
        if builtin or module.partition(".")[0] in HOSTILE_MODULES:
            problem = f"its pickle names {module}.{name}, which no weights need"
            hint = "nothing of it was run; do not load this file with pickle or torch.load(weights_only=False)"
            raise DataError(problem, path=self._path, hint=hint)
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module == "torch" or module.startswith("torch.storage"):
            return name if name in STORAGES or name.islower() else Inert
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        """The description of a storage, from ``("storage", class, key, device, number of items[, view])``."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in STORAGES:
            return Inert  # the older format saves classes this way, with their source
        dtype, item_bytes = STORAGES[pid[1]]
        view = pid[5] if len(pid) > 5 and pid[5] else ("", 0, 0)
        return Storage(key=str(pid[2]), dtype=dtype, item_bytes=item_bytes, num_items=int(pid[4]), first=int(view[1]))


def read_pickle(file: BinaryIO, path: Path) -> Any:
    """The next pickled object of a file, made of plain values, `PickledTensor` and `Inert`.

    Raises:
        DataError: it is no pickle, was cut short, or names what runs commands.
    """
    load: Callable[[], Any] = _Unpickler(file, path).load
    try:
        return load()
    except DataError:
        raise
    except Exception as error:
        problem = f"its pickle cannot be read ({type(error).__name__}: {str(error)[:100]})"
        raise DataError(problem, path=path) from None
