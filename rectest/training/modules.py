"""Modules that another process must load before it can take a function: test files are often importable by no name.

pytest imports a test file by its path and calls it ``tests.test_model``, or just ``test_model``; a process that looks
for that name finds nothing, or another file. So the files are sent along, and loaded under the same names.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from rectest.training.group_child import say

__all__ = ["Modules", "call", "load_modules", "modules_of"]


class Modules:
    """Names and files of modules; where it is unpickled, they are loaded.

    It therefore stands before what needs them.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return load_modules, (self.files,)


def load_modules(files: Mapping[str, str]) -> Modules:
    """Make each module importable by its name, from its file where the name leads elsewhere or nowhere."""
    for name, file in files.items():
        found = None
        with contextlib.suppress(ModuleNotFoundError):
            found = importlib.import_module(name)
        if found is None or not _same_file(getattr(found, "__file__", None), file):
            _load(name, file)
    return Modules(files)


def call(_modules: Modules, function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``; sent to a process in this form, its modules are loaded first."""
    say(getattr(function, "__qualname__", "the function"))
    return function(*args)


def modules_of(**named: Any) -> Modules:
    """The modules that functions and classes inside the values come from, as far as they are users' own.

    Raises:
        TypeError: a value cannot be sent to another process; the message calls it by its name here.
    """
    watch = _Watch(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL)
    for name, value in named.items():
        try:
            watch.dump(value)
        except Exception as e:
            hint = "define it at the top level of a module (functools.partial of such a function will do)"
            msg = f"{name} cannot be sent to the ranks, which are processes of their own ({e}); {hint}"
            raise TypeError(msg) from e
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(watch.names)}
    return Modules({name: str(Path(file).resolve()) for name, file in files.items() if file is not None})


class _Watch(pickle.Pickler):
    """Notes where functions and classes come from."""

    names: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.names = set()

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, type | FunctionType) and _is_own(value.__module__):
            self.names.add(value.__module__)
        return NotImplemented


def _is_own(module: str) -> bool:
    """Whether it is neither the script, nor Python's, nor installed."""
    root = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    installed = "site-packages" in file or "dist-packages" in file
    return root not in ("__main__", "rectest") and root not in sys.stdlib_module_names and not installed


def _same_file(found: str | None, file: str) -> bool:
    return found is not None and Path(found).resolve() == Path(file)


def _load(name: str, file: str) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        msg = f"cannot import {name} from {file}"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
