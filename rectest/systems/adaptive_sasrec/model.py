"""The model: a causal transformer over the item history (Kang & McAuley, SASRec, ICDM 2018).

Sequences are left-padded. Positions are counted so that the newest item always has the largest one: neither the
width of the padding nor the other rows of the batch can change a state. Every parameter is drawn from a stream
named after it, so that adding an optional part moves the start of no other part.

Shapes: B batch, L sequence, D embedding, H heads, V items (ids 1..V, row 0 is padding).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.similarity import Similarity
from rectest.systems.layers import Dropout

__all__ = ["Block", "SASRec"]

_NORM_EPS = 1e-8


class _Attention(nn.Module):
    """Multi-head scaled dot-product attention under a boolean mask (True: may be looked at)."""

    def __init__(self, size: int, num_heads: int, dropout: Dropout) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.output = (_linear(size) for _ in range(4))
        self.dropout = dropout

    def forward(self, queries_BLD: Tensor, keys_BLD: Tensor, mask_BLL: Tensor) -> Tensor:
        q_BHLd, k_BHLd, v_BHLd = (
            part(source).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part, source in ((self.query, queries_BLD), (self.key, keys_BLD), (self.value, keys_BLD))
        )
        logits_BHLL = q_BHLd @ k_BHLd.transpose(-1, -2) / math.sqrt(q_BHLd.shape[-1])
        logits_BHLL = logits_BHLL.masked_fill(~mask_BLL[:, None], -torch.inf)
        mixed_BHLd = self.dropout(logits_BHLL.softmax(-1)) @ v_BHLd
        return self.output(mixed_BHLd.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a pointwise feed-forward layer, each with a residual path and a LayerNorm before or after it."""

    def __init__(self, size: int, num_heads: int, dropout: Dropout, *, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = _Attention(size, num_heads, dropout)
        self.attention_norm = nn.LayerNorm(size, eps=_NORM_EPS)
        self.widen, self.narrow = _linear(size), _linear(size)
        self.feed_norm = nn.LayerNorm(size, eps=_NORM_EPS)
        self.dropout = dropout

    def forward(self, x_BLD: Tensor, mask_BLL: Tensor) -> Tensor:
        """The block's output; rows of `mask_BLL` must allow at least one place."""
        if self.norm_first:
            queries_BLD = self.attention_norm(x_BLD)
            x_BLD = x_BLD + self.attention(queries_BLD, queries_BLD, mask_BLL)
            return x_BLD + self._feed(self.feed_norm(x_BLD))
        x_BLD = self.attention_norm(x_BLD + self.attention(x_BLD, x_BLD, mask_BLL))
        return self.feed_norm(x_BLD + self._feed(x_BLD))  # type: ignore[no-any-return]

    def _feed(self, x_BLD: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.dropout(functional.relu(self.widen(x_BLD)))))  # type: ignore[no-any-return]


class SASRec(nn.Module):
    """Item and position embeddings, blocks, a final LayerNorm, and the similarity that scores the items."""

    counts_V: Tensor
    """[V+1] training events per item; the yardstick of the negatives' curve, used by no score."""

    def __init__(
        self,
        num_items: int,
        *,
        embedding_size: int,
        num_blocks: int,
        num_heads: int,
        max_length: int,
        norm_first: bool,
        dropout: Dropout,
        similarity: Similarity,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.max_length = max_length
        self.item_embedding = _empty_table(num_items + 1, embedding_size)
        self.position_embedding = _empty_table(max_length + 1, embedding_size)
        self.blocks = nn.ModuleList(
            Block(embedding_size, num_heads, dropout, norm_first=norm_first) for _ in range(num_blocks)
        )
        self.final_norm = nn.LayerNorm(embedding_size, eps=_NORM_EPS)
        self.dropout = dropout
        self.similarity = similarity
        self.register_buffer("counts_V", torch.zeros(num_items + 1, dtype=torch.int64), persistent=False)
        self.negative_popularity: Tensor | float = 1.0
        """Of the last batch, see `relative_popularity`; kept for the curves, like the next one."""
        self.last_states_BD = torch.zeros(0, embedding_size)

    def reset(self, seeds: SeedPlan, *, embedding_std: float, bilinear_init: str) -> None:
        """Draw every parameter afresh: tables normal with their padding row zero, matrices Xavier, biases zero."""
        for name, parameter in self.named_parameters():
            if name.startswith("similarity."):
                continue
            generator = torch.Generator().manual_seed(seeds.seed(name))
            if "embedding" in name:
                nn.init.normal_(parameter, std=embedding_std, generator=generator)
                parameter.data[0] = 0.0
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)
        self.similarity.reset(seeds, bilinear_init=bilinear_init)

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] state after each item; the state at padding is zero.

        Items further back than `max_length` places count as padding.
        """
        width = items_BL.shape[1]
        places_L = torch.arange(width, device=items_BL.device) + self.max_length + 1 - width
        real_BL = (items_BL != 0) & (places_L >= 1)
        x_BLD = self.embed(items_BL * real_BL, places_L * real_BL)
        mask_BLL = self.attention_mask(real_BL)
        for block in self.blocks:
            x_BLD = block(x_BLD, mask_BLL)
        return self.final_norm(x_BLD) * real_BL[..., None]  # type: ignore[no-any-return]

    def embed(self, items_BL: Tensor, places_BL: Tensor) -> Tensor:
        """[B, L, D] sqrt(D) times the item's row plus the position's row; exactly zero at padding."""
        rows_BLD = self.item_embedding(items_BL)
        x_BLD = rows_BLD * math.sqrt(rows_BLD.shape[-1]) + self.position_embedding(places_BL)
        return self.dropout(x_BLD)  # type: ignore[no-any-return]

    def attention_mask(self, real_BL: Tensor) -> Tensor:
        """[B, L, L] which place (last) may be looked at from which (middle): itself, and real ones before it.

        A place always sees itself, so that the softmax of a padded row has something to sum over: rows without any
        allowed place are NaN, in some versions of some kernels only.
        """
        width = real_BL.shape[1]
        causal_LL = torch.ones(width, width, dtype=torch.bool, device=real_BL.device).tril()
        itself_LL = torch.eye(width, dtype=torch.bool, device=real_BL.device)
        return (causal_LL & real_BL[:, None, :]) | itself_LL


def _linear(size: int) -> nn.Linear:
    """A square layer without values: `SASRec.reset` draws them, and the global generator stays where it was."""
    return nn.utils.skip_init(nn.Linear, size, size)  # type: ignore[no-any-return,no-untyped-call]


def _empty_table(num_rows: int, size: int) -> nn.Embedding:
    return nn.Embedding.from_pretrained(torch.zeros(num_rows, size), freeze=False, padding_idx=0)  # type: ignore[no-any-return,no-untyped-call]
