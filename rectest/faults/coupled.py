"""Training programs whose rows depend on each other, or whose ranks do: right ones, and the classic wrong ones.

In-batch negatives and batch normalisation couple the rows of a batch, so that ranks which share it must exchange
tensors in the forward pass and gradients of them in the backward pass. Beside them stand plants that make one table,
or the negatives, differ as soon as there is more than one rank. Of what couples rows, only `in_batch_gathered` and
`batch_norm_synchronised` are right. How gradients are reduced afterwards is not owned here.

A plant knows its world from the default group of `torch.distributed` at the time of the call: where none is
initialised, or it has one rank, each is the plain computation on the whole batch, and all of a kind are the same.
With several ranks every rank must evaluate the loss, and differentiate it, equally often and in the same order; numbers
of rows may differ. Accumulation is not meaningful for coupled rows: a micro-batch only knows the rows that ranks hold
at that time. Batch normalisation couples rows in training mode only, and every evaluation of the loss moves its running
statistics.

Shapes: B rows of this rank, N rows of all ranks, L sequence, K interests, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from rectest.errors import TrainingError
from rectest.faults.across_ranks import SynchronisedBatchNorm, gather, num_ranks, own_rank, place
from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.model import SASRec
from rectest.systems.adaptive_sasrec.system import AdaptiveSASRec
from rectest.systems.comirec.batches import UserData
from rectest.systems.comirec.model import UserModel
from rectest.systems.comirec.system import ComiRec, item_table
from rectest.systems.protocol import Batch, System

__all__ = [
    "CONTROLS",
    "FAULTS",
    "batch_norm_per_rank",
    "batch_norm_synchronised",
    "frozen_on_ranks",
    "in_batch_detached",
    "in_batch_gathered",
    "in_batch_own_rows",
    "negatives_per_rank",
    "negatives_whole_batch",
    "table_scaled",
    "table_times_one",
    "table_unused_on_ranks",
]

Columns = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, int]]
"""From this rank's item vectors [B, D] and ids [B] to those that its users are scored against, and where its own
begin among them."""


def _gathered(items_BD: Tensor, ids_B: Tensor) -> tuple[Tensor, Tensor, int]:
    first, total = place(len(ids_B), ids_B.device)
    return gather(items_BD, first, total), gather(ids_B, first, total), first


def _detached(items_BD: Tensor, ids_B: Tensor) -> tuple[Tensor, Tensor, int]:
    items_ND, ids_N, first = _gathered(items_BD.detach(), ids_B)
    return torch.cat([items_ND[:first], items_BD, items_ND[first + len(ids_B) :]]), ids_N, first


def _own_rows(items_BD: Tensor, ids_B: Tensor) -> tuple[Tensor, Tensor, int]:
    return items_BD, ids_B, 0


def _in_batch_softmax(logits_BN: Tensor, ids_B: Tensor, ids_N: Tensor, first: int) -> Tensor:
    """Mean cross-entropy of column ``first + i`` in row i; another column with the same item is left out of the row."""
    own_B = torch.arange(first, first + len(ids_B), device=ids_B.device)
    repeated_BN = (ids_B[:, None] == ids_N).scatter(1, own_B[:, None], False)
    return F.cross_entropy(logits_BN.masked_fill(repeated_BN, -torch.inf), own_B)


class _RowMean(System[Any]):
    """A loss that is one mean over rows and needs no drawn negatives."""

    columns: ClassVar[Columns]

    def total(self, model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002  there is one loss
        return losses["total"]

    def loss_terms(self, batch: Batch) -> dict[str, float]:
        return {"total": float(batch.num_rows)}

    def used_rows(self, batch: Batch) -> dict[str, Tensor]:
        return super().used_rows(replace(batch, negatives={name: v[:0] for name, v in batch.negatives.items()}))


class _InBatchComiRec(_RowMean, ComiRec):
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        target_B, table_VD = batch.inputs["target"], item_table(model)
        targets_BD = cast(UserModel, model).item(target_B)
        interests_BKD = model(batch.inputs["history"], batch.inputs["mask"])
        users_BD = self.readout(interests_BKD, table_VD, target_B)
        items_ND, ids_N, first = type(self).columns(targets_BD, target_B)
        return {"total": _in_batch_softmax(users_BD @ items_ND.T, target_B, ids_N, first)}


class _InBatchSASRec(_RowMean, AdaptiveSASRec):
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(model, SASRec):
            msg = f"the model must be a SASRec, got {type(model).__name__}"
            raise TypeError(msg)
        states_BD, target_B = model(batch.inputs["sequence"])[:, -1], batch.inputs["positives"][:, -1]
        model.last_states_BD = states_BD.detach()
        items_ND, ids_N, first = type(self).columns(model.item_embedding(target_B), target_B)
        return {"total": _in_batch_softmax(model.similarity.catalogue(states_BD, items_ND), target_B, ids_N, first)}


def _mixed(
    system: System[Any], mixins: Mapping[type[System[Any]], type[System[Any]]], **attributes: Any
) -> System[Any]:
    """The system with the mixin made for its class before its own methods, those of earlier plants among them."""
    for kind, mixin in mixins.items():
        if isinstance(system, kind):
            made = type(mixin.__name__, (mixin, type(system)), attributes)
            planted: System[Any] = made(system.config)
            return planted
    known = ", ".join(kind.__name__ for kind in mixins)
    msg = f"this plant is made for {known}, got {type(system).__name__}"
    raise TypeError(msg)


def _in_batch(system: System[Any], columns: Columns) -> System[Any]:
    mixins: dict[type[System[Any]], type[System[Any]]] = {ComiRec: _InBatchComiRec, AdaptiveSASRec: _InBatchSASRec}
    return _mixed(system, mixins, columns=staticmethod(columns))


def in_batch_gathered(system: System[Any]) -> System[Any]:
    """Control: the items of all rows of all ranks are each row's candidates, and carry a gradient to where they are."""
    return _in_batch(system, _gathered)


