"""Faults planted in `ComiRec`: the suspects of report 000 and what really goes wrong in such a program.

Each planter takes the healthy system and returns a faulty one with the same settings, so that nothing but behaviour
gives it away. `CATALOGUE` says which checks must notice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rectest.data.idmap import IdMap
from rectest.data.negatives import LogUniformNegatives
from rectest.data.worlds import World
from rectest.faults.fault import Fault
from rectest.seeding import SeedPlan
from rectest.systems.comirec.batches import Position, UserData, negative_samples, random_positions
from rectest.systems.comirec.model import UserModel
from rectest.systems.comirec.system import ComiRec
from rectest.systems.protocol import Batch, EvalSet, System, Table

__all__ = [
    "CATALOGUE",
    "dummy_target_readout",
    "hash_order_vocab",
    "learning_rate_halved",
    "logq_missing",
    "logq_sign",
    "mapping_shift",
    "padding_row_trains",
    "padding_sampled",
    "recall_drop",
    "seed_ignored",
    "seen_not_masked",
    "shared_global_rng",
    "truncated_vocabulary",
    "unseeded_iterator",
    "unseeded_negatives",
    "unsorted_ids",
]

CONFUSED_EVERY = 7
"""`recall_drop` confuses every seventh evaluated user, which costs about a tenth of the recall."""

LATE_ITEMS = 5
"""How many of the last items `truncated_vocabulary` forgets."""

_CONSTANT = SeedPlan(root=42)


def _replanted(system: System[Any], faulty: type[ComiRec]) -> ComiRec:
    if not isinstance(system, ComiRec):
        msg = f"this fault is made for ComiRec, got {type(system).__name__}"
        raise TypeError(msg)
    return faulty(system.config)


class _SharedGlobalStream(ComiRec):
    def positions(self, data: UserData, seeds: SeedPlan) -> Iterator[Position]:
        random.seed(seeds.seed("batches"))
        users, lengths = data.train.tolist(), data.sequences.lengths
        while True:
            chosen = random.sample(users, self.config.batch_size)
            cuts = [random.choice(range(self.config.min_history, int(lengths[user]))) for user in chosen]
            yield Position(user=np.array(chosen, dtype=np.int64), cut=np.array(cuts, dtype=np.int64))

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        random.random()
        return super().score(model, eval_set, rows)


def shared_global_rng(system: System[Any]) -> System[Any]:
    """Batches come from the process's seeded global stream, from which evaluation draws too."""
    return _replanted(system, _SharedGlobalStream)


class _UnseededIterator(ComiRec):
    def positions(self, data: UserData, seeds: SeedPlan) -> Iterator[Position]:
        del seeds  # that is the fault
        rng = np.random.default_rng()
        return random_positions(data, batch_size=self.config.batch_size, min_history=self.config.min_history, rng=rng)


def unseeded_iterator(system: System[Any]) -> System[Any]:
    """The iterator has a generator of its own that nobody seeded."""
    return _replanted(system, _UnseededIterator)


class _UnseededNegatives(ComiRec):
    def negatives(self, data: UserData, seeds: SeedPlan) -> Iterator[dict[str, Tensor]]:
        del seeds  # that is the fault
        num_sampled = self.config.neg_num * self.config.batch_size
        return negative_samples(data.sampler, num_sampled=num_sampled, rng=np.random.default_rng())


def unseeded_negatives(system: System[Any]) -> System[Any]:
    """Equal batches, other negatives in every process."""
    return _replanted(system, _UnseededNegatives)


class _HashOrderVocabulary(ComiRec):
    def prepare(self, world: World, seeds: SeedPlan) -> UserData:
        hashed = IdMap(raws=tuple(set(world.items.raws)), first_index=1)
        item = hashed.encode(world.items.decode(world.interactions.item))
        renumbered = replace(world.interactions, item=item)
        return super().prepare(replace(world, interactions=renumbered, items=hashed, oracle=None), seeds)

    def oracle_scores(self, world: World, eval_set: EvalSet) -> None:
        del world, eval_set  # the law of the world is about the old ids


def hash_order_vocab(system: System[Any]) -> System[Any]:
    """Item ids are given in the order of a set of strings, which PYTHONHASHSEED decides."""
    return _replanted(system, _HashOrderVocabulary)


class _ChangedLogQ(ComiRec):
    factor = 0.0

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        log_expected = self.factor * batch.negatives["log_expected"]
        return super().losses(model, replace(batch, negatives={**batch.negatives, "log_expected": log_expected}))


class _AddedLogQ(_ChangedLogQ):
    factor = -1.0


def logq_sign(system: System[Any]) -> System[Any]:
    """The log-Q correction is added to the logits instead of subtracted."""
    return _replanted(system, _AddedLogQ)


def logq_missing(system: System[Any]) -> System[Any]:
    """No log-Q correction: popular items are pushed down for being drawn often."""
    return _replanted(system, _ChangedLogQ)


class _UnsortedIds(ComiRec):
    def prepare(self, world: World, seeds: SeedPlan) -> UserData:
        return replace(super().prepare(world, seeds), sampler=LogUniformNegatives.by_raw_id(world.num_items))


def unsorted_ids(system: System[Any]) -> System[Any]:
    """The log-uniform sampler takes the item id for the popularity rank."""
    return _replanted(system, _UnsortedIds)


class _PaddingSampled(ComiRec):
    def prepare(self, world: World, seeds: SeedPlan) -> UserData:
        data = super().prepare(world, seeds)
        order = np.concatenate([[0], data.sampler.order])
        return replace(data, sampler=LogUniformNegatives(order=order, num_items=world.num_items))


