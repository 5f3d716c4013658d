"""Faults that any training can have, for every system: what the self-test of the gate trains and must notice.

They are no part of the fault matrix, whose faults each belong to one system and declare the check that sees them.
These are told to the gate alone, and what is asked is which of its levels says what. Some change the numbers and not
the quality, which a gate may call CHANGED and not FAIL. One changes neither: twice the gradient is divided out again by
Adam, so that only the lengths of the first step's gradients tell of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rectest.errors import TrainingError
from rectest.systems.protocol import Batch, EvalSet, System

__all__ = [
    "PLANTS",
    "TrainingFault",
    "dropout_in_evaluation",
    "gradient_doubled",
    "gradients_kept",
    "half_batches",
    "labels_shifted",
    "learning_rate_halved",
    "positives_among_negatives",
    "steps_skipped",
    "users_skipped",
]

AnySystem = System[Any]

_LABELS = {"adaptive_sasrec": "positives", "comirec": "target", "gram_c": "target_ids", "ur4rec": "positives"}
"""The input that holds what is to be predicted; the labels of `gear` come from a method."""

_NEGATIVES = {
    "adaptive_sasrec": {"items": "positives"},
    "comirec": {"item": "target"},
    "ur4rec": {"sasrec": "positives", "retriever": "picked"},
}
"""Negatives and the input that holds the positives beside them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFault:
    """One way to plant."""

    plant: Callable[[AnySystem], AnySystem]
    systems: frozenset[str] = frozenset()
    """Where it changes anything at the defaults (a system that samples no negatives, or trains without dropout, has
    nothing to plant it in); everywhere if empty."""

    never: frozenset[str] = frozenset()
    """Where the system itself refuses it."""

    @property
    def name(self) -> str:
        """As in tables."""
        return self.plant.__name__

    @property
    def place(self) -> str:
        """As in `RunSpec.plant`."""
        return f"{self.plant.__module__}:{self.name}"

    @property
    def about(self) -> str:
        """One sentence."""
        return " ".join((self.plant.__doc__ or "").split())

    def fits(self, system: str) -> bool:
        """Whether it can be planted in this system."""
        return system not in self.never and (not self.systems or system in self.systems)


def _subclass(system: AnySystem, **methods: Any) -> AnySystem:
    """The system with some methods replaced; each gets the healthy one of the same name as ``healthy``."""
    kind = type(system)
    changed = {name: _with(getattr(kind, name), method) for name, method in methods.items()}
    planted: AnySystem = type(kind.__name__, (kind,), {"__module__": kind.__module__, **changed})(system.config)
    return planted


