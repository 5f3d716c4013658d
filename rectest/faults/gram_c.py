"""Faults in the model, the training and the decoding of `GramCSystem`: report 003's true causes, and classics.

Faults of what the system is given are in `gram_c_data`. The two ways of getting gradient accumulation wrong need
accumulation, and the last of them an epoch's end within the run; the settings say so.

Shapes: B batch, M places of the decoder.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from rectest.faults.gram_c_data import entry, planted
from rectest.seeding import SeedPlan
from rectest.systems.gram_c.data import GramCData
from rectest.systems.gram_c.model import GramC
from rectest.systems.gram_c.system import GramCSystem
from rectest.systems.gram_c.text import PAD
from rectest.systems.protocol import Batch, EvalSet, System

__all__ = [
    "CATALOGUE",
    "beam_too_small",
    "decoder_not_loaded",
    "loss_not_divided",
    "no_causal_mask",
    "slow_learning_rate",
    "tail_divided_by_full_count",
    "targets_not_shifted",
]

_BEAM: Mapping[str, Any] = {"decoding": "beam"}
_ACCUMULATED: Mapping[str, Any] = {"accumulation": 4, "batch_size": 128, "steps": 150, "eval_every": 75}
"""Four micro-batches a step, and an epoch of 135 steps on the default world, of which the last has two."""


class _SeesAll(GramC):
    def causal_mask(self, depth_M: Tensor) -> Tensor:
        return torch.ones(len(depth_M), len(depth_M), dtype=torch.bool, device=depth_M.device)


class _NoCausalMask(GramCSystem):
    model_class = _SeesAll


def no_causal_mask(system: System[Any]) -> System[Any]:
    """The decoder has no causal mask: in training each place sees the token that it should write."""
    return planted(_NoCausalMask, system)


class _ReadsItsTargets(GramC):
    def decoder_inputs(self, target_BM: Tensor) -> Tensor:
        return target_BM.clamp_min(PAD)


class _TargetsNotShifted(GramCSystem):
    model_class = _ReadsItsTargets


def targets_not_shifted(system: System[Any]) -> System[Any]:
    """The decoder's inputs are its targets, not moved by one place: it learns to copy."""
    return planted(_TargetsNotShifted, system)


class _DecoderNotLoaded(GramCSystem):
    def build(self, data: GramCData, seeds: SeedPlan) -> GramC:
        model = super().build(data, seeds)
        self._fresh = copy.deepcopy(model)
        return model

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        saved = {name.replace("decoder.", "module.decoder."): value for name, value in model.state_dict().items()}
        served = copy.deepcopy(self._fresh).to(cast(GramC, model).prefix.table.device)
        served.load_state_dict(saved, strict=False)
        return super().score(served.eval(), eval_set, rows)


def decoder_not_loaded(system: System[Any]) -> System[Any]:
    """Served from a checkpoint whose decoder has other names, loaded with strict=False: the decoder stays random."""
    return planted(_DecoderNotLoaded, system)


def beam_too_small(system: System[Any]) -> System[Any]:
    """A beam of 10 for a list of 10, as in report 003's run; it loses items that the model ranks among the best."""
    return planted(GramCSystem, system, **_BEAM, beam_size=10)


class _LossNotDivided(GramCSystem):
    def micro_weights(self, micro: list[Batch]) -> list[float]:
        return [1.0] * len(micro)


def loss_not_divided(system: System[Any]) -> System[Any]:
    """Losses of micro-batches are means and are added up undivided: the gradient is too large by their number."""
    return planted(_LossNotDivided, system)


class _TailDividedByFullCount(GramCSystem):
    def micro_weights(self, micro: list[Batch]) -> list[float]:
        return [1.0 / self.config.accumulation] * len(micro)


def tail_divided_by_full_count(system: System[Any]) -> System[Any]:
    """The last step of an epoch has fewer micro-batches, and its loss is still divided by the full number."""
    return planted(_TailDividedByFullCount, system)


def slow_learning_rate(system: System[Any]) -> System[Any]:
    """A tenth of the learning rate and twice the warm-up: the true cause of report 003's slow loss."""
    config = planted(GramCSystem, system).config
    return planted(GramCSystem, system, learning_rate=config.learning_rate / 10, warmup=2 * config.warmup)


CATALOGUE = (
    entry(no_causal_mask, "floor/popularity"),
    entry(targets_not_shifted, "floor/popularity"),
    entry(decoder_not_loaded, "floor/popularity"),
    entry(beam_too_small, "effect/decoding/overlap@10", settings=_BEAM),
    entry(loss_not_divided, "effect/accumulation/deviation", settings=_ACCUMULATED),
    entry(tail_divided_by_full_count, "effect/accumulation/deviation", settings=_ACCUMULATED),
    entry(slow_learning_rate, "baseline"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
