"""Shares of a batch: which rows a rank and a micro-batch get, and how their losses weigh so that they add up.

A loss is `total` of component means, each L_c over N_c terms of the whole batch and n_c of a share. With W ranks of A
micro-batches, the gradient of ``total({c: A W n_c / N_c L_c}) / (A W)`` summed over all shares is the gradient of one
process on the whole batch, because `total` is affine. Shares that all weigh the same have ``total({c: L_c}) / (A W)``
instead, which is right only where they have equally many terms.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from rectest.errors import TrainingError
from rectest.systems.protocol import Batch
from rectest.training.tape import Digest, digest_tensor, digest_tensors

__all__ = ["Task", "combined", "factors", "local_gradients", "micro_batches", "row_digests", "shared_digests"]


class Task(Protocol):
    """What is trained together: named mean losses, how many terms each has, and the total. Every `System` is one."""

    def losses(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Scalar losses by name, those of `loss_terms` among them."""
        ...

    def loss_terms(self, batch: Batch) -> Mapping[str, float]:
        """By name, the losses that `total` is made of, and how many terms each is a mean over."""
        ...

    def total(self, model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:
        """What is differentiated; affine in the losses."""
        ...

    def set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rates of the next step."""
        ...


def micro_batches(
    batch: Batch, *, rank: int = 0, world_size: int = 1, num_micro: int = 1, shares: Sequence[int] | None = None
) -> list[Batch]:
    """The micro-batches of one rank: its rows of the batch, in order, each row on exactly one rank.

    Args:
        shares: how many parts of the rows each rank gets, e.g. (3, 1); equal parts by default.

    Raises:
        TrainingError: there are fewer rows than micro-batches on all ranks together.
    """
    total = batch.num_rows
    parts = list(shares or [1] * world_size)
    if len(parts) != world_size or min(parts) < 1:
        msg = f"shares must be {world_size} positive numbers, one for each rank, got {tuple(parts)}"
        raise ValueError(msg)
    cuts = [round(total * sum(parts[:r]) / sum(parts)) for r in range(world_size + 1)]
    if min(stop - start for start, stop in itertools.pairwise(cuts)) < num_micro:
        msg = f"{total} rows cannot be shared by {world_size} ranks with {num_micro} micro-batches each; use more rows"
        raise TrainingError(msg)
    pieces = torch.arange(cuts[rank], cuts[rank + 1]).tensor_split(num_micro)
    return [batch.rows(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


def factors(terms: Mapping[str, float], whole: Mapping[str, float], num_shares: int) -> dict[str, float]:
    """By component, what a share's mean loss is multiplied by: ``num_shares * n / N``, the average of which is 1."""
    return {name: num_shares * num / whole[name] if whole[name] else 0.0 for name, num in terms.items()}


def combined(task: Task, model: nn.Module, losses: Mapping[str, Tensor], scale: Mapping[str, float]) -> Tensor:
    """The total of scaled component means. A mean over no term at all has factor 0 and must be 0 itself, not NaN."""
    return task.total(model, {name: losses[name] * factor for name, factor in scale.items()})


def local_gradients(
    task: Task, model: nn.Module, batch: Batch, scale: Mapping[str, float], *, num_shares: int
) -> dict[str, Tensor]:
    """By parameter, the gradient of one share's part of the whole loss; it touches no gradient that is kept.

    A parameter that the share does not reach is left out.
    """
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    loss = combined(task, model, task.losses(model, batch), scale) / num_shares
    gradients = _by_backward if _is_reentrant(loss) else partial(torch.autograd.grad, allow_unused=True)
    found = gradients(loss, list(named.values()))
    return {name: gradient for name, gradient in zip(named, found, strict=True) if gradient is not None}


def _is_reentrant(loss: Tensor) -> bool:
    """Whether a reentrant checkpoint hides parameters from `torch.autograd.grad`, which then finds none for them."""
    seen, left = set(), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            return True
        seen.add(node)
        left += [after for after, _ in node.next_functions]
    return False


def _by_backward(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradients by a backward pass, after which those that were kept are back."""
    kept = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        loss.backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in parameters]
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient


def row_digests(batch: Batch, *, negatives: bool = True) -> list[Digest]:
    """A digest of each row, over all tensors that have rows."""
    sides = [batch.inputs, batch.negatives] if negatives else [batch.inputs]
    named = {
        f"{place}/{name}": value.detach().cpu()
        for place, side in enumerate(sides)
        for name, value in side.items()
        if value.dim() > 0 and name not in batch.shared
    }
    return [digest_tensors({name: value[row] for name, value in named.items()}) for row in range(batch.num_rows)]


def shared_digests(batch: Batch) -> dict[str, Digest]:
    """By name, a digest of each tensor that every rank needs whole."""
    both = {**batch.inputs, **batch.negatives}
    return {name: digest_tensor(both[name]) for name in sorted(both) if name in batch.shared or both[name].dim() == 0}
