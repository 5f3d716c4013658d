"""`AdaptiveSASRec`: the next-item recommender of report 002, its features off unless asked for.

The report's system learned with one score and served with another, and its smart negatives were inert; here `score`
uses the similarity that was trained unless `serve_with` says otherwise, and the popularity of the drawn negatives is
a recorded curve. Its user-profile token is left out: worlds know nothing of users beyond what they did.

Shapes: B batch, L sequence, D embedding, V items, C candidates, U users.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.data.idmap import IdMap
from rectest.data.last_events import last_events
from rectest.data.worlds import World
from rectest.errors import WorldError
from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.batches import SASRecData, draw_batches, left_padded, prepare
from rectest.systems.adaptive_sasrec.config import AdaptiveSASRecConfig
from rectest.systems.adaptive_sasrec.model import SASRec
from rectest.systems.adaptive_sasrec.negatives import NegativeSchedule, relative_popularity
from rectest.systems.adaptive_sasrec.similarity import AdaptiveSimilarity, Similarity, top_k_overlap
from rectest.systems.layers import Dropout
from rectest.systems.protocol import Batch, EvalSet, System, Table

__all__ = ["AdaptiveSASRec"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_CANDIDATE_SEEDS = SeedPlan(root=20_180_902).child("eval_candidates")
"""Candidates are part of the protocol, not of a run: every seed is judged on the same ones."""

_BETAS = (0.9, 0.98)
_PROBES = 16


class AdaptiveSASRec(System[SASRecData]):
    """A causal transformer trained with BCE on one negative per position; leave-two-out evaluation."""

    name: ClassVar[str] = "adaptive_sasrec"
    default_world: ClassVar[str] = "taste-small"
    Config = AdaptiveSASRecConfig
    measures: ClassVar[tuple[str, ...]] = ("recall@10", "hit@10", "ndcg@10", "mrr")
    model_class: ClassVar[type[SASRec]] = SASRec

    def prepare(self, world: World, seeds: SeedPlan) -> SASRecData:  # noqa: ARG002  nothing is drawn
        """Leave two out. `exclude_seen` on a world whose users repeat items is refused: targets would be excluded."""
        data = prepare(world, max_length=self.config.max_length)
        if self.config.exclude_seen and data.repeats:
            raise WorldError(world.name, "users repeat items, so seen items can be relevant; set exclude_seen to false")
        return data

    def build(self, data: SASRecData, seeds: SeedPlan) -> SASRec:
        config = self.config
        similarity_class = AdaptiveSimilarity if config.adaptive else Similarity
        model = self.model_class(
            data.num_items,
            embedding_size=config.embedding_size,
            num_blocks=config.num_blocks,
            num_heads=config.num_heads,
            max_length=config.max_length,
            norm_first=config.norm_first,
            dropout=Dropout(config.dropout, seeds.seed("dropout")),
            similarity=similarity_class(*config.similarity, embedding_size=config.embedding_size),
        )
        model.reset(seeds, embedding_std=config.embedding_std, bilinear_init=config.bilinear_init)
        model.counts_V.copy_(torch.from_numpy(data.counts))
        return model

    def schedule(self, data: SASRecData) -> NegativeSchedule:
        """The law of the negatives at each step under this configuration."""
        return NegativeSchedule(
            counts=data.counts,
            num_steps=self.config.steps,
            smart=self.config.smart_negatives,
            popular_ratio=self.config.popular_ratio,
            power=self.config.popularity_power,
            curriculum=self.config.curriculum,
        )

    def batches(self, data: SASRecData, seeds: SeedPlan) -> Iterator[Batch]:
        """Users without replacement per epoch, from ``batches``; one negative per position, from ``negatives``."""
        return draw_batches(
            data,
            self.schedule(data),
            batch_size=self.config.batch_size,
            exclude_own=self.config.negatives_exclude_own,
            order=seeds.rng("batches"),
            negatives=seeds.rng("negatives"),
        )

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean BCE-with-logits of positives (label 1) plus that of negatives (0), over real positions only.

        Both are 0 where no position is real.
        """
        sasrec = cast(SASRec, model)
        positives_BL, negatives_BL = batch.inputs["positives"], batch.negatives["items"]
        sasrec.negative_popularity = relative_popularity(negatives_BL, sasrec.counts_V)
        states_BLD = sasrec(batch.inputs["sequence"])
        sasrec.last_states_BD = states_BLD[:_PROBES, -1].detach()
        real_BL = (positives_BL != 0).to(states_BLD.dtype)
        num_real = real_BL.sum().clamp_min(1.0)
        positive, negative = (
            (functional.softplus(sign * _logits(sasrec, states_BLD, items_BL)) * real_BL).sum() / num_real
            for sign, items_BL in ((-1.0, positives_BL), (1.0, negatives_BL))
        )
        means = {"positive": positive, "negative": negative}
        return {"total": self.total(sasrec, means), **means}

    def total(self, model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002  no weight is learned
        """The sum of both losses."""
        return losses["positive"] + losses["negative"]

    def loss_terms(self, batch: Batch) -> dict[str, float]:
        """Each real position has one positive and one negative."""
        num_real = float((batch.inputs["positives"] != 0).sum())
        return {"positive": num_real, "negative": num_real}

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Adam with the betas of the original (0.9, 0.98)."""
        return torch.optim.Adam(model.parameters(), lr=self.config.learning_rate, betas=_BETAS)

    def eval_set(self, data: SASRecData, split: str) -> EvalSet:
        """All users with three events; ``valid`` is the second last item, ``test`` the last.

        The full catalogue is ranked, without the user's history unless `exclude_seen` is off or users repeat items.
        With `eval_candidates` the relevant item stands at a random place among drawn ones, none of them the user's.
        """
        name = cast(Literal["valid", "test"], split)
        known = data.split.history(name)
        targets = data.split.valid if name == "valid" else data.split.test
        users = np.flatnonzero(targets > 0)
        histories = [known[int(user)] for user in users]
        candidates, excluded = None, None
        if self.config.eval_candidates is not None:
            candidates = self._candidates(data, users, split)
        elif self.excludes_seen(data):
            excluded = histories
        return EvalSet(
            split=split,
            users=users,
            histories=histories,
            relevant=[targets[user : user + 1] for user in users],
            inputs={"items": torch.from_numpy(left_padded(known.users(users), self.config.max_length))},
            candidates=candidates,
            excluded=excluded,
        )

    def excludes_seen(self, data: SASRecData) -> bool:
        """Whether the user's history is taken out of a full ranking."""
        return not data.repeats if self.config.exclude_seen is None else bool(self.config.exclude_seen)

    def _candidates(self, data: SASRecData, users: IntArray, split: str) -> IntArray:
        """[U, 1 + N]: distinct, without any item of the user but the relevant one, which stands at a random place."""
        rng = _CANDIDATE_SEEDS.rng(split)
        num_drawn = int(self.config.eval_candidates)
        targets = data.split.valid if split == "valid" else data.split.test
        rows = np.zeros((len(users), 1 + num_drawn), dtype=np.int64)
        for row, user in enumerate(users.tolist()):
            own = np.concatenate([data.split.train[user], [0, data.split.valid[user], data.split.test[user]]])
            others = np.setdiff1d(np.arange(data.num_items + 1), own)
            if len(others) < num_drawn:
                problem = f"user {user} leaves {len(others)} items to draw {num_drawn} evaluation candidates from"
                raise WorldError(data.world, problem)
            rows[row] = rng.permutation(np.append(rng.choice(others, num_drawn, replace=False), targets[user]))
        return rows

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        """Scores under the similarity that was trained, or under the dot product with ``serve_with: dot``."""
        return self._score(cast(SASRec, model), eval_set, rows, serve_with=self.config.serve_with)

    def _score(self, model: SASRec, eval_set: EvalSet, rows: slice, *, serve_with: str) -> Tensor:
        device = model.item_embedding.weight.device
        states_BD = model(eval_set.inputs["items"][rows].to(device))[:, -1]
        similarity = self._served(model, serve_with)
        if eval_set.candidates is None:
            return similarity.catalogue(states_BD, model.item_embedding.weight)
        ids_BC = torch.from_numpy(eval_set.candidates[rows]).to(device)
        return similarity(states_BD[:, None], model.item_embedding(ids_BC))  # type: ignore[no-any-return]

    def _served(self, model: SASRec, serve_with: str) -> Similarity:
        return model.similarity if serve_with == "trained" else Similarity("dot", embedding_size=model.embedding_size)

    def serving_overlap(self, model: SASRec, eval_set: EvalSet, *, k: int = 10) -> float:
        """Mean share of the k best items under the trained similarity that serving with `serve_with` also returns.

        1 means that what is served is what was learned; report 002's system loses a part that grows with the cosine's
        weight.
        """
        with torch.no_grad():
            states_BD = model(eval_set.inputs["items"].to(model.item_embedding.weight.device))[:, -1]
        return self._overlap(model, states_BD, k=k)

    def _overlap(self, model: SASRec, states_BD: Tensor, *, k: int) -> float:
        items_VD = model.item_embedding.weight.detach()[1:]
        with torch.no_grad():
            served, trained = (
                self._served(model, name).catalogue(states_BD, items_VD) for name in (self.config.serve_with, "trained")
            )
        return float(top_k_overlap(trained, served, k=min(k, len(items_VD))).mean())

    def left_padded(self, eval_set: EvalSet, extra: int) -> EvalSet:
        """Wider inputs; padding is masked and positions are counted from the newest item."""
        wider = functional.pad(eval_set.inputs["items"], (extra, 0))
        return dataclasses.replace(eval_set, inputs={"items": wider})

    def held_out(self, world: World) -> BoolArray:
        """The last two events of everybody who has three."""
        return last_events(world.interactions, 2, min_events=3)

    def popularity(self, data: SASRecData) -> IntArray:
        return data.counts

    def tables(self, model: nn.Module) -> dict[str, Table]:
        """The item table; positions are not items and have no id space to judge them by."""
        return {"item": Table(weight=cast(SASRec, model).item_embedding.weight)}

    def id_maps(self, data: SASRecData) -> dict[str, IdMap]:
        return {"item": data.items}

    def used_rows(self, batch: Batch) -> dict[str, Tensor]:
        """Inputs, positives and negatives; padding takes no part."""
        read: Sequence[Tensor] = (*batch.inputs.values(), *batch.negatives.values())
        ids = torch.cat([items.reshape(-1) for items in read])
        return {"item": ids[ids > 0]}

    def scalars(self, model: nn.Module) -> dict[str, float]:
        """How popular the last batch's negatives were (1: as uniform draws); with another similarity than the dot
        product also its weights, and how much of the best ten of some users serving returns.
        """
        sasrec = cast(SASRec, model)
        found = {"negatives/relative_popularity": float(sasrec.negative_popularity)}
        if self._is_plain_dot:
            return found
        found["serving/overlap@10"] = self._overlap(sasrec, sasrec.last_states_BD, k=10)
        return found | {f"similarity/{name}": value for name, value in sasrec.similarity.weights().items()}

    @property
    def _is_plain_dot(self) -> bool:
        return tuple(self.config.similarity) == ("dot",) and not self.config.adaptive

    def input_facts(self, data: SASRecData) -> dict[str, Any]:
        """Sizes, and under ``expected_scalars`` what the mean of a curve must be if its feature has its effect."""
        own = data.split.train.users(data.users) if self.config.negatives_exclude_own else None
        draws = (data.positives > 0).sum(axis=1)
        expected = {"negatives/relative_popularity": self.schedule(data).promised_popularity(own, draws)}
        if not self._is_plain_dot:
            expected["serving/overlap@10"] = 1.0
        return {
            "expected_scalars": expected,
            "train": data.split.train.digest(),
            "num_train_events": len(data.split.train.items),
            "num_train_users": len(data.users),
            "num_users_without_target": data.split.num_short,
            "users_repeat_items": data.repeats,
        }


def _logits(model: SASRec, states_BLD: Tensor, items_BL: Tensor) -> Tensor:
    return model.similarity(states_BLD, model.item_embedding(items_BL))  # type: ignore[no-any-return]
