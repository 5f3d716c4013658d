"""`Runner`: takes one optimizer step on a batch that is shared by ranks and micro-batches, for any `System`.

Whatever the number of ranks and micro-batches, the gradient must be that of one process on the whole batch. Every way
in which report 003's program, its diagnosis and its repair combine gradients is a value of `Reduction`, so that each
can be measured; most of them are wrong. Starting processes is not owned here.

Losses of systems are means over terms (rows, or real targets), so a share of n_s of all n terms has to weigh n_s / n:
that is what its loss is multiplied by, times the number of ranks where the reduction divides by it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rectest.errors import TrainingError
from rectest.systems.protocol import Batch, System

__all__ = [
    "LOSS_TERMS",
    "MIXED_MEANS",
    "PLAIN",
    "REPORT_003",
    "SCHEDULED",
    "Reduction",
    "Runner",
    "StepLosses",
    "Weight",
    "loss_terms",
    "micro_batches",
    "num_rows",
]

Weight = Callable[[Batch], float]
"""How many terms the mean loss of a batch is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduction:
    """How gradients of ranks and micro-batches become one. The default is right; it is what PyTorch documents."""

    forward: Literal["ddp", "module", "bare"] = "ddp"
    """``ddp``: through `DistributedDataParallel`, which averages gradients over ranks in backward. ``module``: through
    its ``.module``, for which it never does. ``bare``: it was never wrapped, so that the start is not shared either."""

    divide_loss_by_world: bool = False
    manual_reduce: Literal["none", "sum", "mean"] = "none"
    """What is done to every gradient by hand, beside what DDP does."""

    reduce_every: Literal["step", "micro_step"] = "step"
    """When gradients are reduced, by hand or by DDP: once for a step, or after every micro-batch of it."""

    accumulation: int = 1
    """Micro-batches of a step."""

    divide_by: Literal["counted", "configured"] = "counted"
    """What the sum over micro-batches is divided by: how many there were, or `accumulation`, which is too much for the
    last step of an epoch."""

    weigh_shares: bool = True
    """Whether a share weighs by its loss terms; otherwise all shares weigh the same, whatever they hold."""

    clip_norm: float | None = None
    """Norm to which the reduced gradient is clipped; None for no clipping."""

    def __post_init__(self) -> None:
        known: dict[str, tuple[str, ...]] = {
            "forward": ("ddp", "module", "bare"),
            "manual_reduce": ("none", "sum", "mean"),
            "reduce_every": ("step", "micro_step"),
            "divide_by": ("counted", "configured"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                msg = f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        if self.accumulation < 1:
            msg = f"accumulation must be at least 1, got {self.accumulation}"
            raise ValueError(msg)
        if self.clip_norm is not None and self.clip_norm <= 0:
            msg = f"clip_norm must be positive, or None for no clipping, got {self.clip_norm}"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``Reduction(**values)`` is the inverse."""
        return asdict(self)


PLAIN = Reduction()
"""Forward through DDP and nothing else."""

REPORT_003 = Reduction(forward="module", divide_loss_by_world=True, manual_reduce="sum")
"""What the code of report 003 does: ``ddp.module(...)``, loss / world size, then one all-reduce SUM. It is right."""


def num_rows(batch: Batch) -> int:
    """The rows of a batch: the first dimension of its inputs that have one (a step number has none)."""
    return next(len(value) for value in batch.inputs.values() if value.dim() > 0)


def _real(name: str, padding: int) -> Weight:
    return lambda batch: float((batch.inputs[name] != padding).sum())


_IGNORED = -100
"""What cross-entropy leaves out by default."""

LOSS_TERMS: dict[str, Weight] = {
    "adaptive_sasrec": _real("positives", 0),
    "gram_c": _real("target_ids", _IGNORED),
}
"""By system: over how many terms its loss is a mean, where that is not the number of rows."""

MIXED_MEANS = ("gear", "ur4rec")
"""The systems whose total adds means over different counts (items and behaviours, positions and candidates): no one
weight makes shares of a batch add up to the whole, so that a `Runner` refuses to share it."""

SCHEDULED = ("gram_c",)
"""The systems whose ``schedule(optimizer)`` sets the learning rate before each step."""


def loss_terms(system: System[Any]) -> Weight:
    """The weight of a batch of this system: its real targets where it is in `LOSS_TERMS`, else its rows.

    A total that mixes means over different counts has no single weight, see `MIXED_MEANS`.
    """
    return LOSS_TERMS.get(system.name, lambda batch: float(num_rows(batch)))


def micro_batches(
    batch: Batch,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_micro: int = 1,
    shares: Sequence[int] | None = None,
    shared: Collection[str] = (),
) -> list[Batch]:
    """The micro-batches of one rank: its rows of the batch, in order, each row on exactly one rank.

    What has no row of its own (another first dimension than the inputs, or none) goes to every rank whole.

    Args:
        shares: how many parts of the rows each rank gets, e.g. (3, 1); equal parts by default.
        shared: names of tensors that are shared although their first dimension happens to be the number of rows.

    Raises:
        TrainingError: there are fewer rows than micro-batches on all ranks together.
    """
    total = num_rows(batch)
    parts = list(shares or [1] * world_size)
    if len(parts) != world_size or min(parts) < 1:
        msg = f"shares must be {world_size} positive numbers, one for each rank, got {tuple(parts)}"
        raise ValueError(msg)
    cuts = [round(total * sum(parts[:r]) / sum(parts)) for r in range(world_size + 1)]
    if min(stop - start for start, stop in itertools.pairwise(cuts)) < num_micro:
        msg = f"{total} rows cannot be shared by {world_size} ranks with {num_micro} micro-batches each; use more rows"
        raise TrainingError(msg)
    pieces = torch.arange(cuts[rank], cuts[rank + 1]).tensor_split(num_micro)
    return [_rows(batch, int(piece[0]), int(piece[-1]) + 1, total, shared) for piece in pieces]


def _rows(batch: Batch, start: int, stop: int, total: int, shared: Collection[str]) -> Batch:
    def cut(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = {n for n, v in tensors.items() if v.dim() > 0 and len(v) == total and n not in shared}
        return {name: value[start:stop] if name in own else value for name, value in tensors.items()}

    return Batch(inputs=cut(batch.inputs), negatives=cut(batch.negatives))


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLosses:
    """What one step reports."""

    local: float
    """The mean loss of this rank's rows."""

    reduced: float
    """The mean over all ranks, as a dashboard shows it; it says nothing about one model if there are several."""


class _LossModule(nn.Module):
    """System and model as one module, so that DDP sees the forward pass of any system."""

    def __init__(self, system: System[Any], model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._system = system

    def forward(self, batch: Batch) -> Tensor:
        return self._system.losses(self.model, batch)["total"]


class Runner:
    """Trains one replica; every rank of the group has its own and calls the same methods."""

    def __init__(
        self,
        system: System[Any],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        group: dist.ProcessGroup | None = None,
        settings: Reduction = PLAIN,
        weight: Weight | None = None,
        update: Callable[[nn.Module, torch.optim.Optimizer], None] | None = None,
        stage: Callable[[str], None] | None = None,
    ) -> None:
        """Wrap the model, which DDP then makes equal on all ranks.

        Args:
            model: on the device where it trains.
            group: the ranks that train together; None for one process alone.
            weight: over how many terms the loss of a batch is a mean; `loss_terms` by default.
            update: what is done with the reduced gradient; by default clipping to the settings' norm, the schedule of
                a system in `SCHEDULED`, and a step of the optimizer.
            stage: called with a word before each part of a step, so that a hang can be named.
        """
        self.model = model
        self.optimizer = optimizer
        self.settings = settings
        self.world_size = 1 if group is None else dist.get_world_size(group)
        self._group = group
        self._weight = weight or loss_terms(system)
        self._refused = system.name if weight is None and system.name in MIXED_MEANS else ""
        self._update = update or self._clip_and_step
        self._stage = stage or (lambda _: None)
        self._module = _LossModule(system, model)
        self._schedule = getattr(system, "schedule", None) if system.name in SCHEDULED else None
        self._device = next(model.parameters()).device
        self._ddp: DistributedDataParallel | None = None
        if group is not None and settings.forward != "bare":
            self._ddp = DistributedDataParallel(self._module, process_group=group, find_unused_parameters=True)

    def step(self, batches: Sequence[Batch]) -> StepLosses:
        """One optimizer step on this rank's micro-batches; the reduced gradients stay readable afterwards."""
        self.optimizer.zero_grad(set_to_none=True)
        weights, total = self._weights(batches)
        losses = []
        for number, (batch, weight) in enumerate(zip(batches, weights, strict=True), start=1):
            last = number == len(batches)
            losses.append(self._backward(batch, self._factor(weight, total, len(batches)), last=last))
            if last or self.settings.reduce_every == "micro_step":
                self._reduce()
        self._stage("update")
        self._update(self.model, self.optimizer)
        local = sum(loss * weight for loss, weight in zip(losses, weights, strict=True))
        reduced = self._sum(local) / total
        return StepLosses(local=local / sum(weights), reduced=reduced)

    def local_gradients(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """The gradient of the mean loss over this rank's rows alone; it touches no gradient that is kept."""
        weights = [self._weight(batch) for batch in batches]
        named = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        sums = {name: torch.zeros_like(value) for name, value in named.items()}
        for batch, weight in zip(batches, weights, strict=True):
            loss = self._module(batch.to(self._device)) * (weight / sum(weights))
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, found, strict=True):
                if gradient is not None:
                    sums[name] += gradient
        return sums

    def _weights(self, batches: Sequence[Batch]) -> tuple[list[float], float]:
        weights = [float(self._weight(batch)) for batch in batches]
        if not batches or min(weights) <= 0:
            msg = f"micro-batches have {weights} loss terms; each needs at least one for its mean to exist"
            raise TrainingError(msg)
        if self._refused and (self.world_size > 1 or len(batches) > 1):
            msg = (
                f"the loss of {self._refused} adds means over different counts, so that no weight makes shares of a "
                "batch add up to the whole; give the weight of batches whose counts are in proportion"
            )
            raise TrainingError(msg)
        self._stage("weigh")
        return weights, self._sum(sum(weights))

    def _factor(self, weight: float, total: float, num_micro: int) -> float:
        """What a micro-batch's mean loss is multiplied by before backward."""
        settings = self.settings
        factor = weight * self.world_size / total if settings.weigh_shares else 1 / num_micro
        if settings.divide_by == "configured":
            factor *= num_micro / settings.accumulation
        return factor / self.world_size if settings.divide_loss_by_world else factor

    def _backward(self, batch: Batch, factor: float, *, last: bool) -> float:
        self._stage("forward")
        through_ddp = self._ddp is not None and self.settings.forward == "ddp"
        waits = through_ddp and not last and self.settings.reduce_every == "step"
        forward = self._ddp if through_ddp and self._ddp is not None else self._module
        with self._ddp.no_sync() if waits and self._ddp is not None else contextlib.nullcontext():
            loss = forward(batch.to(self._device))
            self._stage("backward")
            (loss * factor).backward()
        return float(loss.detach())

    def _reduce(self) -> None:
        """All-reduce by hand what the settings say; a gradient that some rank lacks counts as zero there."""
        if self.settings.manual_reduce == "none" or self._group is None:
            return
        self._stage("reduce")
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        present = torch.tensor([parameter.grad is not None for parameter in parameters], device=self._device)
        anywhere = present.to(torch.int32)
        dist.all_reduce(anywhere, group=self._group)
        for parameter, ranks in zip(parameters, anywhere.tolist(), strict=True):
            if ranks:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(gradient, group=self._group)
                parameter.grad = gradient / self.world_size if self.settings.manual_reduce == "mean" else gradient

    def _clip_and_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.settings.clip_norm)
        if self._schedule is not None:
            self._schedule(optimizer)
        optimizer.step()

    def _sum(self, value: float) -> float:
        """The sum of a number over all ranks."""
        if self._group is None:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.all_reduce(tensor, group=self._group)
        return float(tensor)
