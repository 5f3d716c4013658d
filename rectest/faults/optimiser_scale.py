"""What loss curves cannot show: a constant factor of the gradient under Adam, and replicas that drift apart.

Report 003 reads both off its loss curve, and compares one GPU with four by epochs. These are the measurements that
say what such curves are worth, on a toy that takes seconds: a logistic regression on noisy labels, full of features,
so that a model trained on a part of the rows fits that part better than the whole.

Shapes: N rows, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rectest.seeding import SeedPlan

__all__ = [
    "FACTORS",
    "DriftingReplicas",
    "EpochsCompared",
    "ScaleSpans",
    "drifting_replicas",
    "epochs_compared",
    "scale_spans",
]

FACTORS = (1 / 16, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
"""What gradients are multiplied by: 1/16 to 4, what one reduction too many or too few does on four to sixteen ranks."""

_NUM_ROWS = 512
_NUM_FEATURES = 48
_BATCH = 64
_SEEDS = SeedPlan(root=3).child("optimiser_scale")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleSpans:
    """Final losses by the factor of the gradient, under two optimizers."""

    factors: tuple[float, ...]
    adam: tuple[float, ...]
    sgd: tuple[float, ...]

    @property
    def adam_span(self) -> float:
        """How far the final losses under AdamW with clipping lie apart: what a loss curve could show."""
        return max(self.adam) - min(self.adam)

    @property
    def sgd_span(self) -> float:
        """The same under SGD, which has nothing to divide the factor out with."""
        return max(self.sgd) - min(self.sgd)


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftingReplicas:
    """Losses after training with and without synchronisation."""

    synchronised: float
    """The loss of the one model on all rows; each rank has it."""

    logged: float
    """Without synchronisation: the mean over ranks of the loss on their own rows, which is what is logged."""

    replicas: tuple[float, ...]
    """Without synchronisation: the loss of each replica on all rows, which is what any of them is worth."""

    apart: float
    """Largest distance between two replicas, relative to the norm of the first; synchronised ones have 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochsCompared:
    """One GPU against several at the same batch on each: what a comparison by epochs compares."""

    steps_one: int
    steps_many: int
    """Optimizer steps of an epoch on one GPU, and on several."""

    @property
    def factor(self) -> float:
        """How many times more often one GPU steps in an epoch: the loss falls faster, whatever the gradients are."""
        return self.steps_one / self.steps_many


def scale_spans(factors: Sequence[float] = FACTORS, *, num_steps: int = 150) -> ScaleSpans:
    """Train once for each factor and optimizer, and read the final losses.

    AdamW divides a gradient by the root of its own mean square, so that a constant factor cancels but for epsilon;
    clipping to a norm hides it as well. So a factor cannot be found in a loss curve, nor explain a slow one.
    """
    rows_NF, labels_N = _data()
    adam = tuple(_trained(rows_NF, labels_N, factor, "adam", num_steps) for factor in factors)
    sgd = tuple(_trained(rows_NF, labels_N, factor, "sgd", num_steps) for factor in factors)
    return ScaleSpans(factors=tuple(factors), adam=adam, sgd=sgd)


def drifting_replicas(world_size: int = 4, *, num_steps: int = 200) -> DriftingReplicas:
    """Train `world_size` replicas on their own rows, once with averaged gradients and once without.

    The ranks are simulated one after the other; that real ones behave so is measured in `rectest.faults.parallel`.
    """
    rows_NF, labels_N = _data()
    shards = list(zip(rows_NF.chunk(world_size), labels_N.chunk(world_size), strict=True))
    together = _train_replicas(shards, average=True, num_steps=num_steps)
    alone = _train_replicas(shards, average=False, num_steps=num_steps)
    distances = [float((a - b).norm()) for a in alone for b in alone]
    own = [_loss(weights, *shard) for weights, shard in zip(alone, shards, strict=True)]
    return DriftingReplicas(
        synchronised=float(_loss(together[0], rows_NF, labels_N)),
        logged=sum(float(loss) for loss in own) / world_size,
        replicas=tuple(float(_loss(weights, rows_NF, labels_N)) for weights in alone),
        apart=max(distances) / float(alone[0].norm()),
    )


def epochs_compared(
    *, num_samples: int = 131_413, batch_size: int = 32, world_size: int = 4, accumulation: int = 2
) -> EpochsCompared:
    """Optimizer steps of an epoch on one and on `world_size` ranks; the defaults are report 003's run.

    >>> compared = epochs_compared()
    >>> compared.steps_one, compared.steps_many, round(compared.factor, 2)
    (2054, 514, 4.0)
    """
    if min(num_samples, batch_size, world_size, accumulation) < 1:
        msg = "samples, batch size, ranks and accumulation must all be at least 1"
        raise ValueError(msg)
    steps = [math.ceil(math.ceil(num_samples / (batch_size * ranks)) / accumulation) for ranks in (1, world_size)]
    return EpochsCompared(steps_one=steps[0], steps_many=steps[1])


def _data() -> tuple[Tensor, Tensor]:
    """Rows of normal features, and labels drawn from a logistic law of them."""
    rng = _SEEDS.rng("data")
    rows_NF = rng.normal(size=(_NUM_ROWS, _NUM_FEATURES))
    truth_F = rng.normal(size=_NUM_FEATURES) * 2 / math.sqrt(_NUM_FEATURES)
    labels_N = rng.random(_NUM_ROWS) < 1 / (1 + torch.from_numpy(-rows_NF @ truth_F).exp().numpy())
    return torch.from_numpy(rows_NF).float(), torch.from_numpy(labels_N).float()


def _loss(weights_F: Tensor, rows_NF: Tensor, labels_N: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(rows_NF @ weights_F, labels_N)


def _trained(rows_NF: Tensor, labels_N: Tensor, factor: float, optimizer: str, num_steps: int) -> float:
    weights_F = torch.zeros(_NUM_FEATURES, requires_grad=True)
    chosen: torch.optim.Optimizer
    if optimizer == "adam":
        chosen = torch.optim.AdamW([weights_F], lr=0.03, eps=1e-6, weight_decay=0.01)
    else:
        chosen = torch.optim.SGD([weights_F], lr=0.1)
    rng = _SEEDS.rng("batches")
    for _ in range(num_steps):
        chosen.zero_grad()
        batch = torch.from_numpy(rng.permutation(_NUM_ROWS)[:_BATCH])
        (factor * _loss(weights_F, rows_NF[batch], labels_N[batch])).backward()  # type: ignore[no-untyped-call]
        if optimizer == "adam":
            torch.nn.utils.clip_grad_norm_([weights_F], 1.0)
        chosen.step()
    return float(_loss(weights_F.detach(), rows_NF, labels_N))


def _train_replicas(shards: Sequence[tuple[Tensor, Tensor]], *, average: bool, num_steps: int) -> list[Tensor]:
    replicas = [torch.zeros(_NUM_FEATURES, requires_grad=True) for _ in shards]
    optimizers = [torch.optim.Adam([weights_F], lr=0.01) for weights_F in replicas]
    for _ in range(num_steps):
        gradients = [
            torch.autograd.grad(_loss(weights_F, *shard), weights_F)[0]
            for weights_F, shard in zip(replicas, shards, strict=True)
        ]
        mean_F = torch.stack(gradients).mean(dim=0)
        for weights_F, optimizer, own_F in zip(replicas, optimizers, gradients, strict=True):
            weights_F.grad = mean_F if average else own_F
            optimizer.step()
    return [weights_F.detach() for weights_F in replicas]
