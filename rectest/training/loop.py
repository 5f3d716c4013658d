"""The loop: train a `System` on a `World` and record it. All of it can be read in one sitting.

Order of one run: prepare, build, then steps with evaluations of ``valid`` between them, then the best weights are
put back and ``test`` is evaluated once. Evaluation can never change training: it runs in evaluation mode, without
gradients, and with every global generator put back afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.data.world import World
from rectest.errors import TrainingError, WorldError
from rectest.metrics.bounds import chance
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import evaluate, per_user
from rectest.metrics.ranks import Ranks
from rectest.systems.protocol import Batch, EvalSet, System
from rectest.training.checkpoint import save_checkpoint
from rectest.training.determinism import preserved_random_states
from rectest.training.evaluate import count_ranks
from rectest.training.recorder import Recorder

__all__ = ["EarlyStopping", "rank_split", "train_system"]


@dataclass(kw_only=True)
class EarlyStopping:
    """Keeps the best evaluation and says when to stop: after `patience` evaluations that did not improve on it.

    The first evaluation always counts as best, so that a metric that stays at zero still leaves weights to test.
    """

    measure: Measure
    patience: int | None
    best_value: float = field(default=float("nan"), init=False)
    best_step: int = field(default=0, init=False)
    misses: int = field(default=0, init=False)

    def improved(self, step: int, value: float) -> bool:
        """Record an evaluation; True when it is the best so far (ties keep the earlier one)."""
        better = value > self.best_value if self.measure.higher_is_better else value < self.best_value
        if self.best_step == 0 or better:
            self.best_value, self.best_step, self.misses = value, step, 0
            return True
        self.misses += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether training should stop."""
        return self.patience is not None and self.misses >= self.patience


def train_system(system: System[Any], world: World, run: Recorder, *, checkpoint_dir: Path | None = None) -> None:
    """Train `system` on `world` as `run.spec` says and tell `run` everything a check may want.

    Args:
        checkpoint_dir: where ``best.pt`` is written at each improvement, with the whole configuration in it.

    Raises:
        WorldError: the world is too small for the system.
        TrainingError: a loss is not finite, the batches ran out, or nobody can be evaluated.
    """
    config = system.config
    data = system.prepare(world, run.seeds.child("data"))
    valid, test = (_eval_set(system, world, data, split) for split in ("valid", "test"))
    model = system.build(data, run.seeds.child("init")).to(run.device)
    _record_start(system, world, data, model, run)
    optimizer = system.make_optimizer(model)
    stopping = EarlyStopping(measure=Measure.parse(system.measures[0]), patience=config.patience)
    best: dict[str, Tensor] = {}
    for step, batch in _numbered(system.batches(data, run.seeds), config.steps):
        _train_step(system, model, optimizer, batch, run)
        if step % config.eval_every == 0 or step == config.steps:
            ranks = rank_split(system, model, valid, run=run)
            values = evaluate(ranks, system.measures)
            run.evaluation("valid", values, step=step)
            run.ranks("valid", ranks, kind=_kind(valid))
            if stopping.improved(step, values[str(stopping.measure)]):
                best = copy.deepcopy(model.state_dict())
                _save(checkpoint_dir, system, model, optimizer, step)
            if stopping.exhausted:
                break
    run.mark_time("trained")
    _record_tables(system, model, run)
    _record_stopping(stopping, run)
    model.load_state_dict(best)
    ranks = _test(system, model, test, run)
    _record_floors(system, world, system.popularity(data), test, ranks, run)
    _record_used_ids(world, test, run)
    run.mark_time("tested")


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


def _record_start(system: System[Any], world: World, data: Any, model: nn.Module, run: Recorder) -> None:
    maps = system.id_maps(data)
    raws = {space: [""] * ids.first_index + list(ids.raws) for space, ids in maps.items()}
    run.start(model, id_maps=raws)
    run.count_parameters(model)
    run.facts["idmaps"] = {space: {"space": space, "first_index": ids.first_index} for space, ids in maps.items()}
    run.facts["inputs"] = {"world": world.digest, "source": world.source, **system.input_facts(data)}
    run.facts["settings"] = system.settings()
    run.facts["gate"]["metrics"] = list(system.gate_measures)
    run.popularity(system.popularity(data))
    for name, table in system.tables(model).items():
        run.table(name, table.weight, initial=True)


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


