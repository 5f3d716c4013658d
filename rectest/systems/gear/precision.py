"""Reduced matrix precision: TF32 switched on in hardware, or emulated bit by bit where there is none.

Report 004 recommends `torch.set_float32_matmul_precision("medium")`, promises a loss of accuracy below 0.1 % and
measured nothing. TF32 keeps float32's range and 10 of its 23 mantissa bits; products are added in float32. On CUDA
both ``high`` and ``medium`` mean TF32 kernels here. On a CPU the operands of the output head are rounded to TF32
first, forward and backward, so that what the promise costs can be measured without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["PRECISIONS", "Precision", "accuracy_lost", "logit_errors", "product", "round_to_tf32", "tf32_kernels"]

Precision = Literal["highest", "high", "medium"]

PRECISIONS: tuple[Precision, ...] = ("highest", "high", "medium")

_DROPPED_BITS = 13
"""float32 has 23 mantissa bits, TF32 has 10."""


def round_to_tf32(values: Tensor) -> Tensor:
    """Each float32 rounded to the nearest TF32 number, ties to the one whose last mantissa bit is even.

    The result is float32 with its 13 lowest bits zero. Infinities and NaN stay what they are; a value nearer to 2^128
    than to the largest TF32 number becomes infinite, as in IEEE rounding.

    >>> round_to_tf32(torch.tensor([1.0, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10])).sub(1).mul(2**10).tolist()
    [0.0, 0.0, 2.0, 1.0]
    """
    if values.dtype != torch.float32:
        msg = f"TF32 is a rounding of float32, got {values.dtype}"
        raise TypeError(msg)
    bits = values.detach().contiguous().view(torch.int32)
    last_kept = (bits >> _DROPPED_BITS) & 1
    rounded = (bits + ((1 << (_DROPPED_BITS - 1)) - 1) + last_kept) & -(1 << _DROPPED_BITS)
    return torch.where(torch.isfinite(values), rounded.view(torch.float32), values.detach())


class _Tf32Product(torch.autograd.Function):
    """left @ right of TF32 operands; so are both products of its backward pass."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return round_to_tf32(left) @ round_to_tf32(right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        gradient = round_to_tf32(gradients[0])
        return gradient @ round_to_tf32(right).mT, round_to_tf32(left).mT @ gradient


def product(left: Tensor, right: Tensor, precision: Precision = "highest") -> Tensor:
    """The matrix product at a precision; both have equal batch dimensions, and CUDA is left to `tf32_kernels`."""
    if precision == "highest" or left.is_cuda:
        return left @ right
    return _Tf32Product.apply(left, right)  # type: ignore[no-any-return,no-untyped-call]


@contextmanager
def tf32_kernels(precision: Precision) -> Iterator[None]:
    """Allow TF32 kernels on CUDA within the block, unless the precision is ``highest``; what was set comes back.

    The switch belongs to the process: set once, it changes every other model in it.
    """
    if precision == "highest":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cuda.matmul.allow_tf32 = before[1]


def logit_errors(expected: Tensor, obtained: Tensor, *, k: int = 10) -> dict[str, float]:
    """How far scores [B, C] are from the `expected` ones of full precision.

    ``relative`` is the error's norm over that of the scores, ``relative_max`` the largest error over the largest
    absolute score, and ``overlap`` the mean share of the `k` best columns that stay among the `k` best.

    Raises:
        ValueError: the shapes differ, or there are fewer than `k` columns.
    """
    if expected.shape != obtained.shape or expected.ndim != 2 or not 1 <= k <= expected.shape[1]:
        shapes = f"{tuple(expected.shape)} and {tuple(obtained.shape)}"
        msg = f"logit_errors needs two equal shapes [B, C] and k in 1..C, got {shapes} and k={k}"
        raise ValueError(msg)
    error, scale = (obtained - expected).double(), expected.double()
    first, second = (s.argsort(dim=1, descending=True, stable=True)[:, :k] for s in (expected, obtained))
    return {
        "relative": float(error.norm() / scale.norm()),
        "relative_max": float(error.abs().max() / scale.abs().max()),
        "overlap": float((first[:, :, None] == second[:, None, :]).any(-1).double().mean()),
    }


def accuracy_lost(exact: Tensor, reduced: Tensor, slot: Tensor, *, k: int = 10) -> dict[str, float]:
    """What reduced precision costs: `logit_errors`, and what it does to the ranking of one target for each user.

    Args:
        exact: [B, C] scores in full precision.
        reduced: [B, C] scores of the same users and candidates in reduced precision.
        slot: [B] the column of each target.

    Returns:
        The logit errors, ``ndcg`` at `k` in full precision, ``ndcg_reduced``, their relative ``ndcg_change``, and
        ``ranks_moved``, the share of targets whose rank differs. Ranks are expected ones under ties.
    """
    ranks = [_expected_rank(scores.double(), slot) for scores in (exact, reduced)]
    full, low = (float(torch.where(rank <= k, 1 / (1 + rank).log2(), 0.0).mean()) for rank in ranks)
    return {
        **logit_errors(exact, reduced, k=k),
        "ndcg": full,
        "ndcg_reduced": low,
        "ndcg_change": (low - full) / full if full else float("nan"),
        "ranks_moved": float((ranks[0] != ranks[1]).double().mean()),
    }


def _expected_rank(scores_BC: Tensor, slot_B: Tensor) -> Tensor:
    own_B1 = scores_BC.gather(1, slot_B[:, None])
    above, equal = (scores_BC > own_B1).sum(1), (scores_BC == own_B1).sum(1)
    return above + (equal + 1) / 2
