"""What the loop tells of a run beside its steps: the start, the tables, the parameters, the floors, the ids in use.

Owns no order and no decision: `loop` calls these once each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.data.world import World
from rectest.metrics.bounds import chance
from rectest.metrics.ranking import evaluate, per_user
from rectest.metrics.ranks import Ranks
from rectest.systems.protocol import EvalSet, System
from rectest.training.evaluate import count_ranks
from rectest.training.recorder import Recorder

__all__ = ["kind_of", "record_floors", "record_parameters", "record_start", "record_tables", "record_used_ids"]


def record_start(system: System[Any], world: World, data: Any, model: nn.Module, run: Recorder) -> None:
    """Id maps, fresh parameters, input digests, settings, popularity and the tables as they begin."""
    maps = system.id_maps(data)
    raws = {space: [""] * ids.first_index + list(ids.raws) for space, ids in maps.items()}
    run.start(model, id_maps=raws)
    run.facts["idmaps"] = {space: {"space": space, "first_index": ids.first_index} for space, ids in maps.items()}
    run.facts["inputs"] = {"world": world.digest, "source": world.source, **system.input_facts(data)}
    run.facts["gate"]["metrics"] = list(system.gate_measures)
    run.popularity(system.popularity(data))
    for space, counts in system.other_popularity(data).items():
        run.popularity(counts, space=space)
    for name, table in system.tables(model).items():
        run.table(name, table.weight, initial=True)


def record_tables(system: System[Any], model: nn.Module, run: Recorder) -> None:
    """The tables as they ended, with what they promise."""
    for name, table in system.tables(model).items():
        run.table(
            name,
            table.weight,
            space=table.space,
            padding_row=table.padding_row,
            norm=table.norm,
            moves_untouched=table.moves_untouched,
            frozen=table.frozen,
        )


def record_parameters(
    system: System[Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    start: Mapping[str, Tensor],
    run: Recorder,
) -> None:
    """Of every parameter: its size, whether it trains, whether an optimizer holds it, and how far it moved.

    A movement is ||end - start|| / ||start||, or ||end|| where it started at zero, with the last step's weights.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    named = {
        name: {
            "numel": parameter.numel(),
            "trainable": parameter.requires_grad,
            "optimized": id(parameter) in held,
            "moved": _movement(parameter.detach(), start[name]),
        }
        for name, parameter in model.named_parameters()
    }
    sizes = [(values["numel"], values["trainable"]) for values in named.values()]
    run.facts["parameters"] = {
        "total": sum(size for size, _ in sizes),
        "trainable": sum(size for size, trains in sizes if trains),
        "named": named,
    }
    branches = system.branches(model)
    run.facts["branches"] = {
        name: {"parameters": prefix, "loss": component} for name, (prefix, component) in branches.items()
    }


def _movement(end: Tensor, start: Tensor) -> float:
    length = float(start.double().norm())
    moved = float((end.double() - start.to(end.device).double()).norm())
    return moved / length if length > 0 else moved


def record_floors(
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


def record_used_ids(world: World, test: EvalSet, run: Recorder) -> None:
    """The item ids that evaluation asks about and that serving can return; the id map must know them all."""
    asked = [*test.histories, *test.relevant, *(test.excluded or ())]
    asked += [] if test.candidates is None else [test.candidates.reshape(-1)]
    run.array("used/item/evaluation", np.unique(np.concatenate(asked)))
    run.array("used/item/serving", np.arange(1, world.num_items + 1))


def kind_of(eval_set: EvalSet) -> str:
    """``full`` (the whole catalogue is ranked) or ``sampled``."""
    return "full" if eval_set.candidates is None else "sampled"


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
