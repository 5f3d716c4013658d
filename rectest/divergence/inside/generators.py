"""The generators of a process: names that are equal in another run, and digests of their states.

A generator is named after its library, the line that made it and a running number there (``numpy@data.py:30#1``); the
global ones are ``random``, ``numpy``, ``torch`` and ``cuda:0``. Nothing here keeps a generator alive.
"""

from __future__ import annotations

import random
import weakref
from dataclasses import dataclass
from typing import Any

from .digests import digest_value

__all__ = ["Fresh", "Known", "Names", "passing_subclass", "state_digest"]


_getstate = random.Random.getstate


@dataclass(frozen=True)
class Fresh:
    """How a generator began that was given no seed; it is noted when it draws from that state, and else forgotten.

    Copies and unpickled generators are made without a seed first and get their state afterwards.
    """

    state: str
    """Digest of the state it began with."""

    site: str
    how: str
    value: Any = None
    """Its seed where that is a constant of the library; None for entropy of the operating system."""


@dataclass
class Known:
    """A generator that has a name."""

    name: str
    fresh: Fresh | None = None
    is_watched: bool = True
    """False for the standard library's own (the names of temporary files)."""


class Names:
    """Which generator is which, by identity."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Known]] = {}
        self._made: dict[str, int] = {}

    def get(self, generator: Any) -> Known | None:
        """What is known of a generator; None for one that was never seen."""
        found = self._known.get(id(generator))
        return found[1] if found is not None and found[0]() is generator else None

    def add(self, generator: Any, library: str, site: str) -> Known:
        """Name a generator after the line that made it."""
        place = f"{library}@{site.rpartition(':')[0]}"
        number = self._made[place] = self._made.get(place, 0) + 1
        return self.name(generator, f"{place}#{number}")

    def name(self, generator: Any, name: str) -> Known:
        """Give a generator this name."""
        known, key = Known(name), id(generator)
        try:
            reference: Any = weakref.ref(generator, lambda _: self._known.pop(key, None))
        except TypeError:  # a C object without weak references, alive as long as its library or its copy is used
            reference = _Strong(generator)
        self._known[key] = (reference, known)
        return known


class _Strong:
    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __call__(self) -> Any:
        return self._generator


def state_digest(generator: Any) -> str:
    """Digest of the state of a generator of `random`, NumPy or torch; it draws nothing."""
    if isinstance(generator, random.Random):
        return _python_state(generator)
    if hasattr(generator, "bit_generator"):
        return digest_value(generator.bit_generator.state)
    state = generator.get_state(legacy=False) if hasattr(generator, "_bit_generator") else generator.get_state()
    return digest_value(state)


def _python_state(generator: random.Random) -> str:
    """The library's own part of the state: a user's ``getstate`` may do anything, and not every subclass has one."""
    try:
        return digest_value(_getstate(generator))
    except Exception:
        return digest_value(f"{type(generator).__module__}.{type(generator).__qualname__}")


def passing_subclass(original: Any, space: dict[str, Any]) -> type:
    """A subclass of a compiled class that passes for it: every instance of the original is one of its own.

    Args:
        original: the class.
        space: methods that it overrides.
    """

    class Passing(type(original)):  # type: ignore[misc]
        def __instancecheck__(cls, instance: Any) -> bool:
            return type.__instancecheck__(original if cls is made else cls, instance)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return type.__subclasscheck__(original if cls is made else cls, subclass)

    shown = {"__module__": original.__module__, "__qualname__": original.__qualname__, "__doc__": original.__doc__}
    slots = {} if getattr(original, "__weakrefoffset__", 0) else {"__slots__": ("__weakref__",)}
    made: type = Passing(original.__name__, (original,), {**shown, **slots, **space})
    return made
