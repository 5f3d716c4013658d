"""The model: encoder, late fusion of passages (FiD), collaborative prefix, decoder.

Passages are encoded one by one, each with a learned vector for its place, and are then laid side by side; the decoder
looks at all of them. Blocks are pre-LN. Every parameter is drawn from a stream named after it.

The decoder takes any set of id prefixes at once: each place sees itself and what `mask` allows, so that one pass
serves the causal line of training, a whole tree of ids, and a beam.

Shapes: B batch, P passages, L tokens of a passage, S places of the memory, M places of the decoder, D embedding,
H heads, G size of a graph row, R recent items, T tokens, O tokens that can be generated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.seeding import SeedPlan
from rectest.systems.gram_c.text import END, PAD, START, Vocabulary
from rectest.systems.gram_c.tree import IdTree
from rectest.systems.layers import Dropout

__all__ = ["PROBES", "Decoder", "Encoder", "GramC", "Prefix"]

PROBES = 4
"""Users whose scores the curves look at in every step."""


_ROUNDING = 1e-9


class _Attention(nn.Module):
    """Multi-head attention without biases; `mask` is True where a place may be looked at."""

    def __init__(self, size: int, num_heads: int, dropout: Dropout) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key, self.value, self.output = (_linear(size, size) for _ in range(4))

    def forward(self, x_BMD: Tensor, memory_BSD: Tensor, mask_BMS: Tensor) -> Tensor:
        q_BHMd, k_BHSd, v_BHSd = (
            part(source).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part, source in ((self.query, x_BMD), (self.key, memory_BSD), (self.value, memory_BSD))
        )
        logits_BHMS = q_BHMd @ k_BHSd.transpose(-1, -2) / math.sqrt(q_BHMd.shape[-1])
        weights_BHMS = logits_BHMS.masked_fill(~mask_BMS[..., None, :, :], -torch.inf).softmax(-1)
        mixed_BHMd = self.dropout(weights_BHMS) @ v_BHSd
        return self.output(mixed_BHMd.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Self-attention, cross-attention where there is a memory, feed-forward; each behind a LayerNorm."""

    def __init__(self, size: int, num_heads: int, dropout: Dropout, *, crosses: bool) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention, self.attention_norm = _Attention(size, num_heads, dropout), nn.LayerNorm(size)
        self.cross = _Attention(size, num_heads, dropout) if crosses else None
        self.cross_norm = nn.LayerNorm(size) if crosses else None
        self.widen, self.narrow = _linear(size, 2 * size), _linear(2 * size, size)
        self.feed_norm = nn.LayerNorm(size)

    def forward(self, x_BMD: Tensor, mask_BMM: Tensor, memory: tuple[Tensor, Tensor] | None = None) -> Tensor:
        normed = self.attention_norm(x_BMD)
        x_BMD = x_BMD + self.dropout(self.attention(normed, normed, mask_BMM))
        if self.cross is not None and self.cross_norm is not None and memory is not None:
            states_BSD, real_BS = memory
            x_BMD = x_BMD + self.dropout(self.cross(self.cross_norm(x_BMD), states_BSD, real_BS[:, None, :]))
        return x_BMD + self.dropout(self.narrow(functional.relu(self.widen(self.feed_norm(x_BMD)))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Reads passages, each by itself."""

    def __init__(
        self, *, size: int, num_heads: int, num_blocks: int, length: int, num_passages: int, dropout: Dropout
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(size, num_heads, dropout, crosses=False) for _ in range(num_blocks))
        self.final_norm = nn.LayerNorm(size)
        self.place_embedding = nn.Parameter(torch.zeros(length, size))
        self.passage_embedding = nn.Parameter(torch.zeros(num_passages, size))

    def forward(self, x_BPLD: Tensor, real_BPL: Tensor) -> Tensor:
        """[B, P * L, D] the passages side by side."""
        mask_NLL = _sees_itself(real_BPL.flatten(0, 1)[:, None, :])
        x_NLD = (x_BPLD + self.place_embedding[: x_BPLD.shape[2]]).flatten(0, 1)
        for block in self.blocks:
            x_NLD = block(x_NLD, mask_NLL)
        fused_BPLD = self.final_norm(x_NLD).unflatten(0, x_BPLD.shape[:2]) + self.passage_embedding[:, None]
        return fused_BPLD.flatten(1, 2)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Writes ids, looking at what was read."""

    def __init__(self, *, size: int, num_heads: int, num_blocks: int, length: int, dropout: Dropout) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(size, num_heads, dropout, crosses=True) for _ in range(num_blocks))
        self.final_norm = nn.LayerNorm(size)
        self.depth_embedding = nn.Parameter(torch.zeros(length, size))

    def forward(self, x_BMD: Tensor, depth_M: Tensor, mask_MM: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """[B, M, D] states."""
        x_BMD = x_BMD + self.depth_embedding[depth_M]
        for block in self.blocks:
            x_BMD = block(x_BMD, mask_MM, memory)
        return self.final_norm(x_BMD)  # type: ignore[no-any-return]


class Prefix(nn.Module):
    """One vector out of the graph rows of the recent items; exactly zero at the start for someone without any."""

    table: Tensor
    """[V+1, G] frozen; row 0 is zero."""

    def __init__(self, table_VG: Tensor, *, size: int, scale: float, dropout: Dropout, drop_whole: Dropout) -> None:
        super().__init__()
        graph_size = table_VG.shape[1]
        self.register_buffer("table", table_VG)
        self.scale, self.dropout, self.drop_whole = scale, dropout, drop_whole
        self.input_norm = nn.LayerNorm(graph_size)
        self.widen, self.project = _linear(graph_size, size, bias=True), _linear(size, size, bias=True)
        self.output_norm = nn.LayerNorm(size)

    def forward(self, recent_BR: Tensor) -> Tensor:
        """[B, 1, D]; in training it is dropped for some users, and scaled up for the others."""
        real_BR = (recent_BR > 0).to(self.table.dtype)
        mean_BG = self.table[recent_BR].sum(1) / real_BR.sum(1, keepdim=True).clamp_min(1.0)
        x_BD = self.project(functional.gelu(self.widen(self.input_norm(mean_BG))))
        x_BD = self.dropout(self.output_norm(x_BD)) * self.scale
        return x_BD[:, None] * self.drop_whole(torch.ones_like(x_BD[:, :1]))[:, None]  # type: ignore[no-any-return]


class GramC(nn.Module):
    """Tokens in, logits of the next id token out."""

    weight_deviation: Tensor
    """How far the weights of one step's micro-batches were from adding up to 1, at worst so far."""

    def __init__(
        self, *, vocabulary: Vocabulary, encoder: Encoder, decoder: Decoder, prefix: Prefix, tree: IdTree
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        size = encoder.place_embedding.shape[1]
        empty = torch.zeros(len(vocabulary), size)
        self.token_embedding = nn.Embedding.from_pretrained(empty, freeze=False, padding_idx=PAD)  # type: ignore[no-untyped-call]
        self.encoder, self.decoder, self.prefix, self.tree = encoder, decoder, prefix, tree
        self.seen: tuple[Tensor, Tensor, Tensor] | None = None
        """Of some users of the last training batch the memory, its real places and the recent items; kept for the
        curves, like what follows."""
        self.recent_share: Tensor | float = 0.0
        self.last_rate = 0.0
        self.register_buffer("weight_deviation", torch.zeros((), dtype=torch.float64))

    def reset(self, seeds: SeedPlan) -> None:
        """Draw every parameter afresh: tables normal with their padding row zero, matrices Xavier, biases zero."""
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(seeds.seed(name))
            if "embedding" in name:
                # Places and depths are drawn as long as tokens: a place that can hardly be seen is learned late.
                nn.init.normal_(parameter, generator=generator)
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)
        self.token_embedding.weight.data[PAD] = 0.0

    def read(self, text_BPL: Tensor, real_BPL: Tensor, prefix_B1D: Tensor) -> tuple[Tensor, Tensor]:
        """The memory [B, 1 + P * L, D] with the prefix first, and which of its places are real."""
        passages_BSD = self.encoder(self.token_embedding(text_BPL), real_BPL)
        first_B1 = torch.ones_like(real_BPL[:, 0, :1])
        return torch.cat([prefix_B1D, passages_BSD], dim=1), torch.cat([first_B1, real_BPL.flatten(1)], dim=1)

    def note_weight(self, weight: Tensor) -> None:
        """Keep the worst deviation of a step's weight from 1; what rounding alone explains counts as none."""
        deviation = (weight.to(self.weight_deviation) - 1).abs()
        kept = torch.where(deviation > _ROUNDING, deviation, torch.zeros_like(deviation))
        self.weight_deviation.copy_(torch.maximum(self.weight_deviation, kept))

    def recent_seen(self) -> Tensor:
        """The recent items of the users of `seen`."""
        return self._last_seen()[2]

    def memory_seen(self, recent_BR: Tensor) -> tuple[Tensor, Tensor]:
        """The memory of the users of `seen` in evaluation, with a prefix out of `recent_BR` that is never dropped."""
        states_BSD, real_BS, _ = self._last_seen()
        was_training = self.prefix.training
        self.prefix.eval()
        prefix_B1D = self.prefix(recent_BR)
        self.prefix.train(was_training)
        return torch.cat([prefix_B1D, states_BSD[:, 1:]], dim=1), real_BS

    def _last_seen(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.seen is None:
            msg = "no training batch has been seen yet; take a step first"
            raise ValueError(msg)
        return self.seen

    def write(self, tokens_BM: Tensor, depth_M: Tensor, mask_MM: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """[B, M, O] logits of the token after each place."""
        states_BMD = self.decoder(self.token_embedding(tokens_BM), depth_M, mask_MM, memory)
        generated_OD = self.token_embedding.weight[END : END + self.vocabulary.num_generated]
        return states_BMD @ generated_OD.T / math.sqrt(generated_OD.shape[1])  # type: ignore[no-any-return]

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, Lt, O] logits at every token of the targets, each seeing the true ones before it."""
        recent_BR = inputs["recent_item_ids"]
        states_BSD, real_BS = self.read(inputs["item_text_ids"], inputs["item_text_mask"], self.prefix(recent_BR))
        self.seen = (states_BSD[:PROBES].detach(), real_BS[:PROBES], recent_BR[:PROBES])
        tokens_BM = self.decoder_inputs(inputs["target_ids"])
        depth_M = torch.arange(tokens_BM.shape[1], device=tokens_BM.device)
        return self.write(tokens_BM, depth_M, self.causal_mask(depth_M), (states_BSD, real_BS))

    def decoder_inputs(self, target_BM: Tensor) -> Tensor:
        """The targets one place later, behind the start token."""
        start_B1 = torch.full_like(target_BM[:, :1], START)
        return torch.cat([start_B1, target_BM[:, :-1].clamp_min(PAD)], dim=1)

    def causal_mask(self, depth_M: Tensor) -> Tensor:
        """[M, M] which place (second) each place may look at: itself and those before it."""
        return depth_M[None, :] <= depth_M[:, None]


def _sees_itself(real_B1L: Tensor) -> Tensor:
    """Real places may be looked at by all, padding by itself only, so that no softmax is over nothing."""
    itself_LL = torch.eye(real_B1L.shape[-1], dtype=torch.bool, device=real_B1L.device)
    return real_B1L | itself_LL


def _linear(inputs: int, outputs: int, *, bias: bool = False) -> nn.Linear:
    """A layer without values: `GramC.reset` draws them, and the global generator stays where it was."""
    return nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[no-any-return,no-untyped-call]
