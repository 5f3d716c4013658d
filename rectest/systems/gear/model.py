"""The model: an alternating regressor over items and behaviours (Generalized Alternating Regressor, SIGIR 2025).

Two branches read the items and the behaviours of a user, each through one causal layer; their states are
interleaved (b1, i1, b2, i2, ..., bL) and pass further causal layers. The state of behaviour t predicts item t, the
state of item t predicts behaviour t+1; both output heads are tied to the embedding tables. There is no position
embedding: order comes from the causal mask and, for behaviours, from the time between rows.

Sequences are left-padded and padding is invisible: no key, no gradient, a zero row. The layers have the parts of
`torch.nn.TransformerEncoderLayer` (post-LN, ReLU), so that parameters and modules count the same.

Shapes: B batch, L rows, S tokens, D embedding, H heads, N classes of a table (row 0 is padding).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.seeding import SeedPlan
from rectest.systems.gear.precision import Precision, product
from rectest.systems.layers import Dropout

__all__ = ["GEAR", "Encoder", "Layer", "TiedHead", "interleaved", "num_parameters"]

_FEED_FORWARD = 4
"""Width of the feed-forward layers over the embedding size."""


def num_parameters(*, num_items: int, num_behaviours: int, embedding_size: int, num_layers: int) -> int:
    """Parameters of a model by its sizes alone: two tables, num_layers + 2 layers, one LayerNorm.

    >>> num_parameters(num_items=99_037, num_behaviours=4, embedding_size=32, num_layers=4)
    3245664
    """
    size, wide = embedding_size, _FEED_FORWARD * embedding_size
    attention = 3 * size * (size + 1) + size * (size + 1)
    layer = attention + wide * (size + 1) + size * (wide + 1) + 4 * size
    return (num_items + 1 + num_behaviours + 1) * size + (num_layers + 2) * layer + 2 * size


class Attention(nn.Module):
    """Multi-head self-attention with one packed input projection, under a boolean mask and an additive bias."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * size, size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * size))
        self.out_proj = _linear(size, size)

    def forward(self, x_BSD: Tensor, mask_BSS: Tensor, bias_BHSS: Tensor | None, dropout: Dropout) -> Tensor:
        projected = functional.linear(x_BSD, self.in_proj_weight, self.in_proj_bias)
        by_head = projected.reshape(*projected.shape[:-1], 3, self.num_heads, -1)
        q_BHSd, k_BHSd, v_BHSd = by_head.permute(2, 0, 3, 1, 4).unbind(0)
        logits_BHSS = q_BHSd @ k_BHSd.mT / math.sqrt(q_BHSd.shape[-1])
        if bias_BHSS is not None:
            logits_BHSS = logits_BHSS + bias_BHSS
        weights_BHSS = logits_BHSS.masked_fill(~mask_BSS[:, None], -torch.inf).softmax(-1)
        mixed_BHSd = dropout(weights_BHSS) @ v_BHSd
        return self.out_proj(mixed_BHSd.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One post-LN encoder layer: attention, then a feed-forward layer of four times the width."""

    def __init__(self, size: int, num_heads: int, dropout: float, seeds: SeedPlan) -> None:
        super().__init__()
        self.self_attn = Attention(size, num_heads)
        self.linear1 = _linear(size, _FEED_FORWARD * size)
        self.dropout = Dropout(dropout, seeds.seed("dropout"))
        self.linear2 = _linear(_FEED_FORWARD * size, size)
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.dropout1 = Dropout(dropout, seeds.seed("dropout1"))
        self.dropout2 = Dropout(dropout, seeds.seed("dropout2"))

    def forward(self, x_BSD: Tensor, mask_BSS: Tensor, bias_BHSS: Tensor | None) -> Tensor:
        """The layer's output; every row of the mask must allow at least one place."""
        attended_BSD = self.self_attn(x_BSD, mask_BSS, bias_BHSS, self.dropout)
        x_BSD = self.norm1(x_BSD + self.dropout1(attended_BSD))
        wide = self.dropout(functional.relu(self.linear1(x_BSD)))
        return self.norm2(x_BSD + self.dropout2(self.linear2(wide)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Layers one after the other under one mask."""

    def __init__(self, num_layers: int, size: int, num_heads: int, dropout: float, seeds: SeedPlan) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(size, num_heads, dropout, seeds.child(f"layers.{index}")) for index in range(num_layers)
        )

    def forward(self, x_BSD: Tensor, mask_BSS: Tensor, bias_BHSS: Tensor | None = None) -> Tensor:
        """The states of the last layer."""
        for layer in self.layers:
            x_BSD = layer(x_BSD, mask_BSS, bias_BHSS)
        return x_BSD


class TiedHead(nn.Module):
    """Scores of states against the rows of a table; it has no parameters of its own."""

    def __init__(self, precision: Precision = "highest") -> None:
        super().__init__()
        self.precision: Precision = precision

    def forward(self, states_BD: Tensor, table_ND: Tensor) -> Tensor:
        """[B, N] one score for each row of the table; both may have further equal batch dimensions."""
        return product(states_BD, table_ND.mT, self.precision)


class GEAR(nn.Module):
    """Two embedding tables, a branch for each, and the layers over both."""

    def __init__(
        self,
        num_items: int,
        num_behaviours: int,
        *,
        embedding_size: int,
        num_heads: int,
        num_layers: int,
        dropout: float,
        seeds: SeedPlan,
        precision: Precision = "highest",
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.item_embedding = _empty_table(num_items + 1, embedding_size)
        self.behaviour_embedding = _empty_table(num_behaviours + 1, embedding_size)
        self.dropout = Dropout(dropout, seeds.seed("dropout"))
        self.norm = nn.LayerNorm(embedding_size)
        self.item_encoder, self.behaviour_encoder, self.encoder = (
            Encoder(depth, embedding_size, num_heads, dropout, seeds.child(name))
            for name, depth in (("item_encoder", 1), ("behaviour_encoder", 1), ("encoder", num_layers))
        )
        self.head = TiedHead(precision)
        self.random_share = 0.0
        """Of the last batch: rows cut to a random window. Kept for the curves, like the next one."""
        self.target_share: Tensor | float = 1.0
        self.leak: float | None = None
        """Of the first batch, see `future_leak`."""

    def reset(self, seeds: SeedPlan, *, embedding_std: float) -> None:
        """Draw every parameter afresh: tables normal with their padding row zero, matrices Xavier, biases zero."""
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(seeds.seed(name))
            if "embedding" in name:
                nn.init.normal_(parameter, std=embedding_std, generator=generator)
                parameter.data[0] = 0.0
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0)

    def forward(self, items_BL1: Tensor, behaviours_BL: Tensor, elapsed_BL: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, L, D] after each behaviour, which predict its item, and [B, L-1, D] after each item.

        Args:
            items_BL1: [B, L-1] the items of all rows but the last.
            behaviours_BL: the behaviours of all rows; 0 is padding, in the same places as the items'.
            elapsed_BL: time of each row since the first of its sequence, int64; ignored at padding.
        """
        real_BL = behaviours_BL != 0
        mask_BLL = self.attention_mask(real_BL)
        items_BLD = self.item_encoder(self._embed(self.item_embedding, items_BL1), mask_BLL[:, :-1, :-1])
        bias_BHLL = self.gap_bias(elapsed_BL)
        behaviours_BLD = self.behaviour_encoder(
            self._embed(self.behaviour_embedding, behaviours_BL), mask_BLL, bias_BHLL
        )
        tokens_BSD = interleaved(behaviours_BLD, items_BLD)
        real_BS = interleaved(real_BL, real_BL[:, :-1])
        states_BSD = self.encoder(tokens_BSD, self.attention_mask(real_BS))
        return states_BSD[:, 0::2], states_BSD[:, 1::2]

    def attention_mask(self, real_BS: Tensor) -> Tensor:
        """[B, S, S] which place (last) may be looked at from which (middle): itself, and real ones before it.

        A place always sees itself, so that the softmax of a padded row has something to sum over.
        """
        width = real_BS.shape[1]
        causal_SS = torch.ones(width, width, dtype=torch.bool, device=real_BS.device).tril()
        itself_SS = torch.eye(width, dtype=torch.bool, device=real_BS.device)
        return (causal_SS & real_BS[:, None, :]) | itself_SS

    def gap_bias(self, elapsed_BL: Tensor) -> Tensor:
        """[B, H, L, L] -2^(-8h/H) log(1 + time from row j to row i), for head h = 0..H-1 and rows j before i."""
        gap_BLL = (elapsed_BL[:, :, None] - elapsed_BL[:, None, :]).clamp_min(0).float()
        slopes = [-(2.0 ** (-8.0 * head / self.num_heads)) for head in range(self.num_heads)]
        slope_H = torch.tensor(slopes, device=elapsed_BL.device)
        return slope_H[:, None, None] * gap_BLL.log1p()[:, None]

    @torch.no_grad()
    def future_leak(self, items_BL1: Tensor, behaviours_BL: Tensor, elapsed_BL: Tensor) -> float:
        """How far the states of earlier rows move, at most, when the newest row is another one: exactly 0, or a leak.

        Without positions a leak can cost little and even help, as a few more taste hints do; no metric shows it.
        """
        others = items_BL1.clone(), behaviours_BL.clone(), elapsed_BL.clone()
        others[0][:, -1] = 1 + items_BL1[:, -1] % (self.item_embedding.num_embeddings - 1)
        others[1][:, -1] = 1 + behaviours_BL[:, -1] % (self.behaviour_embedding.num_embeddings - 1)
        others[2][:, -1] += 1
        was_training = self.training
        self.eval()
        known, changed = self(items_BL1, behaviours_BL, elapsed_BL), self(*others)
        self.train(was_training)
        return max(float((a - b)[:, :-1].abs().max()) for a, b in zip(known, changed, strict=True))

    def item_logits(self, states_BD: Tensor) -> Tensor:
        """[..., V+1] scores of all items; the padding's is 0, because its row is."""
        return self.head(states_BD, self.item_embedding.weight)  # type: ignore[no-any-return]

    def behaviour_logits(self, states_BD: Tensor) -> Tensor:
        """[..., N] scores of all behaviours; the padding's is 0."""
        return self.head(states_BD, self.behaviour_embedding.weight)  # type: ignore[no-any-return]

    def _embed(self, table: nn.Embedding, ids_BS: Tensor) -> Tensor:
        return self.norm(self.dropout(table(ids_BS)))  # type: ignore[no-any-return]


def interleaved(odd_BL: Tensor, even_BL1: Tensor) -> Tensor:
    """[B, 2L-1, ...]: the L entries of the first at places 0, 2, 4, ..., the L-1 of the second between them.

    >>> interleaved(torch.tensor([[1, 3, 5]]), torch.tensor([[2, 4]])).tolist()
    [[1, 2, 3, 4, 5]]
    """
    pairs = torch.stack([odd_BL[:, :-1], even_BL1], dim=2).flatten(1, 2)
    return torch.cat([pairs, odd_BL[:, -1:]], dim=1)


def _linear(num_in: int, num_out: int) -> nn.Linear:
    """A layer without values: `GEAR.reset` draws them, and the global generator stays where it was."""
    return nn.utils.skip_init(nn.Linear, num_in, num_out)  # type: ignore[no-any-return,no-untyped-call]


def _empty_table(num_rows: int, size: int) -> nn.Embedding:
    return nn.Embedding.from_pretrained(torch.zeros(num_rows, size), freeze=False, padding_idx=0)  # type: ignore[no-any-return,no-untyped-call]
