"""How a sequence state and an item become a score: dot, cosine, scaled dot, bilinear, or a learned blend of them.

One class computes the aligned scores that training needs and the scores of the whole catalogue that serving needs,
from the same formula: a model that is trained with one similarity and served with another ranks differently from
what it learned. `top_k_overlap` measures by how much.

Dot and scaled dot differ by the constant sqrt(D), so a blend of both has only two identifiable weights, whatever
the curves of the single parameters do; `AdaptiveSimilarity.effective_weights` gives those.

Shapes: B batch, L sequence, D embedding, N items, X any leading shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rectest.seeding import SeedPlan

__all__ = ["SIMILARITIES", "AdaptiveSimilarity", "Similarity", "top_k_overlap"]

Product = Callable[[Tensor, Tensor], Tensor]

SIMILARITIES = ("dot", "cosine", "scaled", "bilinear")
"""Every known name; the learned blend weighs them in this order."""

_START_WEIGHT = {"dot": 0.5, "cosine": 0.3, "scaled": 0.2, "bilinear": 0.1}
_SMALLEST_NORM = 1e-8
_ITEM_BLOCK = 8192


class Similarity(nn.Module):
    """One fixed similarity; only ``bilinear`` has a parameter, W of x^T W y."""

    def __init__(self, *names: str, embedding_size: int) -> None:
        super().__init__()
        self.names = tuple(name for name in SIMILARITIES if name in names)
        self.embedding_size = embedding_size
        self.matrix_DD = nn.Parameter(torch.empty(embedding_size, embedding_size)) if "bilinear" in names else None

    def reset(self, seeds: SeedPlan, *, bilinear_init: str) -> None:
        """Draw W: the identity, or Xavier-uniform from a stream of its own."""
        if self.matrix_DD is None:
            return
        if bilinear_init == "identity":
            nn.init.eye_(self.matrix_DD)
        else:
            generator = torch.Generator().manual_seed(seeds.seed("similarity/bilinear"))
            nn.init.xavier_uniform_(self.matrix_DD, generator=generator)

    def forward(self, states_XD: Tensor, items_XD: Tensor) -> Tensor:
        """[X]: each state with the item at its own place."""
        return self._combine(states_XD, items_XD, _aligned)

    def catalogue(self, states_BD: Tensor, items_ND: Tensor) -> Tensor:
        """[B, N]: each state with every item, in blocks of items so that no more than the result is held."""
        blocks = torch.split(items_ND, _ITEM_BLOCK)
        return torch.cat([self._combine(states_BD, block, _crossed) for block in blocks], dim=1)

    def weights(self) -> dict[str, float]:
        """Learned scalars by name, for curves; a fixed similarity has none."""
        return {}

    def _combine(self, states: Tensor, items: Tensor, product: Product) -> Tensor:
        return self._one(self.names[0], states, items, product)

    def _one(self, name: str, states: Tensor, items: Tensor, product: Product) -> Tensor:
        if name == "cosine":
            return product(_unit(states), _unit(items))
        if name == "scaled":
            return product(states, items) / math.sqrt(self.embedding_size)
        if name == "bilinear":
            assert self.matrix_DD is not None
            return product(states @ self.matrix_DD, items)
        return product(states, items)


class AdaptiveSimilarity(Similarity):
    """T * sum of w_s * s(x, y) over the named similarities; all w and T are learned (report 002).

    They start at 0.5 (dot), 0.3 (cosine), 0.2 (scaled), 0.1 (bilinear) and T = 1.
    """

    def __init__(self, *names: str, embedding_size: int) -> None:
        super().__init__(*names, embedding_size=embedding_size)
        self.weight = nn.ParameterDict({name: torch.full((), _START_WEIGHT[name]) for name in self.names})
        self.temperature = nn.Parameter(torch.ones(()))

    def weights(self) -> dict[str, float]:
        """Each similarity's weight, the temperature, and the two combinations that can be told apart."""
        found = {name: weight.item() for name, weight in self.weight.items()}
        found["temperature"] = self.temperature.item()
        return found | {f"effective_{name}": weight for name, weight in self.effective_weights().items()}

    def effective_weights(self) -> dict[str, float]:
        """T (a + g / sqrt D) on the dot product and T b on the cosine: what the scores really depend on."""
        weight = {name: value.item() for name, value in self.weight.items()}
        temperature = self.temperature.item()
        dot = weight.get("dot", 0.0) + weight.get("scaled", 0.0) / math.sqrt(self.embedding_size)
        return {"dot": temperature * dot, "cosine": temperature * weight.get("cosine", 0.0)}

    def _combine(self, states: Tensor, items: Tensor, product: Product) -> Tensor:
        parts = [weight * self._one(name, states, items, product) for name, weight in self.weight.items()]
        return self.temperature * torch.stack(parts).sum(0) if len(parts) > 1 else self.temperature * parts[0]


def top_k_overlap(expected_BN: Tensor, obtained_BN: Tensor, *, k: int) -> Tensor:
    """[B] share of the k best columns of one score matrix that are among the k best of the other.

    Ties are broken by column, the same way in both.

    Raises:
        ValueError: the shapes differ, or k is not in 1..N.
    """
    if expected_BN.shape != obtained_BN.shape or not 1 <= k <= expected_BN.shape[1]:
        shapes = f"{tuple(expected_BN.shape)} and {tuple(obtained_BN.shape)}"
        msg = f"top_k_overlap needs two equal shapes and k in 1..columns, got {shapes} and k={k}"
        raise ValueError(msg)
    first, second = (s.argsort(dim=1, descending=True, stable=True)[:, :k] for s in (expected_BN, obtained_BN))
    return (first[:, :, None] == second[:, None, :]).any(-1).double().mean(1)


def _aligned(states_XD: Tensor, items_XD: Tensor) -> Tensor:
    return (states_XD * items_XD).sum(-1)


def _crossed(states_BD: Tensor, items_ND: Tensor) -> Tensor:
    return states_BD @ items_ND.T


def _unit(vectors_XD: Tensor) -> Tensor:
    """Rows of length 1; a zero row (padding) stays zero and passes a finite gradient."""
    norm_X1: Tensor = torch.linalg.vector_norm(vectors_XD, dim=-1, keepdim=True)
    return vectors_XD / norm_X1.clamp_min(_SMALLEST_NORM)
