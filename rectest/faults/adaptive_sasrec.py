"""Faults for `AdaptiveSASRec`: what really went wrong in report 002's system, and classics of next-item training.

Every plant takes the clean system and returns one with the same settings that is wrong in one place. Plants for an
optional feature switch that feature on, because a fault in something unused cannot show; the catalogue names the
settings, so that the clean system can be trained with the feature on too.

Shapes: B batch, L sequence, D embedding, V items, U users.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.data.negatives import Negatives, PopularityNegatives, UniformNegatives
from rectest.data.worlds import World
from rectest.faults.fault import Fault
from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.batches import SASRecData, draw_batches
from rectest.systems.adaptive_sasrec.model import SASRec
from rectest.systems.adaptive_sasrec.negatives import NegativeSchedule
from rectest.systems.adaptive_sasrec.system import AdaptiveSASRec
from rectest.systems.protocol import Batch, EvalSet, System

__all__ = [
    "CATALOGUE",
    "constant_scores",
    "dropout_in_eval",
    "evaluation_steals_rng",
    "id_as_popularity",
    "inert_smart_negatives",
    "learning_rate_halved",
    "nan_scores",
    "no_causal_mask",
    "optimizer_misses_table",
    "padding_row_nonzero",
    "padding_row_trains",
    "positives_as_negatives",
    "recall_drop",
    "sasrec_fault",
    "sasrec_planted",
    "serve_with_dot",
    "time_reversed",
    "unseeded_negatives",
]

Faulty = TypeVar("Faulty", bound=AdaptiveSASRec)

_SMART: Mapping[str, Any] = {"smart_negatives": True}
_BLEND: Mapping[str, Any] = {"adaptive": True, "similarity": ("dot", "cosine", "scaled", "bilinear")}
"""Report 002's full blend."""


def sasrec_planted(kind: type[Faulty], system: System[Any], **changes: Any) -> Faulty:
    """The faulty `kind` with the settings of `system` and `changes` over them."""
    if not isinstance(system, AdaptiveSASRec):
        msg = f"this fault is for adaptive_sasrec, got {type(system).__name__}"
        raise TypeError(msg)
    return kind(dataclasses.replace(system.config, **changes))


class _SeesFuture(SASRec):
    def attention_mask(self, real_BL: Tensor) -> Tensor:
        itself_LL = torch.eye(real_BL.shape[1], dtype=torch.bool, device=real_BL.device)
        return real_BL[:, None, :] | itself_LL


class _NoCausalMask(AdaptiveSASRec):
    model_class = _SeesFuture


def no_causal_mask(system: System[Any]) -> System[Any]:
    """Attention without the causal mask: in training every position sees the item that it should predict."""
    return sasrec_planted(_NoCausalMask, system)


class _PaddingRowNonzero(AdaptiveSASRec):
    def build(self, data: SASRecData, seeds: SeedPlan) -> SASRec:
        model = super().build(data, seeds)
        generator = torch.Generator().manual_seed(seeds.seed("padding_row"))
        nn.init.xavier_normal_(model.item_embedding.weight.data[:1], generator=generator)
        return model


def padding_row_nonzero(system: System[Any]) -> System[Any]:
    """A Xavier sweep over all parameters overwrites row 0, whose gradient is zero, so that it never heals."""
    return sasrec_planted(_PaddingRowNonzero, system)


class _PaddingLearns(SASRec):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.item_embedding.padding_idx = None

    def attention_mask(self, real_BL: Tensor) -> Tensor:
        width = real_BL.shape[1]
        return torch.ones(width, width, dtype=torch.bool, device=real_BL.device).tril().expand(len(real_BL), -1, -1)


class _PaddingRowTrains(AdaptiveSASRec):
    model_class = _PaddingLearns


def padding_row_trains(system: System[Any]) -> System[Any]:
    """No `padding_idx` and no key mask: row 0 gets gradient and becomes an item like any other."""
    return sasrec_planted(_PaddingRowTrains, system)


