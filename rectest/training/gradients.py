"""What one rank measures: its net gradient, what its rows gave alone, digests of all it must share with the others.

Everything is measured around the training step, by autograd on the unwrapped model, so that it holds for any way of
combining gradients. Layout of the record: `rectest.training.ranks.RanksOutcome`. Judging it is for `rectest.checks`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from rectest.systems.layers import Dropout
from rectest.systems.protocol import Batch
from rectest.training.commlog import CommLog
from rectest.training.determinism import preserved_random_states
from rectest.training.reduction import StepLosses, sum_over_ranks
from rectest.training.shares import Task, combined, factors, local_gradients, row_digests, shared_digests
from rectest.training.tape import Digest, digest_tensor

__all__ = ["RankMeasurement", "Stepper", "put", "without_dropout"]

Arrays = dict[str, "np.ndarray[Any, Any]"]
StageCallback = Callable[[str], None]


class Stepper(Protocol):
    """A way of training one replica: `rectest.training.reduction.Runner`, or a user's own."""

    def backward(self, batches: Sequence[Batch]) -> StepLosses:
        """Leave the net gradient of a step in the parameters of the model."""
        ...

    def update(self) -> None:
        """Use it."""
        ...


def without_dropout(model: nn.Module) -> nn.Module:
    """The same module with every dropout rate at 0: ranks cannot share masks, and all else stays in training mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, Dropout):
            module.rate = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


@dataclass(kw_only=True)
class RankMeasurement:
    """Trains one rank step by step and keeps what the record needs.

    Attributes:
        task: what is trained.
        model: this rank's replica, on its device, not wrapped.
        group: the ranks; None for one process alone.
        make: wraps the model and makes the way of training it; it may talk to the other ranks.
        stage: called with a word before each part of the work.
    """

    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    group: dist.ProcessGroup | None
    make: Callable[[StageCallback], Stepper]
    stage: StageCallback
    arrays: Arrays = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    optimizer_names: list[str] = field(default_factory=list)

    def run(self, steps: Sequence[Sequence[Batch]]) -> None:
        """Take one step for each list of micro-batches; the gradients of the first are kept."""
        log = CommLog()
        self.arrays["replicas/built"] = _digests(self._tensors())
        self.stage("wrap")
        with log:
            stepper = self.make(log.followed(self.stage))
        states, losses = [_digests(self._tensors())], []
        optimizer_states: list[dict[str, Digest]] = []
        for number, batches in enumerate(steps, start=1):
            self.stage(f"step {number}")
            if number == 1:
                self._measure_shares(batches)
            with log if number == 1 else contextlib.nullcontext():
                log.enter("step")
                losses.append(stepper.backward(batches))
                if number == 1:
                    self._keep_net()
                stepper.update()
            states.append(_digests(self._tensors()))
            optimizer_states.append(self._optimizer_state())
            if number == 1 and not self._is_finite():
                break  # the losses of further steps would blame whichever rank looks first
        self.arrays["replicas/tensors"] = np.stack(states)
        self.arrays["loss/total"] = np.array([loss.local for loss in losses])
        self.arrays["loss/reduced"] = np.array([loss.reduced for loss in losses])
        self._keep_optimizer_states(optimizer_states)
        self.facts["comm"] = log.calls

    @property
    def replicas(self) -> dict[str, list[str]]:
        """Names behind the columns of the digests."""
        buffers = [name for name, _ in self.model.named_buffers()]
        return {"names": list(self._tensors()), "buffers": buffers, "optimizer": self.optimizer_names}

    def _tensors(self) -> dict[str, Tensor]:
        """All that must be equal on all ranks: parameters and buffers."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def _measure_shares(self, batches: Sequence[Batch]) -> None:
        """Rows, terms and gradients of this rank's shares, which leave no trace in the model."""
        device = next(self.model.parameters()).device
        terms = [dict(self.task.loss_terms(batch)) for batch in batches]
        names = list(terms[0])
        whole = sum_over_ranks([sum(part[name] for part in terms) for name in names], self.group, device)
        num_shares = len(batches) * (1 if self.group is None else dist.get_world_size(self.group))
        scales = [factors(part, dict(zip(names, whole, strict=True)), num_shares) for part in terms]
        even = sum_over_ranks([float(not _is_even(scale)) for scale in scales], self.group, device)
        with self._untouched():
            for micro, (batch, scale) in enumerate(zip(batches, scales, strict=True)):
                self._keep(f"local/{micro}", self._share(batch.to(device), scale, num_shares))
                if any(even):
                    plain = {name: 1.0 if part else 0.0 for name, part in scale.items()}
                    self._keep(f"equal/{micro}", self._share(batch.to(device), plain, num_shares))
            self.facts["random_loss"] = self._is_random(batches[0].to(device), scales[0])
        self.facts["terms"] = {name: [part[name] for part in terms] for name in names}
        self._keep_rows(batches)

    def _share(self, batch: Batch, scale: Mapping[str, float], num_shares: int) -> dict[str, Tensor]:
        self.stage("local gradient")
        return local_gradients(self.task, self.model, batch, scale, num_shares=num_shares)

    def _is_random(self, batch: Batch, scale: Mapping[str, float]) -> bool:
        """Whether the loss of the same rows comes out differently twice; every rank asks, so that collectives match."""
        self.stage("repeat the loss")
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        seen = []
        for _ in range(2):
            with torch.no_grad():
                seen.append(combined(self.task, self.model, self.task.losses(self.model, batch), scale))
            _restore(self.model, buffers)
        return not torch.equal(seen[0], seen[1])

    @contextlib.contextmanager
    def _untouched(self) -> Iterator[None]:
        """Put back buffers and random states that the measuring moved."""
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        with preserved_random_states():
            yield
        _restore(self.model, buffers)

    def _keep_rows(self, batches: Sequence[Batch]) -> None:
        rows = [digest for batch in batches for digest in row_digests(batch)]
        inputs = [digest for batch in batches for digest in row_digests(batch, negatives=False)]
        shared = shared_digests(batches[0])
        self.arrays["rows/digest"] = np.array(rows, dtype=np.uint64).reshape(-1, 2)
        self.arrays["rows/inputs"] = np.array(inputs, dtype=np.uint64).reshape(-1, 2)
        self.arrays["rows/shared"] = np.array(list(shared.values()), dtype=np.uint64).reshape(-1, 2)
        self.facts["shared"] = list(shared)
        self.facts["num_rows"] = [batch.num_rows for batch in batches]

    def _keep_net(self) -> None:
        found = {name: value.grad for name, value in self.model.named_parameters() if value.grad is not None}
        self.facts["sparse"] = [name for name, value in found.items() if value.layout != torch.strided]
        self.facts["frozen"] = [name for name, value in self.model.named_parameters() if not value.requires_grad]
        self._keep("grad", found)

    def _keep(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        for name, value in tensors.items():
            dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
            dense = torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense
            self.arrays[f"{prefix}/{name}"] = dense.float().cpu().numpy().copy()

    def _is_finite(self) -> bool:
        """Whether every gradient on every rank is; all ranks ask."""
        kept = [value for key, value in self.arrays.items() if key.startswith(("grad/", "local/"))]
        broken = float(not all(np.isfinite(value).all() for value in kept))
        return sum_over_ranks([broken], self.group, next(self.model.parameters()).device)[0] == 0

    def _optimizer_state(self) -> dict[str, Digest]:
        names = {id(value): name for name, value in self.model.named_parameters()}
        return {
            f"{names.get(id(parameter), '?')}/{key}": digest_tensor(value)
            for parameter, state in self.optimizer.state.items()
            for key, value in state.items()
            if isinstance(value, Tensor)
        }

    def _keep_optimizer_states(self, states: Sequence[Mapping[str, Digest]]) -> None:
        names = self.optimizer_names = sorted({name for state in states for name in state})
        rows = [[state.get(name, (0, 0)) for name in names] for state in states]
        self.arrays["replicas/optimizer"] = np.array(rows, dtype=np.uint64).reshape(len(states), len(names), 2)


def _is_even(scale: Mapping[str, float]) -> bool:
    return all(abs(value - 1.0) < 1e-12 for value in scale.values())


def _restore(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in model.named_buffers():
            put(value, buffers[name])


def put(value: Tensor, content: Tensor) -> None:
    """Make `value` hold `content`; where it does it is not written, since an expanded buffer cannot be."""
    if not torch.equal(value, content):
        value.copy_(content)


def _digests(tensors: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
    return np.array([digest_tensor(value) for value in tensors.values()], dtype=np.uint64).reshape(-1, 2)
