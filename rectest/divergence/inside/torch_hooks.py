"""Watches models, losses and batches of torch: who was called with what, what came out, what backward was called on.

The optimizer's step is `torch_steps`, collectives are `torch_dist`. Only the thread that trains is recorded: what
others do comes in no order that a second run would repeat. Modules that are called during backward recompute what a
checkpoint threw away, and are passed over, as are calls that torch traces or compiles.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import torch_dist, torch_pins, torch_steps
from .naming import Place, Root, argument_leaves, leaves, local
from .session import in_backward
from .torch_notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session

__all__ = ["install"]

_MAX_WAITING = 5000
"""Events after which a model's call does not wait for the end of the step: an evaluation may be long."""

_installed: weakref.WeakSet[Session] = weakref.WeakSet()


def install(session: Session) -> None:
    """Record what torch does in this process; called after the script imported torch."""
    if session in _installed:
        return
    _installed.add(session)
    torch_pins.install(session)
    notes = Notes(session)
    calls = _Calls(notes)
    _watch_modules(session, calls)
    _watch_losses(session, notes)
    _watch_loaders(session, notes)
    collectives = torch_dist.install(session, notes)
    calls.on_wrapper = collectives.watch_model
    torch_steps.install(session, notes, collectives.local_gradients, calls.forget)


@dataclass(frozen=True, slots=True)
class _Call:
    """The call of a model that is under way."""

    place: Place
    phase: str


class _Thread(threading.local):
    """Modules whose forward is running in a thread, outermost first."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.call: _Call | None = None


class _Calls:
    """Follows the calls of modules."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.session = notes.session
        self.torch: Any = sys.modules["torch"]
        self.on_wrapper: Callable[[Any], None] = lambda _: None
        self._modules = notes.session.config.modules
        self._here = _Thread()
        self._thread = 0
        self._kinds: dict[type, dict[str, str]] = {}

    def enter(self, module: Any, args: tuple[Any, ...], frame: Any) -> None:
        """A module is about to compute; `frame` is the function of torch that calls it."""
        here = self._here
        here.stack.append(module)
        if len(here.stack) > 1:
            return
        here.call = None
        if self.notes.ready():
            self.notes.guarded("a model's call", lambda: self._begin(module, args, frame))

    def leave(self, module: Any, output: tuple[Any, ...]) -> None:
        """A module has computed ``output[0]``; no output where it raised."""
        stack = self._here.stack
        if not stack or stack[-1] is not module:
            if not any(entry is module for entry in stack):
                return
            while stack[-1] is not module:
                stack.pop()
        stack.pop()
        call = self._here.call
        if not stack:
            self._here.call = None
        if call is None or not output or not self.notes.ready() or (stack and not self._modules):
            return
        self.session.busy += 1
        try:
            name = self._name(call, module, stack)
            self.notes.note("forward", name, output[0], info=self._kind(module), phase=call.phase)
        except Exception as e:
            self.session.failed("a module's output", e)
        finally:
            self.session.busy -= 1

    def forget(self) -> None:
        """An optimizer steps in this thread: no module is running here, whatever an interrupt left behind."""
        self._here.stack.clear()
        self._here.call = None
        self._thread = threading.get_ident()

    def _recorded(self, module: Any) -> bool:
        if getattr(module, "_is_replica", False) or self.torch._C._get_tracing_state() is not None:
            return False
        if in_backward(self.torch):
            return False
        self._thread = self._thread or threading.get_ident()
        return self._thread == threading.get_ident()

    def _begin(self, module: Any, args: tuple[Any, ...], frame: Any) -> None:
        if not self._recorded(module):
            return
        session = self.session
        if session.writer.num_waiting > _MAX_WAITING:
            session.flush()
        training = self.torch.is_grad_enabled() and bool(module.training)
        phase = "train" if training else "eval"
        place = self.notes.roots.place(module)
        session.write_draws()
        self.notes.environment()
        self._note_parameters(place.root, training=training)
        session.forwarded, session.updating = True, False
        session.trained = session.trained or training
        self.on_wrapper(module)
        kwargs = local(frame, "kwargs")
        for name, value in argument_leaves(place, args, kwargs if isinstance(kwargs, dict) else {}):
            if not isinstance(value, str | bytes | type(None)):
                self.notes.note("input", name, value, info=_described(value), phase=phase)
        self._here.call = _Call(place, phase)

    def _note_parameters(self, root: Root, *, training: bool) -> None:
        """Before the first call of a model all that it starts from; later, once a step, what it trains with.

        The latter tells parameters that something else than the optimizer has changed from another computation.
        """
        step, first = self.session.step, not root.noted
        if not first and (not training or root.at_step == step):
            return
        tensors = root.tensors(buffers=first)
        lazy = getattr(self.torch.nn.parameter, "UninitializedTensorMixin", ())
        root.noted = not any(isinstance(tensor, lazy) for _, tensor in tensors)
        root.at_step = step
        if tensors:
            kind, phase = ("init", self.session.phase) if first else ("weights", "train")
            groups = [self.notes.parts(tensor) for _, tensor in tensors]
            self.notes.table(kind, root.name, [name for name, _ in tensors], groups, phase=phase)

    def _name(self, call: _Call, module: Any, stack: list[Any]) -> str:
        if not stack:
            return call.place.name
        root = call.place.root
        return root.name_of(module, root.name_of(stack[-1], root.name))

    def _kind(self, module: Any) -> dict[str, str]:
        kind = type(module)
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = {"type": kind.__name__}
        return known