class _Redrawn(AdaptiveSASRec):
    """Draws its negatives from `negatives_rng`."""

    def negatives_rng(self, seeds: SeedPlan) -> np.random.Generator:
        return seeds.rng("negatives")

    def batches(self, data: SASRecData, seeds: SeedPlan) -> Iterator[Batch]:
        return draw_batches(
            data,
            self.schedule(data),
            batch_size=self.config.batch_size,
            exclude_own=self.config.negatives_exclude_own,
            order=seeds.rng("batches"),
            negatives=self.negatives_rng(seeds),
        )


class _UnseededNegatives(_Redrawn):
    def negatives_rng(self, seeds: SeedPlan) -> np.random.Generator:  # noqa: ARG002  ignoring it is the fault
        return np.random.default_rng()


def unseeded_negatives(system: System[Any]) -> System[Any]:
    """Negatives come from a generator seeded by the operating system."""
    return sasrec_planted(_UnseededNegatives, system)


class _EvaluationStealsRng(_Redrawn):
    def negatives_rng(self, seeds: SeedPlan) -> np.random.Generator:
        self._shared = seeds.rng("negatives")
        return self._shared

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        self._shared.random()
        return super().score(model, eval_set, rows)


def evaluation_steals_rng(system: System[Any]) -> System[Any]:
    """Evaluation draws from the training negatives' stream, so its schedule changes what is trained on."""
    return sasrec_planted(_EvaluationStealsRng, system)


class _PositivesAsNegatives(AdaptiveSASRec):
    def batches(self, data: SASRecData, seeds: SeedPlan) -> Iterator[Batch]:
        rng = seeds.rng("accidental_hits")
        for batch in super().batches(data, seeds):
            hit = torch.from_numpy(rng.random(tuple(batch.inputs["positives"].shape)) < 0.25)
            negatives = torch.where(hit, batch.inputs["positives"], batch.negatives["items"])
            yield dataclasses.replace(batch, negatives={"items": negatives})


def positives_as_negatives(system: System[Any]) -> System[Any]:
    """A quarter of the negatives are the positives of their own position: their two gradients cancel."""
    return sasrec_planted(_PositivesAsNegatives, system)


class _InertSchedule(NegativeSchedule):
    __slots__ = ()

    def sampler(self, step: int) -> Negatives:
        num_popular = int(1 * self.ratio(step))
        if num_popular:
            return PopularityNegatives(counts=self.counts, power=self.power)
        return UniformNegatives(num_items=len(self.counts) - 1)


class _IdSchedule(NegativeSchedule):
    __slots__ = ()

    def sampler(self, step: int) -> Negatives:
        guessed = np.arange(len(self.counts), dtype=np.float64)
        guessed[1:] = 1e6 * guessed[1:] ** -self.power
        pretended = dataclasses.replace(self, counts=guessed.astype(np.int64), power=1.0)
        return NegativeSchedule.sampler(pretended, step)


class _OtherSchedule(AdaptiveSASRec):
    kind: type[NegativeSchedule]

    def schedule(self, data: SASRecData) -> NegativeSchedule:
        clean = super().schedule(data)
        return self.kind(**{f.name: getattr(clean, f.name) for f in dataclasses.fields(clean)})


class _InertSmartNegatives(_OtherSchedule):
    kind = _InertSchedule


class _IdAsPopularity(_OtherSchedule):
    kind = _IdSchedule


def inert_smart_negatives(system: System[Any]) -> System[Any]:
    """int(1 * ratio) popular negatives of one: always 0, whatever the curriculum says (report 002)."""
    return sasrec_planted(_InertSmartNegatives, system, **_SMART)


def id_as_popularity(system: System[Any]) -> System[Any]:
    """Popularity is guessed as id^-0.75 and never counted (report 002); ids say nothing about popularity."""
    return sasrec_planted(_IdAsPopularity, system, **_SMART)


def serve_with_dot(system: System[Any]) -> System[Any]:
    """Trained with report 002's full blend, served by inner product."""
    return sasrec_planted(AdaptiveSASRec, system, **_BLEND, serve_with="dot")


class _NoisyStates(SASRec):
    def forward(self, items_BL: Tensor) -> Tensor:
        return functional.dropout(super().forward(items_BL), 0.2)


class _DropoutInEval(AdaptiveSASRec):
    model_class = _NoisyStates


def dropout_in_eval(system: System[Any]) -> System[Any]:
    """Functional dropout without `training=self.training`: evaluation is noisy too."""
    return sasrec_planted(_DropoutInEval, system)


