"""`GEAR`: the multi-behaviour recommender of report 004, which reads "graph" into its name; there is none in it.

Evaluation follows the report's protocol: the next behaviour and the time until it are given, the item is ranked among
99 drawn ones, and only rows of the target behaviour are asked for (the other users count and are not scored). What
the report lacks is there: a test split, evaluated with the best weights.

Shapes: B batch, L rows, D embedding, V items, N behaviours, C candidates, U users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.data.idmap import IdMap
from rectest.data.world import World
from rectest.errors import DataError, WorldError
from rectest.seeding import SeedPlan
from rectest.systems.gear.batches import GEARData, draw_batches, epoch, prepare
from rectest.systems.gear.candidates import CandidateCache, CandidateKey, draw_candidates
from rectest.systems.gear.config import GEARConfig
from rectest.systems.gear.evaluation import candidate_digests, held_out_set, own_items, protocol_invariants
from rectest.systems.gear.loss import cross_entropy, share_of
from rectest.systems.gear.model import GEAR as Model
from rectest.systems.gear.model import num_parameters
from rectest.systems.gear.precision import Precision, accuracy_lost, tf32_kernels
from rectest.systems.gear.promises import held_out_rows
from rectest.systems.protocol import Batch, EvalSet, System, Table

__all__ = ["GEAR"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_CUT_OFFS = (1, 5, 10, 20, 50)
_ROWS = ("items", "behaviours", "elapsed")
_PROBED = 8
"""Users of the first batch whose future is changed, to see whether their past notices."""


class GEAR(System[GEARData]):
    """Alternating regression of items and behaviours with full softmax; leave-two-out on rows of one behaviour."""

    name: ClassVar[str] = "gear"
    default_world: ClassVar[str] = "behaviours-small"
    Config = GEARConfig
    measures: ClassVar[tuple[str, ...]] = (
        "ndcg@10",
        *(f"ndcg@{k}" for k in _CUT_OFFS if k != 10),
        *(f"recall@{k}" for k in _CUT_OFFS),
    )
    gate_measures: ClassVar[tuple[str, ...]] = ("ndcg@10", "recall@10")
    model_class: ClassVar[type[Model]] = Model
    cache_class: ClassVar[type[CandidateCache]] = CandidateCache

    def prepare(self, world: World, seeds: SeedPlan) -> GEARData:  # noqa: ARG002  nothing is drawn
        """Index the rows of all users with `min_rows` rows; behaviours keep the codes that the world declares.

        Measures whose cut-off is deeper than the list that is ranked are left out from here on.
        """
        drawn = self.config.eval_candidates
        deepest = world.num_items if drawn is None else 1 + drawn
        fitting = tuple(name for name in type(self).measures if int(name.partition("@")[2]) <= deepest)
        self.measures = fitting  # type: ignore[misc]  # of this object from now on
        return prepare(world, min_rows=self.config.min_rows, target_behaviour=self.config.target_behaviour)

    def build(self, data: GEARData, seeds: SeedPlan) -> Model:
        config = self.config
        model = self.model_class(
            data.num_items,
            len(data.behaviours),
            embedding_size=config.embedding_size,
            num_heads=config.num_heads,
            num_layers=config.num_layers,
            dropout=config.dropout,
            seeds=seeds,
            precision=config.matmul_precision,
        )
        model.reset(seeds, embedding_std=config.embedding_std)
        return model

    def batches(self, data: GEARData, seeds: SeedPlan) -> Iterator[Batch]:
        """Every user once per epoch, in an order from ``batches``; random windows from ``windows``."""
        return draw_batches(
            data,
            batch_size=self.config.batch_size,
            max_length=self.config.max_length,
            window_probability=self.config.window_probability,
            order=seeds.rng("batches"),
            cuts=seeds.rng("windows"),
        )

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Adam with its weight decay in the gradient."""
        config = self.config
        return torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
        """One step under the configured matrix precision; the process keeps the one that it had."""
        with tf32_kernels(self.config.matmul_precision):
            return super().step(model, optimizer, batch)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy of the items plus `alpha` times that of the behaviours, over all real positions.

        Padding is no class: it has no logit to be confused with.
        """
        gear, inputs = cast(Model, model), batch.inputs
        targets_BL = self.item_targets(inputs)
        gear.random_share = float(inputs["random_window"].double().mean())
        gear.target_share = share_of(inputs["target_rows"], targets_BL != 0)
        known = inputs["items"][:, :-1], inputs["behaviours"], inputs["elapsed"]
        if gear.leak is None:
            gear.leak = gear.future_leak(*(values[:_PROBED] for values in known))
        behaviour_BLD, item_BLD = gear(*known)
        items = cross_entropy(gear.item_logits(behaviour_BLD), targets_BL)
        behaviours = cross_entropy(gear.behaviour_logits(item_BLD), self.behaviour_targets(inputs))
        means = {"items": items, "behaviours": behaviours}
        return {"total": self.total(gear, means), **means}

    def total(self, model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002  alpha is a setting
        """The loss of the items plus `alpha` times that of the behaviours."""
        total: Tensor = losses["items"] + self.config.alpha * losses["behaviours"]
        return total

    def loss_terms(self, batch: Batch) -> dict[str, float]:
        """The predicted items, and the behaviours that come after an item."""
        targets = {"items": self.item_targets(batch.inputs), "behaviours": self.behaviour_targets(batch.inputs)}
        return {name: float((targets_BL != 0).sum()) for name, targets_BL in targets.items()}

    def item_targets(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """[B, L] the item to be predicted from each behaviour; 0 is no prediction."""
        if not self.config.predict_only_target:
            return inputs["items"]
        return torch.where(inputs["target_rows"], inputs["items"], 0)

    def behaviour_targets(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """[B, L-1] the behaviour to be predicted from each item but the last; 0 is no prediction."""
        return torch.where(inputs["items"][:, :-1] != 0, inputs["behaviours"][:, 1:], 0)

    def eval_set(self, data: GEARData, split: str) -> EvalSet:
        """All users with enough rows; ``valid`` asks for the second last row, ``test`` for the last.

        A user whose row has another behaviour than the target has nothing relevant: counted, not scored. The model is
        given the rows before, and of the row itself its behaviour and its time.
        """
        candidates = None if self.config.eval_candidates is None else self.candidates(data, split)
        return held_out_set(data, split, max_length=self.config.max_length, candidates=candidates)

    def candidates(self, data: GEARData, split: str) -> IntArray:
        """[U, 1 + N] as kept, or drawn and kept; users without a relevant item get candidates as the others do.

        Raises:
            WorldError: a user has touched nearly every item.
        """
        num_drawn, own = int(self.config.eval_candidates), own_items(data)
        targets = data.rows.items[data.held_out_place(split)]

        def draw() -> IntArray:
            return draw_candidates(own, targets, num_items=data.num_items, num_drawn=num_drawn, split=split)

        try:
            return self._cache.get(self.candidate_key(data, split), draw)
        except DataError as e:
            raise WorldError(data.world, str(e)) from e

    def candidate_key(self, data: GEARData, split: str) -> CandidateKey:
        """What the candidates of this configuration depend on."""
        return CandidateKey(data=data.digest, split=split, num_drawn=int(self.config.eval_candidates))

    @cached_property
    def _cache(self) -> CandidateCache:
        folder = self.config.candidate_folder
        return self.cache_class(folder=None if folder is None else Path(folder))

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        """Scores of the candidates, or of all items, from the state of the row's own behaviour."""
        gear = cast(Model, model)
        device = gear.item_embedding.weight.device
        with tf32_kernels(self.config.matmul_precision):
            states_BD = gear(*(eval_set.inputs[name][rows].to(device) for name in _ROWS))[0][:, -1]
            if eval_set.candidates is None:
                return gear.item_logits(states_BD)
            ids_BC = torch.from_numpy(eval_set.candidates[rows]).to(device)
            return gear.head(states_BD[:, None], gear.item_embedding(ids_BC))[:, 0]  # type: ignore[no-any-return]

    def accuracy_lost(self, model: nn.Module, eval_set: EvalSet, precision: Precision = "medium") -> dict[str, float]:
        """What scoring the target users of `eval_set` at `precision` costs against full precision.

        Raises:
            ValueError: `eval_set` ranks the full catalogue; candidates are needed.
        """
        if eval_set.candidates is None:
            msg = "accuracy is measured among candidates, this evaluation ranks the full catalogue; set eval_candidates"
            raise ValueError(msg)
        exact, reduced = (self._scores_at(cast(Model, model), eval_set, name) for name in ("highest", precision))
        asked = np.flatnonzero([len(items) for items in eval_set.relevant])
        target = np.concatenate(eval_set.relevant)
        slot = torch.from_numpy((eval_set.candidates[asked] == target[:, None]).argmax(axis=1))
        rows = torch.from_numpy(asked)
        return accuracy_lost(exact[rows], reduced[rows], slot)

    def _scores_at(self, model: Model, eval_set: EvalSet, precision: Precision) -> Tensor:
        system = type(self)(replace(self.config, matmul_precision=precision))
        kept, was_training = model.head.precision, model.training
        model.head.precision = precision
        model.eval()
        try:
            with torch.no_grad():
                return system.score(model, eval_set, slice(0, len(eval_set))).cpu()
        finally:
            model.head.precision = kept
            model.train(was_training)

    def left_padded(self, eval_set: EvalSet, extra: int) -> EvalSet | None:
        """More padding before items, behaviours and times; the rows stay the same."""
        wider = {name: functional.pad(values, (extra, 0)) for name, values in eval_set.inputs.items()}
        return replace(eval_set, inputs=wider)

    def held_out(self, world: World) -> BoolArray:
        """The last two rows of every user with enough rows."""
        return held_out_rows(world, min_rows=self.config.min_rows)

    def branches(self, model: nn.Module) -> dict[str, tuple[str, str]]:  # noqa: ARG002  the parts are fixed
        """Both branches and the layers over them, all by the item loss.

        Behaviours are mostly noise in small worlds: their loss is at its floor within a few steps.
        """
        return {
            "items": ("item_encoder.", "items"),
            "behaviours": ("behaviour_encoder.", "items"),
            "both": ("encoder.", "items"),
        }

    def popularity(self, data: GEARData) -> IntArray:
        return data.counts

    def other_popularity(self, data: GEARData) -> dict[str, IntArray]:
        """[N] training rows per behaviour."""
        ends = zip(data.train_starts.tolist(), data.train_ends.tolist(), strict=True)
        codes = np.concatenate([data.rows.behaviours[start:end] for start, end in ends])
        return {"behaviour": np.bincount(codes, minlength=len(data.behaviours) + 1).astype(np.int64)}

    def tables(self, model: nn.Module) -> dict[str, Table]:
        """Both tables; full softmax and weight decay move every row but the padding at every step."""
        gear = cast(Model, model)
        return {
            "item": Table(weight=gear.item_embedding.weight, moves_untouched=True),
            "behaviour": Table(weight=gear.behaviour_embedding.weight, space="behaviour", moves_untouched=True),
        }

    def id_maps(self, data: GEARData) -> dict[str, IdMap]:
        return {"item": data.items, "behaviour": data.behaviours}

    def used_rows(self, batch: Batch) -> dict[str, Tensor]:
        """What the sample names; that all other rows take part as classes is not counted."""
        items, behaviours = batch.inputs["items"], batch.inputs["behaviours"]
        return {"item": items[items > 0], "behaviour": behaviours[behaviours > 0]}

    def scalars(self, model: nn.Module) -> dict[str, float]:
        """Share of random windows in the last batch, share of its predicted items that are of the target behaviour,
        how far the past sees the future, and how many parameters the model has.
        """
        gear = cast(Model, model)
        return {
            "windows/random_share": gear.random_share,
            "items/target_share": float(gear.target_share),
            "causality/leak": float("nan") if gear.leak is None else gear.leak,
            "model/parameters": float(sum(parameter.numel() for parameter in gear.parameters())),
        }

    def oracle_scores(self, world: World, eval_set: EvalSet) -> FloatArray | None:
        """Given what the model is given: all rows before, with behaviours, and the behaviour of the row itself."""
        if world.oracle is None:
            return None
        data = self.prepare(world, SeedPlan(root=0))
        places = data.held_out_place(eval_set.split)
        bounds = zip(data.train_starts.tolist(), places.tolist(), strict=True)
        known = [data.rows.behaviours[start:place] for start, place in bounds]
        given = data.rows.behaviours[places]
        return world.oracle.scores(eval_set.histories, behaviours=known, next_behaviour=given)

    def input_facts(self, data: GEARData) -> dict[str, Any]:
        """Sizes, the protocol in words, and what `effect` holds the run to."""
        sets = {split: self.eval_set(data, split) for split in data.promised}
        num_parts = len(epoch(len(data.users), self.config.batch_size, np.random.default_rng(0)))
        long = data.train_ends - data.train_starts > self.config.max_length
        expected = {
            "causality/leak": 0.0,
            "windows/random_share": self.config.window_probability * float(long.mean()),
            "model/parameters": num_parameters(
                num_items=data.num_items,
                num_behaviours=len(data.behaviours),
                embedding_size=self.config.embedding_size,
                num_layers=self.config.num_layers,
            ),
        }
        if self.config.predict_only_target:
            expected["items/target_share"] = 1.0
        return {
            "expected_scalars": expected,
            "invariants": {
                "steps_per_epoch": [num_parts, -(-len(data.users) // self.config.batch_size)],
                "behaviour_codes": [list(data.behaviours.raws), list(data.declared)],
                **protocol_invariants(data, sets),
            },
            "rows": data.rows.digest(),
            **candidate_digests(sets),
            "num_train_events": int((data.train_ends - data.train_starts).sum()),
            "num_train_users": len(data.users),
            "num_users_left_out": len(data.rows.lengths) - len(data.users),
            "steps_per_epoch": num_parts,
            "target_behaviour": data.behaviours.raw(data.target),
            "given_at_evaluation": ["rows before", "behaviour of the row", "time of the row"],
        }
