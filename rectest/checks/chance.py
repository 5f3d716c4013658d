"""Floors and ceilings of quality: better than chance, better than popularity, not better than the optimum.

Chance is exact (`rectest.metrics.bounds`) and known for every protocol; popularity and the optimum were measured by
the training program on the same users and stand in ``facts["floors"]``. How good a system usually is, is not judged
here but against its baseline.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, Verdict, judged, not_measured
from rectest.checks.tolerance import ALPHA, binomial_limit, binomial_tail, z_limit
from rectest.errors import MetricError, RecordError
from rectest.metrics.bounds import chance
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import per_user
from rectest.metrics.ranks import Ranks
from rectest.record import RunRecord

__all__ = ["above_chance", "against_chance", "popularity_floor", "ranks_of"]

Ints = npt.NDArray[np.int64]


def ranks_of(record: RunRecord, split: str) -> Ranks:
    """The final ranks of a split.

    Raises:
        RecordError: a column or the number of users is missing.
        MetricError: the ranks are impossible.
    """
    num_users = record.facts.get("protocol", {}).get(split, {}).get("num_users")
    if num_users is None:
        msg = f"record of {record.spec.describe()} has no number of users of {split!r}; record it with run.ranked(...)"
        raise RecordError(msg)
    try:
        return Ranks.from_arrays(record.arrays, f"ranks/{split}", num_users=int(num_users))
    except ValueError as e:
        msg = f"ranks of {split!r} are damaged: {e}"
        raise RecordError(msg) from e


def above_chance(record: RunRecord, *, split: str = "test", alpha: float = ALPHA) -> list[CheckResult]:
    """Whether each final metric of a split is better than random ranking of the very same candidates.

    A model at chance is CHANCE, and red here and nowhere else: its numbers are in range and coherent, they just say
    nothing. One that is worse than chance has learned something, and the wrong way round: FAIL.
    """
    names = record.names(f"metric/{split}/")
    if not names:
        return [not_measured("chance", record.spec.system, f"the record has no metric of {split}")]
    try:
        ranks = ranks_of(record, split)
    except (RecordError, MetricError) as e:
        advice = "record the split with run.ranked(...)"
        return [
            not_measured(f"chance/{name}", f"{record.spec.system} {split}", str(e), advice=advice) for name in names
        ]
    return [
        against_chance(
            name,
            record.final(f"{split}/{name}"),
            subject=f"{record.spec.system} {split}",
            num_candidates=ranks.candidates_per_user,
            num_relevant=ranks.num_relevant,
            alpha=alpha,
        )
        for name in names
    ]


def against_chance(
    measure: str,
    obtained: float,
    *,
    num_candidates: npt.ArrayLike,
    num_relevant: npt.ArrayLike,
    subject: str = "",
    alpha: float = ALPHA,
) -> CheckResult:
    """Whether one value is better than random ranking, at a false-pass rate of `alpha` for a model at chance.

    `num_candidates` and `num_relevant` are given per user. A share of users (hit, or recall with one relevant item) is
    tested by the exact binomial tail; with unequal candidates the binomial of the mean rate is an upper bound
    (Hoeffding 1956). Every other measure is a mean of many users and tested by its exact standard error.
    """
    check = f"chance/{measure}"
    try:
        mean, error = chance(measure, num_candidates=num_candidates, num_relevant=num_relevant)
    except (MetricError, ValueError) as e:
        return not_measured(check, subject, str(e))
    if error == 0 or not math.isfinite(obtained):
        missing = "the metric is not finite" if error else f"every ranking gives {mean:.4g}, so the metric cannot tell"
        return not_measured(check, subject, missing)
    parsed, relevant = Measure.parse(measure), np.atleast_1d(np.asarray(num_relevant))
    relevant = np.broadcast_to(relevant, np.broadcast_shapes(relevant.shape, np.shape(num_candidates)))
    num_users = int((relevant > 0).sum())
    sign = 1.0 if parsed.higher_is_better else -1.0
    z = sign * (obtained - mean) / error
    if parsed.name == "hit" or (parsed.name == "recall" and bool((relevant <= 1).all())):
        p = binomial_tail(round(obtained * num_users), num_users, min(1.0, mean))
        limit = f">= {binomial_limit(num_users, min(1.0, mean), alpha=alpha) / num_users:.4g}"
    else:
        p = 0.5 * math.erfc(z / math.sqrt(2))
        limit = f"{'>' if sign > 0 else '<'} {mean + sign * z_limit(alpha) * error:.4g}"
    return _chance_result(check, subject, obtained, mean=mean, error=error, z=z, p=p, limit=limit, alpha=alpha)


def _chance_result(
    check: str,
    subject: str,
    obtained: float,
    *,
    mean: float,
    error: float,
    z: float,
    p: float,
    limit: str,
    alpha: float,
) -> CheckResult:
    ok, worse = p < alpha, z < -z_limit(alpha)
    figure = f"{obtained:.4g}, {z:.2f} standard errors better than chance (p = {p:.2g})"
    if ok:
        verdict, why = Verdict.PASS, ""
    elif worse:
        verdict, why = Verdict.FAIL, "WORSE THAN CHANCE: the scores are inverted, or the relevant items are masked"
    else:
        name = check.partition("/")[2]
        verdict, why = Verdict.CHANCE, "the model has learned nothing that this evaluation can see"
        figure = f"{name} {obtained:.4g} is what random ranking gives ({mean:.4g}, p = {p:.2g})"
    return CheckResult(
        check=check,
        subject=subject,
        verdict=verdict,
        figure=figure,
        expected=f"chance {mean:.4g} +- {error:.2g}",
        limit=f"{limit} (p < {alpha:g})",
        detail=why,
        advice="" if ok else "check that evaluation scores with what was trained: id maps, stale tables, dead branches",
    )


def popularity_floor(record: RunRecord, *, alpha: float = ALPHA) -> list[CheckResult]:
    """Whether each metric with known floors beats popularity, and does not beat the optimum beyond noise.

    Both were measured on the same users, so the floor is simply to be beaten; where values per user were kept
    (``floor/popularity/<metric>``), the lead is given in paired standard errors. The optimum is what the Bayes-optimal
    ranking got on these users; luck alone lifts a model above it by no more than the standard error of a difference
    of two such means, at most sqrt 2 times the model's own when the two are not opposed.
    """
    floors = record.facts.get("floors", {})
    if not floors:
        advice = "measure popularity under the same protocol"
        return [not_measured("floor/popularity", record.spec.system, "the record has no floors", advice=advice)]
    results = []
    for metric, known in sorted(floors.items()):
        results += _floors_of(record, metric, known, alpha=alpha)
    return results


def _floors_of(record: RunRecord, metric: str, known: dict[str, Any], *, alpha: float) -> list[CheckResult]:
    split, _, name = metric.partition("/")
    if f"metric/{metric}" not in record or not record[f"metric/{metric}"].size:
        return [not_measured("floor/popularity", metric, f"the record has no metric/{metric}")]
    obtained = record.final(metric)
    try:
        values = per_user(ranks_of(record, split), name)
    except (RecordError, MetricError) as e:
        return [not_measured("floor/popularity", metric, str(e))]
    sign = 1.0 if Measure.parse(name).higher_is_better else -1.0
    results = [_beats_popularity(record, metric, obtained, known.get("popularity"), values=values, sign=sign)]
    optimum = known.get("optimum")
    if optimum is not None:
        scored = values[np.isfinite(values)]
        error = float(scored.std(ddof=1) / math.sqrt(scored.size)) if scored.size > 1 else math.inf
        results.append(_below_optimum(metric, obtained, float(optimum), error=error, sign=sign, alpha=alpha))
    return results


def _beats_popularity(
    record: RunRecord,
    metric: str,
    obtained: float,
    popularity: float | None,
    *,
    values: npt.NDArray[np.float64],
    sign: float,
) -> CheckResult:
    if popularity is None or not math.isfinite(popularity) or not math.isfinite(obtained):
        return not_measured("floor/popularity", metric, f"popularity {popularity}, the metric {obtained}")
    lead = sign * (obtained - popularity)
    noise = ""
    paired = record.arrays.get(f"floor/popularity/{metric}")
    if paired is not None and paired.shape == values.shape:
        apart = sign * (values - paired)[np.isfinite(values)]
        error = float(apart.std(ddof=1) / math.sqrt(apart.size)) if apart.size > 1 else math.inf
        noise = f", {lead / error:.2g} paired standard errors" if 0 < error < math.inf else ""
    return judged(
        "floor/popularity",
        metric,
        ok=lead > 0,
        figure=f"{obtained:.4g}, {'ahead of' if lead > 0 else 'not ahead of'} popularity by {abs(lead):.3g}{noise}",
        expected=f"popularity {popularity:.4g} on the same users",
        limit=f"{'>' if sign > 0 else '<'} {popularity:.4g}",
        detail="" if lead > 0 else "counting events recommends better than this model",
        advice="check that history reaches the model, and that it trains long enough",
    )


def _below_optimum(
    metric: str, obtained: float, optimum: float, *, error: float, sign: float, alpha: float
) -> CheckResult:
    allowed = z_limit(alpha) * math.sqrt(2) * error
    above = sign * (obtained - optimum)
    if not (math.isfinite(above) and math.isfinite(allowed)):
        return not_measured("floor/optimum", metric, f"optimum {optimum}, the metric {obtained} +- {error}")
    return CheckResult(
        check="floor/optimum",
        subject=metric,
        verdict=Verdict.PASS if above <= allowed else Verdict.FAIL,
        figure=f"{obtained:.4g}, {'above' if above > 0 else 'below'} the optimum by {abs(above):.3g}",
        expected=f"at most the optimum {optimum:.4g}, up to noise",
        limit=f"{'<=' if sign > 0 else '>='} {optimum + sign * allowed:.4g}",
        detail="" if above <= allowed else "too good to be true: a leak? the model knows what nobody can know",
        advice="" if above <= allowed else "look for the target among the inputs, and for test events in training",
    )
