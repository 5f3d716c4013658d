"""Dynamic routing: a user's history grouped into a few capsules, one per interest (ComiRec-DR and MIND).

Sources: Sabour et al. 2017 (squash, routing by agreement), Li et al. 2019 (MIND), Cen et al. 2020 (ComiRec). Only the
last round carries a gradient; the rounds before it run on a detached copy of the votes.

Shapes: B batch, L history positions, K interests, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rectest.seeding import SeedPlan

__all__ = ["DynamicRouting", "MindRouting", "route", "squash"]

_TINY = 1e-9


def squash(vector_BKD: Tensor) -> Tensor:
    """Each vector in its own direction, with length n**2 / (1 + n**2) instead of n; zero stays zero."""
    squared_BK1 = vector_BKD.square().sum(dim=-1, keepdim=True)
    return vector_BKD * squared_BK1 / ((1.0 + squared_BK1) * (squared_BK1 + _TINY).sqrt())


def route(votes_BKLD: Tensor, mask_BL: Tensor, logits_BKL: Tensor, *, num_rounds: int) -> Tensor:
    """Interests [B, K, D] by routing of positions to interests, starting from `logits_BKL`.

    Every position shares itself out among the interests (softmax over K); positions with mask 0 share nothing.
    """
    fixed_BKLD = votes_BKLD.detach()
    for _ in range(num_rounds - 1):
        interests_BKD = _gather(fixed_BKLD, mask_BL, logits_BKL)
        logits_BKL = logits_BKL + torch.einsum("bkld,bkd->bkl", fixed_BKLD, interests_BKD)
    return _gather(votes_BKLD, mask_BL, logits_BKL)


def _gather(votes_BKLD: Tensor, mask_BL: Tensor, logits_BKL: Tensor) -> Tensor:
    share_BKL = torch.softmax(logits_BKL, dim=1) * mask_BL[:, None, :]
    return squash(torch.einsum("bkl,bkld->bkd", share_BKL, votes_BKLD))


class DynamicRouting(nn.Module):
    """ComiRec-DR: a bilinear map per position and interest; routing logits start at zero."""

    def __init__(self, bilinear_LKDD: Tensor, *, num_rounds: int) -> None:
        super().__init__()
        self.bilinear_LKDD = nn.Parameter(bilinear_LKDD)
        self.num_rounds = num_rounds

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Interests [B, K, D]."""
        used_LKDD = self.bilinear_LKDD[: mask_BL.shape[1]]
        votes_BKLD = torch.einsum("lkde,ble->bkld", used_LKDD, embedded_BLD)
        return route(votes_BKLD, mask_BL, votes_BKLD.new_zeros(votes_BKLD.shape[:3]), num_rounds=self.num_rounds)


class MindRouting(nn.Module):
    """MIND: one bilinear map for all positions and interests; only random starting logits tell interests apart.

    The published code draws those logits from the framework's global stream, in evaluation too, so that two
    evaluations of one model differ. Here draw n of training comes from the seed and n alone, n is a buffer (a restored
    checkpoint draws what it would have drawn), and evaluation uses one fixed draw for every user.
    """

    num_draws: Tensor
    evaluation_logits_KL: Tensor

    def __init__(
        self,
        bilinear_DD: Tensor,
        *,
        history_length: int,
        num_interests: int,
        num_rounds: int,
        relu_layer_DD: Tensor | None,
        seeds: SeedPlan,
    ) -> None:
        super().__init__()
        self.bilinear_DD = nn.Parameter(bilinear_DD)
        self.relu_layer_DD = None if relu_layer_DD is None else nn.Parameter(relu_layer_DD)
        self.num_rounds = num_rounds
        self.seeds = seeds
        self.register_buffer("num_draws", torch.zeros((), dtype=torch.int64))
        self.register_buffer(
            "evaluation_logits_KL", _starting_logits((num_interests, history_length), seeds, "evaluation")
        )

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Interests [B, K, D]; in training mode, each call uses and counts one random draw."""
        num_users, width = mask_BL.shape
        num_interests = len(self.evaluation_logits_KL)
        votes_BLD = embedded_BLD @ self.bilinear_DD.T
        votes_BKLD = votes_BLD[:, None].expand(-1, num_interests, -1, -1)
        if self.training:
            drawn_BKL = _starting_logits(
                (num_users, num_interests, width), self.seeds, f"training/{int(self.num_draws)}"
            )
            logits_BKL = drawn_BKL.to(embedded_BLD)
            self.num_draws += 1
        else:
            logits_BKL = self.evaluation_logits_KL[:, :width].expand(num_users, -1, -1)
        interests_BKD = route(votes_BKLD, mask_BL, logits_BKL, num_rounds=self.num_rounds)
        return interests_BKD if self.relu_layer_DD is None else torch.relu(interests_BKD @ self.relu_layer_DD.T)


def _starting_logits(shape: tuple[int, ...], seeds: SeedPlan, draw: str) -> Tensor:
    """A normal(0, 1) cut at two standard deviations, always drawn on the CPU."""
    generator = torch.Generator().manual_seed(seeds.seed(draw))
    return nn.init.trunc_normal_(torch.empty(shape), generator=generator)