class _TimeReversed(AdaptiveSASRec):
    def prepare(self, world: World, seeds: SeedPlan) -> SASRecData:
        log = world.interactions
        backwards = log.select(np.arange(len(log))[::-1])
        if backwards.time is not None:
            backwards = dataclasses.replace(backwards, time=-backwards.time)
        return super().prepare(dataclasses.replace(world, interactions=backwards), seeds)


def time_reversed(system: System[Any]) -> System[Any]:
    """Events sorted newest first, so that the oldest one is to be predicted from its future."""
    return sasrec_planted(_TimeReversed, system)


class _RecallDrop(AdaptiveSASRec):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        source = np.arange(len(eval_set))
        hurt = SeedPlan(root=0).rng("recall_drop").random(len(source)) < 0.12
        source[hurt] = (source[hurt] + len(source) // 2) % len(source)
        inputs = {name: value[torch.from_numpy(source)] for name, value in eval_set.inputs.items()}
        return super().score(model, dataclasses.replace(eval_set, inputs=inputs), rows)


def recall_drop(system: System[Any]) -> System[Any]:
    """A fixed 12 % of the evaluated users are scored with another user's history."""
    return sasrec_planted(_RecallDrop, system)


class _LearningRateHalved(AdaptiveSASRec):
    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = super().make_optimizer(model)
        for group in optimizer.param_groups:
            group["lr"] /= 2
        return optimizer


def learning_rate_halved(system: System[Any]) -> System[Any]:
    """The optimizer gets half of the configured learning rate."""
    return sasrec_planted(_LearningRateHalved, system)


class _OptimizerMissesTable(AdaptiveSASRec):
    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = super().make_optimizer(model)
        table = cast(SASRec, model).item_embedding.weight
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter is not table]
        return optimizer


def optimizer_misses_table(system: System[Any]) -> System[Any]:
    """The item table was never given to the optimizer: it has gradients and does not move."""
    return sasrec_planted(_OptimizerMissesTable, system)


class _NanScores(AdaptiveSASRec):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        return super().score(model, eval_set, rows) * float("nan")


def nan_scores(system: System[Any]) -> System[Any]:
    """Every score is NaN, which a counting ranker takes for a perfect one."""
    return sasrec_planted(_NanScores, system)


class _ConstantScores(AdaptiveSASRec):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        return torch.zeros_like(super().score(model, eval_set, rows))


def constant_scores(system: System[Any]) -> System[Any]:
    """Every score is zero: a ranker that breaks ties for the target makes it perfect."""
    return sasrec_planted(_ConstantScores, system)


def sasrec_fault(
    plant: Callable[[System[Any]], System[Any]], *turns_red: str, settings: Mapping[str, Any] | None = None
) -> Fault:
    """The catalogue entry of a plant: named and described by the plant itself."""
    return Fault(
        name=plant.__name__,
        plant=f"{plant.__module__}:{plant.__name__}",
        system=AdaptiveSASRec.name,
        turns_red=turns_red,
        about=" ".join((plant.__doc__ or "").split()),
        settings=settings or {},
    )


CATALOGUE = (
    sasrec_fault(no_causal_mask, "baseline"),
    sasrec_fault(padding_row_nonzero, "embeddings/padding_row"),
    sasrec_fault(padding_row_trains, "embeddings/padding_row"),
    sasrec_fault(unseeded_negatives, "reproducible"),
    sasrec_fault(evaluation_steals_rng, "purity/schedule"),
    sasrec_fault(positives_as_negatives, "baseline", "effect"),
    sasrec_fault(inert_smart_negatives, "effect", settings=_SMART),
    sasrec_fault(id_as_popularity, "effect", settings=_SMART),
    sasrec_fault(serve_with_dot, "effect", settings=_BLEND),
    sasrec_fault(dropout_in_eval, "purity/random"),
    sasrec_fault(time_reversed, "floor/optimum", "baseline"),
    sasrec_fault(recall_drop, "baseline"),
    sasrec_fault(learning_rate_halved, "baseline"),
    sasrec_fault(optimizer_misses_table, "embeddings/dead_rows", "baseline"),
    sasrec_fault(nan_scores, "training"),
    sasrec_fault(constant_scores, "coherence/ties", "chance"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
