"""The sequence component: a causal transformer over left-padded histories (Kang & McAuley, SASRec, ICDM 2018).

Positions are counted from the newest item, and the last state is that of the last place, so that padding on the left
changes nothing. Report 001's code took the state at ``mask.sum() - 1`` instead: with left padding that is a padding
place for every history of at most half the width, and a stale one for most of the others.

Shapes: B batch, L sequence, D embedding, P predicted places, N items in any shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rectest.systems.adaptive_sasrec.model import Block
from rectest.systems.layers import Dropout

__all__ = ["SequenceModel"]


class SequenceModel(nn.Module):
    """Item and position tables, post-norm blocks, a final LayerNorm; scores are dot products with item vectors."""

    def __init__(
        self,
        num_items: int,
        *,
        size: int,
        max_length: int,
        num_blocks: int,
        num_heads: int,
        dropout: Dropout,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.item_embedding = _table(num_items + 1, size, padding=0)
        self.position_embedding = _table(max_length, size, padding=None)
        self.blocks = nn.ModuleList(Block(size, num_heads, dropout, norm_first=False) for _ in range(num_blocks))
        self.final_norm = nn.LayerNorm(size)
        self.dropout = dropout

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] state after each item, zero at padding; items further back than `max_length` count as padding."""
        places_L = self.places(items_BL)
        real_BL = (items_BL != 0) & (places_L >= 0)
        x_BLD = self.item_embedding(items_BL * real_BL) + self.position_embedding(places_L.clamp(min=0))
        x_BLD = self.dropout(x_BLD) * real_BL[..., None]
        x_BLD = self.encode(x_BLD, real_BL)
        return self.final_norm(x_BLD) * real_BL[..., None]  # type: ignore[no-any-return]

    def places(self, items_BL: Tensor) -> Tensor:
        """[L] position of each place; the newest item always has the largest one."""
        width = items_BL.shape[1]
        return torch.arange(width, device=items_BL.device) + self.max_length - width

    def encode(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """[B, L, D] through the blocks."""
        mask_BLL = self.attention_mask(real_BL)
        for block in self.blocks:
            x_BLD = block(x_BLD, mask_BLL)
        return x_BLD

    def attention_mask(self, real_BL: Tensor) -> Tensor:
        """[B, L, L] which place (last) may be looked at from which: itself, and real ones before it.

        A padded place sees itself, so that no row of the mask is empty: the softmax of an empty row is NaN.
        """
        width = real_BL.shape[1]
        causal_LL = torch.ones(width, width, dtype=torch.bool, device=real_BL.device).tril()
        itself_LL = torch.eye(width, dtype=torch.bool, device=real_BL.device)
        return (causal_LL & real_BL[:, None, :]) | itself_LL

    def last_state(self, states_BLD: Tensor, items_BL: Tensor) -> Tensor:  # noqa: ARG002  others look at the items
        """[B, D] the state after the newest item."""
        return states_BLD[:, -1]

    def predicting(self, items_BL: Tensor, num_places: int) -> Tensor:
        """[B, P, D] the states that predict: all of them, or only the last."""
        states_BLD: Tensor = self(items_BL)
        if num_places == 1:
            return self.last_state(states_BLD, items_BL)[:, None]
        return states_BLD[:, -num_places:]


def _table(num_rows: int, size: int, *, padding: int | None) -> nn.Embedding:
    zeros = torch.zeros(num_rows, size)
    return nn.Embedding.from_pretrained(zeros, freeze=False, padding_idx=padding)  # type: ignore[no-any-return,no-untyped-call]
