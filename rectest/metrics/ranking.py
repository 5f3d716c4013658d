"""Ranking metrics from `Ranks`: one value per user, then the mean over users with a relevant item.

Owns the formulas. Relevance is binary: a gain of 1 for each relevant item; graded relevance is not supported and
cannot be passed by accident, since ranks carry no grade. A hit at `k` means an expected rank of at most `k`, so a
constant scorer hits nothing at small cut-offs rather than everything; `tie_share` says how much rests on ties.

With `r` the expected ranks of a user's `R` relevant items (`user` index u left out):

- `hit@k`: 1 if any r <= k;  `recall@k`: #(r <= k) / R;  `precision@k`: #(r <= k) / k
- `ndcg@k`: sum over r <= k of 1 / log2(1 + r), divided by the same sum for ranks 1..min(k, R), the ideal list
  (Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002, with the discount log2(1 + r)
  that trec_eval uses)
- `mrr`: 1 / min r; `mrr@k`: the same if min r <= k, else 0 (Voorhees, The TREC-8 question answering track, 1999)
- `mean_rank`: mean of r over the user's relevant items
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from rectest.errors import MetricError
from rectest.metrics.measure import Measure
from rectest.metrics.ranks import Ranks

__all__ = ["evaluate", "ideal_dcg", "per_user", "tie_share"]

Floats = npt.NDArray[np.float64]


def per_user(ranks: Ranks, measure: Measure | str) -> Floats:
    """float64[num_users]: the measure for each user, NaN for those without a relevant item.

    A cut-off deeper than the candidates of some user is a `MetricError` (see `measure.py`).
    """
    measure = Measure.parse(measure) if isinstance(measure, str) else measure
    if len(ranks):
        measure.require(int(ranks.num_candidates.min()), whose=f"user {ranks.user[ranks.num_candidates.argmin()]}")
    values = np.full(ranks.num_users, np.nan)
    scored = ranks.num_relevant > 0
    values[scored] = _FORMULAS[measure.name](ranks, measure.k)[scored]
    return values


def evaluate(ranks: Ranks, measures: Iterable[Measure | str]) -> dict[str, float]:
    """Mean of each measure over the users with a relevant item, by name; `MetricError` if there is no such user."""
    if not len(ranks):
        msg = (
            f"none of {ranks.num_users} evaluated users has a relevant item, so there is nothing to average; "
            "look at the split and at the id maps"
        )
        raise MetricError(msg)
    scored = ranks.num_relevant > 0
    return {str(measure): float(per_user(ranks, measure)[scored].mean()) for measure in measures}


def tie_share(ranks: Ranks) -> float:
    """Share of relevant items whose rank depends on how ties are broken; `MetricError` if there are none at all.

    More than a few percent means scores with too few distinct values: a low-precision or a collapsed model.
    """
    if not len(ranks):
        msg = "no relevant item was ranked, so there is no share of ties"
        raise MetricError(msg)
    return float(np.mean(ranks.optimistic != ranks.pessimistic))


def ideal_dcg(num_relevant: npt.NDArray[np.int64], k: int) -> Floats:
    """Discounted gain of the best list of depth `k` for each number of relevant items: its first min(k, R) all hit.

    >>> ideal_dcg(np.array([0, 1, 2, 9]), 2).round(4).tolist()
    [0.0, 1.0, 1.6309, 1.6309]
    """
    gains = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))))
    return gains[np.minimum(num_relevant, k)]


def _num_hits(ranks: Ranks, k: int | None) -> Floats:
    return _sum_by_user(ranks, ranks.expected <= _depth(k))


def _hit(ranks: Ranks, k: int | None) -> Floats:
    return (_num_hits(ranks, k) > 0).astype(np.float64)


def _recall(ranks: Ranks, k: int | None) -> Floats:
    return _num_hits(ranks, k) / np.maximum(ranks.num_relevant, 1)


def _precision(ranks: Ranks, k: int | None) -> Floats:
    return _num_hits(ranks, k) / _depth(k)


def _ndcg(ranks: Ranks, k: int | None) -> Floats:
    depth = int(_depth(k))
    gain = np.where(ranks.expected <= depth, 1 / np.log2(1 + ranks.expected), 0.0)
    return _sum_by_user(ranks, gain) / np.maximum(ideal_dcg(ranks.num_relevant, depth), 1)


def _mrr(ranks: Ranks, k: int | None) -> Floats:
    best = np.full(ranks.num_users, np.inf)
    np.minimum.at(best, ranks.user, ranks.expected)
    return np.where(best <= _depth(k), 1 / best, 0.0)


def _mean_rank(ranks: Ranks, _k: int | None) -> Floats:
    return _sum_by_user(ranks, ranks.expected) / np.maximum(ranks.num_relevant, 1)


def _sum_by_user(ranks: Ranks, values: npt.NDArray[np.float64 | np.bool_]) -> Floats:
    return np.bincount(ranks.user, weights=values, minlength=ranks.num_users).astype(np.float64)


def _depth(k: int | None) -> float:
    return np.inf if k is None else float(k)


_FORMULAS: Mapping[str, Callable[[Ranks, int | None], Floats]] = {
    "recall": _recall,
    "precision": _precision,
    "hit": _hit,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "mean_rank": _mean_rank,
}
