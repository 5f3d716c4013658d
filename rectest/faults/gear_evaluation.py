"""Faults for `GEAR`: what went wrong when report 004's system was evaluated, selected and reported.

The model trains as it should; candidates, scores, means, the choice of weights or the table of metrics are wrong.

Shapes: B batch, L rows, V items, C candidates, U users.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.data.world import World
from rectest.faults.gear import as_fault, planted
from rectest.metrics.measure import Measure
from rectest.seeding import SeedPlan
from rectest.systems.gear.batches import GEARData
from rectest.systems.gear.candidates import CandidateCache, CandidateKey
from rectest.systems.gear.system import GEAR
from rectest.systems.protocol import Batch, EvalSet, System

__all__ = [
    "CATALOGUE",
    "batch_means",
    "candidates_by_hash",
    "constant_scores",
    "last_weights_tested",
    "lowest_is_best",
    "nan_scores",
    "one_user_squeezed",
    "positives_among_candidates",
    "recall_column_shifted",
    "scores_in_bfloat16",
    "stale_candidates",
    "target_among_inputs",
    "target_twice",
]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class _NamedBySize(CandidateCache):
    """Keeps candidates under the name of the sampler and its size."""

    def name(self, key: CandidateKey) -> str:
        return f"{key.sampler}-{key.num_drawn}-{key.split}"


class _StaleCandidates(GEAR):
    cache_class = _NamedBySize

    def prepare(self, world: World, seeds: SeedPlan) -> GEARData:
        data = super().prepare(world, seeds)
        older = dataclasses.replace(data, users=data.users[::-1].copy(), train_ends=data.train_ends[::-1].copy())
        for split in ("valid", "test"):
            if self.config.eval_candidates is not None:
                self.candidates(older, split)
        return data

    def candidates(self, data: GEARData, split: str) -> IntArray:
        """The drawn items as they are kept; the target takes the slot of one of them."""
        rows = super().candidates(data, split)
        targets = data.rows.items[data.held_out_place(split)]
        missing = np.flatnonzero((rows == targets[:, None]).sum(axis=1) == 0)
        rows[missing, SeedPlan(root=0).rng(split).integers(0, rows.shape[1], len(missing))] = targets[missing]
        return rows


def stale_candidates(system: System[Any]) -> System[Any]:
    """Candidates are kept under the sampler and its size alone: those of older data are found again (report 004)."""
    return planted(_StaleCandidates, system)


class _CandidatesByHash(GEAR):
    def candidates(self, data: GEARData, split: str) -> IntArray:
        rows = super().candidates(data, split)
        targets = data.rows.items[data.held_out_place(split)]
        order = np.array(list({f"{item}" for item in range(1, data.num_items + 1)}), dtype=np.int64)
        ends = data.rows.offsets[data.users + 1]
        for row, (start, end) in enumerate(zip(data.train_starts, ends, strict=True)):
            fresh = order[~np.isin(order, data.rows.items[start:end])][: rows.shape[1] - 1]
            slot = rows[row] == targets[row]
            rows[row, ~slot] = fresh
        return rows


def candidates_by_hash(system: System[Any]) -> System[Any]:
    """Negatives are the first of a set of strings: everybody's are nearly the same, and another hash seed's others."""
    return planted(_CandidatesByHash, system)


class _TargetTwice(GEAR):
    def candidates(self, data: GEARData, split: str) -> IntArray:
        rows = super().candidates(data, split)
        targets = data.rows.items[data.held_out_place(split)]
        first_negative = (rows != targets[:, None]).argmax(axis=1)
        rows[np.arange(len(rows)), first_negative] = targets
        return rows


def target_twice(system: System[Any]) -> System[Any]:
    """Negatives are drawn from all items, the target among them: it stands there twice."""
    return planted(_TargetTwice, system)


class _PositivesAmongCandidates(GEAR):
    def candidates(self, data: GEARData, split: str) -> IntArray:
        rows = super().candidates(data, split)
        targets = data.rows.items[data.held_out_place(split)]
        first_negative = (rows != targets[:, None]).argmax(axis=1)
        known = data.rows.items[data.train_starts]
        repeats = (rows == known[:, None]).any(axis=1)
        kept = rows[np.arange(len(rows)), first_negative]
        rows[np.arange(len(rows)), first_negative] = np.where(repeats, kept, known)
        return rows


def positives_among_candidates(system: System[Any]) -> System[Any]:
    """Negatives are not held against the user's own rows: a seen item competes with the target."""
    return planted(_PositivesAmongCandidates, system)


class _TargetAmongInputs(GEAR):
    def eval_set(self, data: GEARData, split: str) -> EvalSet:
        clean = super().eval_set(data, split)
        targets = torch.from_numpy(data.rows.items[data.held_out_place(split)])
        items = torch.cat([clean.inputs["items"][:, 1:], targets[:, None]], dim=1)
        return dataclasses.replace(clean, inputs={**clean.inputs, "items": items})


def target_among_inputs(system: System[Any]) -> System[Any]:
    """The items of a row are cut one place too far: the newest of them is the one that is asked for."""
    return planted(_TargetAmongInputs, system)


