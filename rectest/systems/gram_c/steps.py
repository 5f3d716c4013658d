"""One optimizer step in pieces: the planned learning rate, micro-batches, and the gradient accumulated over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rectest.systems.protocol import Batch

__all__ = ["accumulate", "micro_batches", "planned_rate"]


def planned_rate(step: int, *, num_steps: int, warmup: float) -> float:
    """The share of the peak rate at a step from 1: rising linearly for `warmup` of the steps, then falling to zero.

    >>> [round(planned_rate(step, num_steps=5, warmup=0.4), 2) for step in (1, 2, 3, 4, 5)]
    [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    rising = warmup * num_steps
    if step <= rising:
        return step / rising
    return max(0.0, (num_steps + 1 - step) / (num_steps + 1 - rising))


def micro_batches(batch: Batch, size: int) -> list[Batch]:
    """A batch in parts of at most `size` rows, in order."""
    return [batch.rows(start, start + size) for start in range(0, batch.num_rows, size)]


def accumulate(
    losses_of: Callable[[Batch], dict[str, Tensor]], micro: Sequence[Batch], weights: Sequence[float]
) -> tuple[dict[str, Tensor], Tensor]:
    """Add up the gradients of the weighted losses of all micro-batches.

    Returns the mean losses over all samples, and what was differentiated as a multiple of the mean loss: 1, whatever
    the micro-batches are, unless the weights are wrong.
    """
    sizes = [len(next(iter(part.inputs.values()))) for part in micro]
    means: dict[str, Tensor] = {}
    differentiated: Tensor | float = 0.0
    for part, weight, size in zip(micro, weights, sizes, strict=True):
        losses = losses_of(part)
        (losses["total"] * weight).backward()  # type: ignore[no-untyped-call]
        exact = {name: value.detach().double() for name, value in losses.items()}
        differentiated = differentiated + exact["total"] * weight
        for name, value in exact.items():
            means[name] = means.get(name, 0.0) + value * (size / sum(sizes))
    return means, torch.as_tensor(differentiated) / means["total"]
