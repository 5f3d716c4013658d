"""Watches the standard library's generators: the functions of `random`, `random.Random` and its subclasses.

The methods are replaced on the class, so that instances made before are seen, too. `entropy` watches the rest of what
the standard library offers. Methods that a subclass overrides without calling the original are not seen.
"""

from __future__ import annotations

import functools
import os
import random
import sys
from typing import TYPE_CHECKING, Any

from . import entropy
from .generators import Fresh, Known, state_digest
from .sites import call_site
from .watch import Watch, inside, listening, watch_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session

__all__ = ["install"]

_DRAWS = (
    *("random", "getrandbits", "randbytes", "randrange", "randint", "choice", "shuffle", "sample", "choices"),
    *("uniform", "triangular", "normalvariate", "gauss", "lognormvariate", "expovariate", "vonmisesvariate"),
    *("gammavariate", "betavariate", "paretovariate", "weibullvariate", "binomialvariate"),
)
_OF_SYSTEM = ("random", "getrandbits", "randbytes")
_instance: Any = random._inst
_forks: list[bool] = []


def install(session: Session) -> None:
    """Watch `random` and the entropy of the standard library; a second call does nothing."""
    watch = watch_of(session)
    if not watch.first("random"):
        return
    entropy.install(watch)
    known = watch.names.name(_instance, "random")
    seed = 0 if watch.pins.library("random") else None
    if seed is not None:
        _instance.seed(seed)
    watch.seeded(known, seed, how="import", site="", generator=_instance)
    _patch_class(session)
    for name in (*_DRAWS, "seed", "setstate"):
        if getattr(getattr(random, name, None), "__self__", None) is _instance:
            session.patches.set(random, name, getattr(_instance, name))
    if not _forks:
        _forks.append(True)
        os.register_at_fork(after_in_child=_after_fork)


def _patch_class(session: Session) -> None:
    for name in _DRAWS:
        if hasattr(random.Random, name):
            session.patches.set(random.Random, name, _drawing(getattr(random.Random, name), name))
    for name in _OF_SYSTEM:
        session.patches.set(random.SystemRandom, name, _of_system(getattr(random.SystemRandom, name)))
    session.patches.set(random.Random, "seed", _seeding(random.Random.seed))
    session.patches.set(random.Random, "setstate", _restoring(random.Random.setstate))
    session.patches.set(random.Random, "__init__", _making(random.Random.__init__))


def _after_fork() -> None:
    """The library seeds the global generator of every forked child anew, from entropy."""
    watch = listening()
    known = watch.names.get(_instance) if watch is not None else None
    if watch is None or known is None:
        return
    if watch.pins.library("random"):
        with watch.session.quiet():
            _instance.seed(0)
    known.fresh = Fresh(state_digest(_instance), "", "entropy")


def _drawing(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    module_name, method_name = f"random.{name}", f"random.Random.{name}"

    @functools.wraps(original)
    def draw(self: random.Random, /, *args: Any, **kwargs: Any) -> Any:
        watch = listening()
        if watch is None:
            return original(self, *args, **kwargs)
        if isinstance(self, random.SystemRandom):
            return entropy.read(watch, original, (self, *args), kwargs, name="random.SystemRandom")
        known = watch.names.get(self) or _found(watch, self, sys._getframe(1))
        if not known.is_watched:
            return original(self, *args, **kwargs)
        return watch.draw(
            original,
            (self, *args),
            kwargs,
            name=module_name if self is _instance else method_name,
            known=known,
            state=functools.partial(state_digest, self),
            changed=args[0] if args and name == "shuffle" else None,
        )

    return draw


def _found(watch: Watch, generator: random.Random, frame: Any) -> Known:
    """A generator that was made before the watch began, or by a subclass without the library's ``__init__``."""
    if entropy.asker(frame) != "stdlib":
        return watch.found(generator, "random")
    return _ignore(watch, generator)


def _ignore(watch: Watch, generator: random.Random) -> Known:
    known = watch.names.name(generator, "")
    known.is_watched = False
    return known


def _of_system(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def draw(self: random.SystemRandom, /, *args: Any, **kwargs: Any) -> Any:
        watch = listening()
        if watch is None:
            return original(self, *args, **kwargs)
        return entropy.read(watch, original, (self, *args), kwargs, name="random.SystemRandom")

    return draw


def _making(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: random.Random, /, *args: Any, **kwargs: Any) -> None:
        watch = listening()
        if watch is None or isinstance(self, random.SystemRandom):
            original(self, *args, **kwargs)
            return
        site, value = call_site(), args[0] if args else kwargs.get("x")
        pinned = watch.pins.seed(site)
        inside.depth += 1
        try:
            if pinned is None:
                original(self, *args, **kwargs)
            else:
                value = pinned
                original(self, pinned)
        finally:
            inside.depth -= 1
        if entropy.asker(sys._getframe(1)) == "stdlib":
            _ignore(watch, self)
        else:
            watch.made(self, "random", value, site=site)

    return __init__


def _seeding(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def seed(self: random.Random, /, *args: Any, **kwargs: Any) -> None:
        watch = listening()
        if watch is None or isinstance(self, random.SystemRandom):
            original(self, *args, **kwargs)
            return
        site, value = call_site(), args[0] if args else kwargs.get("a")
        pinned = watch.pins.seed(site)
        if pinned is None:
            original(self, *args, **kwargs)
        else:
            value = pinned
            original(self, pinned)
        _note(watch, self, value, site)

    return seed


def _restoring(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def setstate(self: random.Random, /, state: Any) -> None:
        original(self, state)
        watch = listening()
        if watch is not None:
            known = watch.names.get(self) or watch.names.add(self, "random", call_site())
            if known.is_watched:
                watch.seeded(known, None, how="seeded", site=call_site(), generator=self, is_state=True)

    return setstate


def _note(watch: Watch, generator: random.Random, value: Any, site: str) -> None:
    known: Known = watch.names.get(generator) or watch.names.add(generator, "random", site)
    if known.is_watched:
        watch.seeded(known, value, how="entropy" if value is None else "seeded", site=site, generator=generator)
