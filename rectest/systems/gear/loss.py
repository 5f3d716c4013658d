"""The loss over classes 1..N-1 of a table whose row 0 is padding: padding is neither a class nor a target.

Shapes: B batch, L rows, N classes and the padding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cross_entropy", "share_of"]


def cross_entropy(logits_BLN: Tensor, targets_BL: Tensor) -> Tensor:
    """Mean over the targets that are not 0, among the classes 1..N-1; 0 where there is no target at all."""
    flat = functional.cross_entropy(
        logits_BLN[..., 1:].flatten(0, 1), targets_BL.flatten() - 1, ignore_index=-1, reduction="sum"
    )
    return flat / (targets_BL != 0).sum().clamp_min(1)


def share_of(wanted_BL: Tensor, counted_BL: Tensor) -> Tensor:
    """Share of the counted places that are wanted ones; 1 where nothing is counted."""
    both, counted = (wanted_BL & counted_BL).sum(), counted_BL.sum()
    return torch.where(counted > 0, both / counted.clamp_min(1), 1.0)
