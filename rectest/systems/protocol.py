"""`System`: what a training program offers, so that one loop can train it and one set of checks can judge it.

A system draws every random number from the `SeedPlan` it is given, on the CPU, and moves the result to the device:
then neither the device nor the evaluation schedule can change what it trains on. Users subclass `System` for their
own code; nothing here knows the reference systems.

Whatever training carries from step to step belongs into the model (parameters, buffers, generators of its modules)
or into the optimizer's state: then a checkpoint holds it, and a resumed run equals the uninterrupted one.

Shapes: B batch, L sequence, C candidates, V items (ids 1..V, 0 is padding), U users.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rectest.data.idmap import IdMap
from rectest.data.world import World
from rectest.errors import ConfigError
from rectest.seeding import SeedPlan

__all__ = ["Batch", "EvalSet", "System", "Table", "TrainConfig"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
DataT = TypeVar("DataT")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings every system has; a system's own `Config` inherits them and adds its own."""

    steps: int = 300
    eval_every: int = 50
    patience: int | None = None
    """Evaluations without improvement of `monitor` after which training stops; None trains all steps."""

    batch_size: int = 64
    learning_rate: float = 1e-3
    eval_block: int = 256
    """Users scored at once; a performance knob that must not change any metric."""

    def __post_init__(self) -> None:
        for name in ("steps", "eval_every", "batch_size", "eval_block"):
            self.require(name, getattr(self, name) >= 1, "must be at least 1")
        self.require("learning_rate", self.learning_rate > 0, "must be positive")
        self.require("patience", self.patience is None or self.patience >= 1, "must be at least 1, or null")

    def require(self, name: str, holds: bool, needed: str) -> None:
        """Raise a `ConfigError` that names the setting, its value and what was needed, unless it `holds`."""
        if not holds:
            raise ConfigError(type(self).__qualname__, name, f"{needed}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One training step's input. Negatives stand apart, because they come from a random stream of their own."""

    inputs: Mapping[str, Tensor]
    negatives: Mapping[str, Tensor] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    """Names of tensors without a row for each sample: whoever trains on some rows of the batch needs them whole."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return self._mapped(lambda _name, value: value.to(device))

    @property
    def num_rows(self) -> int:
        """Samples: the first dimension of the first input that has a row for each (a step number has none)."""
        for name, value in self.inputs.items():
            if value.dim() > 0 and name not in self.shared:
                return len(value)
        msg = f"a batch needs an input with a row for each sample; found {', '.join(self.inputs) or 'none'}, all shared"
        raise ValueError(msg)

    def rows(self, start: int, stop: int) -> Batch:
        """The batch of some samples; tensors that are shared, or have no dimension, stay whole."""
        return self._mapped(lambda name, v: v if v.dim() == 0 or name in self.shared else v[start:stop])

    def _mapped(self, change: Callable[[str, Tensor], Tensor]) -> Batch:
        inputs, negatives = (
            {name: change(name, value) for name, value in side.items()} for side in (self.inputs, self.negatives)
        )
        return Batch(inputs=inputs, negatives=negatives, shared=self.shared)


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """The users of one split, what is known of them, what they should be recommended, among what."""

    split: str
    users: IntArray
    """[U] dense user ids, in evaluation order."""

    histories: Sequence[IntArray]
    """Per user, the items known before the relevant ones, oldest first; what the popularity and optimum floors see."""

    relevant: Sequence[IntArray]
    """Per user, the held-out items; an empty array is a user without relevant items (counted, not scored)."""

    inputs: Mapping[str, Tensor]
    """The model's input for all users, first dimension U."""

    candidates: IntArray | None = None
    """[U, C] item ids to rank (the relevant one among them), or None to rank the full catalogue."""

    excluded: Sequence[IntArray] | None = None
    """Per user, items that are never recommended (seen in training), or None."""

    horizon: int = 1
    """How many future events the relevant items are drawn from; the optimum is computed for it."""

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, kw_only=True)
class Table:
    """An embedding table as the checks should see it."""

    weight: Tensor
    space: str = "item"
    """The id space whose dense indices are its rows."""

    padding_row: int | None = 0
    norm: float | None = None
    """The norm that every row promises, where one is promised."""

    moves_untouched: bool = False
    """Whether the optimizer may move rows that took part in no batch (weight decay on a dense table)."""

    frozen: bool = False
    """Whether the table promises to stay at its initial values."""


