"""Which collectives a rank takes part in, and in which part of a step: evidence for the cause of a wrong gradient.

A dispatch mode sees the operators of torch.distributed as they are called, those of DistributedDataParallel included,
which never pass through its Python functions. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["CommLog"]

_NAMESPACES = ("c10d", "_c10d_functional", "c10d_functional")
_OWN = "weigh"
"""The part of a step in which rectest itself counts loss terms; it is none of the training's."""


class CommLog(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every collective while it is entered; `phase` and `micro` say where in the step that is."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = "wrap"
        self.micro = 0
        self.calls: list[dict[str, Any]] = []

    def enter(self, stage: str) -> None:
        """The next part of the step begins; each forward pass begins a micro-batch."""
        self.phase = stage
        if stage == "forward":
            self.micro += 1

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note the operator if it is a collective, and call it."""
        if func.namespace in _NAMESPACES and self.phase != _OWN:
            name = func.name().partition("::")[2]
            self.calls.append({"op": name, "phase": self.phase, "micro": self.micro, "numel": _numel(args)})
        return func(*args, **(kwargs or {}))

    def followed(self, stage: Callable[[str], None]) -> Callable[[str], None]:
        """A callback for the parts of a step that tells this log and `stage`."""

        def both(word: str) -> None:
            self.enter(word)
            stage(word)

        return both


def _numel(values: Iterable[Any]) -> int:
    """Entries of all tensors among the arguments."""
    count = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            count += value.numel()
        elif isinstance(value, list | tuple):
            count += _numel(value)
    return count
