"""What a run needs to go on in another process: weights, optimizer, random states, the best so far, all told so far.

The file is an ordinary checkpoint (`checkpoint`), written at every evaluation; nothing is ever resumed unasked,
because a run that silently starts from its predecessor's weights is not the run that its settings describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rectest.errors import RecordError
from rectest.metrics.measure import Measure
from rectest.systems.protocol import System
from rectest.training.checkpoint import load_checkpoint, restore, save_checkpoint
from rectest.training.launch import LAST
from rectest.training.recorder import Recorder

__all__ = ["EarlyStopping", "load_progress", "save_progress"]


@dataclass(kw_only=True)
class EarlyStopping:
    """Keeps the best evaluation and says when to stop: after `patience` evaluations that did not improve on it.

    The first evaluation always counts as best, so that a metric that stays at zero still leaves weights to test.
    """

    measure: Measure
    patience: int | None
    system: System[Any] | None = None
    """Who says what is better; None for the direction of the measure."""

    best_value: float = field(default=float("nan"), init=False)
    best_step: int = field(default=0, init=False)
    misses: int = field(default=0, init=False)

    def improved(self, step: int, value: float) -> bool:
        """Record an evaluation; True when it is the best so far (ties keep the earlier one)."""
        if self.best_step == 0 or self._is_better(value):
            self.best_value, self.best_step, self.misses = value, step, 0
            return True
        self.misses += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether training should stop."""
        return self.patience is not None and self.misses >= self.patience

    def _is_better(self, value: float) -> bool:
        up = self.measure.higher_is_better
        if self.system is not None:
            return self.system.is_better(value, self.best_value, higher_is_better=up)
        return value > self.best_value if up else value < self.best_value


def save_progress(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Recorder,
    settings: Mapping[str, Any],
    stopping: EarlyStopping,
    best: Mapping[str, Tensor],
) -> Path:
    """Write `path`: a whole file or the one before it, also when the process is killed meanwhile."""
    extra = {
        "inputs": _identity(run),
        "run": run.state(),
        "best": {name: value.detach().cpu() for name, value in best.items()},
        "stopping": {key: getattr(stopping, key) for key in ("best_value", "best_step", "misses")},
    }
    return save_checkpoint(path, model=model, optimizer=optimizer, step=run.num_steps, settings=settings, extra=extra)


def load_progress(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Recorder,
    *,
    settings: Mapping[str, Any],
    stopping: EarlyStopping,
) -> tuple[int, dict[str, Tensor]]:
    """Put everything back where it was; returns the step and the best weights so far.

    Raises:
        RecordError: the file is damaged, of another run (settings, seed, data, planted fault), or no ``last.pt``.
    """
    found = load_checkpoint(path)
    if "run" not in found.extra:
        msg = f"a checkpoint of weights only, a run cannot go on from it; resume from {LAST}"
        raise RecordError(msg, path=path)
    here, there = _identity(run), dict(found.extra["inputs"])
    for name, value in here.items():
        if there.get(name) != value:
            msg = f"of another run: {name} is {value!r} here and {there.get(name)!r} there"
            raise RecordError(msg, path=path)
    restore(found, model, optimizer, settings=settings)
    run.resume(found.extra["run"])
    for key, value in found.extra["stopping"].items():
        setattr(stopping, key, value)
    best = {name: value.to(run.device) for name, value in found.extra["best"].items()}
    return found.step, best


def _identity(run: Recorder) -> dict[str, Any]:
    spec = run.spec
    return {"system": spec.system, "seed": spec.seed, "plant": spec.plant, "world": run.facts["inputs"]["world"]}