class System(ABC, Generic[DataT]):
    """A training program under test. Subclasses set the class attributes and implement the abstract methods."""

    name: ClassVar[str]
    default_world: ClassVar[str]
    Config: ClassVar[type[TrainConfig]] = TrainConfig
    measures: ClassVar[tuple[str, ...]] = ("recall@10", "ndcg@10")
    """What each evaluation reports; the first is monitored for early stopping and choosing the best step."""

    gate_measures: ClassVar[tuple[str, ...]] = ("recall@10", "ndcg@10")
    """The measures of the test split that the merge gate compares with the baseline."""

    def __init__(self, config: TrainConfig | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Make the system from plain values; unknown keys and wrong types are refused, never ignored.

        Raises:
            ConfigError: a setting does not exist, or its value has the wrong type or range.
        """
        hints = typing.get_type_hints(cls.Config)
        for key, value in settings.items():
            if key not in hints:
                near = difflib.get_close_matches(key, hints, n=1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                raise ConfigError(cls.name, key, f"does not exist{hint}; known: {', '.join(sorted(hints))}")
            if not _fits(value, hints[key]):
                raise ConfigError(cls.name, key, f"needs {_type_name(hints[key])}, got {value!r}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        return cls(cls.Config(**plain))

    def settings(self) -> dict[str, Any]:
        """The whole configuration as plain values, defaults included; checkpoints carry it."""
        return dataclasses.asdict(self.config)

    @abstractmethod
    def prepare(self, world: World, seeds: SeedPlan) -> DataT:
        """Split the world and index what training needs.

        Raises:
            WorldError: the world is too small for this system.
        """

    @abstractmethod
    def build(self, data: DataT, seeds: SeedPlan) -> nn.Module:
        """A freshly initialised model on the CPU, drawn from generators seeded by `seeds` only."""

    @abstractmethod
    def batches(self, data: DataT, seeds: SeedPlan) -> Iterator[Batch]:
        """An endless stream of batches on the CPU; negatives come from a stream of their own."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses; ``total`` is the one that is differentiated."""

    def total(self, model: nn.Module, losses: Mapping[str, Tensor]) -> Tensor:
        """What is differentiated, of the mean losses that `loss_terms` names: affine in each of them.

        Ranks that share a batch scale the means of their shares before this, so that the shares add up to the whole.
        """
        return losses["total"]

    def loss_terms(self, batch: Batch) -> dict[str, float]:
        """By name, the losses that `total` is made of, and how many terms of `batch` each is a mean over.

        By default the total itself, a mean over rows. A component that does not train on this batch is left out.
        """
        return {"total": float(batch.num_rows)}

    @abstractmethod
    def eval_set(self, data: DataT, split: str) -> EvalSet:
        """The users of ``valid`` or ``test``. Calling it twice gives the same set."""

    @abstractmethod
    def score(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> Tensor:
        """Scores of the users in `rows`: [B, V+1] (column = item id), or [B, C] where `eval_set` has candidates.

        It draws no random number and changes nothing in the model.
        """

    @abstractmethod
    def popularity(self, data: DataT) -> IntArray:
        """[V+1] how often each item was seen in training; the popularity floor ranks by it."""

    def other_popularity(self, data: DataT) -> Mapping[str, IntArray]:
        """How often each id of other id spaces than the items' (kinds of events, codes) was seen, by space."""
        return {}

    def tables(self, model: nn.Module) -> dict[str, Table]:
        """The embedding tables by name."""
        return {}

    def id_maps(self, data: DataT) -> dict[str, IdMap]:
        """The id maps in use, by id space."""
        return {}

    def used_rows(self, batch: Batch) -> dict[str, Tensor]:
        """Per table, the row indices (any shape) that a batch reads; the loop counts them."""
        return {}

    def components(self, model: nn.Module, eval_set: EvalSet, rows: slice) -> dict[str, Tensor]:
        """The named parts, weights included, of which `score` is the sum; none where it is not a sum."""
        return {}

    def left_padded(self, eval_set: EvalSet, extra: int) -> EvalSet | None:
        """The same users with `extra` more padding columns before their inputs; None where nothing is left-padded.

        Padding carries no information, so the scores must not change.
        """
        return None

    def held_out(self, world: World) -> BoolArray | None:
        """[N] the events of `world` that training must not depend on, or None where whole users are held out."""
        return None

    def branches(self, model: nn.Module) -> dict[str, tuple[str, str]]:
        """Parts of the model that must learn: name to the prefix of its parameters and its loss component."""
        return {}

    def reported(
        self, split: str, values: Mapping[str, float], per_user: Callable[[str], FloatArray]
    ) -> Mapping[str, float]:
        """The metrics that the trainer logs for an evaluation: the means over users, `values`, as they are.

        Args:
            per_user: gives the values of one measure for each user, NaN where nothing is relevant.
        """
        return values

    def is_better(self, value: float, best: float, *, higher_is_better: bool) -> bool:
        """Whether an evaluation beats the best one so far; ties keep the earlier one."""
        return value > best if higher_is_better else value < best

    def weights_to_test(self, best: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights that are tested: those of the best evaluation."""
        return best

    def scalars(self, model: nn.Module) -> dict[str, float]:
        """Values worth a curve (similarity weights, gates, counters), read after every step."""
        return {}

    def input_facts(self, data: DataT) -> dict[str, Any]:
        """Plain values about the prepared data (sizes, digests) to keep in the record."""
        return {}

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Adam at the configured learning rate over every parameter."""
        return torch.optim.Adam(model.parameters(), lr=self.config.learning_rate)

    def set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rates of the next step, where they follow a schedule; a system's own `step` calls it."""

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
        """One optimizer step; returns the losses it was taken on. Gradients stay readable afterwards."""
        optimizer.zero_grad(set_to_none=True)
        losses = self.losses(model, batch)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return losses

    def oracle_scores(self, world: World, eval_set: EvalSet) -> FloatArray | None:
        """[U, V+1] Bayes-optimal scores where the world knows them, else None."""
        if world.oracle is None:
            return None
        return world.oracle.scores(eval_set.histories, horizon=eval_set.horizon)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(v, typing.get_args(hint)[0]) for v in value)
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
