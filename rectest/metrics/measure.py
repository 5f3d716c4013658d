"""`Measure`: the name of a ranking metric as a value, and the policy for the cases in which none can be computed.

Owns the spelling (`recall@10`, `mrr`), the order in tables, and `Measure.require`. The formulas are in
`ranking.py`, chance values in `bounds.py`.

The empty cases are decided here, once, for every measure:

- a user without a relevant item has no value: NaN per user, left out of the mean, but counted in `num_users`;
- if no user has a relevant item there is no mean: `MetricError`, never 0 and never NaN;
- a cut-off `k` beyond the number of candidates of some scored user is a `MetricError` that names both: a list
  shorter than `k` would make values plateau and look converged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from rectest.errors import MetricError, UnknownNameError

__all__ = ["MEASURE_NAMES", "Measure"]

_NEEDS_K = ("recall", "precision", "hit", "ndcg")
_MAY_HAVE_K = ("mrr",)
_WITHOUT_K = ("mean_rank",)

MEASURE_NAMES = (*_NEEDS_K, *_MAY_HAVE_K, *_WITHOUT_K)
"""Every known name, in the order in which tables list them."""

_DEPTH = re.compile(r"[1-9][0-9]*")


@total_ordering
@dataclass(frozen=True, slots=True)
class Measure:
    """One ranking metric, with its cut-off where it has one; hashable, and ordered as tables list them.

    >>> Measure.parse("recall@10")
    Measure(name='recall', k=10)
    >>> [str(m) for m in sorted([Measure("mrr"), Measure("recall", 10), Measure("recall", 5)])]
    ['recall@5', 'recall@10', 'mrr']
    """

    name: str
    k: int | None = None
    """Depth of the list that is looked at; None looks at all candidates."""

    def __post_init__(self) -> None:
        if self.name not in MEASURE_NAMES:
            raise UnknownNameError("metric", str(self.name), MEASURE_NAMES)
        problem = _depth_problem(self.name, self.k)
        if problem is not None:
            msg = f"metric {self.name!r} {problem}"
            raise ValueError(msg)

    @classmethod
    def parse(cls, text: str) -> Measure:
        """The measure that prints as `text`; leading zeros, signs and spaces are refused, so that texts are unique."""
        name, at, depth = text.partition("@")
        if not at or name not in MEASURE_NAMES:
            return cls(name)
        if not _DEPTH.fullmatch(depth):
            msg = f"metric {text!r}: the cut-off must be a whole number of at least 1, as in {name}@10"
            raise ValueError(msg)
        return cls(name, int(depth))

    def __str__(self) -> str:
        return self.name if self.k is None else f"{self.name}@{self.k}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Measure):
            return NotImplemented
        return self._order() < other._order()

    @property
    def higher_is_better(self) -> bool:
        """False for `mean_rank` alone."""
        return self.name != "mean_rank"

    def require(self, num_candidates: int, *, whose: str = "the catalogue") -> None:
        """Raise `MetricError` if the cut-off is deeper than a list of `num_candidates` candidates."""
        if self.k is not None and self.k > num_candidates:
            msg = (
                f"{self} needs at least {self.k} candidates but {whose} has {num_candidates}; "
                "choose a smaller cut-off or more candidates"
            )
            raise MetricError(msg)

    def _order(self) -> tuple[int, int]:
        return MEASURE_NAMES.index(self.name), self.k or 0


def _depth_problem(name: str, k: object) -> str | None:
    if k is None:
        return f"needs a cut-off, as in {name}@10" if name in _NEEDS_K else None
    if name in _WITHOUT_K:
        return f"takes no cut-off, got {k!r}"
    if isinstance(k, bool) or not isinstance(k, int):
        return f"needs a whole number as cut-off, got {k!r}"
    return None if k >= 1 else f"needs a cut-off of at least 1, got {k}"
