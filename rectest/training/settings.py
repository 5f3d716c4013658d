"""Settings that know which of them were read: one that nobody reads has no effect and must not seem to."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["ReadSettings", "Watched"]


class ReadSettings(dict[str, Any]):
    """A dictionary of settings; `read` holds the keys that were asked for."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As `dict.get`, noted as read."""
        self.read.add(key)
        return super().get(key, default)


class Watched:
    """A copy of a system's configuration that says which of its settings were asked for, in `read`."""

    def __init__(self, config: Any) -> None:
        self.names = frozenset(field.name for field in dataclasses.fields(config))
        self.read: set[str] = set()
        self.config = copy.copy(config)
        kind, names, read = type(config), self.names, self.read

        def asked(self: Any, name: str) -> Any:
            if name in names:
                read.add(name)
            return object.__getattribute__(self, name)

        watched = type(kind.__name__, (kind,), {"__getattribute__": asked, "__qualname__": kind.__qualname__})
        try:
            object.__setattr__(self.config, "__class__", watched)
        except TypeError:
            # A class with slots cannot be watched; what is not known to be unread counts as read.
            self.read = set(names)
