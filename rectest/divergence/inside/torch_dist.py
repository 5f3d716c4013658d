"""Watches processes that train together: collectives that Python calls, and gradients before DDP reduces them.

DDP reduces from C++, where no collective can be seen; its result is what the optimizer sees. The part of this process
is read when a gradient has been accumulated and before DDP takes it.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from typing import TYPE_CHECKING, Any

from .sites import call_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session
    from .torch_notes import Notes

__all__ = ["Collectives", "install"]

_COLLECTIVES = {
    "all_reduce": ("tensor", "tensor"),
    "reduce": ("tensor", "tensor"),
    "broadcast": ("tensor", "tensor"),
    "all_gather": ("tensor", "tensor_list"),
    "all_gather_into_tensor": ("input_tensor", "output_tensor"),
    "reduce_scatter": ("input_list", "output"),
    "reduce_scatter_tensor": ("input", "output"),
    "all_to_all": ("input_tensor_list", "output_tensor_list"),
    "all_to_all_single": ("input", "output"),
    "gather": ("tensor", "gather_list"),
    "scatter": ("scatter_list", "tensor"),
    "all_gather_object": ("obj", "object_list"),
    "broadcast_object_list": ("object_list", "object_list"),
}
"""Arguments that hold this process's part, and the result."""


class Collectives:
    """What this process gave to the others and got back."""

    def __init__(self, session: Session, notes: Notes) -> None:
        self.session = session
        self.notes = notes
        self._models: weakref.WeakSet[Any] = weakref.WeakSet()
        self._local: dict[int, list[Any]] = {}
        self._within = 0

    def watch_model(self, module: Any) -> None:
        """Read the gradients of a DDP model when they have been accumulated."""
        torch = sys.modules["torch"]
        if not isinstance(module, torch.nn.parallel.DistributedDataParallel) or module in self._models:
            return
        self._models.add(module)
        for parameter in module.parameters():
            if parameter.requires_grad:
                handle = parameter.register_post_accumulate_grad_hook(self._accumulated)
                self.session.patches.on_undo(handle.remove)

    def local_gradients(self, parameters: list[Any]) -> list[Any] | None:
        """Parts of the gradients of this process since the last step; None where none were seen."""
        local, self._local = self._local, {}
        if not any(id(parameter) in local for parameter in parameters):
            return None
        return [local.get(id(parameter), []) for parameter in parameters]

    def call(self, name: str, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a collective and note what went in and what came out; one within another is a part of it."""
        if self._within or not self.notes.ready():
            return original(*args, **kwargs)
        given: dict[str, Any] = {}
        self.notes.guarded("a collective", lambda: given.update(self._given(name, original, args, kwargs)))
        self._within += 1
        try:
            result = original(*args, **kwargs)
        finally:
            self._within -= 1
        self.notes.guarded("a collective", lambda: self._note(name, given))
        return result

    def _given(
        self, name: str, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        bound = inspect.signature(original).bind(*args, **kwargs).arguments
        part, result = _COLLECTIVES[name]
        distributed = sys.modules["torch"].distributed
        info: dict[str, Any] = {
            "input": "",
            "world": distributed.get_world_size(),
            "rank": distributed.get_rank(),
        }
        self.notes.digest_into(info, "input", self.notes.parts(bound.get(part)))
        if bound.get("async_op"):
            info["async"] = True
        return {"result": bound.get(result), "info": info, "site": call_site(3)}

    def _note(self, name: str, given: dict[str, Any]) -> None:
        if not given:
            return
        # a result that is still under way cannot be read
        parts = [] if given["info"].get("async") else self.notes.parts(given["result"])
        self.notes.note_parts("reduce", name, parts, site=given["site"], info=given["info"])

    def _accumulated(self, parameter: Any) -> None:
        if self.notes.ready():
            self.notes.guarded("a local gradient", lambda: self._keep(parameter))

    def _keep(self, parameter: Any) -> None:
        self._local[id(parameter)] = self.notes.parts(parameter.grad)


def install(session: Session, notes: Notes) -> Collectives:
    """Record the collectives that Python calls."""
    import torch

    collectives = Collectives(session, notes)
    if not torch.distributed.is_available():
        return collectives
    from torch.distributed import distributed_c10d

    for name in _COLLECTIVES:
        original = getattr(distributed_c10d, name, None)
        if original is None:
            continue
        wrapper = _watched(collectives, name, original)
        session.patches.set(distributed_c10d, name, wrapper)
        if getattr(torch.distributed, name, None) is original:
            session.patches.set(torch.distributed, name, wrapper)
    return collectives


def _watched(collectives: Collectives, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    is_compiling = sys.modules["torch"].compiler.is_compiling

    @functools.wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return original(*args, **kwargs)
        return collectives.call(name, original, args, kwargs)

    return run
