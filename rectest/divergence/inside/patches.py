"""Replacing functions of other modules, and putting every one of them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Patches"]

_ABSENT = object()


class Patches:
    """What was replaced, in order; `undo` restores the very objects that were there."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, new: Any) -> Any:
        """Replace an attribute of a module or class and return what it was."""
        own = vars(owner).get(name, _ABSENT) if isinstance(owner, type) else _ABSENT
        old = getattr(owner, name)
        setattr(owner, name, new)
        if isinstance(owner, type) and own is _ABSENT:
            self._undo.append(lambda: delattr(owner, name))
        else:
            self._undo.append(lambda: setattr(owner, name, old if own is _ABSENT else own))
        return old

    def on_undo(self, action: Callable[[], None]) -> None:
        """Run `action` at `undo`, in reverse order with the rest (a hook handle's ``remove``)."""
        self._undo.append(action)

    def undo(self) -> None:
        """Put everything back, last first."""
        while self._undo:
            self._undo.pop()()