def _save(
    folder: Path | None, system: System[Any], model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    if folder is not None:
        settings = system.settings()
        save_checkpoint(folder / "best.pt", model=model, optimizer=optimizer, step=step, settings=settings)


def _record_tables(system: System[Any], model: nn.Module, run: Recorder) -> None:
    for name, table in system.tables(model).items():
        run.table(
            name,
            table.weight,
            space=table.space,
            padding_row=table.padding_row,
            norm=table.norm,
            moves_untouched=table.moves_untouched,
        )


def _record_stopping(stopping: EarlyStopping, run: Recorder) -> None:
    run.facts["best_step"] = stopping.best_step
    run.facts["early_stopping"] = {
        "measure": str(stopping.measure),
        "patience": stopping.patience,
        "best_value": stopping.best_value,
        "stopped_early": stopping.exhausted,
        "last_step": run.num_steps,
    }


def _test(system: System[Any], model: nn.Module, test: EvalSet, run: Recorder) -> Ranks:
    """Evaluate the best weights once, and once more: an evaluation that cannot repeat itself measures nothing."""
    ranks = rank_split(system, model, test, run=run)
    again = rank_split(system, model, test, run=run).to_arrays("")
    first = ranks.to_arrays("")
    run.facts["evaluation"]["repeatable"] = all(np.array_equal(first[key], again[key]) for key in first)
    run.ranked("test", ranks, system.measures, kind=_kind(test), gate=False)
    run.facts["protocol"]["test"]["exclude_seen"] = test.excluded is not None
    return ranks


def _kind(eval_set: EvalSet) -> str:
    return "full" if eval_set.candidates is None else "sampled"


def _record_floors(
    system: System[Any], world: World, popularity: npt.NDArray[np.int64], test: EvalSet, ranks: Ranks, run: Recorder
) -> None:
    """What chance, popularity and (where it is known) the Bayes-optimal ranking reach in the very same protocol."""
    by_popularity = _rank_fixed(popularity.astype(np.float64)[None], test)
    oracle = system.oracle_scores(world, test)
    optimal = None if oracle is None else evaluate(_rank_fixed(oracle, test), system.measures)
    floors: dict[str, dict[str, float | None]] = {}
    for measure in system.measures:
        mean, error = chance(measure, num_candidates=ranks.candidates_per_user, num_relevant=ranks.num_relevant)
        values = per_user(by_popularity, measure)
        run.array(f"floor/popularity/test/{measure}", values)
        floors[f"test/{measure}"] = {
            "chance": mean,
            "chance_se": error,
            "popularity": float(np.nanmean(values)),
            "optimum": None if optimal is None else optimal[measure],
        }
    run.facts["floors"] = floors


def _record_used_ids(world: World, test: EvalSet, run: Recorder) -> None:
    """The item ids that evaluation asks about and that serving can return; the id map must know them all."""
    asked = [*test.histories, *test.relevant, *(test.excluded or ())]
    asked += [] if test.candidates is None else [test.candidates.reshape(-1)]
    run.array("used/item/evaluation", np.unique(np.concatenate(asked)))
    run.array("used/item/serving", np.arange(1, world.num_items + 1))


def _rank_fixed(scores: npt.NDArray[np.float64], eval_set: EvalSet) -> Ranks:
    """Ranks under fixed catalogue scores: [1, V+1] for everybody, or [U, V+1]."""
    table = torch.from_numpy(scores)

    def block(rows: slice) -> Tensor:
        own = table[rows] if len(table) > 1 else table.expand(len(range(len(eval_set))[rows]), -1)
        if eval_set.candidates is None:
            return own
        return own.gather(1, torch.from_numpy(eval_set.candidates[rows]))

    relevant, excluded, candidates = eval_set.relevant, eval_set.excluded, eval_set.candidates
    return count_ranks(block, len(eval_set), relevant, excluded=excluded, candidates=candidates, block_rows=512)
