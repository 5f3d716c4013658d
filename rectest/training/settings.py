"""Settings that know which of them were read: one that nobody reads has no effect and must not seem to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ReadSettings"]


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
