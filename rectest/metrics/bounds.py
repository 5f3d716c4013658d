"""What pure chance scores: exact means and standard errors of every measure under a uniformly random ranking.

Owns the null distribution and nothing else; whether a z-score is too small or too large is for `rectest.checks` to
judge, and what one table of metrics may say about another is in `coherence.py`.

One user has `C` candidates of which `R` are relevant, and all orders are equally likely (scores without ties). The
relevant items then hold a uniformly random `R` of the places 1..C, which gives, with `H(n)` the harmonic number and
`d(i) = 1 / log2(1 + i)`:

- `recall@k`, `precision@k`: hits are hypergeometric, mean k R / C, variance k R (C - R) (C - k) / (C^2 (C - 1))
- `hit@k`: 1 - binom(C - k, R) / binom(C, R)
- `ndcg@k`: sum of d(i) over the hits; two places exclude each other with covariance -p (1 - p) / (C - 1), p = R / C
- `mrr`: the best place is m with probability binom(C - m, R - 1) / binom(C, R); its mean reciprocal is
  R (H(C) - H(R - 1)) / (C - R + 1), the second moment follows by recursion over R, and `mrr@k` is summed directly
- `mean_rank`: mean (C + 1) / 2, variance (C + 1) (C - R) / (12 R)

All means and variances are exact. 1/mrr is a harmonic mean of ranks, so it says nothing about `mean_rank`: chance
among 100 candidates is an mrr of 0.0519 (1/19) and a mean rank of 50.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from rectest.errors import MetricError
from rectest.metrics.lists import Ints
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import ideal_dcg

__all__ = ["chance", "chance_per_user", "z_score"]

Floats = npt.NDArray[np.float64]
Moments = tuple[Floats, Floats]


def chance(
    measure: Measure | str, *, num_candidates: npt.ArrayLike, num_relevant: npt.ArrayLike
) -> tuple[float, float]:
    """Mean and standard error that chance gives the average over users.

    `num_candidates` and `num_relevant` (relevant items included in the candidates) are one integer per user, or one
    for all. Users without relevant items are left out as in `evaluate`; if no user is left, `MetricError`.

    >>> mean, error = chance("hit@5", num_candidates=[100] * 938, num_relevant=1)
    >>> round(mean, 4), round(error, 5)
    (0.05, 0.00712)
    """
    candidates, relevant = _pair(num_candidates, num_relevant)
    scored = relevant > 0
    if not scored.any():
        msg = f"none of {len(relevant)} users has a relevant item, so chance has no value either; look at the split"
        raise MetricError(msg)
    mean, variance = chance_per_user(measure, num_candidates=candidates[scored], num_relevant=relevant[scored])
    return float(mean.mean()), float(np.sqrt(variance.sum()) / len(mean))


def chance_per_user(measure: Measure | str, *, num_candidates: npt.ArrayLike, num_relevant: npt.ArrayLike) -> Moments:
    """Mean and variance, float64[num_users] each, of the measure of one user under a random ranking.

    Both are NaN for a user without relevant items. A cut-off deeper than some user's candidates is a `MetricError`.
    """
    measure = Measure.parse(measure) if isinstance(measure, str) else measure
    candidates, relevant = _pair(num_candidates, num_relevant)
    scored = relevant > 0
    # Users are many, their (C, R) pairs are few; each pair is worked out once.
    pairs, which = np.unique(np.stack((candidates[scored], relevant[scored])), axis=1, return_inverse=True)
    moments = np.full((2, len(relevant)), np.nan)
    if pairs.size:
        measure.require(int(pairs[0].min()), whose="some user")
        moments[:, scored] = np.stack(_MOMENTS[measure.name](pairs[0], pairs[1], measure.k or 0))[:, which.ravel()]
    return moments[0], np.maximum(moments[1], 0.0)


def z_score(observed: float, mean: float, standard_error: float) -> float:
    """How many standard errors `observed` lies above `mean`.

    `MetricError` unless all three are finite and the error is positive: a z-score of NaN would pass any limit.

    >>> z_score(5.0, 4.0, 0.5)
    2.0
    """
    if not np.isfinite([observed, mean, standard_error]).all() or standard_error <= 0:
        msg = (
            f"{observed} against {mean} with standard error {standard_error} has no z-score; "
            "all three must be finite and the error positive"
        )
        raise MetricError(msg)
    return (observed - mean) / standard_error


def _pair(num_candidates: npt.ArrayLike, num_relevant: npt.ArrayLike) -> tuple[Ints, Ints]:
    both = np.broadcast_arrays(np.atleast_1d(num_candidates), np.atleast_1d(num_relevant))
    if any(array.dtype.kind not in "iu" or array.ndim != 1 for array in both):
        msg = f"num_candidates and num_relevant must be integers, one per user, got {both[0].dtype} and {both[1].dtype}"
        raise ValueError(msg)
    candidates, relevant = (array.astype(np.int64) for array in both)
    wrong = (relevant < 0) | (relevant > candidates)
    if wrong.any():
        user = int(wrong.argmax())
        msg = f"user {user} has {relevant[user]} relevant items among {candidates[user]} candidates; expected 0..C"
        raise ValueError(msg)
    return candidates, relevant


def _recall(candidates: Ints, relevant: Ints, k: int) -> Moments:
    mean, variance = _num_hits(candidates, relevant, k)
    return mean / relevant, variance / relevant**2


def _precision(candidates: Ints, relevant: Ints, k: int) -> Moments:
    mean, variance = _num_hits(candidates, relevant, k)
    return mean / k, variance / k**2


def _num_hits(candidates: Ints, relevant: Ints, k: int) -> Moments:
    share = relevant / candidates
    return k * share, k * share * (1 - share) * (candidates - k) / np.maximum(candidates - 1, 1)


def _hit(candidates: Ints, relevant: Ints, k: int) -> Moments:
    hit = 1 - _no_hit_above(candidates, relevant, k)
    return hit, hit * (1 - hit)


def _no_hit_above(candidates: Ints, relevant: Ints, k: int) -> Floats:
    """Probability that the first `k` places hold no relevant item: the product of the chances to miss each."""
    missed = np.ones(len(candidates))
    for place in range(k):
        missed *= np.maximum(candidates - relevant - place, 0) / (candidates - place)
    return missed


def _ndcg(candidates: Ints, relevant: Ints, k: int) -> Moments:
    discount = 1 / np.log2(np.arange(2, k + 2))
    share = relevant / candidates
    squares, cross = (discount**2).sum(), discount.sum() ** 2 - (discount**2).sum()
    variance = share * (1 - share) * (squares - cross / np.maximum(candidates - 1, 1))
    ideal = ideal_dcg(relevant, k)
    return share * discount.sum() / ideal, variance / ideal**2


def _mrr(candidates: Ints, relevant: Ints, k: int) -> Moments:
    mean, square = _mrr_whole_list(candidates, relevant) if k == 0 else _mrr_cut(candidates, relevant, k)
    return mean, square - mean**2


def _mrr_cut(candidates: Ints, relevant: Ints, k: int) -> Moments:
    mean, square = np.zeros((2, len(candidates)))
    missed = np.ones(len(candidates))
    for place in range(1, k + 1):
        best_here = missed * np.minimum(relevant / (candidates - place + 1), 1.0)
        mean += best_here / place
        square += best_here / place**2
        missed -= best_here
    return mean, square


def _mrr_whole_list(candidates: Ints, relevant: Ints) -> Moments:
    """First two moments of 1 / (best place).

    With A(n, r) = sum over m of binom(n - m, r) / (m^2 binom(n, r)), the identity
    r binom(n - m, r) = (n - r + 1 - m) binom(n - m, r - 1) gives
    A(n, r) = A(n, r - 1) - (H(n) - H(r - 1)) / (n - r + 1), starting from A(n, 0) = sum of 1 / m^2.
    """
    places = np.arange(1, int(candidates.max()) + 1)
    harmonic = np.concatenate(([0.0], np.cumsum(1 / places)))
    moment = np.concatenate(([0.0], np.cumsum(1 / places**2)))[candidates]
    for r in range(1, int(relevant.max())):
        step = (harmonic[candidates] - harmonic[r - 1]) / np.maximum(candidates - r + 1, 1)
        moment = np.where(r < relevant, moment - step, moment)
    scale = relevant / (candidates - relevant + 1)
    return scale * (harmonic[candidates] - harmonic[relevant - 1]), scale * moment


def _mean_rank(candidates: Ints, relevant: Ints, _k: int) -> Moments:
    return (candidates + 1) / 2, (candidates + 1) * (candidates - relevant) / (12 * relevant)


_MOMENTS: Mapping[str, Callable[[Ints, Ints, int], Moments]] = {
    "recall": _recall,
    "precision": _precision,
    "hit": _hit,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "mean_rank": _mean_rank,
}
