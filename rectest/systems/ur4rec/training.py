"""What happens when: the stages, the learning rate, the alternation of the two components, the weights of their losses.

Stage and learning rate are functions of the step alone, and what the alternation remembers are buffers, so that a
resumed run goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["BRANCHES", "Alternation", "LossWeights", "StagePlan", "rate_factor"]

BRANCHES = ("sasrec", "retriever")
"""The two components that are trained, and the names of their losses."""

_TRAINS = {"pretrain_sasrec": ("sasrec",), "pretrain_retriever": ("retriever",)}
_WINDOW = 10
_COMPARED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """The stages and the last step of each."""

    stages: tuple[str, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, stages: tuple[str, ...], shares: tuple[float, ...], *, num_steps: int) -> StagePlan:
        """Cut `num_steps` by `shares`; the last stage never ends."""
        ends = [round(num_steps * sum(shares[: place + 1])) for place in range(len(stages))]
        return cls(stages=tuple(stages), ends=tuple(ends))

    def index(self, step: int) -> int:
        """Place of the stage that `step` (from 1) belongs to.

        >>> plan = StagePlan.of(("pretrain_sasrec", "end_to_end"), (0.5, 0.5), num_steps=10)
        >>> [plan.index(step) for step in (1, 5, 6, 10, 99)]
        [0, 0, 1, 1, 1]
        """
        return next((place for place, end in enumerate(self.ends[:-1]) if step <= end), len(self.stages) - 1)

    def at(self, step: int) -> str:
        """Name of the stage that `step` belongs to."""
        return self.stages[self.index(step)]

    def trained(self, step: int) -> tuple[str, ...]:
        """The components whose parameters are trainable in that stage."""
        return _TRAINS.get(self.at(step), BRANCHES)

    def remembers(self, step: int) -> bool:
        """Whether the memory is updated: where the retriever trains."""
        return "retriever" in self.trained(step)


def rate_factor(step: int, *, warmup_steps: int, half_period: int) -> float:
    """Linear warm-up times a cosine that is 0 after `half_period` steps, and rises again if training goes on.

    >>> [round(rate_factor(step, warmup_steps=10, half_period=100), 3) for step in (1, 10, 50, 100, 200)]
    [0.1, 0.976, 0.5, 0.0, 1.0]
    """
    warm = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return warm * 0.5 * (1.0 + math.cos(math.pi * step / half_period))


class LossWeights(nn.Module):
    """sum of exp(-s) L + s over the losses (Kendall, Gal & Cipolla, CVPR 2018), with s learned from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in BRANCHES})

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the given losses."""
        parts = [(-self.log_variance[name]).exp() * loss + self.log_variance[name] for name, loss in losses.items()]
        return torch.stack(parts).sum()

    def scalars(self) -> dict[str, float]:
        """What each loss is multiplied with."""
        return {f"loss_weight/{name}": math.exp(-float(value.detach())) for name, value in self.log_variance.items()}


class Alternation(nn.Module):
    """Which component trains, in stages that alternate: the other one, as soon as the loss of this one stalls.

    Of each component the last 10 losses are kept; it stalls when the newest differs from the sixth by less than
    `threshold` of it. Report 001 took that threshold for too *high* because nothing ever switched; it was never asked.
    """

    window_XW: Tensor
    """[2, 10] losses of the components, oldest first; zero before there was one."""

    observed: Tensor
    """Steps observed so far."""

    active: Tensor
    """Place of the component that trains."""

    since: Tensor
    """Steps since the last switch, or since the start."""

    switches: Tensor

    def __init__(self, *, threshold: float, min_steps: int) -> None:
        super().__init__()
        self.threshold = threshold
        self.min_steps = min_steps
        self.register_buffer("window_XW", torch.zeros(len(BRANCHES), _WINDOW, dtype=torch.float64))
        for name in ("active", "observed", "since", "switches"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @property
    def component(self) -> str:
        """Name of the component that trains."""
        return BRANCHES[int(self.active)]

    @torch.no_grad()
    def observe(self, losses: Mapping[str, Tensor | float]) -> None:
        """Note one step's losses, and switch if it is time to."""
        newest_X = torch.stack([torch.as_tensor(losses[name], dtype=torch.float64) for name in BRANCHES])
        self.window_XW.copy_(torch.cat([self.window_XW[:, 1:], newest_X.to(self.window_XW.device)[:, None]], dim=1))
        self.observed += 1
        self.since += 1
        if int(self.since) >= self.min_steps and self.change() < self.threshold:
            self.active.copy_(1 - self.active)
            self.since.zero_()
            self.switches += 1

    def change(self) -> float:
        """|newest - sixth| / |sixth| of the active component's losses; infinite while there are fewer than ten."""
        window = self.window_XW[int(self.active)].tolist()
        if int(self.observed) < _WINDOW:
            return math.inf
        newest, earlier = float(window[-1]), float(window[_COMPARED])
        return abs(newest - earlier) / max(abs(earlier), 1e-12)

    def newest(self) -> dict[str, float]:
        """The losses of the last step that was observed; zero before there was one."""
        return {name: float(loss) for name, loss in zip(BRANCHES, self.window_XW[:, -1], strict=True)}
