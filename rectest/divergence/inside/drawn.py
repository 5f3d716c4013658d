"""Drawn values and seeds on the tape: single numbers fast, everything else as `digests` does."""

from __future__ import annotations

import struct
from typing import Any

from .digests import digest_value, join, parts_of

__all__ = ["feed", "shown"]

_LONGEST = 80
_double = struct.Struct("<d").pack


def feed(hasher: Any, value: Any, *, sample: int = 0) -> bool:
    """Add a value to a hasher; False for one that holds no numbers to read (a tensor that is being transformed)."""
    kind = type(value)
    if kind is float:
        hasher.update(_double(value))
    elif kind is int:
        hasher.update(b"%d;" % value)
    else:
        parts = parts_of(value, sample=sample)
        if not parts:
            return False
        hasher.update(join(parts))
    return True


def shown(value: Any) -> int | float | str | None:
    """A seed as a number, text or null that fits in a line of JSON.

    >>> shown(7), shown(b"ab"), shown(None)
    (7, "b'ab'", None)
    """
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or type(value) in (int, float, bool):
        return value  # type: ignore[no-any-return]
    if hasattr(value, "entropy") and hasattr(value, "spawn_key"):
        value = f"SeedSequence({value.entropy}, spawn_key={value.spawn_key})"
    is_plain = isinstance(value, bytes | bytearray | list | tuple)
    text = value if isinstance(value, str) else repr(value) if is_plain else ""
    return text if 0 < len(text) <= _LONGEST else f"{type(value).__name__} {digest_value(value)}"
