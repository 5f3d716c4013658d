"""Faults for `GEAR`: what really went wrong in report 004's system, in its model and in its data.

Every plant takes the clean system and returns one with the same settings that is wrong in one place; a plant for an
optional feature switches that feature on. What went wrong in its evaluation and its trainer is in `gear_evaluation`.

Shapes: B batch, L rows, S tokens, D embedding, V items, U users.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rectest.data.idmap import IdMap
from rectest.data.world import World
from rectest.faults.fault import Fault
from rectest.seeding import SeedPlan
from rectest.systems.gear.batches import GEARData, draw_batches
from rectest.systems.gear.model import GEAR as Model
from rectest.systems.gear.model import TiedHead
from rectest.systems.gear.system import GEAR
from rectest.systems.protocol import Batch, System

__all__ = [
    "CATALOGUE",
    "as_fault",
    "behaviours_by_hash",
    "fully_masked_rows",
    "gaps_of_wrong_row",
    "held_out_rows_trained",
    "no_causal_mask",
    "only_target_ignored",
    "padding_visible",
    "planted",
    "untied_head",
    "windows_always_newest",
]

Faulty = TypeVar("Faulty", bound=GEAR)

_ONLY_TARGET: Mapping[str, Any] = {"predict_only_target": True}


def planted(kind: type[Faulty], system: System[Any], **changes: Any) -> Faulty:
    """A system of `kind` with the settings of `system`, but for `changes`.

    Raises:
        TypeError: `system` is not the one that the faults of this file are for.
    """
    if not isinstance(system, GEAR):
        msg = f"this fault is for gear, got {type(system).__name__}"
        raise TypeError(msg)
    return kind(dataclasses.replace(system.config, **changes))


def as_fault(
    plant: Callable[[System[Any]], System[Any]], *turns_red: str, settings: Mapping[str, Any] | None = None
) -> Fault:
    """The catalogue's entry for a planter."""
    return Fault(
        name=plant.__name__,
        plant=f"{plant.__module__}:{plant.__name__}",
        system=GEAR.name,
        turns_red=turns_red,
        about=" ".join((plant.__doc__ or "").split()),
        settings=settings or {},
    )


class _SeesPadding(Model):
    def reset(self, seeds: SeedPlan, *, embedding_std: float) -> None:
        super().reset(seeds, embedding_std=embedding_std)
        for name in ("item_embedding", "behaviour_embedding"):
            generator = torch.Generator().manual_seed(seeds.seed(f"{name}/padding"))
            nn.init.normal_(getattr(self, name).weight.data[0], std=embedding_std, generator=generator)

    def attention_mask(self, real_BS: Tensor) -> Tensor:
        return super().attention_mask(torch.ones_like(real_BS))


class _PaddingVisible(GEAR):
    model_class = _SeesPadding


def padding_visible(system: System[Any]) -> System[Any]:
    """No padding mask, and an initialisation that sweeps over row 0: padding is a token like any other (report 004)."""
    return planted(_PaddingVisible, system)


class _SeesFuture(Model):
    def attention_mask(self, real_BS: Tensor) -> Tensor:
        itself_SS = torch.eye(real_BS.shape[1], dtype=torch.bool, device=real_BS.device)
        return real_BS[:, None, :] | itself_SS


class _NoCausalMask(GEAR):
    model_class = _SeesFuture


def no_causal_mask(system: System[Any]) -> System[Any]:
    """Attention without the causal mask: in training every behaviour sees the item that it should predict."""
    return planted(_NoCausalMask, system)


class _MasksEverything(Model):
    def attention_mask(self, real_BS: Tensor) -> Tensor:
        return super().attention_mask(real_BS) & real_BS[:, None, :]


class _FullyMaskedRows(GEAR):
    model_class = _MasksEverything


def fully_masked_rows(system: System[Any]) -> System[Any]:
    """A padded place may look at nothing, not even itself: its softmax is NaN, and NaN times zero is NaN for all."""
    return planted(_FullyMaskedRows, system)


class _OwnHead(TiedHead):
    """Has a copy of the item table that trains by itself; other tables are scored as they should be."""

    def __init__(self, table_ND: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table_ND.detach().clone())

    def forward(self, states_BD: Tensor, table_ND: Tensor) -> Tensor:
        mine = self.training and table_ND.shape == self.weight.shape
        return super().forward(states_BD, self.weight if mine else table_ND)


