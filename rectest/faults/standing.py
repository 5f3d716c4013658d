"""Standing faults: what every baseline must be able to see before it is allowed to be one.

A gate that nothing fails is no gate. Each registered system has a few cheap faults whose loss curve looks fine, whose
numbers no oracle refuses, and which only a comparison with stored runs can show. Before a baseline is written each is
planted and gated against it; one that survives refuses the baseline. Faults of a single system are in its own file.

Who trains and what a gate says are given as functions: nothing here knows baselines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rectest.checks.result import CheckResult, Verdict
from rectest.faults.fault import Fault
from rectest.record import RunRecord, RunSpec
from rectest.systems.protocol import EvalSet, System

__all__ = [
    "SEEN",
    "STANDING",
    "eighth_of_users_confused",
    "half_of_users_confused",
    "named_fault",
    "slow_learning_rate",
    "standing_faults",
    "surviving",
    "third_of_users_confused",
]

TrainMany = Callable[[Sequence[RunSpec]], list[RunRecord]]
Judge = Callable[[RunSpec, TrainMany], CheckResult]
"""Trains a spec as a gate does, as many seeds as it takes, and gives the gate's verdict."""

SEEN = frozenset({Verdict.FAIL, Verdict.CHANCE, Verdict.SUSPICIOUS})
"""Verdicts that see a fault. CHANGED is not one of them: other bits are all it takes, and a person may accept it."""

SLOWER = 4
"""What `slow_learning_rate` divides by; a half is caught by the loss alone, and not by every short training."""


def slow_learning_rate(system: System[Any]) -> System[Any]:
    """Every learning rate of the configuration is a quarter of what it says: training runs, and ends too early."""
    rates = {
        field.name: getattr(system.config, field.name) / SLOWER
        for field in dataclasses.fields(system.config)
        if field.name.endswith("learning_rate") and getattr(system.config, field.name) is not None
    }
    slow: System[Any] = type(system)(dataclasses.replace(system.config, **rates))
    return slow


def half_of_users_confused(system: System[Any]) -> System[Any]:
    """Every second evaluated user is recommended what is meant for the one before: lists that look as good as any."""
    return _confused(system, every=2)


def third_of_users_confused(system: System[Any]) -> System[Any]:
    """Every third evaluated user is recommended what is meant for the one before: lists that look as good as any."""
    return _confused(system, every=3)


def eighth_of_users_confused(system: System[Any]) -> System[Any]:
    """Every eighth evaluated user is recommended what is meant for the one before: lists that look as good as any."""
    return _confused(system, every=8)


def _confused(system: System[Any], *, every: int) -> System[Any]:
    kind: Any = type(system)

    class Confused(kind):  # type: ignore[misc]
        def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
            scores: Tensor = super().score(model, eval_set, rows)
            source = torch.arange(len(scores), device=scores.device)
            source[every - 1 :: every] -= 1
            return scores[source]

    confused: System[Any] = Confused(system.config)
    return confused


def _fault(planter: Callable[[System[Any]], System[Any]], system: str) -> Fault:
    about = " ".join((planter.__doc__ or "").split())
    name = planter.__name__
    return Fault(name=name, plant=f"{__name__}:{name}", system=system, turns_red=("baseline",), about=about)


STANDING: dict[str, tuple[Fault, ...]] = {
    name: (_fault(slow_learning_rate, name), _fault(confused, name))
    for name, confused in (
        ("adaptive_sasrec", third_of_users_confused),
        ("comirec", third_of_users_confused),
        ("gear", eighth_of_users_confused),
        ("gram_c", half_of_users_confused),
        ("ur4rec", third_of_users_confused),
    )
}
"""By registered system, what a baseline of it must see. How many users are confused is what the noise of a system and
its distance from popularity leave room for: less is lost in gram_c's noise, more puts gear below counting."""


def named_fault(system: str, plant: str) -> Fault:
    """A user's own standing fault, ``module:function``, for a system of theirs.

    Raises:
        ValueError: `plant` does not look like ``module:function``.
    """
    about = "named by the person who records the baseline"
    return Fault(name=plant.rpartition(":")[2], plant=plant, system=system, turns_red=("baseline",), about=about)


def standing_faults(system: str, plants: Iterable[str] = ()) -> tuple[Fault, ...]:
    """The faults that stand for `system`, and those that a user names; none for a system that is not registered."""
    return (*STANDING.get(system, ()), *(named_fault(system, plant) for plant in plants))


def surviving(
    spec: RunSpec, judge: Judge, train: TrainMany, *, faults: Iterable[Fault]
) -> Iterator[tuple[Fault, CheckResult]]:
    """Each fault that the gate does not see when it is planted in `spec`, with what the gate said instead.

    Raises:
        RectestError: the training of a fault failed, which proves nothing.
    """
    for fault in faults:
        found = judge(spec.with_(plant=fault.plant), train)
        if found.verdict not in SEEN:
            yield fault, found