def _with(healthy: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    def replaced(self: AnySystem, *args: Any) -> Any:
        return method(lambda *own: healthy(self, *own), *args)

    return replaced


def learning_rate_halved(system: AnySystem) -> AnySystem:
    """Every learning rate is half of what is configured."""
    names = [field.name for field in dataclasses.fields(system.config) if field.name.endswith("learning_rate")]
    halved = {name: getattr(system.config, name) / 2 for name in names}
    return type(system)(dataclasses.replace(system.config, **halved))


def gradient_doubled(system: AnySystem) -> AnySystem:
    """The optimizer gets twice the gradient; Adam divides it out again, but for its epsilon and weight decay."""

    def twice(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(2)

    def make_optimizer(healthy: Any, model: nn.Module) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = healthy(model)
        optimizer.register_step_pre_hook(twice)
        return optimizer

    return _subclass(system, make_optimizer=make_optimizer)


def gradients_kept(system: AnySystem) -> AnySystem:
    """Gradients are never reset, so that each step goes along the sum of all gradients so far."""

    def make_optimizer(healthy: Any, model: nn.Module) -> torch.optim.Optimizer:
        optimizer: Any = healthy(model)
        optimizer.zero_grad = lambda **_: None
        kept: torch.optim.Optimizer = optimizer
        return kept

    return _subclass(system, make_optimizer=make_optimizer)


def steps_skipped(system: AnySystem) -> AnySystem:
    """One optimizer step in four is not taken."""

    def make_optimizer(healthy: Any, model: nn.Module) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = healthy(model)
        calls = [0]

        def drop(self: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
            calls[0] += 1
            if calls[0] % 4 == 0:
                # Adam passes over parameters without a gradient, its count of steps included.
                self.zero_grad(set_to_none=True)

        optimizer.register_step_pre_hook(drop)
        return optimizer

    return _subclass(system, make_optimizer=make_optimizer)


def half_batches(system: AnySystem) -> AnySystem:
    """The second half of every batch is never looked at."""

    def losses(healthy: Any, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = healthy(model, batch.rows(0, max(1, batch.num_rows // 2)))
        return found

    return _subclass(system, losses=losses)


def labels_shifted(system: AnySystem) -> AnySystem:
    """Labels are off by one row: each row of a batch is asked for what belongs to the row before it."""
    if hasattr(system, "item_targets"):
        return _subclass(system, item_targets=lambda healthy, inputs: healthy(inputs).roll(1, 0))
    key = _known(_LABELS, system)

    def losses(healthy: Any, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        moved = {**batch.inputs, key: batch.inputs[key].roll(1, 0)}
        found: dict[str, Tensor] = healthy(model, dataclasses.replace(batch, inputs=moved))
        return found

    return _subclass(system, losses=losses)


def positives_among_negatives(system: AnySystem) -> AnySystem:
    """Negatives are drawn without leaving out the positive, and every fourth one is it."""
    pairs = _known(_NEGATIVES, system)

    def losses(healthy: Any, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        mixed = {name: _mixed(batch.negatives[name], batch.inputs[key]) for name, key in pairs.items()}
        changed = dataclasses.replace(batch, negatives={**batch.negatives, **mixed})
        found: dict[str, Tensor] = healthy(model, changed)
        return found

    return _subclass(system, losses=losses)


def _mixed(negatives: Tensor, positives: Tensor) -> Tensor:
    """The negatives with a positive in every fourth place; negatives that all rows share get those of the first."""
    wide = positives[..., None].expand_as(negatives) if negatives.dim() > positives.dim() else positives
    flat, found = wide.flatten(), negatives.clone().flatten()
    places = torch.arange(0, len(found), 4)
    # What all rows share is a sample without repetition, and stays one in length.
    found[places] = flat[places % len(flat)]
    return found.view_as(negatives)


def dropout_in_evaluation(system: AnySystem) -> AnySystem:
    """The model is in training mode while it is evaluated."""

    def score(healthy: Any, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        model.train()
        try:
            scores: Tensor = healthy(model, eval_set, rows)
        finally:
            model.eval()
        return scores

    return _subclass(system, score=score)


def users_skipped(system: AnySystem) -> AnySystem:
    """Users that do not fill the last evaluation block of 64 are never scored, as with ``drop_last``."""

    def eval_set(healthy: Any, data: Any, split: str) -> EvalSet:
        whole: EvalSet = healthy(data, split)
        kept = max(1, (len(whole) - 1) // 64 * 64)
        return dataclasses.replace(
            whole,
            users=whole.users[:kept],
            histories=whole.histories[:kept],
            relevant=whole.relevant[:kept],
            inputs={name: value[:kept] for name, value in whole.inputs.items()},
            candidates=None if whole.candidates is None else whole.candidates[:kept],
            excluded=None if whole.excluded is None else whole.excluded[:kept],
        )

    return _subclass(system, eval_set=eval_set)


def _known(table: Mapping[str, Any], system: AnySystem) -> Any:
    if system.name not in table:
        msg = f"{system.name} has nothing to plant this in; it is for {', '.join(sorted(table))}"
        raise TrainingError(msg)
    return table[system.name]


PLANTS = (
    TrainingFault(plant=learning_rate_halved),
    TrainingFault(plant=gradient_doubled),
    TrainingFault(plant=gradients_kept),
    TrainingFault(plant=steps_skipped),
    TrainingFault(plant=half_batches),
    TrainingFault(plant=labels_shifted, systems=frozenset({*_LABELS, "gear"})),
    TrainingFault(plant=positives_among_negatives, systems=frozenset(_NEGATIVES)),
    TrainingFault(plant=dropout_in_evaluation, systems=frozenset({"gram_c", "ur4rec"})),
    # gear holds the candidates of its users against what they own, and refuses a set without some of them.
    TrainingFault(plant=users_skipped, never=frozenset({"gear"})),
)
"""All of them, in the order of the table."""
