"""More faults for `AdaptiveSASRec`: what leaks, what is forgotten, and what depends on company or on padding.

Report 002 names most of them as pitfalls of its system or of the code it descends from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rectest.data.world import World
from rectest.faults.adaptive_sasrec import sasrec_fault, sasrec_planted
from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.batches import SASRecData
from rectest.systems.adaptive_sasrec.model import SASRec
from rectest.systems.adaptive_sasrec.negatives import NegativeSchedule
from rectest.systems.adaptive_sasrec.system import AdaptiveSASRec
from rectest.systems.protocol import Batch, EvalSet, System

__all__ = [
    "CATALOGUE",
    "batch_scaled_scores",
    "dead_setting",
    "popularity_of_everything",
    "state_outside_checkpoint",
    "visible_padding",
]

_SMART: Mapping[str, Any] = {"smart_negatives": True}
_RATIO: Mapping[str, Any] = {"smart_negatives": True, "popular_ratio": 0.6}


class _PopularityOfEverything(AdaptiveSASRec):
    def prepare(self, world: World, seeds: SeedPlan) -> SASRecData:
        return dataclasses.replace(super().prepare(world, seeds), counts=world.popularity())


def popularity_of_everything(system: System[Any]) -> System[Any]:
    """The popularity of the smart negatives is counted over all events, the held-out ones among them."""
    return sasrec_planted(_PopularityOfEverything, system, **_SMART)


class _StateOutsideCheckpoint(AdaptiveSASRec):
    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
        self.taken: int = getattr(self, "taken", 0) + 1
        for group in optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, self.taken / 100)
        return super().step(model, optimizer, batch)


def state_outside_checkpoint(system: System[Any]) -> System[Any]:
    """The warm-up counts its steps in a plain attribute, so that a resumed run warms up anew."""
    return sasrec_planted(_StateOutsideCheckpoint, system)


class _BatchScaledScores(AdaptiveSASRec):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        scores = super().score(model, eval_set, rows)
        return scores / scores.abs().max()


def batch_scaled_scores(system: System[Any]) -> System[Any]:
    """Scores are divided by the batch's largest, as report 002's "euclidean" similarity does: who is in the batch
    decides what a user's scores are.
    """
    return sasrec_planted(_BatchScaledScores, system)


class _CountsFromTheLeft(SASRec):
    def forward(self, items_BL: Tensor) -> Tensor:
        places_L = torch.arange(items_BL.shape[1], device=items_BL.device).clamp(max=self.max_length - 1) + 1
        x_BLD = self.embed(items_BL, places_L.expand_as(items_BL))
        width = items_BL.shape[1]
        causal_LL = torch.ones(width, width, dtype=torch.bool, device=items_BL.device).tril()
        for block in self.blocks:
            x_BLD = block(x_BLD, causal_LL.expand(len(items_BL), -1, -1))
        return self.final_norm(x_BLD)  # type: ignore[no-any-return]


class _VisiblePadding(AdaptiveSASRec):
    model_class = _CountsFromTheLeft


def visible_padding(system: System[Any]) -> System[Any]:
    """Left-padded inputs without a padding mask, positions counted from the left: padding is a token like any other."""
    return sasrec_planted(_VisiblePadding, system)


class _DeadSetting(AdaptiveSASRec):
    def schedule(self, data: SASRecData) -> NegativeSchedule:
        return NegativeSchedule(
            counts=data.counts, num_steps=self.config.steps, smart=True, popular_ratio=0.3, power=0.75, curriculum=False
        )


def dead_setting(system: System[Any]) -> System[Any]:
    """The share of popular negatives is given in the configuration and a constant in the code."""
    return sasrec_planted(_DeadSetting, system, **_RATIO)


CATALOGUE = (
    sasrec_fault(popularity_of_everything, "leak/held_out", settings=_SMART),
    sasrec_fault(state_outside_checkpoint, "resume/bits"),
    sasrec_fault(batch_scaled_scores, "invariance/blocks"),
    sasrec_fault(visible_padding, "invariance/padding"),
    sasrec_fault(dead_setting, "configuration/read", settings=_RATIO),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
