"""Watches torch's draws: the functions of `torch` and `torch.nn.functional`, and the methods of tensors.

Compiled, scripted and traced code keeps its own calls: wrappers pass through while code is compiled, and the tables in
which torch looks functions up by identity know them. Draws inside compiled code are not seen, nor those of C++ (fused
attention, `torch.ops`). Generators and seeds are `torch_seeds`'.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from . import torch_seeds
from .digests import digest_value
from .generators import Known, state_digest
from .torch_draws import FUNCTIONAL, METHODS, NAMESPACE, RECURRENT, Condition, device_of, global_generator
from .watch import Watch, listening, watch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .session import Session

__all__ = ["install"]

_wrappers: dict[tuple[int, str], tuple[Any, Any]] = {}
"""The original and its wrapper, made once: torch's tables keep the identity of either."""

_builtins: dict[int, str] = {}
"""By the identity of an original or wrapper: its operator, for TorchScript."""

_originals: dict[int, Any] = {}
"""By the identity of a wrapper: its original."""


def install(session: Session) -> None:
    """Watch torch; a second call does nothing."""
    watch = watch_of(session)
    if not watch.first("torch"):
        return
    torch = sys.modules["torch"]
    torch_seeds.install(watch, torch)
    _fill_tables()
    functional = torch.nn.functional
    for name, draws in NAMESPACE.items():
        _replace(watch, torch, name, f"torch.{name}", draws, operator=f"aten::{name}")
    for name, draws in RECURRENT.items():
        _replace(watch, torch._VF, name, f"torch.{name}", draws, operator=f"aten::{name}")
    for name, draws in FUNCTIONAL.items():
        native = "" if hasattr(getattr(functional, name, None), "__code__") else f"aten::{name}"
        _replace(watch, functional, name, f"torch.nn.functional.{name}", draws, operator=native)
    for name in METHODS:
        _replace(watch, torch.Tensor, name, f"torch.Tensor.{name}", None)
    _patch_script(session)
    session.patches.on_undo(_forget_compiled)


def _replace(watch: Watch, owner: Any, name: str, shown: str, draws: Condition | None, *, operator: str = "") -> None:
    original = getattr(owner, name, None)
    if original is None or id(original) in _originals:
        return
    known = _wrappers.get((id(original), shown))
    if known is None:
        wrapper = _drawing(sys.modules["torch"], original, shown, draws)
        known = _wrappers[id(original), shown] = (original, wrapper)
        _originals[id(wrapper)] = original
        if operator:
            _builtins[id(original)] = _builtins[id(wrapper)] = operator
    watch.session.patches.set(owner, name, known[1])


def _drawing(torch: Any, original: Any, name: str, draws: Condition | None) -> Callable[..., Any]:
    is_compiling = torch.compiler.is_compiling
    is_mask = "drop" in name or name.startswith("torch.nn") or name.rpartition(".")[2] in RECURRENT

    def draw(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return original(*args, **kwargs)
        watch = listening()
        if watch is None or (draws is not None and not draws(args, kwargs)) or _is_watched_elsewhere(torch, args):
            return original(*args, **kwargs)
        found = _generator(watch, torch, args, kwargs)
        if found is None:
            return original(*args, **kwargs)
        known, state, device = found
        is_counted = is_mask and device.type != "cpu"
        return watch.draw(
            original, args, kwargs, name=name, known=known, state=state, read=_shape if is_counted else None
        )

    return _like(draw, original, name)


def _like(wrapper: Any, original: Any, name: str) -> Callable[..., Any]:
    """Carry the original's name, so that a reference to it can be pickled, and its signature where it has one."""
    module, _, last = name.rpartition(".")
    if hasattr(original, "__code__"):
        functools.update_wrapper(wrapper, original)
    else:
        wrapper.__doc__, wrapper.__name__, wrapper.__module__ = original.__doc__, last, module
        wrapper.__qualname__ = last
    if module == "torch.Tensor":
        wrapper.__module__, wrapper.__qualname__ = "torch", f"Tensor.{last}"
    return wrapper  # type: ignore[no-any-return]


def _shape(result: Any) -> Any:
    """On a device a mask follows from its generator's state and its shape; reading it would make the script wait."""
    return str(getattr(result, "shape", ""))


def _is_watched_elsewhere(torch: Any, args: tuple[Any, ...]) -> bool:
    """Whether this call draws nothing now: it is traced, faked or captured for a later replay."""
    c = torch._C
    if c._get_tracing_state() is not None or (args and type(args[0]).__name__ == "Proxy"):
        return True
    if c._len_torch_dispatch_stack():
        keys = c._TorchDispatchModeKey
        if any(c._get_dispatch_mode(key) is not None for key in (keys.FAKE, keys.PROXY, keys.FUNCTIONAL)):
            return True
    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def _generator(
    watch: Watch, torch: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Known, Callable[[], str], Any] | None:
    """What a call draws from: the generator's name, its state, and the device; None if that cannot be told."""
    try:
        generator = kwargs.get("generator")
        if generator is None:
            generator = next((value for value in args if torch_seeds.is_generator(value)), None)
        device = device_of(torch, args, kwargs) if generator is None else generator.device
        if device.type == "meta":
            return None
        if generator is None:
            name, generator = global_generator(torch, device)
            if generator is None:
                return Known(name), functools.partial(_module_state, torch, device), device
            known = watch.names.get(generator) or watch.names.name(generator, name)
        else:
            known = torch_seeds.known(watch, torch, generator)
        return known, functools.partial(state_digest, generator), device
    except Exception as e:
        watch.session.failed("finding a generator", e)
        return None


def _module_state(torch: Any, device: Any) -> str:
    return digest_value(torch.get_device_module(device).get_rng_state())


def _fill_tables() -> None:
    """Let torch make the tables that hold functions by identity while the originals are there."""
    device = sys.modules.get("torch.utils._device")
    if device is not None:
        device._device_constructors()


def _forget_compiled() -> None:
    """Let the compiler look functions up anew: it may have seen wrappers."""
    rules: Any = sys.modules.get("torch._dynamo.trace_rules")
    for value in list(vars(rules).values()) if rules is not None else ():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def _patch_script(session: Session) -> None:
    """TorchScript finds operators by the identity of a function, and compiles the source of all others."""
    builtin, recursive = sys.modules["torch.jit._builtins"], sys.modules["torch.jit._recursive"]
    make_table: Any = builtin._get_builtin_table
    compile_function: Any = recursive.try_compile_fn

    def table() -> dict[int, str]:
        known: dict[int, str] = make_table()
        for key, operator in _builtins.items():
            known.setdefault(key, operator)
        return known

    def try_compile_fn(fn: Any, loc: Any) -> Any:
        return compile_function(_originals.get(id(fn), fn), loc)

    session.patches.set(builtin, "_get_builtin_table", table)
    session.patches.set(recursive, "try_compile_fn", try_compile_fn)
