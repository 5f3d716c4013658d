"""Calling back after the script imported a module: nothing is imported for the recording's sake.

A finder in front of the others lets all imports pass but those that are waited for. Of these it takes the loader that
the other finders give, and lets that very object say when it is done: the module's ``__loader__`` and ``__spec__`` are
what they would be, lazy loaders work, and a reload does not call back again.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["forget", "when_imported"]


class _Finder:
    """Finds nothing by itself; see the module."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Callable[[], None]]] = {}
        self._searching: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that the other finders give, with a loader that reports; None for every other module."""
        if name not in self.waiting or name in self._searching:
            return None
        self._searching.add(name)
        try:
            spec = self._search(name, path, target)
        finally:
            self._searching.discard(name)
        if spec is not None and spec.loader is not None:
            self._watch(spec.loader, name)
        return spec

    def _search(self, name: str, path: Any, target: Any) -> Any:
        for finder in list(sys.meta_path):
            find_spec = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find_spec is None else find_spec(name, path, target)
            if spec is not None:
                return spec
        return None

    def _watch(self, loader: Any, name: str) -> None:
        run = getattr(loader, "exec_module", None)
        if run is None or isinstance(loader, type):
            return

        def exec_module(module: Any) -> None:
            with suppress(AttributeError):
                del loader.exec_module
            run(module)
            self.ready(name)

        with suppress(AttributeError):
            loader.exec_module = exec_module

    def ready(self, name: str) -> None:
        """The module is there: call everybody who waits for it, once."""
        for call in self.waiting.pop(name, ()):
            call()


_finder = _Finder()


def when_imported(name: str, call: Callable[[], None]) -> None:
    """Call `call` once the module has been imported; at once if it is there already.

    `call` must not raise: it runs within the script's own import statement.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        call()
        return
    _finder.waiting.setdefault(name, []).append(call)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def forget() -> None:
    """Wait for nothing any more, and leave the import system as it was."""
    _finder.waiting.clear()
    with suppress(ValueError):
        sys.meta_path.remove(_finder)
