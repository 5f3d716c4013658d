"""The loop: train a `System` on a `World` and record it. All of it can be read in one sitting.

Order of one run: prepare, build, then steps with evaluations of ``valid`` between them, then the best weights are
put back, ``test`` is evaluated and the probes are made. Evaluation can never change training: it runs in evaluation
mode, without gradients, and with every global generator put back afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rectest.data.world import World
from rectest.errors import TrainingError, WorldError
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import evaluate, per_user
from rectest.metrics.ranks import Ranks
from rectest.systems.protocol import Batch, EvalSet, System
from rectest.training.checkpoint import save_checkpoint
from rectest.training.determinism import preserved_random_states
from rectest.training.evaluate import count_ranks
from rectest.training.facts import (
    kind_of,
    record_floors,
    record_parameters,
    record_start,
    record_tables,
    record_used_ids,
)
from rectest.training.launch import LAST
from rectest.training.probes import probe
from rectest.training.recorder import Recorder
from rectest.training.resume import EarlyStopping, load_progress, save_progress
from rectest.training.settings import Watched

__all__ = ["EarlyStopping", "Halted", "rank_split", "train_system"]


class Halted(Exception):
    """Training stopped where it was told to, with a checkpoint to go on from."""


def train_system(
    system: System[Any],
    world: World,
    run: Recorder,
    *,
    checkpoint_dir: Path | None = None,
    resume: Path | None = None,
    halt_after: int | None = None,
) -> None:
    """Train `system` on `world` as `run.spec` says and tell `run` everything a check may want.

    Args:
        checkpoint_dir: where ``best.pt`` is written at each improvement and ``last.pt`` at each evaluation, with the
            whole configuration in it.
        resume: a ``last.pt`` of the same run to go on from.
        halt_after: end with `Halted` at the first evaluation at or after this step.

    Raises:
        WorldError: the world is too small for the system.
        TrainingError: a loss is not finite, the batches ran out, or nobody can be evaluated.
        RecordError: `resume` is no checkpoint of this run.
    """
    settings = system.settings()
    watched = Watched(system.config)
    system.config = watched.config
    data = system.prepare(world, run.seeds.child("data"))
    valid, test = (_eval_set(system, world, data, split) for split in ("valid", "test"))
    model = system.build(data, run.seeds.child("init")).to(run.device)
    run.facts["settings"] = settings
    record_start(system, world, data, model, run)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    session = _Session(
        system=system, model=model, optimizer=system.make_optimizer(model), valid=valid, run=run, settings=settings
    )
    session.train(system.batches(data, run.seeds), checkpoint_dir=checkpoint_dir, resume=resume, halt_after=halt_after)
    run.mark_time("trained")
    record_tables(system, model, run)
    record_parameters(system, model, session.optimizer, start, run)
    _record_stopping(session.stopping, run)
    model.load_state_dict(system.weights_to_test(session.best, copy.deepcopy(model.state_dict())))
    ranks = _test(system, model, valid, test, run)
    record_floors(system, world, system.popularity(data), test, ranks, run)
    record_used_ids(world, test, run)
    probe(system, model, test, run)
    _record_settings(watched, run)
    run.mark_time("tested")


class _Session:
    """The part of a run between its start and its tests: steps, evaluations, the best weights so far."""

    def __init__(
        self,
        *,
        system: System[Any],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        valid: EvalSet,
        run: Recorder,
        settings: Mapping[str, Any],
    ) -> None:
        self.system, self.model, self.optimizer = system, model, optimizer
        self.valid, self.run, self.settings = valid, run, settings
        patience = system.config.patience
        self.stopping = EarlyStopping(measure=Measure.parse(system.measures[0]), patience=patience, system=system)
        self.best: dict[str, Tensor] = {}

    def train(
        self, batches: Iterator[Batch], *, checkpoint_dir: Path | None, resume: Path | None, halt_after: int | None
    ) -> None:
        """Take every step that is left; batches of steps that a checkpoint holds are drawn and left unused."""
        done = self._resumed(resume)
        steps, every = self.system.config.steps, self.system.config.eval_every
        for step, batch in _numbered(batches, steps):
            if step <= done or self.stopping.exhausted:
                continue
            _train_step(self.system, self.model, self.optimizer, batch, self.run)
            if step % every and step != steps:
                continue
            self._evaluate(step, checkpoint_dir)
            if halt_after is not None and step >= halt_after:
                msg = f"halted after step {step}"
                raise Halted(msg)
            if self.stopping.exhausted:
                break

    def _resumed(self, resume: Path | None) -> int:
        if resume is None:
            return 0
        done, self.best = load_progress(
            resume, self.model, self.optimizer, self.run, settings=self.settings, stopping=self.stopping
        )
        return done

    def _evaluate(self, step: int, checkpoint_dir: Path | None) -> None:
        values = _validate(self.system, self.model, self.valid, self.run, step=step)
        parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer, "settings": self.settings}
        improved = self.stopping.improved(step, values[str(self.stopping.measure)])
        if improved:
            self.best = copy.deepcopy(self.model.state_dict())
        if checkpoint_dir is not None:
            if improved:
                save_checkpoint(checkpoint_dir / "best.pt", step=step, **parts)
            save_progress(checkpoint_dir / LAST, run=self.run, stopping=self.stopping, best=self.best, **parts)


def rank_split(system: System[Any], model: nn.Module, eval_set: EvalSet, *, run: Recorder | None = None) -> Ranks:
    """Ranks of every relevant item of `eval_set` under `model`; the model is left as it was found.

    When `run` is given, what the evaluation disturbed (generators that drew, parameters or buffers that moved) is
    kept in ``facts["evaluation"]`` for the purity check.
    """
    was_training, before = model.training, run.digest_of(model) if run else ""
    model.eval()
    try:
        with preserved_random_states() as drew, torch.no_grad():
            ranks = count_ranks(
                lambda rows: system.score(model, eval_set, rows),
                len(eval_set),
                eval_set.relevant,
                excluded=eval_set.excluded,
                candidates=eval_set.candidates,
                block_rows=system.config.eval_block,
            )
    finally:
        model.train(was_training)
    if run is not None:
        facts = run.facts.setdefault("evaluation", {"drew": [], "changed_model": False, "count": 0})
        facts["count"] += 1
        facts["drew"] = sorted({*facts["drew"], *drew})
        facts["changed_model"] = facts["changed_model"] or run.digest_of(model) != before
    return ranks


def _eval_set(system: System[Any], world: World, data: Any, split: str) -> EvalSet:
    eval_set = system.eval_set(data, split)
    if not any(len(items) for items in eval_set.relevant):
        problem = f"no user of {split!r} has a relevant item under the protocol of {system.name}; nothing can be scored"
        raise WorldError(world.name, problem)
    return eval_set


def _train_step(
    system: System[Any], model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, run: Recorder
) -> None:
    model.train()
    losses = system.step(model, optimizer, batch.to(run.device))
    run.step(
        loss={name: value.detach() for name, value in losses.items()},
        batch=batch.inputs,
        negatives=batch.negatives,
        model=model,
        scalars=system.scalars(model),
        rows=system.used_rows(batch),
    )


def _numbered(batches: Iterator[Batch], steps: int) -> Iterator[tuple[int, Batch]]:
    for step in range(1, steps + 1):
        batch = next(batches, None)
        if batch is None:
            msg = f"the batches ran out after {step - 1} of {steps} steps; System.batches must be endless"
            raise TrainingError(msg)
        yield step, batch


def _record_stopping(stopping: EarlyStopping, run: Recorder) -> None:
    run.facts["best_step"] = stopping.best_step
    run.facts["early_stopping"] = {
        "measure": str(stopping.measure),
        "patience": stopping.patience,
        "best_value": stopping.best_value,
        "stopped_early": stopping.exhausted,
        "last_step": run.num_steps,
    }


def _validate(
    system: System[Any], model: nn.Module, valid: EvalSet, run: Recorder, *, step: int
) -> Mapping[str, float]:
    ranks = rank_split(system, model, valid, run=run)
    values = _reported(system, "valid", ranks)
    run.evaluation("valid", values, step=step)
    run.ranks("valid", ranks, kind=kind_of(valid), measures=system.gate_measures)
    return values


def _reported(system: System[Any], split: str, ranks: Ranks) -> Mapping[str, float]:
    values = evaluate(ranks, system.measures)
    return system.reported(split, values, lambda measure: per_user(ranks, measure))


def _test(system: System[Any], model: nn.Module, valid: EvalSet, test: EvalSet, run: Recorder) -> Ranks:
    """Evaluate the tested weights once, and once more: an evaluation that cannot repeat itself measures nothing.

    ``valid`` is evaluated again as well: weights that are said to be the best must reach what the best reached.
    """
    ranks = rank_split(system, model, test, run=run)
    again = rank_split(system, model, test, run=run).to_arrays("")
    first = ranks.to_arrays("")
    run.facts["evaluation"]["repeatable"] = all(np.array_equal(first[key], again[key]) for key in first)
    run.ranks("test", ranks, kind=kind_of(test), measures=system.gate_measures)
    run.metrics("test", _reported(system, "test", ranks), gate=False)
    run.facts["protocol"]["test"]["exclude_seen"] = test.excluded is not None
    run.facts["best_again"] = dict(_reported(system, "valid", rank_split(system, model, valid, run=run)))
    return ranks


def _record_settings(watched: Watched, run: Recorder) -> None:
    """Which settings nobody asked for: one that was given and has no reader has no effect, and must not seem to."""
    given = sorted(run.spec.config)
    never = sorted(watched.names - watched.read)
    run.facts["settings_read"] = {"given": given, "unread": [k for k in given if k in never], "never_read": never}
