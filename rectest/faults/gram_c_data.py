"""Faults in what `GramCSystem` is given: ids, histories, passages and the graph table of report 003.

Each of them leaves the program running and its loss falling; the promises of the prepared data are what shows them.
Faults of the model and of its training are in `gram_c`.

Shapes: V items (row 0 is padding), S samples, G size of a graph row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rectest.data.idmap import IdMap
from rectest.data.interactions import Sequences
from rectest.data.worlds import World
from rectest.faults.fault import Fault
from rectest.seeding import SeedPlan
from rectest.systems.gram_c.data import GramCData, Manifest
from rectest.systems.gram_c.ids import ItemIds
from rectest.systems.gram_c.samples import Samples, read_histories
from rectest.systems.gram_c.system import GramCSystem
from rectest.systems.gram_c.text import Vocabulary, split_history
from rectest.systems.protocol import System

__all__ = [
    "CATALOGUE",
    "artefact_newer_than_run",
    "entry",
    "flag_lost",
    "graph_sees_held_out",
    "history_not_reversed",
    "id_collision",
    "keys_of_another_format",
    "noise_table",
    "planted",
    "separator_mismatch",
    "trailing_space",
]

IntArray = npt.NDArray[np.int64]
FloatTable = npt.NDArray[np.float32]
Faulty = TypeVar("Faulty", bound=GramCSystem)


def planted(kind: type[Faulty], system: System[Any], **changes: Any) -> Faulty:
    """A system of `kind` with the settings of `system`, but for `changes`.

    Raises:
        TypeError: `system` is another one than these faults are made for.
    """
    if not isinstance(system, GramCSystem):
        msg = f"this fault is for gram_c, got {type(system).__name__}"
        raise TypeError(msg)
    return kind(dataclasses.replace(system.config, **changes))


def entry(
    plant: Callable[[System[Any]], System[Any]], *turns_red: str, settings: Mapping[str, Any] | None = None
) -> Fault:
    """The catalogue's entry of one plant."""
    return Fault(
        name=plant.__name__,
        plant=f"{plant.__module__}:{plant.__name__}",
        system=GramCSystem.name,
        turns_red=turns_red,
        about=" ".join((plant.__doc__ or "").split()),
        settings=settings or {},
    )


class _KeysOfAnotherFormat(GramCSystem):
    def graph_rows(self, items: IdMap) -> IntArray:
        known = {f"item {raw}": items.index(raw) for raw in items.raws}
        return np.array([0, *(known.get(raw, 0) for raw in items.raws)], dtype=np.int64)


def keys_of_another_format(system: System[Any]) -> System[Any]:
    """Raw ids are looked up among keys of another format and default to row 0: every prefix is zero (report 003)."""
    return planted(_KeysOfAnotherFormat, system)


class _NoiseTable(GramCSystem):
    def graph_table(self, edges: Sequences, num_items: int, seeds: SeedPlan) -> FloatTable:  # noqa: ARG002
        rows = 0.1 * seeds.rng("noise").standard_normal((num_items + 1, self.config.graph_size))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows[0] = 0.0
        return rows.astype(np.float32)


def noise_table(system: System[Any]) -> System[Any]:
    """The graph table is normalised random numbers, as the one that report 003 verified: norms, zero row, all well."""
    return planted(_NoiseTable, system)


class _GraphSeesHeldOut(GramCSystem):
    def graph_edges(self, world: World, train: Sequences) -> Sequences:  # noqa: ARG002  ignoring it is the fault
        return world.interactions.sequences()


def graph_sees_held_out(system: System[Any]) -> System[Any]:
    """The graph is made of all events, those to be predicted included."""
    return planted(_GraphSeesHeldOut, system)


class _FlagLost(GramCSystem):
    @property
    def collates_prefix(self) -> bool:
        return False


def flag_lost(system: System[Any]) -> System[Any]:
    """The flag of the prefix is on and does not reach the collator, whose recent items stay zero."""
    return planted(_FlagLost, system)


class _SeparatorMismatch(GramCSystem):
    def read(self, samples: Samples, texts: tuple[str, ...]) -> IntArray:
        return read_histories(samples, texts, lambda text: text.split(" , "), num_newest=self.num_newest)


def separator_mismatch(system: System[Any]) -> System[Any]:
    """Histories are split at another separator than they were joined with: each is one unknown id."""
    return planted(_SeparatorMismatch, system)


class _HistoryNotReversed(GramCSystem):
    def read(self, samples: Samples, texts: tuple[str, ...]) -> IntArray:
        return read_histories(samples, texts, split_history, num_newest=self.num_newest, newest_first=False)


def history_not_reversed(system: System[Any]) -> System[Any]:
    """Histories are read oldest first, and cutting passages then loses the newest items."""
    return planted(_HistoryNotReversed, system)


class _TrailingSpace(GramCSystem):
    def written(self, vocabulary: Vocabulary, codes: list[int]) -> str:
        return super().written(vocabulary, codes) + " "


def trailing_space(system: System[Any]) -> System[Any]:
    """Generated texts end with a space and are compared strictly, so that no id is ever found to be its item."""
    return planted(_TrailingSpace, system)


class _ArtefactNewerThanRun(GramCSystem):
    def prepare(self, world: World, seeds: SeedPlan) -> GramCData:
        data = super().prepare(world, seeds)
        later = self.graph_table(data.split.train, data.num_items, seeds.child("an_hour_later"))
        newer = Manifest.of(data.split.train, data.ids, later, data.collator.word_tokens)
        return dataclasses.replace(data, manifest=newer)


def artefact_newer_than_run(system: System[Any]) -> System[Any]:
    """The graph table was made again after the run had read it; what can be verified is not what was used."""
    return planted(_ArtefactNewerThanRun, system)


class _IdCollision(GramCSystem):
    def assign_ids(self, world: World, train: Sequences, rng: np.random.Generator) -> ItemIds:
        ids = super().assign_ids(world, train, rng)
        codes = ids.codes.copy()
        codes[1] = codes[2]
        return dataclasses.replace(ids, codes=codes)


def id_collision(system: System[Any]) -> System[Any]:
    """Two items have one id; the decoder cannot tell them apart, and only one of them is ever served."""
    return planted(_IdCollision, system)


CATALOGUE = (
    entry(keys_of_another_format, "effect/prefix/recent_share", "effect/prefix/in_logits"),
    entry(noise_table, "embeddings/signal"),
    entry(graph_sees_held_out, "effect/graph/edges", "leak"),
    entry(flag_lost, "effect/prefix/recent_share", "effect/prefix/in_logits"),
    entry(separator_mismatch, "effect/passages"),
    entry(history_not_reversed, "effect/passages"),
    entry(trailing_space, "effect/matching", "floor/popularity", "chance"),
    entry(artefact_newer_than_run, "effect/inputs/graph"),
    entry(id_collision, "effect/ids/distinct"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
