"""`ComiRec`: the retrieval trainer of report 000 as a system under test.

Owns the settings and ties data, model and loss together. The healthy system differs from the published program where
that was wrong by accident: its random streams are its own, padding is never a negative and keeps a row of zeros, and
negatives are ranked by counted popularity. `sample_padding` and `sampler_order` bring the old behaviour back.

Shapes: B batch, L history positions, K interests, D embedding, S negatives, V items (0 is padding).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rectest.data.idmap import IdMap
from rectest.data.worlds import World
from rectest.seeding import SeedPlan
from rectest.systems.comirec.batches import (
    IntArray,
    Position,
    UserData,
    evaluation_set,
    fixed_positions,
    negative_samples,
    prepare_users,
    random_positions,
    training_inputs,
)
from rectest.systems.comirec.loss import sampled_softmax
from rectest.systems.comirec.model import MODELS, UserModel, item_scores, label_aware, make_model
from rectest.systems.protocol import Batch, EvalSet, System, Table, TrainConfig

__all__ = ["ComiRec", "ComiRecConfig"]


@dataclass(frozen=True, kw_only=True)
class ComiRecConfig(TrainConfig):
    """Settings of `ComiRec`; sizes are those of a small catalogue (the original: D 64, L 20 or 50, B 128 or 256)."""

    steps: int = 400
    eval_every: int = 25
    batch_size: int = 128
    learning_rate: float = 1e-2
    model: Literal["dnn", "gru4rec", "mind", "comirec_dr", "comirec_sa"] = "comirec_sa"
    embedding_size: int = 16
    history_length: int = 20
    num_interests: int = 2
    routing_rounds: int = 3
    """Rounds of routing by agreement, for mind and comirec_dr."""

    relu_layer: bool = False
    """Whether mind ends in a dense ReLU layer, as one published configuration does."""

    min_history: int = 4
    """Events before the earliest target; users need one more than this."""

    neg_num: int = 2
    """Negatives per row of a batch, shared by the whole batch: batch_size * neg_num are drawn, at most every class.

    The original has 10 of 368,000 items; of 500 items that would be all of them, and nothing would be sampled.
    """

    order: Literal["random", "fixed"] = "random"
    """Fixed: users in turn, always cut before the last item (plan 2 of report 000, for debugging)."""

    sampler_order: Literal["popularity", "id"] = "popularity"
    """What the log-uniform law takes for the rank of an item; id is right only where ids are sorted by popularity."""

    sample_padding: bool = False
    """Whether the padding is class 0 of the sampler, so that its row is trained, as published."""

    exclude_seen: bool = True
    """Whether evaluation leaves out what is in a user's history; the published program does not."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        low = {"embedding_size": 1, "history_length": 1, "num_interests": 1, "routing_rounds": 1, "min_history": 1}
        for name, least in {**low, "neg_num": 1}.items():
            self.require(name, getattr(self, name) >= least, f"must be at least {least}")
        self.require("model", self.model in MODELS, f"must be one of {', '.join(MODELS)}")
        self.require("order", self.order in ("random", "fixed"), "must be random or fixed")
        self.require("sampler_order", self.sampler_order in ("popularity", "id"), "must be popularity or id")


