"""`GramC`'s training program: report 003's generative retrieval with a collaborative prefix.

The report took a healthy gradient for a broken one and noise for a healthy table. Here every input promises what can
be computed of it (see `promises`), and the default score is the exact probability of every item, so that no beam
stands between the model and its metrics. Training on several ranks is not owned here.

Shapes: B batch, V items, U users, Lt tokens of a target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.data.worlds import World
from rectest.errors import DataError, WorldError
from rectest.seeding import SeedPlan
from rectest.systems.gram_c import model as parts
from rectest.systems.gram_c.beam import beam_scores
from rectest.systems.gram_c.config import GramCConfig
from rectest.systems.gram_c.data import GramCData, Manifest, Part, held_out_events, split_world
from rectest.systems.gram_c.graph import train_graph
from rectest.systems.gram_c.ids import ItemIds, assign_ids, item_vectors
from rectest.systems.gram_c.model import GramC
from rectest.systems.gram_c.promises import prepared_facts
from rectest.systems.gram_c.samples import IGNORED, Collator, Samples, epochs, graph_rows, read_histories
from rectest.systems.gram_c.scoring import catalogue, exact_scores, overlap, prefix_effect
from rectest.systems.gram_c.steps import accumulate, micro_batches, planned_rate
from rectest.systems.gram_c.text import END, Vocabulary, id_texts, split_history
from rectest.systems.gram_c.tree import IdTree
from rectest.systems.gram_c.trie import Trie
from rectest.systems.layers import Dropout
from rectest.systems.protocol import Batch, EvalSet, System, Table

__all__ = ["GramCSystem"]

IntArray = npt.NDArray[np.int64]

_ADAM_EPS = 1e-6


class GramCSystem(System[GramCData]):
    """An encoder-decoder that writes the id of the next item; leave-two-out evaluation."""

    name: ClassVar[str] = "gram_c"
    default_world: ClassVar[str] = "words-small"
    Config = GramCConfig
    measures: ClassVar[tuple[str, ...]] = ("recall@10", "hit@5", "hit@10", "ndcg@10")
    gate_measures: ClassVar[tuple[str, ...]] = ("recall@10", "hit@5", "ndcg@10")
    model_class: ClassVar[type[GramC]] = GramC

    def prepare(self, world: World, seeds: SeedPlan) -> GramCData:
        """Split, assign ids, train the graph table, write every history and read it again."""
        config, split = self.config, split_world(world)
        repeats = any(len(np.unique(items)) < len(items) for items in world.interactions.sequences())
        if config.exclude_seen and repeats:
            raise WorldError(world.name, "users repeat items, so seen items can be relevant; set exclude_seen to false")
        ids = self.assign_ids(world, split.train, seeds.rng("ids"))
        vocabulary = Vocabulary(
            num_levels=config.num_levels, num_codes=config.num_codes, num_words=config.num_word_tokens
        )
        edges = self.graph_edges(world, split.train)
        graph = self.graph_table(edges, world.num_items, seeds.child("graph"))
        texts, trie = id_texts(ids), Trie.of(ids)
        collator = Collator(
            id_tokens=vocabulary.token_table(texts),
            word_tokens=vocabulary.word_table(world.words(), config.passage_length),
            graph_rows=self.graph_rows(world.items),
            num_passages=config.num_passages,
            prefix=self.collates_prefix,
        )
        width = config.max_history
        samples = {
            "train": Samples.prefixes(split.train, max_history=width),
            "valid": Samples.following(split.history("valid"), split.valid, max_history=width),
            "test": Samples.following(split.history("test"), split.test, max_history=width),
        }
        return GramCData(
            world=world.name,
            items=world.items,
            split=split,
            counts=np.bincount(split.train.items, minlength=world.num_items + 1).astype(np.int64),
            repeats=repeats,
            ids=ids,
            texts=texts,
            trie=trie,
            generated=tuple(self.written(vocabulary, codes) for codes in trie.codes.tolist()),
            vocabulary=vocabulary,
            graph=graph,
            num_edges=len(np.unique(edges.owners() * (world.num_items + 1) + edges.items)),
            collator=collator,
            parts={name: Part(samples=own, newest=self.read(own, texts)) for name, own in samples.items()},
            manifest=Manifest.of(split.train, ids, graph, collator.word_tokens),
        )

    def assign_ids(self, world: World, train: Sequences, rng: np.random.Generator) -> ItemIds:
        """Distinct hierarchical ids out of the training events."""
        config = self.config
        try:
            vectors = item_vectors(train, world.num_items)
            return assign_ids(vectors, rng, num_levels=config.num_levels, num_codes=config.num_codes)
        except DataError as e:
            raise WorldError(world.name, str(e)) from e

    def graph_edges(self, world: World, train: Sequences) -> Sequences:  # noqa: ARG002  what must not be used is there
        """The events that the graph is made of: the training ones."""
        return train

    def graph_table(self, edges: Sequences, num_items: int, seeds: SeedPlan) -> npt.NDArray[np.float32]:
        """[V+1, G] the frozen table behind the prefix."""
        config = self.config
        return train_graph(
            edges, num_items, seeds,
            size=config.graph_size, num_layers=config.graph_layers, num_steps=config.graph_steps,
        )  # fmt: skip

    def graph_rows(self, items: IdMap) -> IntArray:
        """[V+1] the row of the graph table for each item, by its raw id."""
        return graph_rows(items, {raw: items.index(raw) for raw in items.raws})

    def written(self, vocabulary: Vocabulary, codes: list[int]) -> str:
        """What is compared with the items' own texts when the decoder has generated these codes."""
        return vocabulary.text([vocabulary.code(level, code) for level, code in enumerate(codes)])

    @property
    def collates_prefix(self) -> bool:
        """Whether the collator fills in the recent items."""
        return bool(self.config.collaborative_prefix)

    def read(self, samples: Samples, texts: tuple[str, ...]) -> IntArray:
        """[S, n] the histories, newest first, through their texts."""
        return read_histories(samples, texts, split_history, num_newest=self.num_newest)

    @property
    def num_newest(self) -> int:
        """Items of a history that some passage has room for."""
        config = self.config
        return int(max(-(-config.passage_length // config.num_levels), config.num_passages))

    def build(self, data: GramCData, seeds: SeedPlan) -> GramC:
        config = self.config
        shape = {"size": config.embedding_size, "num_heads": config.num_heads, "num_blocks": config.num_blocks}
        drop = Dropout(config.dropout, seeds.seed("dropout"))
        model = self.model_class(
            tree=IdTree(data.trie, data.served_items()),
            vocabulary=data.vocabulary,
            encoder=parts.Encoder(
                **shape, length=config.passage_length, num_passages=1 + config.num_passages, dropout=drop
            ),
            decoder=parts.Decoder(**shape, length=config.num_levels + 1, dropout=drop),
            prefix=parts.Prefix(
                torch.from_numpy(data.graph.copy()),
                size=config.embedding_size,
                scale=config.prefix_scale,
                dropout=Dropout(config.prefix_dropout, seeds.seed("prefix_dropout")),
                drop_whole=Dropout(config.prefix_drop_whole, seeds.seed("prefix_drop_whole")),
            ),
        )
        model.reset(seeds)
        return model

    def batches(self, data: GramCData, seeds: SeedPlan) -> Iterator[Batch]:
        """Training samples without replacement per epoch; there are no negatives."""
        part = data.parts["train"]
        for rows in epochs(len(part.samples), self.config.batch_size, seeds.rng("batches")):
            yield Batch(inputs=data.collator(part.samples, part.newest, rows))

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy of the tokens of the targets' ids, ends included; 0 where there is none."""
        gram = cast(GramC, model)
        logits_BMO = gram(dict(batch.inputs))
        targets_BM = batch.inputs["target_ids"]
        wanted_BM = torch.where(targets_BM == IGNORED, IGNORED, targets_BM - END)
        total = functional.cross_entropy(
            logits_BMO.flatten(0, 1), wanted_BM.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return {"total": total / (targets_BM != IGNORED).sum().clamp_min(1)}

    def loss_terms(self, batch: Batch) -> dict[str, float]:
        """The tokens of the targets' ids."""
        return {"total": float((batch.inputs["target_ids"] != IGNORED).sum())}

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW with the epsilon of the original (1e-6)."""
        config = self.config
        return torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, eps=_ADAM_EPS, weight_decay=config.weight_decay
        )

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
        """One optimizer step on all micro-batches: scheduled rate, accumulated gradient, clipped."""
        gram = cast(GramC, model)
        self.set_rates(optimizer)
        optimizer.zero_grad(set_to_none=True)
        micro = micro_batches(batch, -(-self.config.batch_size // self.config.accumulation))
        losses, weight = accumulate(lambda part: self.losses(model, part), micro, self.micro_weights(micro))
        nn.utils.clip_grad_norm_(model.parameters(), self.config.clip)
        optimizer.step()
        gram.note_weight(weight)
        gram.last_rate = float(optimizer.param_groups[0]["lr"])
        gram.recent_share = (batch.inputs["recent_item_ids"] > 0).double().mean()
        return losses

    def set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the rate of the next step; the number of steps taken is kept in the optimizer, as checkpoints need."""
        config = self.config
        for group in optimizer.param_groups:
            group["scheduled_step"] = step = group.get("scheduled_step", 0) + 1
            group["lr"] = config.learning_rate * planned_rate(step, num_steps=config.steps, warmup=config.warmup)

    def micro_weights(self, micro: list[Batch]) -> list[float]:
        """The weight of each micro-batch's mean loss: its share of the samples, so that their sum is the whole mean."""
        sizes = [len(part.inputs["user_ids"]) for part in micro]
        return [size / sum(sizes) for size in sizes]

    def eval_set(self, data: GramCData, split: str) -> EvalSet:
        """All users with a target and a history; ``valid`` is the second last item, ``test`` the last.

        The full catalogue is ranked, without the user's history unless `exclude_seen` is off or users repeat items.
        """
        if split not in ("valid", "test"):
            msg = f"split must be 'valid' or 'test', got {split!r}"
            raise ValueError(msg)
        known, part = data.history(split), data.parts[split]
        users = part.samples.users
        histories = [known[int(user)] for user in users]
        return EvalSet(
            split=split,
            users=users,
            histories=histories,
            relevant=list(part.samples.targets[:, None]),
            inputs=data.collator(part.samples, part.newest, slice(None)),
            excluded=histories if self.excludes_seen(data) else None,
        )

    def excludes_seen(self, data: GramCData) -> bool:
        """Whether the user's history is taken out of the ranking."""
        return not data.repeats if self.config.exclude_seen is None else bool(self.config.exclude_seen)

    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        """[B, V+1] log-probabilities of the items' ids; with ``decoding: beam`` only of those that the beam finds.

        What the beam does not find stands below all that it finds, see `catalogue`.
        """
        gram = cast(GramC, model)
        names = ("item_text_ids", "item_text_mask", "recent_item_ids")
        inputs = {name: eval_set.inputs[name][rows].to(gram.prefix.table.device) for name in names}
        return self.rank_items(gram, self.memory(gram, inputs), decoding=self.config.decoding)

    def memory(self, model: GramC, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the decoder looks at."""
        prefix = model.prefix(inputs["recent_item_ids"])
        return model.read(inputs["item_text_ids"], inputs["item_text_mask"], prefix)

    def rank_items(self, model: GramC, memory: tuple[Tensor, Tensor], *, decoding: str) -> Tensor:
        """[B, V+1] scores of all items under one of the ways of decoding."""
        if decoding == "beam":
            found = beam_scores(model, model.tree, memory, beam_size=self.config.beam_size)
        else:
            found = exact_scores(model, model.tree, memory)
        return catalogue(found, model.tree.served, model.prefix.table.shape[0] - 1)

    def popularity(self, data: GramCData) -> IntArray:
        return data.counts

    def tables(self, model: nn.Module) -> dict[str, Table]:
        """The frozen graph table, and the embeddings of all tokens, which weight decay moves whether used or not."""
        gram = cast(GramC, model)
        return {
            "graph": Table(weight=gram.prefix.table, norm=1.0, frozen=True),
            "token": Table(weight=gram.token_embedding.weight, space="token", moves_untouched=True),
        }

    def id_maps(self, data: GramCData) -> dict[str, IdMap]:
        return {"item": data.items}

    def used_rows(self, batch: Batch) -> dict[str, Tensor]:
        """Graph rows of the recent items, tokens of passages and targets; padding takes no part."""
        recent, texts, targets = (batch.inputs[n] for n in ("recent_item_ids", "item_text_ids", "target_ids"))
        return {"graph": recent[recent > 0], "token": torch.cat([texts[texts > 0], targets[targets > 0]])}

    def held_out(self, world: World) -> npt.NDArray[np.bool_]:
        """The last two events of each user."""
        return held_out_events(world)

    def branches(self, model: nn.Module) -> dict[str, tuple[str, str]]:  # noqa: ARG002  the same for all models
        return {name: (f"{name}.", "total") for name in ("encoder", "decoder", "prefix")}

    def scalars(self, model: nn.Module) -> dict[str, float]:
        """Of the last step: its rate, its share of recent items, whether its prefix reached the logits and how far it
        moved them; how far the weights of micro-batches were off at worst so far; with a beam its overlap with exact
        decoding.
        """
        gram = cast(GramC, model)
        moved = prefix_effect(gram)
        found = {
            "schedule/learning_rate": gram.last_rate,
            "accumulation/deviation": float(gram.weight_deviation),
            "prefix/recent_share": float(gram.recent_share),
            "prefix/logit_difference": moved,
            "prefix/in_logits": float(moved > 0),
        }
        if self.config.decoding == "beam":
            found["decoding/overlap@10"] = self._overlap(gram, k=10)
        return found

    @torch.no_grad()
    def _overlap(self, model: GramC, *, k: int) -> float:
        """Share of the k best items of some training users under exact decoding that the beam ranks there too."""
        was_training = model.training
        model.eval()
        memory = model.memory_seen(model.recent_seen())
        exact, beam = (self.rank_items(model, memory, decoding=way) for way in ("exact", "beam"))
        model.train(was_training)
        return overlap(exact, beam, k=k)

    def input_facts(self, data: GramCData) -> dict[str, Any]:
        """Sizes, digests, and under ``expected_scalars`` and ``invariants`` what must be seen of them."""
        return prepared_facts(data, self.config)
