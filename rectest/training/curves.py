"""`Curves`: the metrics of every evaluation of a run, by split and measure, without holes.

All measures of a split share the steps at which it was evaluated. A curve with a hole would stand beside the wrong
steps from there on, so it is refused with the measure and the step, never padded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.errors import TrainingError
from rectest.metrics.measure import Measure

__all__ = ["Curves"]

_ADVICE = "evaluate the same measures each time"


class Curves:
    """Collects the evaluations of a run; `arrays` is what the record keeps of them."""

    def __init__(self) -> None:
        self._steps: dict[str, list[int]] = {}
        self._values: dict[str, dict[Measure, list[float]]] = {}

    def __bool__(self) -> bool:
        return any(self._values.values())

    def add(self, split: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Add one point at `step`, or further measures to the point that is already there.

        Raises:
            UnknownNameError: a key is no measure rectest knows.
            TrainingError: a value is NaN or infinite, the step lies before the last one, a measure has two values at
                one step, or the curve of a measure has a hole.
        """
        found = {Measure.parse(name): float(value) for name, value in metrics.items()}
        for measure, value in found.items():
            if not math.isfinite(value):
                msg = f"{split}/{measure} is {value} at step {step}; a metric must be a finite number"
                raise TrainingError(msg)
        if found:
            self._advance(split, step)
        for measure, value in found.items():
            self._put(split, measure, value)

    def require_whole(self) -> None:
        """Raise a `TrainingError` where the last evaluation of a split lacks a measure that earlier ones had."""
        for split in self._steps:
            self._require_whole(split)

    def arrays(self) -> dict[str, npt.NDArray[np.float64 | np.int64]]:
        """``metric/<split>/<measure>`` float64 [E], and ``eval/steps`` int64 [E] of the ``valid`` split."""
        found: dict[str, npt.NDArray[np.float64 | np.int64]] = {
            f"metric/{split}/{measure}": np.array(values, dtype=np.float64)
            for split, curves in self._values.items()
            for measure, values in curves.items()
        }
        return {"eval/steps": np.array(self._steps.get("valid", []), dtype=np.int64), **found}

    def state(self) -> dict[str, Any]:
        """All points as plain values; `from_state` makes the same curves of them."""
        values = {split: {str(m): list(v) for m, v in curves.items()} for split, curves in self._values.items()}
        return {"steps": {split: list(steps) for split, steps in self._steps.items()}, "values": values}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Curves:
        """The curves that gave `state`."""
        made = cls()
        made._steps = {split: list(steps) for split, steps in state["steps"].items()}
        made._values = {
            split: {Measure.parse(name): list(values) for name, values in curves.items()}
            for split, curves in state["values"].items()
        }
        return made

    def _advance(self, split: str, step: int) -> None:
        steps = self._steps.setdefault(split, [])
        if steps and step < steps[-1]:
            msg = f"an evaluation of {split} at step {step} came after the one at step {steps[-1]}; steps must not fall"
            raise TrainingError(msg)
        if not steps or step > steps[-1]:
            self._require_whole(split)
            steps.append(step)

    def _put(self, split: str, measure: Measure, value: float) -> None:
        steps = self._steps[split]
        values = self._values.setdefault(split, {}).setdefault(measure, [])
        missing = len(steps) - len(values)
        if missing > 1:
            msg = f"{split}/{measure} was not evaluated before step {steps[-1]}, other measures were; {_ADVICE}"
            raise TrainingError(msg)
        if missing == 1:
            values.append(value)
        elif values[-1] != value:
            both = f"{values[-1]} and {value}"
            msg = f"{split}/{measure} has two values at step {steps[-1]}, {both}; tell the evaluations apart with step="
            raise TrainingError(msg)

    def _require_whole(self, split: str) -> None:
        steps = self._steps[split]
        for measure, values in self._values.get(split, {}).items():
            if len(values) < len(steps):
                msg = f"{split}/{measure} is missing from the evaluation at step {steps[-1]}; {_ADVICE}"
                raise TrainingError(msg)
