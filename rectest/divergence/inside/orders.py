"""The order in which sets were iterated, where `rectest.divergence.rewriting` put a call in the way.

Only a set whose order can differ between two runs is noted: one that holds anything but numbers, because text, dates
and enumerations hash by the hash seed, and plain objects by their address.
"""

from __future__ import annotations

import builtins
import re
from typing import TYPE_CHECKING, Any

from .session import Session, active
from .sites import call_site

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CHECKER", "install"]

CHECKER = "__rectest_why_order__"

_PLAIN = (int, float, complex)
_SPELLED = (str, bytes, type(None))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class _Place:
    """All iterations at one line over one expression."""

    def __init__(self) -> None:
        import hashlib

        self.hasher = hashlib.blake2b(digest_size=16)
        self.count = 0


def install(session: Session) -> None:
    """Provide the checker to rewritten modules; it hands every value through."""
    if not session.config.locate_orders:
        return
    places: dict[tuple[str, str], _Place] = {}

    def check(value: Any, text: str) -> Any:
        if isinstance(value, set | frozenset) and len(value) > 1 and active() is session and not session.busy:
            try:
                _note(session, places, value, text)
            except Exception as e:
                session.failed("orders", e)
        return value

    # it stays when the recording ends: the rewritten modules go on calling it
    setattr(builtins, CHECKER, check)


def _note(session: Session, places: dict[tuple[str, str], _Place], value: Iterable[Any], text: str) -> None:
    """Note the 1st, 2nd, 4th, 8th, ... iteration at a place, each with the digest of all up to there."""
    if not any(_can_move(element) for element in value):
        return
    key = (call_site(skip=2), text)
    with session.quiet():
        place = places.setdefault(key, _Place())
        place.hasher.update("\0".join(map(_spell, value)).encode("utf-8", "backslashreplace") + b"\1")
    place.count += 1
    if place.count & (place.count - 1) == 0:
        session.event("order", text, place.hasher.hexdigest(), site=key[0], info={"count": place.count})


def _can_move(element: Any) -> bool:
    """Whether its hash may differ in another process."""
    if isinstance(element, tuple | frozenset):
        return any(_can_move(part) for part in element)
    return not isinstance(element, _PLAIN) or type(element).__hash__ is not _builtin_hash(element)


def _builtin_hash(element: Any) -> Any:
    return next(kind.__hash__ for kind in (int, float, complex) if isinstance(element, kind))


def _spell(element: Any) -> str:
    """The element as text that does not change with its address."""
    if isinstance(element, tuple | frozenset):
        parts = [_spell(part) for part in element]
        return f"({', '.join(parts if isinstance(element, tuple) else sorted(parts))})"
    if isinstance(element, (*_PLAIN, *_SPELLED)):
        return repr(element)
    shown = repr(element)
    text = _ADDRESS.sub("", shown)
    return f"{type(element).__qualname__} {text if text == shown else f'{text}{_fields(element)}'}"


def _fields(element: Any) -> str:
    """What tells apart two objects that are shown by their address only: their plain fields."""
    fields = getattr(element, "__dict__", {})
    plain = {key: value for key, value in fields.items() if isinstance(value, (*_PLAIN, *_SPELLED, tuple, frozenset))}
    return "".join(f" {key}={_spell(value)}" for key, value in plain.items())
