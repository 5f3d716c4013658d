"""Watches NumPy's generators: `Generator`, `RandomState`, the functions of `numpy.random`, and OS entropy for them.

Both classes are compiled, so each is replaced by a subclass that passes for it; the functions of the module are bound
to an instance of that subclass, which shares the bit generator of the original. Generators made before, and numbers
taken from a bit generator directly (`random_raw`, compiled code), are not seen.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

from .digests import digest_value
from .entropy import asker
from .generators import passing_subclass, state_digest
from .sites import call_site
from .watch import Watch, inside, listening, watch_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session

__all__ = ["install"]

_NO_DRAWS = ("bit_generator", "spawn", "get_state", "set_state", "seed")
_MOST_ENTROPY = 4096
_tracked: dict[type, type] = {}
_from_system: dict[int, str] = {}
"""Entropy that NumPy took from the operating system, and for which line; the latest few thousand."""


def install(session: Session) -> None:
    """Watch `numpy.random`; a second call does nothing."""
    watch = watch_of(session)
    if not watch.first("numpy"):
        return
    numpy = sys.modules["numpy"]
    importlib.import_module("numpy.random")  # NumPy itself loads it at the first use
    if watch.pins.library("numpy"):
        numpy.random.seed(0)
    _patch_entropy(session, sys.modules["numpy.random.bit_generator"])
    generator = _replace(session, numpy.random.Generator, "_generator", {"__init__": _making_generator})
    state = _replace(
        session, numpy.random.RandomState, "mtrand",
        {"__init__": _making_state, "seed": _seeding_state, "set_state": _restoring_state},
    )  # fmt: skip
    make = numpy.random.default_rng
    wrapped = _default_rng(make, generator)
    session.patches.set(numpy.random, "default_rng", wrapped)
    session.patches.set(sys.modules["numpy.random._generator"], "default_rng", wrapped)
    _replace_global(watch, numpy.random, state)


def _replace(session: Session, original: type, module: str, others: dict[str, Callable[..., Any]]) -> type:
    """Put the subclass wherever NumPy keeps the class; unpickled and copied generators are of it, too."""
    tracked = _tracked.get(original)
    if tracked is None:
        tracked = _tracked[original] = _subclass(original, others)
    name = original.__name__
    for place in ("numpy.random", f"numpy.random.{module}", "numpy.random._pickle"):
        session.patches.set(sys.modules[place], name, tracked)
    return tracked


def _subclass(original: Any, others: dict[str, Callable[..., Any]]) -> type:
    space: dict[str, Any] = {}
    for name in dir(original):
        if not name.startswith("_") and name not in _NO_DRAWS:
            space[name] = _drawing(getattr(original, name), f"numpy.random.{original.__name__}.{name}", name)
    for name, wrap in others.items():
        space[name] = wrap(getattr(original, name))
    return passing_subclass(original, space)


def _replace_global(watch: Watch, module: Any, kind: Any) -> None:
    """Bind the functions of `numpy.random` to a watched twin of the global generator, and hand its state back."""
    mtrand = sys.modules["numpy.random.mtrand"]
    old: Any = mtrand._rand
    with watch.session.quiet():
        state = old.get_state(legacy=False)
        new = kind(old._bit_generator)
        new.set_state(state)
    seed = 0 if watch.pins.library("numpy") else None
    watch.seeded(watch.names.name(new, "numpy"), seed, how="import", site="", generator=new)
    patches = watch.session.patches
    patches.on_undo(functools.partial(_hand_back, old, new, module))
    patches.set(mtrand, "_rand", new)
    for place in (mtrand, module):
        for name, value in list(vars(place).items()):
            if getattr(value, "__self__", None) is old:
                patches.set(place, name, getattr(new, name))


def _hand_back(old: Any, new: Any, module: Any) -> None:
    if new._bit_generator is not old._bit_generator:
        module.set_bit_generator(new._bit_generator)
    old.set_state(new.get_state(legacy=False))


def _patch_entropy(session: Session, module: Any) -> None:
    original = getattr(module, "randbits", None)
    if original is None:
        return

    def randbits(size: int) -> int:
        watch = _watch_at_work()
        if watch is None:
            return int(original(size))
        site, is_asked = call_site(), not inside.depth and asker(sys._getframe(1)) == "script"
        pinned = watch.pins.seed(site) if is_asked else None
        inside.depth += 1
        try:
            value = int(original(size)) if pinned is None else pinned
        finally:
            inside.depth -= 1
        if is_asked:
            watch.count("entropy", "numpy.random.SeedSequence", site, lambda: digest_value(value))
        if len(_from_system) >= _MOST_ENTROPY:
            _from_system.pop(next(iter(_from_system)))
        _from_system[value] = site
        return value

    session.patches.set(module, "randbits", randbits)


def _watch_at_work() -> Watch | None:
    """The watch even within a watched call: it is the library that asks, for a line of the script."""
    depth, inside.depth = inside.depth, 0
    try:
        return listening()
    finally:
        inside.depth = depth


def _default_rng(original: Callable[..., Any], tracked: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def default_rng(seed: Any = None) -> Any:
        watch = listening()
        if watch is None:
            return original(seed)
        if not any(hasattr(seed, name) for name in ("bit_generator", "_bit_generator", "capsule")):
            pinned = watch.pins.seed(call_site())
            seed = seed if pinned is None else pinned
        inside.depth += 1
        try:
            made = original(seed)
            if made is seed or type(made) is tracked:
                return made
            made = tracked(made.bit_generator)
        finally:
            inside.depth -= 1
        _name(watch, made, seed)
        return made

    return default_rng


def _name(watch: Watch, generator: Any, seed: Any = None) -> None:
    """Name a new Generator after the line where its seed, or the entropy in place of one, came from."""
    try:
        bits = generator.bit_generator
        sequence = getattr(bits, "seed_seq", None) or getattr(bits, "_seed_seq", None)
        entropy = getattr(sequence, "entropy", None)
        origin = _from_system.get(entropy) if isinstance(entropy, int) else None
        if origin is not None and not _is_plain(seed):
            watch.made(generator, "numpy", None, site=origin or call_site())
        else:
            watch.made(generator, "numpy", seed if _is_plain(seed) else _shown(sequence, generator), site=call_site())
    except Exception as e:
        watch.session.failed("naming a generator", e)


def _is_plain(seed: Any) -> bool:
    return seed is not None and not hasattr(seed, "generate_state") and not hasattr(seed, "capsule")


def _shown(sequence: Any, generator: Any) -> Any:
    """The seed that a bit generator was made with: its number, its place among spawned ones, or else its state."""
    entropy, key = getattr(sequence, "entropy", None), getattr(sequence, "spawn_key", ())
    if entropy is None:
        return state_digest(generator)
    return sequence if key else entropy


def _drawing(original: Callable[..., Any], method_name: str, name: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def draw(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        watch = listening()
        if watch is None:
            return original(self, *args, **kwargs)
        known = watch.names.get(self) or watch.found(self, "numpy")
        return watch.draw(
            original,
            (self, *args),
            kwargs,
            name=f"numpy.random.{name}" if known.name == "numpy" else method_name,
            known=known,
            state=functools.partial(state_digest, self),
            changed=args[0] if args and name == "shuffle" else kwargs.get("x"),
        )

    return draw


def _making_generator(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        watch = listening()
        if watch is not None:
            _name(watch, self)

    return __init__


def _making_state(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        watch, seed = listening(), args[0] if args else kwargs.get("seed")
        if watch is None:
            original(self, *args, **kwargs)
            return
        site = call_site()
        pinned = None if hasattr(seed, "capsule") else watch.pins.seed(site)
        seed = seed if pinned is None else pinned
        _within(original, self, seed)
        watch.made(self, "numpy", state_digest(self) if hasattr(seed, "capsule") else seed, site=site)

    return __init__


def _within(original: Callable[..., None], *args: Any) -> None:
    """Call a function whose own requests for entropy are part of it."""
    inside.depth += 1
    try:
        original(*args)
    finally:
        inside.depth -= 1


def _seeding_state(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def seed(self: Any, /, *args: Any, **kwargs: Any) -> None:
        watch, value = listening(), args[0] if args else kwargs.get("seed")
        if watch is None:
            original(self, *args, **kwargs)
            return
        site = call_site()
        pinned = watch.pins.seed(site)
        value = value if pinned is None else pinned
        _within(original, self, value)
        known = watch.names.get(self) or watch.names.add(self, "numpy", site)
        watch.seeded(known, value, how="entropy" if value is None else "seeded", site=site, generator=self)

    return seed


def _restoring_state(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def set_state(self: Any, /, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        watch = listening()
        if watch is not None:
            site = call_site()
            known = watch.names.get(self) or watch.names.add(self, "numpy", site)
            watch.seeded(known, None, how="seeded", site=site, generator=self, is_state=True)

    return set_state
