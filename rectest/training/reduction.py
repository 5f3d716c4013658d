"""How the gradients of ranks and micro-batches become one, and a runner that trains so.

The net gradient of a step should be the gradient of one process on the whole batch. Every way in which report 003's
program, its diagnosis and its repair combine gradients is a value of `Reduction`, so that each can be measured; most
of them are wrong. Starting processes is not owned here, nor how much a share weighs (`rectest.training.shares`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rectest.errors import TrainingError
from rectest.systems.protocol import Batch
from rectest.training.shares import Task, combined, factors

__all__ = ["PLAIN", "REPORT_003", "Reduction", "Runner", "StepLosses", "sum_over_ranks"]


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

    wipe_between: bool = False
    """Whether gradients are zeroed before every micro-batch, so that only the last one counts."""

    not_reduced: tuple[str, ...] = ()
    """Parameters that a manual reduction leaves out."""

    clip_local: float | None = None
    """Norm to which each rank clips its own gradient before a manual reduction; None for no clipping."""

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
        object.__setattr__(self, "not_reduced", tuple(self.not_reduced))
        for name in ("clip_norm", "clip_local"):
            norm = getattr(self, name)
            if norm is not None and norm <= 0:
                msg = f"{name} must be positive, or None for no clipping, got {norm}"
                raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``Reduction(**values)`` is the inverse."""
        return asdict(self)


PLAIN = Reduction()
"""Forward through DDP and nothing else."""

REPORT_003 = Reduction(forward="module", divide_loss_by_world=True, manual_reduce="sum")
"""What the code of report 003 does: ``ddp.module(...)``, loss / world size, then one all-reduce SUM. It is right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLosses:
    """What one step reports."""

    local: float
    """The mean loss of this rank's rows."""

    reduced: float
    """The mean over all ranks, as a dashboard shows it; it says nothing about one model if there are several."""


class _LossModule(nn.Module):
    """Task and model as one module, so that DDP sees the forward pass of any loss."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: Batch, scale: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """What is differentiated, and the mean loss of the batch by itself."""
        losses = self._task.losses(self.model, batch)
        with torch.no_grad():
            plain = combined(self._task, self.model, losses, {name: 1.0 if scale[name] else 0.0 for name in scale})
        return combined(self._task, self.model, losses, scale), plain


class Runner:
    """Trains one replica; every rank of the group has its own and calls the same methods.

    `backward` leaves the net gradient in the parameters, `update` makes a step of it, `step` is both.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        group: dist.ProcessGroup | None = None,
        settings: Reduction = PLAIN,
        update: Callable[[nn.Module, torch.optim.Optimizer], None] | None = None,
        stage: Callable[[str], None] | None = None,
    ) -> None:
        """Wrap the model, which DDP then makes equal on all ranks.

        Args:
            model: on the device where it trains.
            group: the ranks that train together; None for one process alone.
            update: what is done with the reduced gradient; by default clipping to the settings' norm, the task's
                learning rates, and a step of the optimizer.
            stage: called with a word before each part of a step, so that a hang can be named.
        """
        self.model = model
        self.optimizer = optimizer
        self.settings = settings
        self.world_size = 1 if group is None else dist.get_world_size(group)
        self._task = task
        self._group = group
        self._update = update or self._clip_and_step
        self._stage = stage or (lambda _: None)
        self._module = _LossModule(task, model)
        self._device = next(model.parameters()).device
        self._ddp: DistributedDataParallel | None = None
        if group is not None and settings.forward != "bare":
            self._ddp = DistributedDataParallel(self._module, process_group=group, find_unused_parameters=True)

    def step(self, batches: Sequence[Batch]) -> StepLosses:
        """One optimizer step on this rank's micro-batches; the reduced gradients stay readable afterwards."""
        losses = self.backward(batches)
        self.update()
        return losses

    def backward(self, batches: Sequence[Batch]) -> StepLosses:
        """Leave the net gradient of a step in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        scales, weights = self._scales(batches)
        losses = []
        for number, (batch, scale) in enumerate(zip(batches, scales, strict=True), start=1):
            last = number == len(batches)
            if self.settings.wipe_between:
                self.optimizer.zero_grad(set_to_none=True)
            losses.append(self._backward(batch, scale, len(batches), last=last))
            if last or self.settings.reduce_every == "micro_step":
                self._reduce()
        local = sum(loss * weight for loss, weight in zip(losses, weights, strict=True))
        both = sum_over_ranks([local, sum(weights)], self._group, self._device)
        return StepLosses(local=local / sum(weights), reduced=both[0] / both[1])

    def update(self) -> None:
        """Use the net gradient."""
        self._stage("update")
        self._update(self.model, self.optimizer)

    def _scales(self, batches: Sequence[Batch]) -> tuple[list[dict[str, float]], list[float]]:
        """For each micro-batch, the factor of each component, and how much it weighs in the logged mean."""
        self._stage("weigh")
        terms = [dict(self._task.loss_terms(batch)) for batch in batches]
        names = list(terms[0]) if terms else []
        own = [sum(part[name] for part in terms) for name in names]
        if not batches or not any(own):
            msg = f"the micro-batches of a rank have {own} loss terms; at least one is needed for a mean to exist"
            raise TrainingError(msg)
        whole = dict(zip(names, sum_over_ranks(own, self._group, self._device), strict=True))
        weights = [sum(part.values()) for part in terms]
        if not self.settings.weigh_shares:
            return [{name: 1.0 if part[name] else 0.0 for name in names} for part in terms], weights
        return [factors(part, whole, len(batches) * self.world_size) for part in terms], weights

    def _backward(self, batch: Batch, scale: Mapping[str, float], num_micro: int, *, last: bool) -> float:
        self._stage("forward")
        settings = self.settings
        divisor = settings.accumulation if settings.divide_by == "configured" else num_micro
        if settings.divide_loss_by_world:
            divisor *= self.world_size
        through_ddp = self._ddp is not None and settings.forward == "ddp"
        waits = through_ddp and not last and settings.reduce_every == "step"
        forward = self._ddp if through_ddp and self._ddp is not None else self._module
        with self._ddp.no_sync() if waits and self._ddp is not None else contextlib.nullcontext():
            loss, plain = forward(batch.to(self._device), scale)
            self._stage("backward")
            (loss / divisor).backward()
        return float(plain)

    def _reduce(self) -> None:
        """All-reduce by hand what the settings say; a gradient that some rank lacks counts as zero there."""
        if self.settings.clip_local is not None:
            self._stage("clip")
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_local)
        if self.settings.manual_reduce == "none" or self._group is None:
            return
        self._stage("weigh")
        left_out = self.settings.not_reduced
        parameters = [p for name, p in self.model.named_parameters() if p.requires_grad and name not in left_out]
        present = [float(parameter.grad is not None) for parameter in parameters]
        anywhere = sum_over_ranks(present, self._group, self._device)
        self._stage("reduce")
        for parameter, ranks in zip(parameters, anywhere, strict=True):
            if ranks:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(gradient, group=self._group)
                parameter.grad = gradient / self.world_size if self.settings.manual_reduce == "mean" else gradient

    def _clip_and_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.settings.clip_norm)
        self._task.set_rates(optimizer)
        optimizer.step()


def sum_over_ranks(
    values: Sequence[float], group: dist.ProcessGroup | None, device: torch.device | str = "cpu"
) -> list[float]:
    """Each number summed over all ranks; as they are where there is no group."""
    if group is None:
        return [float(value) for value in values]
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, group=group)
    summed: list[float] = tensor.tolist()
    return summed
