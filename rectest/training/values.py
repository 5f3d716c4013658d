"""What training code hands over, as plain values: tensors wherever they live, losses, ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.metrics.ranks import Ranks

__all__ = ["as_array", "as_float", "as_mapping", "first_values", "protocol_of"]

_FIRST = 8


def as_mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A mapping as it is, anything else under `name`."""
    return value if isinstance(value, Mapping) else {name: value}


def as_float(value: Tensor | float, name: str) -> float:
    """One number; a tensor of several is a `ValueError` that names the loss."""
    if isinstance(value, Tensor) and value.numel() != 1:
        msg = f"loss {name!r} has shape {tuple(value.shape)}, one number was needed; take its mean or sum"
        raise ValueError(msg)
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def as_array(value: Tensor | npt.ArrayLike) -> npt.NDArray[Any]:
    """A copy as a NumPy array, wherever and however the value is kept."""
    if not isinstance(value, Tensor):
        return np.array(value)
    dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
    plain = dense.float() if dense.dtype == torch.bfloat16 else dense
    return plain.cpu().numpy().copy()


def first_values(model: nn.Module) -> npt.NDArray[np.float64]:
    """The first values of every floating-point parameter in turn: they tell other draws from mere rounding."""
    parts = [p.detach().flatten()[:_FIRST] for p in model.parameters() if p.is_floating_point()]
    return np.concatenate([np.zeros(0), *(as_array(part).astype(np.float64) for part in parts)])


def protocol_of(ranks: Ranks, kind: str) -> dict[str, Any]:
    """How a split was evaluated, for ``facts["protocol"]``."""
    per_user = ranks.num_relevant
    return {
        "kind": kind,
        "num_users": ranks.num_users,
        "num_scored": int((per_user > 0).sum()),
        "num_relevant": len(ranks.user),
        "single_relevant": bool((per_user <= 1).all()),
        "num_candidates_mean": float(ranks.num_candidates.mean()) if len(ranks.user) else 0.0,
    }
