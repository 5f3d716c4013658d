"""Exchanges between ranks that belong to the forward pass, and the layer that needs them.

Sums over the default group of `torch.distributed` that are differentiable: what every rank's loss owes to a sum is
summed on the way back, so that the gradients of the ranks, each of its own loss, add up to the gradient of all losses.
Without a group, or in a group of one, nothing is exchanged. Every rank must call these equally often, in one order, and
so must it differentiate them.

Shapes: B rows of this rank, N rows of all ranks, D features, X any trailing shape.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["SynchronisedBatchNorm", "gather", "num_ranks", "over_ranks", "own_rank", "place"]


def num_ranks() -> int:
    """Ranks of the default group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """This process's rank in the default group; 0 without one."""
    return dist.get_rank() if num_ranks() > 1 else 0


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks; what each rank's loss owes to it is summed as well on the way back."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ARG004  the signature is torch's
        total = own.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverRanks.forward(ctx, gradient)


def over_ranks(own: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, with gradient; each has the same shape."""
    if num_ranks() == 1:
        return own
    total: Tensor = _SumOverRanks.apply(own)  # type: ignore[no-untyped-call]
    return total


def place(num_rows: int, device: torch.device) -> tuple[int, int]:
    """Where this rank's rows begin among those of all ranks, in order of rank, and how many there are."""
    rank = own_rank()
    counts = over_ranks(F.one_hot(torch.tensor(rank, device=device), num_ranks()) * num_rows).tolist()
    return sum(counts[:rank]), sum(counts)


def gather(rows_BX: Tensor, first: int, total: int) -> Tensor:
    """The rows of all ranks, with gradient: a sum of tensors that are zero but at the rank's own place."""
    before, after = (rows_BX.new_zeros(num, *rows_BX.shape[1:]) for num in (first, total - first - len(rows_BX)))
    return over_ranks(torch.cat([before, rows_BX, after]))


class SynchronisedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation [B, D] by mean and variance over the rows of all ranks, which may have different numbers.

    `torch.nn.SyncBatchNorm` is the same on GPUs and refuses CPUs. The variance is a mean of squared deviations, in a
    second exchange: a difference of large sums would round away small variances.
    """

    def forward(self, rows_BD: Tensor) -> Tensor:
        if not self.training or num_ranks() == 1:
            return super().forward(rows_BD)
        count = over_ranks(rows_BD.new_tensor(float(len(rows_BD))))
        mean_D = over_ranks(rows_BD.sum(dim=0)) / count
        variance_D = over_ranks((rows_BD - mean_D).square().sum(dim=0)) / count
        self._remember(mean_D.detach(), variance_D.detach() * count / (count - 1))
        return (rows_BD - mean_D) * (variance_D + self.eps).rsqrt() * self.weight + self.bias

    def _remember(self, mean_D: Tensor, variance_D: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_D, momentum)
        self.running_var.lerp_(variance_D, momentum)
        self.num_batches_tracked.add_(1)