class _UntiedHead(GEAR):
    def build(self, data: GEARData, seeds: SeedPlan) -> Model:
        model = super().build(data, seeds)
        model.head = _OwnHead(model.item_embedding.weight)
        return model


def untied_head(system: System[Any]) -> System[Any]:
    """The output head got a copy of the item table: it is trained, and serving scores with the table."""
    return planted(_UntiedHead, system)


class _OnlyTargetIgnored(GEAR):
    def item_targets(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return inputs["items"]


def only_target_ignored(system: System[Any]) -> System[Any]:
    """`predict_only_target` is accepted and never used (report 004)."""
    return planted(_OnlyTargetIgnored, system, **_ONLY_TARGET)


class _BehavioursByHash(GEAR):
    def prepare(self, world: World, seeds: SeedPlan) -> GEARData:
        data = super().prepare(world, seeds)
        ids = IdMap(raws=tuple(set(data.behaviours.raws)))
        new_code = np.array([0, *(ids.index(raw) for raw in data.behaviours.raws)])
        rows = dataclasses.replace(data.rows, behaviours=new_code[data.rows.behaviours])
        return dataclasses.replace(data, rows=rows, behaviours=ids, target=int(new_code[data.target]))


def behaviours_by_hash(system: System[Any]) -> System[Any]:
    """Behaviours are numbered in the order of a set of strings, which changes with PYTHONHASHSEED (report 004)."""
    return planted(_BehavioursByHash, system)


class _GapsOfWrongRow(GEAR):
    def prepare(self, world: World, seeds: SeedPlan) -> GEARData:
        data = super().prepare(world, seeds)
        gaps = np.diff(data.rows.elapsed, append=data.rows.elapsed[-1:])
        ends = data.rows.offsets[1:][data.rows.lengths > 0] - 1
        gaps[ends] = 0
        running = np.cumsum(gaps)
        first = np.repeat(data.rows.offsets[:-1], data.rows.lengths)
        rows = dataclasses.replace(data.rows, elapsed=running - running[first])
        return dataclasses.replace(data, rows=rows)


def gaps_of_wrong_row(system: System[Any]) -> System[Any]:
    """Each row carries the time until the next one instead of the time since the last one."""
    return planted(_GapsOfWrongRow, system)


class _HeldOutRowsTrained(GEAR):
    def batches(self, data: GEARData, seeds: SeedPlan) -> Iterator[Batch]:
        return super().batches(dataclasses.replace(data, train_ends=data.train_ends + 2), seeds)


def held_out_rows_trained(system: System[Any]) -> System[Any]:
    """Training samples are cut from whole histories, the held-out rows included."""
    return planted(_HeldOutRowsTrained, system)


class _WindowsAlwaysNewest(GEAR):
    def batches(self, data: GEARData, seeds: SeedPlan) -> Iterator[Batch]:
        return draw_batches(
            data,
            batch_size=self.config.batch_size,
            max_length=self.config.max_length,
            window_probability=float(int(self.config.window_probability)),
            order=seeds.rng("batches"),
            cuts=seeds.rng("windows"),
        )


def windows_always_newest(system: System[Any]) -> System[Any]:
    """The probability of a random window is rounded to an integer, which is 0: only the newest rows are trained on."""
    return planted(_WindowsAlwaysNewest, system)


CATALOGUE = (
    as_fault(padding_visible, "invariance/padding", "embeddings/padding_row"),
    as_fault(no_causal_mask, "effect/causality/leak"),
    as_fault(fully_masked_rows, "training"),
    as_fault(untied_head, "effect/model/parameters", "floor/popularity"),
    as_fault(only_target_ignored, "effect/items/target_share", settings=_ONLY_TARGET),
    as_fault(behaviours_by_hash, "reproducible", "effect/behaviour_codes"),
    as_fault(gaps_of_wrong_row, "effect/test_rows", "effect/valid_rows"),
    as_fault(held_out_rows_trained, "leak/held_out"),
    as_fault(windows_always_newest, "effect/windows/random_share"),
)
"""Every fault above; `plant` in a `RunSpec` takes ``fault.plant``."""
