"""The retriever: how well an item's text and vector fit the text of a user's preference.

Per candidate, the item asks three experts (the user's preference, the item's text, the item's vector); a router mixes
their answers, a self-attention lets the mixture look at a few learned tokens, and the result is compared with the
question. Each expert attends to one vector, and to nothing as the alternative: without that alternative the softmax
of a single key is 1 whatever it is asked, and its queries and keys could never learn.

Shapes: B users, C candidates, D embedding, T text vector, P proxy tokens, N items (any number), V items, U users.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.systems.layers import Dropout
from rectest.systems.ur4rec.memory import UserMemory

__all__ = ["Expert", "Retriever", "SourceAttention", "unit"]

_SMALLEST_NORM = 1e-6


class SourceAttention(nn.Module):
    """Multi-head attention of single queries over a few sources and over nothing (a zero key and a zero value)."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.output = (_linear(size, size) for _ in range(4))

    def forward(self, queries_XD: Tensor, *sources_XD: Tensor) -> Tensor:
        """[..., D] one answer for each query; every source is broadcast against the queries."""
        q_XHd = self._heads(self.query(queries_XD)) / math.sqrt(queries_XD.shape[-1] / self.num_heads)
        logits_SXH = [(q_XHd * self._heads(self.key(source_XD))).sum(-1) for source_XD in sources_XD]
        shares_SXH = _shares(logits_SXH)
        parts = [
            share_XH[..., None] * self._heads(self.value(source_XD))
            for share_XH, source_XD in zip(shares_SXH, sources_XD, strict=True)
        ]
        return self.output(sum(parts[1:], start=parts[0]).flatten(-2))  # type: ignore[no-any-return]

    def _heads(self, x_XD: Tensor) -> Tensor:
        return x_XD.view(*x_XD.shape[:-1], self.num_heads, -1)


class Expert(nn.Module):
    """Cross-attention to one source, then LayerNorm and a feed-forward layer (no residual path around it)."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.attention = SourceAttention(size, num_heads)
        self.norm = nn.LayerNorm(size)
        self.widen, self.narrow = _linear(size, 2 * size), _linear(2 * size, size)

    def forward(self, queries_XD: Tensor, source_XD: Tensor) -> Tensor:
        """[..., D] the expert's answer to each query about its source."""
        answer_XD = self.attention(queries_XD, source_XD)
        return self.narrow(functional.gelu(self.widen(self.norm(answer_XD))))  # type: ignore[no-any-return]


class Mixture(nn.Module):
    """The three experts, their router, and the self-attention with proxy tokens that refines what they say."""

    def __init__(self, size: int, *, num_heads: int, num_proxies: int) -> None:
        super().__init__()
        self.user, self.text, self.vector = (Expert(size, num_heads) for _ in range(3))
        self.router_norm = nn.LayerNorm(4 * size)
        self.router_widen, self.router = _linear(4 * size, size), _linear(size, 3)
        self.proxies_PD = nn.Parameter(torch.zeros(num_proxies, size))
        self.attention = SourceAttention(size, num_heads)
        self.norm = nn.LayerNorm(size)

    def forward(
        self, queries_ND: Tensor, text_ND: Tensor, vector_ND: Tensor, user_BD: Tensor, place_BC: Tensor
    ) -> Tensor:
        """[B, C, D] what is left of each user's candidates; `place_BC` says which of the N items they are.

        Two of the experts know nothing of the user, so they are asked once for each item.
        """
        of_text_BCD, of_vector_BCD = (
            expert(queries_ND, source_ND)[place_BC]
            for expert, source_ND in ((self.text, text_ND), (self.vector, vector_ND))
        )
        queries_BCD = queries_ND[place_BC]
        of_user_BCD = self.user(queries_BCD, user_BD[:, None])
        shares_BC3 = self.route(torch.cat([queries_BCD, of_user_BCD, of_text_BCD, of_vector_BCD], dim=-1))
        answers_BC3D = torch.stack([of_user_BCD, of_text_BCD, of_vector_BCD], dim=-2)
        mixed_BCD = (shares_BC3[..., None] * answers_BC3D).sum(-2)
        return self.norm(mixed_BCD + self.attention(mixed_BCD, mixed_BCD, *self.proxies_PD))  # type: ignore[no-any-return]

    def route(self, seen_X4D: Tensor) -> Tensor:
        """[..., 3] the share of each expert."""
        hidden_XD = functional.gelu(self.router_widen(self.router_norm(seen_X4D)))
        return self.router(hidden_XD).softmax(-1)  # type: ignore[no-any-return]


