"""`ParityCase`: a user's model, loss and batch, of which one process and several ranks shall have the same gradient.

Owns what a case is; how it is measured is in `rectest.training.case_run`, what a rank does with it in
`rectest.training.case_child`, how rows are cut from a batch in `rectest.training.case_batch`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rectest.errors import RectestError, UnknownNameError
from rectest.systems.registry import resolve
from rectest.training.case_batch import Cut, as_batch
from rectest.training.reduction import Reduction

__all__ = ["DTYPES", "STRATEGIES", "OwnStrategy", "ParityCase", "Step", "case_of", "gradient_descent", "name_of"]

Step = Callable[[Sequence[Any]], Mapping[str, Tensor] | None]
"""Takes this rank's micro-batches and leaves net gradients in the model's parameters, or returns them by name."""

OwnStrategy = Callable[[nn.Module, Callable[[nn.Module, Any], Tensor]], Step]
"""``strategy(model, loss)`` wraps the model as the user's program does and returns its `Step`."""

STRATEGIES: Mapping[str, Reduction] = {
    "ddp": Reduction(weigh_shares=False),
    "ddp_weighted": Reduction(),
    "all_reduce": Reduction(forward="bare", manual_reduce="mean", weigh_shares=False),
}
"""By name: `DistributedDataParallel` with shares that all weigh the same, as PyTorch documents it; the same with shares
that weigh by their loss terms; no wrapper, and the mean of the gradients by hand."""


DTYPES = ("float64", "float32", "tf32", "float16", "bfloat16")
"""Types whose rounding is known; TF32 is what CUDA may multiply float32 in."""