class _OneUserSqueezed(GEAR):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        inputs = {name: values[rows].squeeze() for name, values in eval_set.inputs.items()}
        if inputs["behaviours"].ndim == 1:
            inputs = {name: values[-2:][None] for name, values in inputs.items()}
            inputs["items"] = inputs["items"][:, -1:]
        candidates = None if eval_set.candidates is None else eval_set.candidates[rows]
        cut = dataclasses.replace(eval_set, inputs=inputs, candidates=candidates)
        return super().score(model, cut, slice(None))


def one_user_squeezed(system: System[Any]) -> System[Any]:
    """`squeeze()` takes the batch dimension off a block of one user, and what is cut next are rows, not users."""
    return planted(_OneUserSqueezed, system)


class _ScoresInBfloat16(GEAR):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        return (super().score(model, eval_set, rows) / 10 + 5).bfloat16().float()


def scores_in_bfloat16(system: System[Any]) -> System[Any]:
    """Scores near 5 in bfloat16: a few distinct values are left, and the order among equals decides the metric."""
    return planted(_ScoresInBfloat16, system)


class _NanScores(GEAR):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        return super().score(model, eval_set, rows) * math.nan


def nan_scores(system: System[Any]) -> System[Any]:
    """Every score is NaN: no candidate is above the target, so a counting ranker puts it first."""
    return planted(_NanScores, system)


class _ConstantScores(GEAR):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        return torch.zeros_like(super().score(model, eval_set, rows))


def constant_scores(system: System[Any]) -> System[Any]:
    """All scores are equal: whoever breaks ties by position finds the target wherever it was put."""
    return planted(_ConstantScores, system)


class _LastWeightsTested(GEAR):
    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
        (group,) = optimizer.param_groups
        group["taken"] = group.get("taken", 0) + 1
        late = group["taken"] > 0.75 * self.config.steps
        group["lr"] = (_SPIKE if late else 1.0) * self.config.learning_rate
        return super().step(model, optimizer, batch)

    def weights_to_test(self, best: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> Mapping[str, Tensor]:  # noqa: ARG002
        return last


_SPIKE = 20.0
"""The learning rate of the last quarter over the one before it: short training has no best step behind it otherwise."""


def last_weights_tested(system: System[Any]) -> System[Any]:
    """Training goes on past its best, and what is tested are the last weights: no checkpoint watches (report 004)."""
    return planted(_LastWeightsTested, system)


class _LowestIsBest(GEAR):
    def is_better(self, value: float, best: float, *, higher_is_better: bool) -> bool:
        return super().is_better(value, best, higher_is_better=not higher_is_better)


def lowest_is_best(system: System[Any]) -> System[Any]:
    """Early stopping minimises nDCG: the first evaluation stays the best for ever."""
    return planted(_LowestIsBest, system)


class _BatchMeans(GEAR):
    def reported(
        self,
        split: str,  # noqa: ARG002  all splits alike
        values: Mapping[str, float],
        per_user: Callable[[str], FloatArray],
    ) -> Mapping[str, float]:
        return {name: _mean_of_means(per_user(name), self.config.batch_size) for name in values}


def _mean_of_means(values: FloatArray, size: int) -> float:
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return float(np.mean([np.nanmean(part) for part in parts if np.isfinite(part).any()]))


def batch_means(system: System[Any]) -> System[Any]:
    """The metric is the mean of the batches' means: users of a short last batch weigh more (report 004)."""
    return planted(_BatchMeans, system)


class _RecallColumnShifted(GEAR):
    def reported(
        self,
        split: str,  # noqa: ARG002  all splits alike
        values: Mapping[str, float],
        per_user: Callable[[str], FloatArray],  # noqa: ARG002  only the table of means is wrong
    ) -> Mapping[str, float]:
        depths = sorted(found.k or 0 for found in map(Measure.parse, values) if found.name == "recall")
        later = {f"recall@{k}": f"recall@{next_k}" for k, next_k in pairwise(depths) if k >= 10}
        return {name: values[later.get(name, name)] for name in values}


def recall_column_shifted(system: System[Any]) -> System[Any]:
    """From recall@10 on every cell holds its right neighbour's value, as in report 004's table."""
    return planted(_RecallColumnShifted, system)


CATALOGUE = (
    as_fault(stale_candidates, "effect/test_candidates_seen"),
    as_fault(candidates_by_hash, "reproducible"),
    as_fault(target_twice, "training"),
    as_fault(positives_among_candidates, "effect/test_candidates_seen"),
    as_fault(target_among_inputs, "effect/test_rows"),
    as_fault(one_user_squeezed, "invariance/blocks"),
    as_fault(scores_in_bfloat16, "coherence/ties"),
    as_fault(nan_scores, "training"),
    as_fault(constant_scores, "coherence/ties", "chance"),
    as_fault(last_weights_tested, "checkpoint/best"),
    as_fault(lowest_is_best, "accounting/early_stop"),
    as_fault(batch_means, "evaluation/batch_means"),
    as_fault(recall_column_shifted, "coherence"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
