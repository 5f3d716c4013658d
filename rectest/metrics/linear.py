"""`Linear`: a weighted sum of the cells of a metric table, and how far rounding can move it.

Owns the arithmetic that `coherence.py` writes its rules in, so that the slack of a rule follows from the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rectest.metrics.measure import Measure

__all__ = ["Linear", "cell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """`constant` plus the sum of weight times cell.

    >>> print(cell(Measure("ndcg", 10)) - cell(Measure("ndcg", 5)))
    ndcg@10 - ndcg@5
    """

    weights: Mapping[Measure, float] = field(default_factory=dict)
    constant: float = 0.0

    def __add__(self, other: Linear) -> Linear:
        weights = dict(self.weights)
        for measure, weight in other.weights.items():
            weights[measure] = weights.get(measure, 0.0) + weight
        return Linear(weights=weights, constant=self.constant + other.constant)

    def __mul__(self, factor: float) -> Linear:
        weights = {measure: weight * factor for measure, weight in self.weights.items()}
        return Linear(weights=weights, constant=self.constant * factor)

    def __sub__(self, other: Linear) -> Linear:
        return self + other * -1.0

    def __str__(self) -> str:
        terms = "".join(
            f" {'-' if weight < 0 else '+'} {'' if abs(weight) == 1 else f'{abs(weight):g} '}{measure}"
            for measure, weight in self.weights.items()
        )
        return terms.removeprefix(" + ").strip() or f"{self.constant:g}"

    def value(self, cells: Mapping[Measure, float]) -> float:
        """The sum for these cells."""
        return self.constant + sum(weight * cells[measure] for measure, weight in self.weights.items())

    def excess(self, cells: Mapping[Measure, float], slack: Mapping[Measure, float]) -> float:
        """By how much the sum is above 0 wherever within their slack the cells truly are; 0 if it need not be."""
        moved = sum(abs(weight) * slack[measure] for measure, weight in self.weights.items())
        return max(0.0, self.value(cells) - moved)


def cell(measure: Measure) -> Linear:
    """The value of one cell."""
    return Linear(weights={measure: 1.0})
