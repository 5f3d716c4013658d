"""Layers that several systems share: those of torch that draw random numbers, drawn from a generator of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]


class Dropout(nn.Module):
    """Dropout whose masks come from a CPU generator of its own: equal on every device, moved by nobody else.

    At rate 0, and in evaluation, it draws nothing. Checkpoints keep the generator's state.
    """

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self.rate = rate
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, values: Tensor) -> Tensor:
        """Zero each value with probability `rate` and scale the others by 1 / (1 - rate)."""
        if self.rate == 0.0 or not self.training:
            return values
        kept = torch.rand(values.shape, generator=self.generator) >= self.rate
        return values * kept.to(values.device) / (1.0 - self.rate)
