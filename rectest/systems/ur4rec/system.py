"""`UR4Rec`: the two-component recommender of report 001, made so that both components learn and both are heard.

Left out are early stopping by stage (the loop's is over the run) and the language model that wrote the texts: an item
text is the item's words, a preference text the words of the newest training items.

Shapes: B batch, L sequence, P predicted places, R picked targets, K negatives, C candidates, D embedding, V items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.data.world import World
from rectest.seeding import SeedPlan
from rectest.systems.protocol import Batch, EvalSet, System, Table
from rectest.systems.ur4rec.batches import (
    UR4RecData,
    draw_batches,
    hold_out,
    positive_rows,
    positive_sequences,
    prepare,
)
from rectest.systems.ur4rec.candidates import audit, make_eval_set
from rectest.systems.ur4rec.config import UR4RecConfig
from rectest.systems.ur4rec.encoder import TextEncoder, preference_text
from rectest.systems.ur4rec.model import UR4Rec
from rectest.systems.ur4rec.parameters import formula_count
from rectest.systems.ur4rec.training import BRANCHES, StagePlan, rate_factor

__all__ = ["UR4RecSystem"]

IntArray = npt.NDArray[np.int64]
TextArray = npt.NDArray[np.float32]


class UR4RecSystem(System[UR4RecData]):
    """BPR for SASRec, BCE for the retriever, in stages; 1 + 99 candidates."""

    name: ClassVar[str] = "ur4rec"
    default_world: ClassVar[str] = "words-small"
    Config = UR4RecConfig
    measures: ClassVar[tuple[str, ...]] = ("recall@10", "hit@5", "ndcg@10", "mrr", "mean_rank")
    model_class: ClassVar[type[UR4Rec]] = UR4Rec

    def prepare(self, world: World, seeds: SeedPlan) -> UR4RecData:  # noqa: ARG002  nothing is drawn
        return prepare(world, self.config)

    def item_texts(self, data: UR4RecData) -> TextArray:
        """[V+1, T] the items' words, encoded; zero for the padding."""
        return TextEncoder(self.config.text_size).texts(data.words)

    def user_texts(self, data: UR4RecData) -> TextArray:
        """[U, T] the users' preference texts, encoded."""
        known, newest = self.known_items(data), self.config.preference_items
        texts = [preference_text(items, data.words, newest=newest) for items in known]
        return TextEncoder(self.config.text_size).texts(texts)

    def known_items(self, data: UR4RecData) -> Sequences:
        """What preference texts are written from: training events before the retriever's targets."""
        return data.told

    def build(self, data: UR4RecData, seeds: SeedPlan) -> UR4Rec:
        item_text_VT, user_text_UT = (torch.from_numpy(make(data)) for make in (self.item_texts, self.user_texts))
        model = self.model_class(self.config, item_text_VT=item_text_VT, user_text_UT=user_text_UT, seeds=seeds)
        model.reset(seeds, embedding_std=self.config.embedding_std)
        return model

    def batches(self, data: UR4RecData, seeds: SeedPlan) -> Iterator[Batch]:
        """Users without replacement per epoch, from ``batches``; negatives from a stream of their own."""
        return draw_batches(data, self.config, order=seeds.rng("batches"), negatives=seeds.rng("negatives"))

    def plan(self) -> StagePlan:
        """The stages by step."""
        return StagePlan.of(self.config.stages, self.config.stage_shares, num_steps=self.config.steps)

    def trained_now(self, model: UR4Rec, step: int) -> tuple[str, ...]:
        """The components whose loss is differentiated at a step."""
        trained = self.plan().trained(step)
        if self.config.adaptive_alternation and self.plan().at(step) == "joint_finetune":
            return (model.alternation.component,)
        return trained

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Both losses, and the total of those that train; the other one is computed without gradient."""
        both, step = cast(UR4Rec, model), int(batch.inputs["step"])
        both.trained = self.trained_now(both, step)
        losses: dict[str, Tensor] = {}
        for name, compute in (("sasrec", self.sequence_loss), ("retriever", self.retrieval_loss)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and name in both.trained):
                losses[name] = compute(both, batch)
        return {"total": self.total(both, losses), **losses}

    def loss_terms(self, batch: Batch) -> dict[str, float]:
        """Real places, and picked targets, of the components of the stage.

        Where components alternate both are named, because the batch does not know which is active; `total` does.
        """
        read = {"sasrec": "positives", "retriever": "picked"}
        trained = self.plan().trained(int(batch.inputs["step"]))
        return {name: float((batch.inputs[read[name]] != 0).sum()) for name in trained}

    def sequence_loss(self, model: UR4Rec, batch: Batch) -> Tensor:
        """BPR: mean of softplus(negative - positive) over real places and their K negatives; 0 without real places."""
        positives_BP, negatives_BPK = batch.inputs["positives"], batch.negatives["sasrec"]
        states_BPD = model.sasrec.predicting(batch.inputs["sequence"], positives_BP.shape[1])
        items_BPND = model.sasrec.item_embedding(torch.cat([positives_BP[..., None], negatives_BPK], dim=-1))
        score_BPN = (items_BPND * states_BPD[:, :, None]).sum(-1)
        real_BP = (positives_BP != 0).to(score_BPN.dtype)
        loss_BP = functional.softplus(score_BPN[..., 1:] - score_BPN[..., :1]).mean(-1)
        return (loss_BP * real_BP).sum() / real_BP.sum().clamp_min(1.0)

    def retrieval_loss(self, model: UR4Rec, batch: Batch) -> Tensor:
        """Mean BCE-with-logits over 1 + K candidates of each picked target (label 1, the others 0); 0 without any."""
        picked_BR, negatives_BRK = batch.inputs["picked"], batch.negatives["retriever"]
        items_BRN = torch.cat([picked_BR[..., None], negatives_BRK], dim=-1)
        score_BRN = model.retriever(batch.inputs["users"], items_BRN.flatten(1)).view(items_BRN.shape)
        sign_N = torch.ones(items_BRN.shape[-1], device=score_BRN.device)
        sign_N[0] = -1.0
        real_BR = (picked_BR != 0).to(score_BRN.dtype)
        return (functional.softplus(sign_N * score_BRN).mean(-1) * real_BR).sum() / real_BR.sum().clamp_min(1.0)

    def total(self, model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:
        """Of the components that trained on the last batch: one loss as it is, two by their learned weights or,
        without, their sum.
        """
        both = cast(UR4Rec, model)
        trained = {name: losses[name] for name in both.trained}
        if len(trained) > 1 and self.config.uncertainty_weighting:
            weighted: Tensor = both.loss_weights(trained)
            return weighted
        return torch.stack(list(trained.values())).sum()

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW; matrices of the network decay, tables, biases, norms and loss weights do not."""
        groups = []
        for prefix, rate in (("sasrec.", self.config.learning_rate), ("", self.config.retriever_learning_rate)):
            named = [(n, p) for n, p in self.optimized(model) if n.startswith("sasrec.") == bool(prefix)]
            for decays, decay in ((True, self.config.weight_decay), (False, 0.0)):
                parameters = [p for name, p in named if _decays(name, p) == decays]
                groups.append({"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay})
        self._num_optimized = sum(p.numel() for group in groups for p in group["params"])
        return torch.optim.AdamW(groups)

    def optimized(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """What the optimizer holds: everything, trainable at the moment or not."""
        return list(model.named_parameters())

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
        """One step of the stage that it belongs to, then what the memory and the alternation learn from it."""
        both, step = cast(UR4Rec, model), int(batch.inputs["step"])
        self.enter_stage(both, step)
        config = self.config
        factor = rate_factor(step, warmup_steps=config.warmup_steps, half_period=config.cosine_steps or config.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        optimizer.zero_grad(set_to_none=True)
        losses = self.losses(model, batch)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        self.after_step(both, batch, losses, step)
        return losses

    def enter_stage(self, model: UR4Rec, step: int) -> None:
        """Make exactly those parameters trainable that the stage of `step` trains."""
        trained = self.plan().trained(step)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.partition(".")[0] not in BRANCHES or name.partition(".")[0] in trained)

    def after_step(self, model: UR4Rec, batch: Batch, losses: Mapping[str, Tensor], step: int) -> None:
        """Tell the memory what users did, and the alternation what the losses were."""
        self._stage, self._missed = self.plan().index(step), 0.0
        if self.plan().remembers(step) and self.updates_memory():
            model.retriever.remember(batch.inputs["users"], batch.inputs["remembered"])
        if self.config.adaptive_alternation and self.plan().at(step) == "joint_finetune":
            model.alternation.observe(self.observed(losses))
            newest = model.alternation.newest()
            self._missed = sum(abs(newest[name] - float(losses[name].detach())) for name in BRANCHES)

    def updates_memory(self) -> bool:
        """Whether training steps are interactions that the memory hears of."""
        return True

    def observed(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """The losses that the alternation judges by."""
        return {name: losses[name].detach() for name in BRANCHES}

    def eval_set(self, data: UR4RecData, split: str) -> EvalSet:
        return make_eval_set(
            data,
            split,
            num_candidates=self.config.num_candidates,
            max_length=self.config.max_length,
            own=self.not_candidates(data),
        )

    def not_candidates(self, data: UR4RecData) -> Sequences:
        """Per user, what is no candidate of theirs but for the relevant item: everything they ever had."""
        return data.held_out.sequences

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        """[B, C] the sum of `components`."""
        return torch.stack(list(self.components(model, eval_set, rows).values())).sum(0)

    def components(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> dict[str, Tensor]:
        both = cast(UR4Rec, model)
        device = both.sasrec.item_embedding.weight.device
        users_B, items_BL = (eval_set.inputs[name][rows].to(device) for name in ("users", "items"))
        candidates_BC = torch.from_numpy(np.asarray(eval_set.candidates)[rows]).to(device)
        return both.components(users_B, items_BL, candidates_BC)

    def left_padded(self, eval_set: EvalSet, extra: int) -> EvalSet:
        wider = functional.pad(eval_set.inputs["items"], (extra, 0))
        return replace(eval_set, inputs={**eval_set.inputs, "items": wider})

    def held_out(self, world: World) -> npt.NDArray[np.bool_]:
        """The events of `world` that come after a user's training items."""
        rows = np.flatnonzero(positive_rows(world))
        log = world.interactions.select(rows)
        cut = hold_out(positive_sequences(world), split=self.config.split)
        in_time = rows[np.lexsort((log.user,) if log.time is None else (log.time, log.user))]
        found = np.zeros(len(world.interactions), dtype=bool)
        found[in_time] = cut.sequences.positions() >= np.repeat(cut.num_train, cut.sequences.lengths)
        return found

    def branches(self, model: nn.Module) -> dict[str, tuple[str, str]]:  # noqa: ARG002  always the same two
        return {name: (f"{name}.", name) for name in BRANCHES}

    def popularity(self, data: UR4RecData) -> IntArray:
        return data.counts

    def tables(self, model: nn.Module) -> dict[str, Table]:
        """The two item tables; the texts are frozen and belong to no optimizer."""
        both = cast(UR4Rec, model)
        return {
            "item": Table(weight=both.sasrec.item_embedding.weight),
            "retriever_item": Table(weight=both.retriever.item_table.weight),
        }

    def id_maps(self, data: UR4RecData) -> dict[str, IdMap]:
        return {"item": data.items}

    def used_rows(self, batch: Batch) -> dict[str, Tensor]:
        read = {
            "item": (batch.inputs["sequence"], batch.inputs["positives"], batch.negatives["sasrec"]),
            "retriever_item": (batch.inputs["picked"], batch.inputs["remembered"], batch.negatives["retriever"]),
        }
        flat = {name: torch.cat([ids.reshape(-1) for ids in parts]) for name, parts in read.items()}
        return {name: ids[ids > 0] for name, ids in flat.items()}

    def scalars(self, model: nn.Module) -> dict[str, float]:
        """Stage, loss weights, memory, alternation, and how many parameters the optimizer holds."""
        both = cast(UR4Rec, model)
        everybody = torch.arange(len(both.retriever.user_text_UT), device=both.retriever.user_text_UT.device)
        return {
            "stage": float(self._stage),
            "optimizer/parameters": float(self._num_optimized),
            "alternation/switches": float(both.alternation.switches),
            "alternation/missed_loss": self._missed,
            **both.loss_weights.scalars(),
            **both.retriever.memory.scalars(everybody),
        }

    def input_facts(self, data: UR4RecData) -> dict[str, Any]:
        """Sizes, and what must hold of the data and the curves."""
        audits = [audit(data, self.eval_set(data, split)) for split in ("valid", "test")]
        texts = self.user_texts(data)
        wordless = sum(not preference_text(data.told[int(user)], data.words, newest=1) for user in data.users)
        return {
            "train": data.train.digest(),
            "num_train_users": len(data.users),
            "num_train_events": len(data.train.items),
            "invariants": {
                "phantom_negatives": [int((data.counts[data.pool] == 0).sum()), 0],
                "phantom_candidates": [sum(found["phantom"] for found in audits), 0],
                "seen_candidates": [sum(found["seen"] for found in audits), 0],
                "users_without_text": [int((texts[data.users] == 0).all(1).sum()), wordless],
            },
            "expected_scalars": self.promised(data),
        }

    def promised(self, data: UR4RecData) -> dict[str, float]:
        """Mean over the run of the curves that settings and data alone determine."""
        config = self.config
        sizes = formula_count(
            num_items=data.num_items,
            size=config.embedding_size,
            max_length=config.max_length,
            num_blocks=config.num_blocks,
            num_proxies=config.num_proxies,
            text_size=config.text_size,
        )
        return {
            "optimizer/parameters": float(sizes.trainable + len(BRANCHES)),
            "alternation/missed_loss": 0.0,
            "memory/interactions": self._promised_interactions(data),
        }

    def _promised_interactions(self, data: UR4RecData) -> float:
        """Every row of every batch is one interaction of its user, in the stages that train the retriever."""
        num_batches = -(-len(data.users) // self.config.batch_size)
        epoch = [len(part) for part in np.array_split(np.arange(len(data.users)), num_batches)]
        steps = range(1, int(self.config.steps) + 1)
        counted = [epoch[(step - 1) % num_batches] * self.plan().remembers(step) for step in steps]
        return float(np.mean(np.cumsum(counted) / data.num_users))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() == 2 and not any(table in name for table in ("embedding", "item_table", "proxies"))