def gradient_descent(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Plain gradient descent at rate 0.1, which takes sparse gradients and hides no factor."""
    return torch.optim.SGD(parameters, lr=0.1)


@dataclass(frozen=True, kw_only=True)
class ParityCase:
    """What is trained, and how several ranks combine its gradients.

    Each rank is a process of its own, which imports what the case names: functions stand at the top level of a module.
    """

    build: Callable[[], nn.Module]
    """Makes the model. Rank 0 then gets the weights of the one process; the others keep what theirs made, as in a real
    run, so that replicas start apart where `build` draws from a generator without a seed and nothing is broadcast."""

    loss: Callable[[nn.Module, Any], Tensor]
    """``loss(model, batch)``: one number, the mean over the rows of the batch (or over `terms`)."""

    batch: Any
    """Tensors in any nesting of mappings, lists, tuples and dataclasses, all with a row for each sample; or a function
    without arguments that makes it, the same on every rank."""

    strategy: str | Reduction | OwnStrategy = "ddp"
    """A name of `STRATEGIES`, a `Reduction`, or the user's own way, see `OwnStrategy`. The gradients that an own one
    finds are empty; it must not step the optimizer."""

    accumulation: int = 1
    """Micro-batches of a step on each rank."""

    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = gradient_descent
    """Takes the further steps, after which replicas are compared again."""

    steps: int = 2
    terms: Callable[[Any], float] | None = None
    """How many terms the loss of a batch is a mean over, where that is not its rows (masked tokens, say)."""

    shared: tuple[str, ...] = ()
    """Dotted paths of tensors in the batch that have no row for each sample, such as shared negatives."""

    shard: Callable[[Any, int, int], Any] | None = None
    """``shard(batch, start, stop)``, for a batch that is no nesting of tensors; it needs `num_rows`."""

    num_rows: Callable[[Any], int] | None = None
    uneven: bool = False
    """Whether rank 0 gets three times the rows of each other rank, as the ends of an epoch may deal them out."""

    shares: tuple[int, ...] | None = None
    """How many parts of the rows each rank gets, where only that number of ranks is measured."""

    dropout: bool = False
    """Whether dropout modules drop: ranks cannot share masks, so gradients are compared without."""

    device: str = "cpu"
    gpus: Literal["any", "one_each"] = "any"
    """Whether each rank needs a GPU of its own; otherwise several may share one."""

    backend: str = "auto"
    dtype: str = ""
    """What gradients are computed or sent in, one of `DTYPES`, where that is coarser than every parameter: autocast, or
    a hook that compresses. By default the coarsest type of a parameter."""

    name: str = ""
    """What results are about; the name of `build` by default."""

    def __post_init__(self) -> None:
        self._check_functions()
        object.__setattr__(self, "shared", (self.shared,) if isinstance(self.shared, str) else tuple(self.shared))
        if self.shares is not None:
            object.__setattr__(self, "shares", tuple(self.shares))
        for name in ("accumulation", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                msg = f"{name} must be a whole number of at least 1, got {value!r}"
                raise ValueError(msg)
        if self.uneven and self.shares is not None:
            msg = "uneven and shares both say how rows are dealt out; give one of them"
            raise ValueError(msg)
        if self.gpus not in ("any", "one_each"):
            msg = f"gpus must be 'any' or 'one_each', got {self.gpus!r}"
            raise ValueError(msg)
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            msg = f"device must be cpu, cuda or cuda:N, got {self.device!r}"
            raise ValueError(msg)
        if self.dtype and self.dtype not in DTYPES:
            msg = f"dtype must be one of {', '.join(DTYPES)}, or empty for that of the parameters, got {self.dtype!r}"
            raise ValueError(msg)
        self._check_strategy()
        if not callable(self.batch):
            as_batch(self.batch, self.cut)

    def _check_functions(self) -> None:
        for name in ("build", "loss", "optimizer", "terms", "shard", "num_rows"):
            value = getattr(self, name)
            if not callable(value) and not (value is None and name in ("terms", "shard", "num_rows")):
                msg = f"{name} must be a function, got {type(value).__name__}"
                raise TypeError(msg)
        if isinstance(self.build, nn.Module):
            msg = "build is a module; give the function (or class) that makes it, since each rank makes its own"
            raise TypeError(msg)

    def _check_strategy(self) -> None:
        if isinstance(self.strategy, str) and self.strategy not in STRATEGIES:
            raise UnknownNameError("strategy", self.strategy, STRATEGIES)
        if not isinstance(self.strategy, str | Reduction) and not callable(self.strategy):
            kind = type(self.strategy).__name__
            msg = f"strategy must be a name ({', '.join(STRATEGIES)}), a Reduction or a function, got {kind}"
            raise TypeError(msg)
        if isinstance(self.strategy, Reduction) and self.accumulation not in (1, self.strategy.accumulation):
            msg = f"accumulation is {self.accumulation} here and {self.strategy.accumulation} in the strategy"
            raise ValueError(msg)

    @property
    def cut(self) -> Cut:
        """How rows are cut from the batch."""
        return Cut(shared=self.shared, shard=self.shard, num_rows=self.num_rows)

    @property
    def reduction(self) -> Reduction | None:
        """How gradients become one; None for the user's own way."""
        if isinstance(self.strategy, Reduction):
            return self.strategy
        if isinstance(self.strategy, str):
            return replace(STRATEGIES[self.strategy], accumulation=self.accumulation)
        return None

    @property
    def num_micro(self) -> int:
        """Micro-batches of a step on each rank."""
        return self.accumulation if self.reduction is None else self.reduction.accumulation

    @property
    def subject(self) -> str:
        """What results are about."""
        return self.name or name_of(self.build)

    def shares_on(self, world_size: int) -> tuple[int, ...] | None:
        """How many parts of the rows each of `world_size` ranks gets; None for equal parts."""
        if self.uneven and world_size > 1:
            return (3, *[1] * (world_size - 1))
        return self.shares if world_size > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """What the record keeps of the case, as plain values."""
        own = name_of(self.strategy) if callable(self.strategy) else self.strategy
        return {
            "strategy": own if isinstance(own, str) else "reduction",
            "reduction": None if self.reduction is None else self.reduction.to_dict(),
            "num_micro": self.num_micro,
            "num_steps": self.steps,
            "dropout": self.dropout,
        }


def name_of(function: Any) -> str:
    """``module.qualname`` of a function or class, through `functools.partial`.

    >>> name_of(gradient_descent)
    'rectest.training.case.gradient_descent'
    """
    while isinstance(function, functools.partial):
        function = function.func
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{owner.__module__}.{owner.__qualname__}"


def case_of(target: str, changes: Mapping[str, Any] | None = None) -> ParityCase:
    """The case called ``module:name`` or ``file.py:name``, or that which the function of that name returns.

    Args:
        changes: fields to set over those of the case.

    Raises:
        RectestError: nothing of that name can be imported, or it is no case.
    """
    found = resolve(target)
    if inspect.isfunction(found) and (needed := _needed(found)):
        msg = f"{target} needs arguments ({', '.join(needed)}); a function that makes a case is called without any"
        raise RectestError(msg)
    made = found() if callable(found) and not isinstance(found, type) else found
    if not isinstance(made, ParityCase):
        how = "returned" if made is not found else "is"
        msg = (
            f"{target} {how} a {type(made).__name__}, a rectest.ParityCase (or a function that returns one) was needed"
        )
        raise RectestError(msg)
    return replace(made, **(changes or {}))


def _needed(function: Callable[..., Any]) -> list[str]:
    """Parameters that must be given."""
    known = inspect.signature(function).parameters.values()
    named = [p for p in known if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [parameter.name for parameter in named if parameter.default is parameter.empty]
