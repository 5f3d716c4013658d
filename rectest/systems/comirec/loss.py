"""Sampled softmax with log-Q correction: cross-entropy of the target against shared negatives.

Semantics of TensorFlow's ``sampled_softmax_loss``: negatives are shared by the whole batch, every logit is lowered by
the log of its class's expected count (Bengio and Senecal 2008), and a negative that is the target of a row is taken
out of that row. With the right expected counts the gradient is nearly unbiased for the full softmax; when every class
is a negative (and counts one), it *is* the full softmax.

Shapes: B batch, S negatives, D embedding, V items (row 0 of a table is padding).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["sampled_softmax"]


def sampled_softmax(
    user_BD: Tensor,
    table_VD: Tensor,
    target_B: Tensor,
    *,
    negative_S: Tensor,
    log_expected_V: Tensor,
    sparse: bool = False,
) -> Tensor:
    """Mean cross-entropy of each row's target among the target and the negatives; a scalar.

    Args:
        user_BD: user vectors.
        table_VD: item table; logits are inner products with its rows.
        target_B: the item that each user went on to.
        negative_S: distinct sampled items, the same for every row.
        log_expected_V: log of how often each class is expected among the negatives.
        sparse: give the table a sparse gradient, of the rows that were read.
    """
    target_BD, negative_SD = (F.embedding(ids, table_VD, sparse=sparse) for ids in (target_B, negative_S))
    target_logit_B = (user_BD * target_BD).sum(dim=1) - log_expected_V[target_B]
    negative_logit_BS = user_BD @ negative_SD.T - log_expected_V[negative_S]
    accidental_BS = negative_S[None, :] == target_B[:, None]
    negative_logit_BS = negative_logit_BS.masked_fill(accidental_BS, -torch.inf)
    logits_BC = torch.cat([target_logit_B[:, None], negative_logit_BS], dim=1)
    return -torch.log_softmax(logits_BC, dim=1)[:, 0].mean()