class ComiRec(System[UserData]):
    """Multi-interest retrieval with sampled softmax; trained on 80 % of the users, evaluated on others."""

    name = "comirec"
    default_world = "taste-users"
    Config = ComiRecConfig
    measures: ClassVar[tuple[str, ...]] = ("recall@20", "ndcg@20", "hit@20")
    gate_measures: ClassVar[tuple[str, ...]] = ("recall@20", "ndcg@20")

    def prepare(self, world: World, seeds: SeedPlan) -> UserData:
        """Split the users and count popularity on the training users."""
        del seeds  # the split is the same for all training seeds
        return prepare_users(
            world,
            min_history=self.config.min_history,
            batch_size=self.config.batch_size,
            sampler_order=self.config.sampler_order,
            sample_padding=self.config.sample_padding,
        )

    def build(self, data: UserData, seeds: SeedPlan) -> UserModel:
        """The configured model for the world's items."""
        return make_model(
            self.config.model,
            num_items=data.num_items,
            embedding_size=self.config.embedding_size,
            history_length=self.config.history_length,
            num_interests=self.config.num_interests,
            routing_rounds=self.config.routing_rounds,
            relu_layer=self.config.relu_layer,
            seeds=seeds,
        )

    def batches(self, data: UserData, seeds: SeedPlan) -> Iterator[Batch]:
        """Endless: one position and one set of shared negatives per step, from two streams."""
        length = self.config.history_length
        for position, negatives in zip(self.positions(data, seeds), self.negatives(data, seeds), strict=True):
            inputs = training_inputs(data.sequences, position, history_length=length)
            yield Batch(inputs=inputs, negatives=negatives, shared=frozenset(negatives))

    def positions(self, data: UserData, seeds: SeedPlan) -> Iterator[Position]:
        """Which users are trained on, and where their sequences are cut."""
        size = self.config.batch_size
        if self.config.order == "fixed":
            return fixed_positions(data, batch_size=size)
        rng = seeds.rng("batches")
        return random_positions(data, batch_size=size, min_history=self.config.min_history, rng=rng)

    def negatives(self, data: UserData, seeds: SeedPlan) -> Iterator[dict[str, Tensor]]:
        """The negatives of each step."""
        num_sampled = self.config.neg_num * self.config.batch_size
        rng = seeds.rng("negatives")
        return negative_samples(data.sampler, num_sampled=num_sampled, rng=rng)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Sampled softmax of the target, for the interest that the target itself chooses."""
        interests_BKD = model(batch.inputs["history"], batch.inputs["mask"])
        table_VD = item_table(model)
        target_B = batch.inputs["target"]
        loss = sampled_softmax(
            self.readout(interests_BKD, table_VD, target_B),
            table_VD,
            target_B,
            negative_S=batch.negatives["item"],
            log_expected_V=batch.negatives["log_expected"],
            sparse=cast(UserModel, model).item.sparse,
        )
        return {"total": loss}

    def readout(self, interests_BKD: Tensor, table_VD: Tensor, target_B: Tensor) -> Tensor:
        """The user vector [B, D] that is trained: the interest that fits the target best."""
        return label_aware(interests_BKD, F.embedding(target_B, table_VD))

    def eval_set(self, data: UserData, split: str) -> EvalSet:
        """Users that are never trained on, with the last fifth of their events to be recommended."""
        return evaluation_set(
            data, split, history_length=self.config.history_length, exclude_seen=self.config.exclude_seen
        )

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        """[B, V+1]: each item's inner product with the interest that likes it best."""
        table_VD = item_table(model)
        history_BL, mask_BL = (eval_set.inputs[name][rows].to(table_VD.device) for name in ("history", "mask"))
        return item_scores(model(history_BL, mask_BL), table_VD)

    def popularity(self, data: UserData) -> IntArray:
        """Events of the training users per item."""
        return data.popularity

    def tables(self, model: nn.Module) -> dict[str, Table]:
        """The item table, whose padding row stays zero unless `sample_padding` trains it."""
        return {"item": Table(weight=item_table(model))}

    def id_maps(self, data: UserData) -> dict[str, IdMap]:
        """Both maps of the world."""
        return {"item": data.items, "user": data.users}

    def used_rows(self, batch: Batch) -> dict[str, Tensor]:
        """Histories, targets and negatives all read the item table."""
        read = (batch.inputs["history"], batch.inputs["target"], batch.negatives["item"])
        return {"item": torch.cat([rows.flatten() for rows in read])}

    def input_facts(self, data: UserData) -> dict[str, Any]:
        """Sizes and digests of what is trained and evaluated on, and what the log-uniform law takes for granted."""
        return {
            "num_users": {split: len(getattr(data, split)) for split in ("train", "valid", "test")},
            "num_sampled": min(self.config.neg_num * self.config.batch_size, data.sampler.num_classes),
            "num_classes": data.sampler.num_classes,
            "invariants": {"num_classes_out_of_order": [data.num_classes_out_of_order, 0]},
            "sequences": data.sequences.digest(),
        }


def item_table(model: nn.Module) -> Tensor:
    """[V+1, D], the parameter itself."""
    if not isinstance(model, UserModel):
        msg = f"the model must be a UserModel, got {type(model).__name__}"
        raise TypeError(msg)
    return model.item.weight
