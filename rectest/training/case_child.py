"""What one rank does with a `ParityCase`: its steps, measured by `rectest.training.gradients`, as a record.

Global generators are as fresh here as in a real run: a model that is built without a seed must not look seeded.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rectest.environment import Environment
from rectest.errors import RectestError, TrainingError
from rectest.record import RunRecord, RunSpec
from rectest.training.case import ParityCase, case_of
from rectest.training.case_batch import TreeBatch, as_batch
from rectest.training.determinism import deterministic
from rectest.training.gradients import RankMeasurement, StageCallback, Stepper, put, without_dropout
from rectest.training.group_child import Group, current_group, say
from rectest.training.reduction import PLAIN, Runner, StepLosses
from rectest.training.shares import micro_batches
from rectest.training.values import as_array

__all__ = ["START", "CaseTask", "measure_alone", "measure_joined", "measure_rank"]

START = "start/"
"""Prefix of the weights with which the one process began, in its record."""


class CaseTask:
    """The loss of a case, checked each time."""

    def __init__(self, case: ParityCase) -> None:
        self.name = case.subject
        self._case = case

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The user's loss as ``total``.

        Raises:
            TrainingError: it is no finite number that can be differentiated.
        """
        return {"total": self.checked(self._case.loss(model, batch.tree))}

    def checked(self, loss: Any) -> Tensor:
        """`loss` where it can be differentiated."""
        problem = ""
        if not isinstance(loss, Tensor):
            problem = f"a {type(loss).__name__}, a tensor was needed"
        elif loss.numel() != 1:
            problem = f"a tensor of shape {tuple(loss.shape)}, one number was needed; take the mean over the rows"
        elif not torch.isfinite(loss).all():
            problem = f"{loss.item()}, a finite number was needed"
        elif torch.is_grad_enabled() and not loss.requires_grad:
            problem = "a number without a gradient; it is detached, or no parameter that is trained reaches it"
        if problem:
            msg = f"the loss of {self.name} is {problem}"
            raise TrainingError(msg)
        total: Tensor = loss.reshape(())
        return total

    def loss_terms(self, batch: Any) -> dict[str, float]:
        """How many terms the loss is a mean over."""
        terms = self._case.terms
        return {"total": float(batch.num_rows if terms is None else terms(batch.tree))}

    def total(self, _model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:
        """The loss itself."""
        return losses["total"]

    def set_rates(self, _optimizer: torch.optim.Optimizer) -> None:
        """Rates stay what the optimizer was made with: only few steps are taken."""


class _Own:
    """A user's own way of training as a `Stepper`."""

    def __init__(
        self, case: ParityCase, task: CaseTask, model: nn.Module, optimizer: torch.optim.Optimizer, told: StageCallback
    ) -> None:
        self._task, self._model, self._optimizer, self._told = task, model, optimizer, told
        self._seen: list[float] = []
        self._checked = False
        self._loss = case.loss
        assert callable(case.strategy)
        shapes = {name: value.shape for name, value in model.named_parameters()}
        self._step = case.strategy(model, self._followed)
        _same_parameters(model, shapes)
        if not callable(self._step):
            msg = (
                f"the strategy of {task.name} returned a {type(self._step).__name__}, a function of batches was needed"
            )
            raise TrainingError(msg)

    def backward(self, batches: Sequence[Any]) -> StepLosses:
        """Let the user's step leave the net gradients."""
        self._seen.clear()
        self._model.zero_grad(set_to_none=True)
        before = None if self._checked else {n: v.detach().clone() for n, v in self._model.named_parameters()}
        device = next(self._model.parameters()).device
        returned = self._step([batch.to(device).tree for batch in batches])
        if returned is not None:
            self._put(returned)
        if before is not None:
            self._check(before)
        local = sum(self._seen) / len(self._seen) if self._seen else float("nan")
        return StepLosses(local=local, reduced=local)

    def update(self) -> None:
        """Step the optimizer."""
        self._told("update")
        self._optimizer.step()

    def _followed(self, model: nn.Module, batch: Any) -> Tensor:
        """The user's loss; it tells when a forward pass, a backward pass and what follows begin."""
        self._told("forward")
        loss = self._task.checked(self._loss(model, batch))
        self._seen.append(float(loss.detach()))
        self._told("backward")
        if loss.requires_grad:
            loss.register_hook(self._when_done)  # type: ignore[no-untyped-call]
        return loss

    def _when_done(self, _gradient: Tensor) -> None:
        """In a backward pass: what comes after it reduces by hand."""
        engine: Any = torch.autograd.Variable._execution_engine
        engine.queue_callback(lambda: self._told("reduce"))

    def _put(self, gradients: Mapping[str, Tensor]) -> None:
        named = dict(self._model.named_parameters())
        for name, gradient in gradients.items():
            if name not in named:
                known = ", ".join(named)
                msg = f"the step returned a gradient of {name!r}, which the model does not have; it has {known}"
                raise TrainingError(msg)
            if gradient.shape != named[name].shape:
                found, needed = tuple(gradient.shape), tuple(named[name].shape)
                msg = f"the step returned a gradient of shape {found} for {name}, which has shape {needed}"
                raise TrainingError(msg)
            named[name].grad = gradient.detach().to(named[name])

    def _check(self, before: Mapping[str, Tensor]) -> None:
        """After the first step: there are gradients, and nobody has used them."""
        self._checked = True
        named = dict(self._model.named_parameters())
        moved = [name for name, value in before.items() if not torch.equal(value, named[name])]
        if moved:
            msg = (
                f"the step of the strategy changed {moved[0]}; it must leave gradients only, the optimizer steps after"
            )
            raise TrainingError(msg)
        if all(value.grad is None for value in named.values()):
            hint = "if its wrapper keeps them elsewhere, let the step return them by name"
            msg = f"the step of the strategy left no gradient in the parameters of the model it was given; {hint}"
            raise TrainingError(msg)


def _same_parameters(model: nn.Module, shapes: Mapping[str, torch.Size]) -> None:
    """Wrappers that shard take the parameters away; then there is nothing left to compare."""
    left = {n: v for n, v in model.named_parameters() if type(v) is nn.Parameter and v.shape == shapes.get(n)}
    gone = [name for name in shapes if name not in left or not _is_whole(left[name])]
    if gone:
        hint = "let it shard a copy.deepcopy of the model, set its weights before each step, and return full gradients"
        msg = f"the strategy replaced {gone[0]} in the model it was given, as sharding does; {hint} by name"
        raise TrainingError(msg)


def _is_whole(value: Tensor) -> bool:
    return value.numel() == 0 or value.untyped_storage().size() > 0


def measure_alone(source: ParityCase | str, changes: Mapping[str, Any], also_group: bool) -> list[RunRecord]:
    """In a group of one: the record of one process, and with `also_group` that of the case's strategy on one rank.

    The first also holds the weights that it began with, under ``start/``.
    """
    case, group = _here(source, changes)
    with _fresh(group) as environment:
        model = _built(case, group)
        start = {f"{START}{name}": as_array(value) for name, value in _state(model).items()}
        single = _measured(case, model, group, environment, alone=True)
        single = RunRecord(
            spec=single.spec, environment=environment, arrays={**single.arrays, **start}, facts=single.facts
        )
        return [single, *([_rank_of(case, group, environment, start)] if also_group else [])]


def measure_rank(source: ParityCase | str, changes: Mapping[str, Any], start: Mapping[str, Any]) -> RunRecord:
    """The record of this rank; only the first begins with the weights of the one process."""
    case, group = _here(source, changes)
    with _fresh(group) as environment:
        return _rank_of(case, group, environment, start)


def measure_joined(
    source: ParityCase | str, changes: Mapping[str, Any], alone: Any
) -> tuple[RunRecord, RunRecord | None]:
    """`measure_rank` where only rank 0 was given the one process, whose record it passes on to all.

    Args:
        alone: on rank 0 the record of one process and the weights it began with, or the error it ended with.
    """
    if isinstance(alone, RectestError):
        raise alone
    single, start = (None, {}) if alone is None else alone[:2]
    return measure_rank(source, changes, start), single


def _here(source: ParityCase | str, changes: Mapping[str, Any]) -> tuple[ParityCase, Group]:
    group = current_group()
    if group is None:
        msg = "a case is measured by the ranks that rectest.training.case_run starts"
        raise TrainingError(msg)
    say("make the case")
    return case_of(source, changes) if isinstance(source, str) else source, group


@contextmanager
def _fresh(group: Group) -> Iterator[Environment]:
    """The switches of `deterministic`, but neither its seeds nor its refusal of a kernel that it cannot vouch for."""
    with deterministic(0, device=group.device) as environment:
        torch.set_deterministic_debug_mode("warn" if group.device.startswith("cuda") else "default")
        random.seed()
        np.random.seed()  # noqa: NPY002  code under test may still draw from it
        torch.seed()
        yield environment


def _rank_of(case: ParityCase, group: Group, environment: Environment, start: Mapping[str, Any]) -> RunRecord:
    model = _built(case, group)
    if group.rank == 0:
        _load(model, start)
    return _measured(case, model, group, environment, alone=False)


def _built(case: ParityCase, group: Group) -> nn.Module:
    say("build")
    model = case.build()
    if not isinstance(model, nn.Module):
        msg = f"{case.subject}: build() returned a {type(model).__name__}, a torch.nn.Module was needed"
        raise TrainingError(msg)
    if lazy := [name for name, value in _state(model).items() if is_lazy(value)]:
        msg = f"{case.subject}: {lazy[0]} has no shape yet; let build() call the model once, as lazy modules need it"
        raise TrainingError(msg)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        msg = f"{case.subject}: the model has no parameter that is trained, so there is no gradient to compare"
        raise TrainingError(msg)
    model = model.to(torch.device(group.device)).train()
    return model if case.dropout else without_dropout(model)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _load(model: nn.Module, start: Mapping[str, Any]) -> None:
    """Put the weights of the one process into the model."""
    named = {name.removeprefix(START): value for name, value in start.items()}
    state = _state(model)
    if {n: tuple(v.shape) for n, v in state.items()} != {n: v.shape for n, v in named.items()}:
        msg = "build() made another model than in one process: its tensors have other names or shapes"
        raise TrainingError(msg)
    with torch.no_grad():
        for name, value in state.items():
            put(value, torch.from_numpy(named[name]).to(value))


def _measured(case: ParityCase, model: nn.Module, group: Group, environment: Environment, *, alone: bool) -> RunRecord:
    """Take the steps on this rank's rows, or on the whole batch by autograd `alone`."""
    task, optimizer = CaseTask(case), case.optimizer(model.parameters())
    ranks = None if alone else dist.group.WORLD
    settings = PLAIN if alone else case.reduction

    def make(told: StageCallback) -> Stepper:
        if settings is None:
            return _Own(case, task, model, optimizer, told)
        return Runner(task, model, optimizer, group=ranks, settings=settings, stage=told)

    say("batch")
    whole = _batch(case)
    measured = RankMeasurement(task=task, model=model, optimizer=optimizer, group=ranks, make=make, stage=say)
    own = [whole] if alone else _own_share(case, whole, group)
    measured.run([own] * case.steps)
    parallel = {
        **measured.facts,
        "rank": 0 if alone else group.rank,
        "world_size": 1 if alone else group.world_size,
        "backend": "none" if alone else group.backend,
        "device": group.device,
        "dtype": case.dtype or _coarsest(model),
        "job": case.to_dict() | {"shares": case.shares_on(1 if alone else group.world_size)},
        "clip_norm": None if settings is None else settings.clip_norm,
    }
    facts = {"parallel": parallel, "replicas": measured.replicas, "tables": _tables(model)}
    spec = RunSpec(system=case.subject, steps=case.steps, device=group.device)
    return RunRecord(spec=spec, environment=environment, arrays=measured.arrays, facts=facts)


def _coarsest(model: nn.Module) -> str:
    """The type of the trained parameters that rounds most; of a complex one, that of its parts."""
    known = [torch.finfo(value.dtype) for value in model.parameters() if value.requires_grad]
    return str(max(known, key=lambda info: info.eps).dtype)


def _batch(case: ParityCase) -> TreeBatch:
    tree = case.batch() if callable(case.batch) and not isinstance(case.batch, Tensor) else case.batch
    return as_batch(tree, case.cut)


def _own_share(case: ParityCase, whole: TreeBatch, group: Group) -> list[Any]:
    """This rank's micro-batches; ranks that made different batches are found by their rows."""
    shares = case.shares_on(group.world_size)
    return micro_batches(whole, rank=group.rank, world_size=group.world_size, num_micro=case.num_micro, shares=shares)


def _tables(model: nn.Module) -> dict[str, dict[str, bool]]:
    """The parameters that are embedding tables, by name."""
    weights = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    return {name: {"rows": True} for name, value in model.named_parameters() if id(value) in weights}
