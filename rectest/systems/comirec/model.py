"""The five user models of report 000 and what they share: item table, label-aware readout, scores.

A model is an item table plus an extractor that turns an embedded history into K interest vectors; DNN and GRU4Rec
have K = 1. Histories are right-padded with item 0, mask 1 at items and 0 at padding; a masked position has no
influence. Every parameter is drawn from a generator that is seeded by the plan, never from torch's global one.

Shapes: B batch, L history positions, K interests, D embedding, H attention hidden, V items (row 0 is padding).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rectest.seeding import SeedPlan
from rectest.systems.comirec.capsules import DynamicRouting, MindRouting

__all__ = [
    "MODELS",
    "MULTI_INTEREST",
    "LastGruState",
    "MeanPooling",
    "SelfAttention",
    "UserModel",
    "item_scores",
    "label_aware",
    "make_model",
]

MODELS = ("dnn", "gru4rec", "mind", "comirec_dr", "comirec_sa")
MULTI_INTEREST = ("mind", "comirec_dr", "comirec_sa")

_MASKED = float(-(2**32) + 1)


class UserModel(nn.Module):
    """An item table and an extractor of interests."""

    def __init__(self, table_VD: Tensor, extractor: nn.Module) -> None:
        super().__init__()
        num_rows, embedding_size = table_VD.shape
        self.item = nn.Embedding(num_rows, embedding_size, padding_idx=0, _weight=table_VD)
        self.extractor = extractor

    def forward(self, history_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Interests [B, K, D] of users with the given histories."""
        embedded_BLD = self.item(history_BL) * mask_BL[..., None]
        interests_BKD: Tensor = self.extractor(embedded_BLD, mask_BL)
        return interests_BKD


def label_aware(interests_BKD: Tensor, target_BD: Tensor) -> Tensor:
    """The interest [B, D] of each user that has the largest inner product with the target's embedding.

    It is used in training only; the choice itself carries no gradient, and the first of equal interests is taken.
    """
    choice_B = torch.einsum("bkd,bd->bk", interests_BKD, target_BD).argmax(dim=1)
    return interests_BKD[torch.arange(len(choice_B), device=choice_B.device), choice_B]


def item_scores(interests_BKD: Tensor, table_VD: Tensor) -> Tensor:
    """[B, V+1] inner product of each item with the interest that likes it best.

    Ranking by it equals merging one list per interest and keeping the first mention of each item. The padding column
    gets the lowest finite score: item 0 is never recommended.
    """
    scores_BV = (interests_BKD @ table_VD.T).amax(dim=1)
    scores_BV[:, 0] = torch.finfo(scores_BV.dtype).min
    return scores_BV


class MeanPooling(nn.Module):
    """DNN ("YouTube DNN"): mean of the embedded history, then one dense layer; K = 1."""

    def __init__(self, embedding_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_DD = nn.Parameter(_glorot((embedding_size, embedding_size), generator))
        self.bias_D = nn.Parameter(torch.zeros(embedding_size))

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Interests [B, 1, D]."""
        total_BD = (embedded_BLD * mask_BL[..., None]).sum(dim=1)
        mean_BD = total_BD / mask_BL.sum(dim=1, keepdim=True).clamp(min=1.0)
        return F.linear(mean_BD, self.weight_DD, self.bias_D)[:, None]


class LastGruState(nn.Module):
    """GRU4Rec: the state of a GRU after the last item; K = 1."""

    def __init__(self, embedding_size: int, generator: torch.Generator) -> None:
        super().__init__()
        # Built without storage, because nn.GRU would fill its weights from the global generator.
        self.gru = nn.GRU(embedding_size, embedding_size, batch_first=True, device="meta").to_empty(device="cpu")
        for parameter in self.gru.parameters():
            nn.init.uniform_(parameter, -(embedding_size**-0.5), embedding_size**-0.5, generator=generator)

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Interests [B, 1, D]."""
        states_BLD, _ = self.gru(embedded_BLD)
        last_B = mask_BL.sum(dim=1).long() - 1
        last_BD: Tensor = states_BLD[torch.arange(len(last_B), device=last_B.device), last_B]
        return last_BD[:, None]


class SelfAttention(nn.Module):
    """ComiRec-SA: K attention heads over the history; positions steer the attention but are not part of the value."""

    def __init__(
        self, embedding_size: int, *, history_length: int, num_interests: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        hidden_size = 4 * embedding_size
        # Positions start small beside items: else each seed starts with a lasting preference for some positions.
        self.position_LD = nn.Parameter(_uniform((history_length, embedding_size), 0.04, generator))
        self.hidden_HD = nn.Parameter(_glorot((hidden_size, embedding_size), generator))
        self.head_KH = nn.Parameter(_glorot((num_interests, hidden_size), generator))

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Interests [B, K, D]."""
        placed_BLD = embedded_BLD + self.position_LD[: mask_BL.shape[1]]
        hidden_BLH = torch.tanh(F.linear(placed_BLD, self.hidden_HD))
        logits_BKL = F.linear(hidden_BLH, self.head_KH).transpose(1, 2)
        attention_BKL = logits_BKL.masked_fill(mask_BL[:, None, :] == 0, _MASKED).softmax(dim=2)
        return attention_BKL @ embedded_BLD


def make_model(
    kind: str,
    *,
    num_items: int,
    embedding_size: int,
    history_length: int,
    num_interests: int,
    routing_rounds: int,
    relu_layer: bool,
    seeds: SeedPlan,
) -> UserModel:
    """A fresh model of `kind` on the CPU, with a padding row of zeros; ValueError for a kind that does not exist."""
    generator = torch.Generator().manual_seed(seeds.seed("extractor"))
    extractor: nn.Module
    if kind == "dnn":
        extractor = MeanPooling(embedding_size, generator)
    elif kind == "gru4rec":
        extractor = LastGruState(embedding_size, generator)
    elif kind == "mind":
        square = (embedding_size, embedding_size)
        extractor = MindRouting(
            _glorot(square, generator),
            history_length=history_length,
            num_interests=num_interests,
            num_rounds=routing_rounds,
            relu_layer_DD=_glorot(square, generator) if relu_layer else None,
            seeds=seeds.child("routing"),
        )
    elif kind == "comirec_dr":
        shape = (history_length, num_interests, embedding_size, embedding_size)
        extractor = DynamicRouting(torch.randn(shape, generator=generator), num_rounds=routing_rounds)
    elif kind == "comirec_sa":
        extractor = SelfAttention(
            embedding_size, history_length=history_length, num_interests=num_interests, generator=generator
        )
    else:
        msg = f"kind must be one of {', '.join(MODELS)}, got {kind!r}"
        raise ValueError(msg)
    return UserModel(_item_table(num_items, embedding_size, seeds), extractor)


def _item_table(num_items: int, embedding_size: int, seeds: SeedPlan) -> Tensor:
    """[V+1, D], uniform within 1 / sqrt(D) whatever the size of the catalogue, with a padding row of zeros."""
    generator = torch.Generator().manual_seed(seeds.seed("item"))
    table_VD = _uniform((num_items + 1, embedding_size), embedding_size**-0.5, generator)
    table_VD[0] = 0.0
    return table_VD


def _glorot(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Uniform within sqrt(6 / (rows + columns)), the default of the framework that the original was written in."""
    return _uniform(shape, math.sqrt(6.0 / (shape[0] + shape[1])), generator)


def _uniform(shape: tuple[int, int], bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
