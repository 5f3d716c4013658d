"""What one cell of a metric table may be, given all the others: the interval that the rules leave for it.

Owns the inversion of `coherence.py`: the same linear rules, solved for one cell. Whether a value is to be replaced is
for `rectest.checks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rectest.metrics.coherence import cell_slack, coherence_violations, constraints
from rectest.metrics.linear import Linear
from rectest.metrics.measure import Measure

__all__ = ["possible_interval"]

_EDGE = 1e-12
"""An interval that rounding of its own arithmetic has turned over by less is a point."""


def possible_interval(
    table: Mapping[str, float],
    name: str,
    *,
    single_relevant: bool,
    num_users: int | None = None,
    decimals: int | Mapping[str, int] | None = None,
    relevant_per_user: int | None = None,
    ties: bool = False,
) -> tuple[float, float] | None:
    """Smallest and largest true value of the cell `name` beside the others; None when no value makes them possible.

    What the table has in that cell is not looked at, and it need not have it. Whole numbers of users are not required
    of the cell, only of the others. The arguments are those of `coherence_violations`.

    >>> ndcg = {"ndcg@5": 0.7063, "ndcg@10": 0.7244, "ndcg@20": 0.7384}
    >>> recall = {"recall@5": 0.7803, "recall@20": 0.8915}
    >>> low, high = possible_interval(ndcg | recall, "recall@10", single_relevant=True, decimals=4)
    >>> round(low, 3), round(high, 3)
    (0.831, 0.842)
    """
    relevant = 1 if single_relevant else relevant_per_user
    others = {key: float(value) for key, value in table.items() if key != name}
    if others and coherence_violations(
        others,
        single_relevant=single_relevant,
        num_users=num_users,
        decimals=decimals,
        relevant_per_user=relevant_per_user,
        ties=ties,
    ):
        return None
    asked = Measure.parse(name)
    cells = {Measure.parse(key): value for key, value in others.items()}
    slack = cell_slack(cells, decimals)
    low, high = -math.inf, math.inf
    for rule in constraints({*cells, asked}, num_relevant=relevant, ties=ties):
        at_least, at_most = _solved(rule, asked, cells, slack)
        low, high = max(low, at_least), min(high, at_most)
    for at_least in _harmonic(asked, cells, slack):
        low = max(low, at_least)
    return (low, max(low, high)) if low <= high + _EDGE else None


def _solved(
    rule: Linear, asked: Measure, cells: Mapping[Measure, float], slack: Mapping[Measure, float]
) -> tuple[float, float]:
    """The ends that ``rule >= 0`` sets for the cell when all others take their most lenient values."""
    weight = rule.weights.get(asked, 0.0)
    others = [(w, measure) for measure, w in rule.weights.items() if measure != asked]
    rest = rule.constant + sum(w * cells[measure] + abs(w) * slack[measure] for w, measure in others)
    if weight > 0:
        return -rest / weight, math.inf
    if weight < 0:
        return -math.inf, -rest / weight
    return (-math.inf, math.inf) if rest >= -_EDGE else (math.inf, -math.inf)


def _harmonic(asked: Measure, cells: Mapping[Measure, float], slack: Mapping[Measure, float]) -> Iterator[float]:
    """The lower end that mean_rank >= 1 / mrr sets, the one rule that is not linear."""
    mrr, mean_rank = Measure("mrr"), Measure("mean_rank")
    for one, other in ((mrr, mean_rank), (mean_rank, mrr)):
        if asked == one and other in cells and cells[other] + slack[other] > 0:
            yield 1 / (cells[other] + slack[other])