def padding_sampled(system: System[Any]) -> System[Any]:
    """The padding is class 0 of the sampler, the likeliest negative of all, and its row is trained."""
    return _replanted(system, _PaddingSampled)


class _VisiblePadding(ComiRec):
    def build(self, data: UserData, seeds: SeedPlan) -> UserModel:
        model = super().build(data, seeds)
        model.item.padding_idx = None
        with torch.no_grad():
            model.item.weight[0] = model.item.weight[1:].std() * torch.ones(self.config.embedding_size)
        return model

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        unmasked = {**batch.inputs, "mask": torch.ones_like(batch.inputs["mask"])}
        return super().losses(model, replace(batch, inputs=unmasked))

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        unmasked = {**eval_set.inputs, "mask": torch.ones_like(eval_set.inputs["mask"])}
        return super().score(model, replace(eval_set, inputs=unmasked), rows)


def padding_row_trains(system: System[Any]) -> System[Any]:
    """The table has no padding row and histories have no mask: padding is one more item, and it learns."""
    return _replanted(system, _VisiblePadding)


class _DummyTargetReadout(ComiRec):
    def readout(self, interests_BKD: Tensor, table_VD: Tensor, target_B: Tensor) -> Tensor:
        return super().readout(interests_BKD, table_VD, torch.zeros_like(target_B))


def dummy_target_readout(system: System[Any]) -> System[Any]:
    """The label-aware readout is asked with item 0 instead of the target, so the label never chooses an interest."""
    return _replanted(system, _DummyTargetReadout)


class _ConfusedUsers(ComiRec):
    def eval_set(self, data: UserData, split: str) -> EvalSet:
        healthy = super().eval_set(data, split)
        source = np.arange(len(healthy))
        source[::CONFUSED_EVERY] = np.roll(source[::CONFUSED_EVERY], 1)
        return replace(healthy, inputs={name: value[source] for name, value in healthy.inputs.items()})


def recall_drop(system: System[Any]) -> System[Any]:
    """A fixed seventh of the evaluated users are served what is meant for somebody else."""
    return _replanted(system, _ConfusedUsers)


class _HalvedLearningRate(ComiRec):
    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.config.learning_rate / 2)


def learning_rate_halved(system: System[Any]) -> System[Any]:
    """The optimizer gets half of the configured learning rate."""
    return _replanted(system, _HalvedLearningRate)


class _ShiftedMapping(ComiRec):
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        scores_BV = super().score(model, eval_set, rows)
        return torch.cat([scores_BV[:, :1], scores_BV[:, 1:].roll(1, dims=1)], dim=1)

    def tables(self, model: nn.Module) -> dict[str, Table]:
        tables = super().tables(model)
        weight = tables["item"].weight.detach()
        return {"item": replace(tables["item"], weight=torch.cat([weight[:1], weight[1:].roll(1, dims=0)]))}


def mapping_shift(system: System[Any]) -> System[Any]:
    """The table is exported and served one row off: row i + 1 holds what was learned for item i."""
    return _replanted(system, _ShiftedMapping)


class _SeenNotMasked(ComiRec):
    def eval_set(self, data: UserData, split: str) -> EvalSet:
        return replace(super().eval_set(data, split), excluded=None)


def seen_not_masked(system: System[Any]) -> System[Any]:
    """Evaluation ranks the items that the user already had."""
    return _replanted(system, _SeenNotMasked)


class _SeedIgnored(ComiRec):
    def build(self, data: UserData, seeds: SeedPlan) -> UserModel:
        del seeds  # that is the fault
        return super().build(data, _CONSTANT)

    def batches(self, data: UserData, seeds: SeedPlan) -> Iterator[Batch]:
        del seeds  # that is the fault
        return super().batches(data, _CONSTANT)


def seed_ignored(system: System[Any]) -> System[Any]:
    """A constant is written where the seed belongs: every seed gives the same run, and no spread is ever seen."""
    return _replanted(system, _SeedIgnored)


class _TruncatedVocabulary(ComiRec):
    def id_maps(self, data: UserData) -> dict[str, IdMap]:
        maps = super().id_maps(data)
        return {**maps, "item": IdMap(raws=maps["item"].raws[:-LATE_ITEMS], first_index=1)}


def truncated_vocabulary(system: System[Any]) -> System[Any]:
    """The item map was saved before the last items came: they are trained and served, and have no name."""
    return _replanted(system, _TruncatedVocabulary)


def _fault(planter: Callable[[System[Any]], System[Any]], *turns_red: str) -> Fault:
    about = " ".join((planter.__doc__ or "").split())
    name = planter.__name__
    return Fault(name=name, plant=f"{__name__}:{name}", system=ComiRec.name, turns_red=turns_red, about=about)


CATALOGUE = (
    _fault(shared_global_rng, "purity/random"),
    _fault(unseeded_iterator, "reproducible"),
    _fault(unseeded_negatives, "reproducible"),
    _fault(hash_order_vocab, "reproducible"),
    _fault(logq_sign, "baseline"),
    _fault(logq_missing, "baseline"),
    _fault(unsorted_ids, "effect", "baseline"),
    _fault(padding_row_trains, "embeddings/padding_row"),
    _fault(padding_sampled, "embeddings/padding_row"),
    _fault(dummy_target_readout, "baseline"),
    _fault(recall_drop, "baseline"),
    _fault(learning_rate_halved, "baseline"),
    _fault(mapping_shift, "floor/popularity", "chance"),
    _fault(seen_not_masked, "baseline"),
    _fault(seed_ignored, "seed_liveness", "fluctuation/seeds"),
    _fault(truncated_vocabulary, "mapping"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