class Retriever(nn.Module):
    """Frozen texts, their projection, the item table, the mixture and the memory."""

    item_text_VT: Tensor
    """[V+1, T] frozen text vectors of the items."""

    user_text_UT: Tensor
    """[U, T] frozen text vectors of what each user prefers, written from training events only."""

    def __init__(
        self,
        item_text_VT: Tensor,
        user_text_UT: Tensor,
        *,
        size: int,
        num_heads: int,
        num_proxies: int,
        temperature: float,
        normalise: bool,
        dropout: Dropout,
        memory: UserMemory,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.normalise = normalise
        self.register_buffer("item_text_VT", item_text_VT)
        self.register_buffer("user_text_UT", user_text_UT)
        self.project = _linear(item_text_VT.shape[1], size)
        self.project_norm = nn.LayerNorm(size)
        zeros = torch.zeros(len(item_text_VT), size)
        self.item_table = nn.Embedding.from_pretrained(zeros, freeze=False, padding_idx=0)  # type: ignore[no-untyped-call]
        self.mixture = Mixture(size, num_heads=num_heads, num_proxies=num_proxies)
        self.dropout = dropout
        self.memory = memory

    def forward(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """[B, C] score of each candidate for its user."""
        ids_N, place_BC = torch.unique(items_BC, return_inverse=True)
        text_ND, vector_ND = self.dropout(self.text(self.item_text_VT[ids_N])), self.vector(ids_N)
        queries_ND = (text_ND + vector_ND) / 2
        user_BD = self.preference(users_B)
        refined_BCD = self.mixture(queries_ND, text_ND, vector_ND, user_BD, place_BC)
        return self.similarity(refined_BCD, queries_ND[place_BC]) / self.temperature

    def similarity(self, refined_BCD: Tensor, queries_BCD: Tensor) -> Tensor:
        """[B, C] cosine, or with `normalise` off the dot product, whose scale grows with the size."""
        if self.normalise:
            refined_BCD, queries_BCD = unit(refined_BCD), unit(queries_BCD)
        return (refined_BCD * queries_BCD).sum(-1)

    def preference(self, users_B: Tensor) -> Tensor:
        """[B, D] the projected preference text, moved towards the user's memory where there is one."""
        return self.memory.blend(self.dropout(self.text(self.user_text_UT[users_B])), users_B)

    def text(self, text_XT: Tensor) -> Tensor:
        """[..., D] projected text vectors."""
        return self.project_norm(self.project(text_XT))  # type: ignore[no-any-return]

    def vector(self, items_X: Tensor) -> Tensor:
        """[..., D] rows of the item table, of length 1."""
        return unit(self.item_table(items_X))

    @torch.no_grad()
    def remember(self, users_B: Tensor, items_B: Tensor) -> None:
        """Tell the memory of `users_B` (distinct) which item each has interacted with."""
        seen_BD = (self.text(self.item_text_VT[items_B]) + self.vector(items_B)) / 2
        self.memory.update(users_B, seen_BD)


def unit(vectors_XD: Tensor) -> Tensor:
    """Vectors of length 1; a zero vector stays zero and passes a finite gradient."""
    norm_X1: Tensor = torch.linalg.vector_norm(vectors_XD, dim=-1, keepdim=True)
    return vectors_XD / norm_X1.clamp_min(_SMALLEST_NORM)


def _shares(logits_SX: list[Tensor]) -> list[Tensor]:
    """The softmax over some logits and a zero, without the zero's share; for a single logit that is the sigmoid."""
    if len(logits_SX) == 1:
        return [torch.sigmoid(logits_SX[0])]
    with_nothing_SX = torch.stack([*logits_SX, torch.zeros_like(logits_SX[0])])
    return list(with_nothing_SX.softmax(0)[:-1])


def _linear(width_in: int, width_out: int) -> nn.Linear:
    """A layer without values: the model draws them, and the global generator stays where it was."""
    return nn.utils.skip_init(nn.Linear, width_in, width_out)  # type: ignore[no-any-return,no-untyped-call]
