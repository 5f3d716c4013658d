"""Faults for `UR4Rec` in its training: what is frozen, what the optimizer holds, what is read and what is remembered.

What goes wrong in its data and its scores is in `ur4rec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rectest.faults.ur4rec import user_fault, user_planted
from rectest.systems.protocol import System
from rectest.systems.ur4rec.config import UR4RecConfig
from rectest.systems.ur4rec.model import UR4Rec
from rectest.systems.ur4rec.system import UR4RecSystem
from rectest.systems.ur4rec.training import BRANCHES, StagePlan

__all__ = [
    "CATALOGUE",
    "alternation_reads_missing_losses",
    "dead_memory",
    "dead_settings",
    "frozen_branch",
    "learning_rate_too_small",
    "loss_weights_not_optimized",
]

_TWO_STAGES: Mapping[str, Any] = {
    "stages": ("pretrain_sasrec", "joint_finetune"),
    "stage_shares": (0.5, 0.5),
    "adaptive_alternation": False,
}
"""The stages of report 001's remedy."""

_OWN_STAGES: Mapping[str, Any] = {
    "stages": ("pretrain_sasrec", "end_to_end"),
    "stage_shares": (0.5, 0.5),
    "memory_threshold": 5,
}


class _FrozenBranch(UR4RecSystem):
    def enter_stage(self, model: UR4Rec, step: int) -> None:
        if self.plan().at(step) not in ("joint_finetune", "end_to_end"):
            super().enter_stage(model, step)


def frozen_branch(system: System[Any]) -> System[Any]:
    """The joint stages do not restore requires_grad: what the stage before them froze stays frozen for ever."""
    return user_planted(_FrozenBranch, system)


class _LossWeightsNotOptimized(UR4RecSystem):
    def optimized(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in super().optimized(model) if not name.startswith("loss_weights.")]


def loss_weights_not_optimized(system: System[Any]) -> System[Any]:
    """The learned weights of the losses are in no optimizer and stay 1: the log shows the plain sum for ever."""
    return user_planted(_LossWeightsNotOptimized, system)


class _DeadMemory(UR4RecSystem):
    def updates_memory(self) -> bool:
        return False


def dead_memory(system: System[Any]) -> System[Any]:
    """The training step never asks for a memory update: no count moves, whatever the threshold is."""
    return user_planted(_DeadMemory, system)


class _DeadSettings(UR4RecSystem):
    def plan(self) -> StagePlan:
        return StagePlan.of(UR4RecConfig.stages, UR4RecConfig.stage_shares, num_steps=self.config.steps)


def dead_settings(system: System[Any]) -> System[Any]:
    """Stages and their lengths come from defaults in the training script; those that were configured nobody reads."""
    return user_planted(_DeadSettings, system)


class _MissingLosses(UR4RecSystem):
    def observed(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        return {name: losses.get(f"{name}_loss", torch.zeros(())).detach() for name in BRANCHES}


def alternation_reads_missing_losses(system: System[Any]) -> System[Any]:
    """The alternation asks for losses under names that do not exist and gets 0.0: it switches every five steps."""
    return user_planted(_MissingLosses, system)


def learning_rate_too_small(system: System[Any]) -> System[Any]:
    """Learning rates of 1e-6: training runs, losses are finite, and counting recommends better."""
    return user_planted(UR4RecSystem, system, learning_rate=1e-6, retriever_learning_rate=1e-6)


CATALOGUE = (
    user_fault(frozen_branch, "learning/moved", "learning/branch", settings=_TWO_STAGES),
    user_fault(loss_weights_not_optimized, "learning/optimized", "learning/moved", "effect/optimizer/parameters"),
    user_fault(dead_memory, "effect/memory/interactions", "learning/moved"),
    user_fault(dead_settings, "configuration/read", settings=_OWN_STAGES),
    user_fault(alternation_reads_missing_losses, "effect/alternation/missed_loss"),
    user_fault(learning_rate_too_small, "floor/popularity"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
