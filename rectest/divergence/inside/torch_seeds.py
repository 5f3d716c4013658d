"""Watches torch's generators: `torch.Generator`, and the functions that seed the global ones.

The class is compiled, so a subclass takes its place that passes for it. Seeding a global generator by a method of its
object (``torch.default_generator.manual_seed``) is not seen as such; the state before a draw tells.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from .digests import digest_value
from .generators import Known, passing_subclass
from .sites import call_site
from .watch import Watch, inside, listening

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install", "is_generator", "known"]

_classes: dict[Any, Any] = {}


def install(watch: Watch, torch: Any) -> None:
    """Watch seeds and generators of torch, and seed the global one where that is pinned."""
    is_pinned = watch.pins.library("torch")
    if is_pinned:
        torch.manual_seed(0)
    name = watch.names.name(torch.default_generator, "torch")
    seed = 0 if is_pinned else None
    watch.seeded(name, seed, how="import", site="", generator=torch.default_generator)
    _replace_class(watch, torch)
    _patch(watch, (torch, torch.random), "manual_seed", _seeding(torch.manual_seed, ("torch", "cuda")))
    _patch(watch, (torch, torch.random), "seed", _reseeding(torch.seed, torch.manual_seed, ("torch", "cuda")))
    _patch(watch, (torch, torch.random), "set_rng_state", _restoring(torch.set_rng_state, "torch"))
    cuda = torch.cuda
    places = (cuda, cuda.random)
    _patch(watch, places, "manual_seed", _seeding(cuda.manual_seed, ("cuda:current",)))
    _patch(watch, places, "manual_seed_all", _seeding(cuda.manual_seed_all, ("cuda",)))
    _patch(watch, places, "seed", _reseeding(cuda.seed, cuda.manual_seed, ("cuda:current",)))
    _patch(watch, places, "seed_all", _reseeding(cuda.seed_all, cuda.manual_seed_all, ("cuda",)))
    _patch(watch, places, "set_rng_state", _restoring(cuda.set_rng_state, "cuda:current"))
    _patch(watch, places, "set_rng_state_all", _restoring(cuda.set_rng_state_all, "cuda"))


def known(watch: Watch, torch: Any, generator: Any) -> Known:
    """What is known of a generator that was passed to a function."""
    found = watch.names.get(generator)
    if found is not None:
        return found
    globals_ = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    for index, other in enumerate(globals_):
        if other is generator:
            return watch.names.name(generator, f"cuda:{index}")
    return watch.found(generator, "torch")


def is_generator(value: Any) -> bool:
    """Whether it is a generator; without a call of Python code."""
    return isinstance(value, tuple(_classes))


def _patch(watch: Watch, owners: tuple[Any, ...], name: str, wrapper: Any) -> None:
    for owner in owners:
        watch.session.patches.set(owner, name, wrapper)


def _replace_class(watch: Watch, torch: Any) -> None:
    original = torch.Generator
    made = _classes.get(original)
    if made is None:
        made = _classes[original] = _subclass(original)
    watch.session.patches.set(torch, "Generator", made)
    watch.session.patches.set(torch._C, "Generator", made)


def _subclass(original: Any) -> Any:
    def __init__(self: Any, *_: Any, **__: Any) -> None:
        watch = listening()
        if watch is not None:
            watch.made(self, "torch", None, site=call_site(), default=self.initial_seed())

    def manual_seed(self: Any, seed: Any) -> Any:
        watch = listening()
        if watch is None:
            return original.manual_seed(self, seed)
        site = call_site()
        pinned = watch.pins.seed(site)
        seed = seed if pinned is None else pinned
        original.manual_seed(self, seed)
        watch.seeded(_own(watch, self, site), seed, how="seeded", site=site)
        return self

    def seed(self: Any) -> int:
        watch = listening()
        if watch is None:
            return int(original.seed(self))
        site = call_site()
        pinned = watch.pins.seed(site)
        value = int(original.seed(self) if pinned is None else original.manual_seed(self, pinned).initial_seed())
        watch.seeded(_own(watch, self, site), pinned, how="entropy", site=site, generator=self)
        return value

    def set_state(self: Any, state: Any) -> Any:
        original.set_state(self, state)
        watch = listening()
        if watch is not None:
            site = call_site()
            watch.seeded(_own(watch, self, site), None, how="seeded", site=site, generator=self, is_state=True)
        return self

    def __reduce__(self: Any) -> Any:
        kind, *rest = original.__reduce__(self)
        return (type(self) if kind is original and type(self) is made else kind, *rest)

    made = passing_subclass(
        original,
        {
            "__init__": __init__,
            "__reduce__": __reduce__,
            "manual_seed": manual_seed,
            "seed": seed,
            "set_state": set_state,
        },
    )
    return made


def _own(watch: Watch, generator: Any, site: str) -> Known:
    return watch.names.get(generator) or watch.names.add(generator, "torch", site)


def _names(generators: tuple[str, ...]) -> list[str]:
    """Names on the tape: ``cuda`` stands for all devices, and is left out where torch is built without it."""
    torch = sys.modules["torch"]
    names = []
    for name in generators:
        if name not in ("cuda", "cuda:current"):
            names.append(name)
        elif torch.cuda.is_initialized():
            current, count = torch.cuda.current_device(), torch.cuda.device_count()
            names += [f"cuda:{index}" for index in (range(count) if name == "cuda" else (current,))]
        elif torch.version.cuda is not None:
            names.append("cuda" if name == "cuda" else "cuda:0")
    return names


def _shown(device: Any) -> str:
    index = device if isinstance(device, int) else sys.modules["torch"].device(device).index
    return "cuda:current" if index is None or index < 0 else f"cuda:{index}"


def _note(watch: Watch, generators: tuple[str, ...], value: Any, *, how: str, site: str) -> None:
    torch = sys.modules["torch"]
    try:
        for name in _names(generators):
            generator = torch.default_generator if name == "torch" else None
            watch.seeded(Known(name), value, how=how, site=site, generator=generator)
    except Exception as e:
        watch.session.failed("noting a seed", e)


def _seeding(original: Callable[..., Any], generators: tuple[str, ...]) -> Callable[..., Any]:
    @functools.wraps(original)
    def manual_seed(seed: Any) -> Any:
        watch = listening()
        if watch is None:
            return original(seed)
        site = call_site()
        pinned = watch.pins.seed(site)
        seed = seed if pinned is None else pinned
        inside.depth += 1
        try:
            result = original(seed)
        finally:
            inside.depth -= 1
        _note(watch, generators, seed, how="seeded", site=site)
        return result

    return manual_seed


def _reseeding(
    original: Callable[[], Any], fixed: Callable[[int], Any], generators: tuple[str, ...]
) -> Callable[[], Any]:
    @functools.wraps(original)
    def seed() -> Any:
        watch = listening()
        if watch is None:
            return original()
        site = call_site()
        pinned = watch.pins.seed(site)
        inside.depth += 1
        try:
            result = original() if pinned is None else (fixed(pinned), pinned)[1]
        finally:
            inside.depth -= 1
        _note(watch, generators, pinned, how="entropy", site=site)
        return result

    return seed


def _restoring(original: Callable[..., Any], generator: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def set_rng_state(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        watch = listening()
        if watch is not None:
            state = args[0] if args else next(iter(kwargs.values()), None)
            device = args[1] if len(args) > 1 else kwargs.get("device")
            _note(
                watch,
                (generator if device is None else _shown(device),),
                digest_value(state),
                how="seeded",
                site=call_site(),
            )
        return result

    return set_rng_state