def _watch_modules(session: Session, calls: _Calls) -> None:
    import torch
    from torch.nn.modules import module

    is_compiling = torch.compiler.is_compiling

    def before(called: Any, args: tuple[Any, ...]) -> None:
        if is_compiling():
            return
        calls.enter(called, args, sys._getframe(1))

    def after(called: Any, args: tuple[Any, ...], *rest: Any) -> None:  # noqa: ARG001  the signature of hooks
        if is_compiling():
            return
        # where forward raised, torch leaves the keyword arguments out; before 2.6 it never gives them, and None then
        calls.leave(called, rest[1:] if kwargs or rest[0] is None else rest)

    def adopted(holder: Any, name: str, part: Any) -> None:  # noqa: ARG001  the signature of hooks
        if part is not None and not is_compiling():
            calls.notes.roots.adopt(holder, part)

    session.patches.on_undo(module.register_module_module_registration_hook(adopted).remove)
    first = module.register_module_forward_pre_hook(before)
    kwargs = {"with_kwargs": True} if _takes(module.register_module_forward_hook, "with_kwargs") else {}
    last = module.register_module_forward_hook(after, always_call=True, **kwargs)
    # torch keeps this entry of a handle that is removed
    session.patches.on_undo(lambda: getattr(module, "_global_forward_hooks_with_kwargs", {}).pop(last.id, None))
    session.patches.on_undo(last.remove)
    session.patches.on_undo(first.remove)
    if hasattr(module, "_has_any_global_hook"):
        # a compiled model warns of global hooks; of these there is nothing to warn
        session.patches.set(module, "_has_any_global_hook", lambda: _has_other_hooks(module, {first.id, last.id}))


def _takes(function: Any, name: str) -> bool:
    return name in inspect.signature(function).parameters


def _has_other_hooks(module: Any, own: set[int]) -> bool:
    kinds = ("backward_pre_hooks", "backward_hooks", "forward_pre_hooks", "forward_hooks")
    return any(set(getattr(module, f"_global_{kind}", ())) - own for kind in kinds)


def _watch_losses(session: Session, notes: Notes) -> None:
    import torch

    is_compiling = torch.compiler.is_compiling

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            if is_compiling() or not notes.ready() or in_backward(torch):
                return original(*args, **kwargs)
            tensors = args[0] if args else kwargs.get("tensors", kwargs.get("outputs"))
            notes.guarded("a loss", lambda: notes.loss(tensors))
            return original(*args, **kwargs)

        return run

    for name in ("backward", "grad"):
        session.patches.set(torch.autograd, name, watched(getattr(torch.autograd, name)))


def _watch_loaders(session: Session, notes: Notes) -> None:
    from torch.utils.data import dataloader

    kind = dataloader._BaseDataLoaderIter
    original = kind.__next__
    loaders = _Loaders()

    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        batch = original(self)
        if notes.ready():
            notes.guarded("a batch", lambda: _note_batch(notes, loaders.name(self), batch))
        return batch

    session.patches.set(kind, "__next__", __next__)


def _note_batch(notes: Notes, name: str, batch: Any) -> None:
    for leaf, value in leaves(batch, name):
        notes.note("batch", leaf, value)


class _Loaders:
    """Numbers of the DataLoaders, by order of first iteration; their iterators are new in each epoch."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[Callable[[], Any], str]] = {}
        self._count = 0

    def name(self, iterator: Any) -> str:
        """``loader0``: equal for all iterators of one loader, which share the object that draws their indices."""
        key = iterator._index_sampler
        known = self._names.get(id(key))
        if known is not None and known[0]() is key:
            return known[1]
        try:
            held: Callable[[], Any] = weakref.ref(key)
        except TypeError:
            held = functools.partial(lambda kept: kept, key)
        name = f"loader{self._count}"
        self._count += 1
        self._names[id(key)] = (held, name)
        return name


def _described(value: Any) -> dict[str, Any]:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        return {"dtype": type(value).__name__, "shape": [], "grad": False}
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "shape": [int(size) for size in shape],
        "grad": bool(getattr(value, "requires_grad", False)),
    }