def in_batch_detached(system: System[Any]) -> System[Any]:
    """Items of other ranks are candidates without gradient: a negative only learns from the rows of its own rank."""
    return _in_batch(system, _detached)


def in_batch_own_rows(system: System[Any]) -> System[Any]:
    """Each rank's rows have only that rank's items as candidates: more ranks, easier losses."""
    return _in_batch(system, _own_rows)


class _NormedExtractor(nn.Module):
    """Interests whose every dimension is normalised over users and interests."""

    def __init__(self, inner: nn.Module, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.inner = inner
        self.norm = norm

    def forward(self, embedded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        interests_BKD: Tensor = self.inner(embedded_BLD, mask_BL)
        normed_BKD: Tensor = self.norm(interests_BKD.flatten(0, 1)).view_as(interests_BKD)
        return normed_BKD


class _NormedComiRec(ComiRec):
    norm: ClassVar[type[nn.BatchNorm1d]]

    def build(self, data: UserData, seeds: SeedPlan) -> UserModel:
        model = super().build(data, seeds)
        model.extractor = _NormedExtractor(model.extractor, self.norm(self.config.embedding_size))
        return model


class _NormedEmbeddings(SASRec):
    """Embedded histories whose every dimension is normalised over the items of all rows; padding stays zero.

    Normalising the final states instead would cancel gain and bias of the final norm: gradients of rounding alone.
    """

    norm_class: ClassVar[type[nn.BatchNorm1d]]

    def __init__(self, num_items: int, **settings: Any) -> None:
        super().__init__(num_items, **settings)
        self.input_norm = self.norm_class(self.embedding_size)

    def embed(self, items_BL: Tensor, places_BL: Tensor) -> Tensor:
        x_BLD = super().embed(items_BL, places_BL)
        real_BL = items_BL != 0
        normed_BLD = torch.zeros_like(x_BLD)
        normed_BLD[real_BL] = self.input_norm(x_BLD[real_BL])
        return normed_BLD


class _NormedSASRec(AdaptiveSASRec):
    """The mixin that gives `AdaptiveSASRec` its `model_class`."""


def _batch_norm(system: System[Any], norm: type[nn.BatchNorm1d]) -> System[Any]:
    if isinstance(system, AdaptiveSASRec):
        model = type("NormedEmbeddings", (_NormedEmbeddings, type(system).model_class), {"norm_class": norm})
        return _mixed(system, {AdaptiveSASRec: _NormedSASRec}, model_class=model)
    return _mixed(system, {ComiRec: _NormedComiRec, AdaptiveSASRec: _NormedSASRec}, norm=norm)


def batch_norm_synchronised(system: System[Any]) -> System[Any]:
    """Control: interests, or embedded histories, are normalised by mean and variance over the rows of all ranks."""
    return _batch_norm(system, SynchronisedBatchNorm)


def batch_norm_per_rank(system: System[Any]) -> System[Any]:
    """Interests, or embedded histories, are normalised over each rank's own rows; running statistics differ by rank."""
    return _batch_norm(system, nn.BatchNorm1d)


@dataclass(frozen=True, kw_only=True, slots=True)
class _RankSeeds(SeedPlan):
    """Streams that are the same on all ranks, but for the negatives'."""

    rank: int

    def rng(self, name: str) -> np.random.Generator:
        plan = SeedPlan(root=self.root, path=self.path)
        return (plan.for_rank(self.rank) if name == "negatives" and self.rank else plan).rng(name)


def negatives_per_rank(system: System[Any]) -> System[Any]:
    """Every rank but the first draws negatives from a stream of its own, as ``seed + rank`` does, so that the result
    depends on the number of ranks.
    """
    kind: Any = type(system)

    class OwnNegatives(kind):  # type: ignore[misc]
        def batches(self, data: Any, seeds: SeedPlan) -> Iterator[Batch]:
            rank = own_rank()
            for batch in super().batches(data, _RankSeeds(root=seeds.root, path=seeds.path, rank=rank)):
                if not batch.negatives:
                    msg = f"{self.name} draws no negatives, so ranks cannot draw them alone; plant it in another system"
                    raise TrainingError(msg)
                yield batch

    planted: System[Any] = OwnNegatives(system.config)
    return planted


def negatives_whole_batch(system: System[Any]) -> System[Any]:
    """Control: all ranks draw the negatives of the whole batch and take their rows of it, as the system does anyway."""
    return system


def _learned_table(system: System[Any], model: nn.Module) -> tuple[str, nn.Parameter]:
    """The first of the system's tables that learns, by the name that it has in the model."""
    weights = [table.weight for table in system.tables(model).values()]
    named = dict(model.named_parameters())
    found = [name for weight in weights for name, value in named.items() if value is weight]
    if not found:
        msg = f"{system.name} has no embedding table that learns; plant it in another system"
        raise TrainingError(msg)
    return found[0], named[found[0]]


def _built(system: System[Any], change: Callable[[nn.Parameter, int], object]) -> System[Any]:
    """The system whose first table is changed after it was built, where there is more than one rank."""
    kind: Any = type(system)

    class Changed(kind):  # type: ignore[misc]
        def build(self, data: Any, seeds: SeedPlan) -> nn.Module:
            model: nn.Module = super().build(data, seeds)
            if num_ranks() > 1:
                change(_learned_table(self, model)[1], num_ranks())
            return model

    changed: System[Any] = Changed(system.config)
    return changed


def _multiply(table: nn.Parameter, factor: float) -> None:
    table.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]


def frozen_on_ranks(system: System[Any]) -> System[Any]:
    """One table requires no gradient where there is more than one rank, so that it keeps its first values.

    A system that freezes and thaws by stages (ur4rec) thaws it in its own step.
    """
    return _built(system, lambda table, _: table.requires_grad_(False))


def table_scaled(system: System[Any]) -> System[Any]:
    """The gradient of one table is divided by the number of ranks, once more than those of all others."""
    return _built(system, lambda table, ranks: _multiply(table, 1 / ranks))


def table_times_one(system: System[Any]) -> System[Any]:
    """Control: a hook stands on the gradient of one table, and multiplies by 1."""
    return _built(system, lambda table, _: _multiply(table, 1.0))


class _LossOf(nn.Module):
    def __init__(self, model: nn.Module, losses: Callable[[nn.Module, Batch], dict[str, Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.losses = losses

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(self.model, batch)


def table_unused_on_ranks(system: System[Any]) -> System[Any]:
    """One table is read without gradient where there is more than one rank: a dead branch that still computes."""
    kind: Any = type(system)

    class Detached(kind):  # type: ignore[misc]
        def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
            if num_ranks() == 1:
                return dict(super().losses(model, batch))
            name, table = _learned_table(self, model)
            losses: dict[str, Tensor] = functional_call(
                _LossOf(model, super().losses), {f"model.{name}": table.detach()}, (batch,)
            )
            return losses

    detached: System[Any] = Detached(system.config)
    return detached


CONTROLS = (in_batch_gathered, batch_norm_synchronised, negatives_whole_batch, table_times_one)
"""Planters after which any number of ranks computes what one process does."""

FAULTS = (
    in_batch_detached,
    in_batch_own_rows,
    batch_norm_per_rank,
    negatives_per_rank,
    frozen_on_ranks,
    table_scaled,
    table_unused_on_ranks,
)
"""Planters after which one process computes what it should, and several ranks do not."""
