"""Controls: changes that look alarming in a diff and harm nothing, so that every check must stay green on them.

A suite that cries wolf is switched off. A control is trained and judged exactly as a fault is, by the same checks;
what it changes is a performance knob, an order of additions, a schedule, a seed, a draw that nobody uses. The clean
system itself is one, and so is the clean system with a feature on that some fault needs.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rectest.data.held_out import relabel_held_out
from rectest.data.world import World
from rectest.errors import TrainingError
from rectest.record import RunSpec
from rectest.seeding import SeedPlan
from rectest.systems.protocol import Batch, EvalSet, System

__all__ = [
    "HARMLESS",
    "Control",
    "foreign_draws",
    "held_out_edited",
    "other_adam_kernel",
    "other_eval_block",
    "other_eval_every",
    "reversed_batches",
    "rounding",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A harmless change of one system: ``RunSpec(system=control.system, plant=control.plant, **control.changes)``."""

    name: str
    system: str
    about: str
    """One sentence: what is changed, and why that is nobody's business."""

    plant: str = ""
    """``module:function``, as for a fault. A change of settings is planted too, where the settings of a run are what
    a baseline is recorded for."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `RunSpec` that differ from their defaults."""

    def __post_init__(self) -> None:
        for key in ("name", "system", "about"):
            if not getattr(self, key):
                msg = f"control {self.name!r}: {key} must not be empty"
                raise ValueError(msg)

    @property
    def spec(self) -> RunSpec:
        """The training that must be green."""
        return RunSpec(**{"system": self.system, "plant": self.plant, **self.changes})

    @property
    def turns_red(self) -> tuple[str, ...]:
        """Nothing."""
        return ()


def _changed(system: System[Any], **changes: Any) -> System[Any]:
    return type(system)(dataclasses.replace(system.config, **changes))


def other_eval_block(system: System[Any]) -> System[Any]:
    """Evaluation in blocks of another size: the same users, scored in other company."""
    return _changed(system, eval_block=system.config.eval_block // 3 + 1)


def other_eval_every(system: System[Any]) -> System[Any]:
    """Evaluation half as often, or twice where that would leave one: other points on the curve, the same training."""
    every, steps = system.config.eval_every, system.config.steps
    return _changed(system, eval_every=2 * every if steps > 2 * every else max(1, every // 2))


def reversed_batches(system: System[Any]) -> System[Any]:
    """The rows of every batch in reversed order: the loss is their mean, so that only its rounding changes."""
    kind: Any = type(system)

    class Reversed(kind):  # type: ignore[misc]
        def batches(self, data: Any, seeds: SeedPlan) -> Iterator[Batch]:
            for batch in super().batches(data, seeds):
                yield dataclasses.replace(
                    batch, inputs=_flipped(batch.inputs, batch), negatives=_flipped(batch.negatives, batch)
                )

    flipping: System[Any] = Reversed(system.config)
    return flipping


def _flipped(tensors: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """What has one entry for each row of the batch is turned round; what all rows share is left."""
    own = {name for name, v in tensors.items() if v.dim() > 0 and len(v) == batch.num_rows} - batch.shared
    return {name: value.flip(0) if name in own else value for name, value in tensors.items()}


def other_adam_kernel(system: System[Any]) -> System[Any]:
    """Adam for all tensors at once instead of one by one: the same update in another order of operations."""
    kind: Any = type(system)

    class ManyTensors(kind):  # type: ignore[misc]
        def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
            optimizer: torch.optim.Optimizer = super().make_optimizer(model)
            for group in optimizer.param_groups:
                group["foreach"] = True
            return optimizer

    batched: System[Any] = ManyTensors(system.config)
    return batched


def foreign_draws(system: System[Any]) -> System[Any]:
    """Something else draws from all global generators at every step; the system's streams are its own."""
    kind: Any = type(system)

    class Disturbed(kind):  # type: ignore[misc]
        def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
            random.random()
            np.random.random()  # noqa: NPY002  the global generator is what is disturbed
            torch.rand(())
            losses: dict[str, Tensor] = super().losses(model, batch)
            return losses

    disturbed: System[Any] = Disturbed(system.config)
    return disturbed


def rounding(system: System[Any]) -> System[Any]:
    """Every initial parameter moved to a neighbouring float, up or down by a fixed draw: what rounding alone does."""
    kind: Any = type(system)

    class Rounded(kind):  # type: ignore[misc]
        def build(self, data: Any, seeds: SeedPlan) -> nn.Module:
            model: nn.Module = super().build(data, seeds)
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in model.parameters():
                    up = torch.rand(parameter.shape, generator=generator) < 0.5
                    far = torch.where(up, torch.inf, -torch.inf).to(parameter.dtype)
                    # A zero stays one: padding rows, and biases that have no scale of their own yet.
                    parameter.copy_(torch.where(parameter == 0, parameter, torch.nextafter(parameter, far)))
            return model

    rounded: System[Any] = Rounded(system.config)
    return rounded


def held_out_edited(system: System[Any]) -> System[Any]:
    """Every held-out event has another item: what is tested changes, training must not."""
    kind: Any = type(system)

    class Edited(kind):  # type: ignore[misc]
        def prepare(self, world: World, seeds: SeedPlan) -> Any:
            rows = self.held_out(world)
            if rows is None:
                msg = f"{self.name} holds out whole users, so no event of a trained user can be another"
                raise TrainingError(msg)
            edited = relabel_held_out(world, rows, SeedPlan(root=0).rng("held_out"))
            self._digest = edited.digest
            return super().prepare(edited, seeds)

        def input_facts(self, data: Any) -> dict[str, Any]:
            return {**super().input_facts(data), "world": self._digest}

        def oracle_scores(self, world: World, eval_set: EvalSet) -> None:  # noqa: ARG002  its law no longer holds
            return None

    edited: System[Any] = Edited(system.config)
    return edited


HARMLESS = (other_eval_block, other_eval_every, reversed_batches, other_adam_kernel, foreign_draws)
"""The planters that work on any system; `held_out_edited` is for the leak check, whose metrics are of other targets."""
