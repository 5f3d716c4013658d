"""Chance of a whole table: all metrics of one ranking tested together, in their exact covariance.

With one relevant item among C candidates every metric of a user is a function of one number, its rank, which random
ranking makes uniform on 1..C. So the covariance of all metrics is a sum over C ranks, without any approximation, and so
are the tables that chance gives: their ranks are drawn, and the cells rounded as the printed ones were.

Two statistics are looked at, each at half the level: chi-square in the covariance, which sees patterns, and the largest
single z, which sees one metric that is off by much. Their p-values come from simulated tables, so that few users,
rare hits and rounding cost no accuracy; beyond the last simulated table only Bernstein's bound on the largest z makes p
smaller, which no skewness can deceive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rectest.checks.result import CheckResult, Verdict, judged, not_measured
from rectest.checks.tolerance import ALPHA, z_limit
from rectest.errors import MetricError
from rectest.metrics.bounds import chance
from rectest.metrics.measure import Measure

__all__ = ["JointChance", "covariance_of_chance", "joint_chance", "table_chance"]

Floats = npt.NDArray[np.float64]

SIMULATIONS = 9_999
"""Tables of chance that are drawn: a p of 1e-3 is then known within a third (binomial error of 10 counts)."""

_DIRECT = 20_000_000
"""Up to so many ranks are drawn one by one; beyond, the users are counted by rank (a multinomial draw)."""

_RESOLVED = 200
"""Ranks that a multinomial draw keeps apart; those beyond are a normal sum, whose terms are then below 1/200."""

_NULL = 1e-9
"""Directions of the correlation matrix with less variance are equalities between cells, which the rules judge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JointChance:
    """How a table compares with what random ranking gives."""

    p: float
    """Of a table this far from chance or farther, in either direction."""

    chi_square: float
    degrees: int
    largest: str
    """The measure with the largest z."""

    z: Mapping[str, float]
    """By measure, positive where it is better than chance."""

    @property
    def better(self) -> bool:
        """Whether the measure that is farthest off is off to the good side."""
        return self.z[self.largest] > 0


def covariance_of_chance(measures: Sequence[str], *, num_candidates: int) -> tuple[Floats, Floats]:
    """float64[M] means and float64[M, M] covariance of one user's measures under random ranking, exact.

    One relevant item; a cut-off beyond the candidates is a `MetricError`.

    >>> mean, covariance = covariance_of_chance(["hit@5", "mean_rank"], num_candidates=100)
    >>> mean.tolist(), covariance.round(4).tolist()
    ([0.05, 50.5], [[0.0475, -2.375], [-2.375, 833.25]])
    """
    outcomes = _outcomes(measures, np.arange(1, num_candidates + 1), num_candidates=num_candidates)
    mean = outcomes.mean(axis=0)
    apart = outcomes - mean
    return mean, apart.T @ apart / num_candidates


def _outcomes(measures: Sequence[str], ranks: npt.NDArray[np.int64], *, num_candidates: int) -> Floats:
    """[ranks, M] the measures of a user whose relevant item has this rank."""
    parsed = [Measure.parse(name) for name in measures]
    for measure in parsed:
        measure.require(num_candidates, whose="the protocol")
    rank = ranks.astype(np.float64)
    return np.stack([np.where(rank <= (m.k or np.inf), _GAIN[m.name](rank, m.k or 1), 0.0) for m in parsed], axis=1)


_GAIN: Mapping[str, Callable[[Floats, int], Floats]] = {
    "hit": lambda rank, _: np.ones_like(rank),
    "recall": lambda rank, _: np.ones_like(rank),
    "precision": lambda rank, k: np.full_like(rank, 1 / k),
    "ndcg": lambda rank, _: 1 / np.log2(1 + rank),
    "mrr": lambda rank, _: 1 / rank,
    "mean_rank": lambda rank, _: rank,
}


def joint_chance(
    table: Mapping[str, float],
    *,
    num_candidates: int,
    num_users: int,
    decimals: Mapping[str, int] | None = None,
    num_simulations: int = SIMULATIONS,
) -> JointChance:
    """How far a table of means over `num_users` is from random ranking with one relevant item a user.

    Raises:
        MetricError: a cut-off lies beyond the candidates, or no measure of the table can tell rankings apart.
        ValueError: a cell is not finite, or there is no user.
    """
    names = sorted(table, key=Measure.parse)
    obtained = np.array([float(table[name]) for name in names])
    if num_users < 1 or num_candidates < 2 or not np.isfinite(obtained).all():
        msg = f"chance needs users, two candidates and finite cells, got {num_users}, {num_candidates}, {obtained}"
        raise ValueError(msg)
    mean, covariance = covariance_of_chance(names, num_candidates=num_candidates)
    telling = covariance.diagonal() > 0
    if not telling.any():
        msg = f"every ranking of {num_candidates} candidates gives the same {', '.join(names)}"
        raise MetricError(msg)
    names = [name for name, kept in zip(names, telling, strict=True) if kept]
    obtained, mean, covariance = obtained[telling], mean[telling], covariance[np.ix_(telling, telling)] / num_users
    digits = [None if decimals is None else decimals.get(name) for name in names]
    statistic = _Statistic.of(mean, covariance + np.diag([_rounding(d) for d in digits]))
    tables = _simulated(
        tuple(names),
        num_candidates=num_candidates,
        num_users=num_users,
        digits=tuple(digits),
        num_simulations=num_simulations,
    )
    chi, largest = statistic(obtained[None, :])
    null_chi, null_largest = statistic(tables)
    p_chi, p_largest = _counted_tail(chi[0], null_chi), _counted_tail(largest[0], null_largest)
    if p_largest * len(tables) < 2:
        reach = _reach(names, num_candidates)
        bounds = [_bernstein(float(largest[0]), reach=one, num_users=num_users) for one in reach]
        p_largest = min(p_largest, math.fsum(bounds))
    sign = np.array([1.0 if Measure.parse(name).higher_is_better else -1.0 for name in names])
    z = sign * (obtained - mean) / statistic.errors
    return JointChance(
        p=min(1.0, 2 * min(p_chi, p_largest)),
        chi_square=float(chi[0]),
        degrees=statistic.degrees,
        largest=names[int(np.abs(z).argmax())],
        z=dict(zip(names, z.tolist(), strict=True)),
    )


def _reach(names: Sequence[str], num_candidates: int) -> list[float]:
    """How many standard deviations of one user its measure can be from its mean."""
    outcomes = _outcomes(names, np.arange(1, num_candidates + 1), num_candidates=num_candidates)
    reach = np.abs(outcomes - outcomes.mean(axis=0)).max(axis=0) / outcomes.std(axis=0)
    return [float(one) for one in reach]


def _rounding(digits: int | None) -> float:
    """Variance that rounding adds: uniform on a unit of the last digit."""
    return 0.0 if digits is None else 10.0 ** (-2 * digits) / 12


@dataclass(frozen=True, kw_only=True, slots=True)
class _Statistic:
    """Chi-square and the largest absolute z of each row of a [S, M] array of tables."""

    mean: Floats
    errors: Floats
    whitening: Floats
    """[M, degrees]"""

    @classmethod
    def of(cls, mean: Floats, covariance: Floats) -> _Statistic:
        errors = np.sqrt(covariance.diagonal())
        values, vectors = np.linalg.eigh(covariance / np.outer(errors, errors))
        kept = values > _NULL
        return cls(mean=mean, errors=errors, whitening=vectors[:, kept] / np.sqrt(values[kept]))

    @property
    def degrees(self) -> int:
        return int(self.whitening.shape[1])

    def __call__(self, tables: Floats) -> tuple[Floats, Floats]:
        z = (tables - self.mean) / self.errors
        return ((z @ self.whitening) ** 2).sum(axis=1), np.abs(z).max(axis=1)


@lru_cache(maxsize=4)
def _simulated(
    names: tuple[str, ...],
    *,
    num_candidates: int,
    num_users: int,
    digits: tuple[int | None, ...],
    num_simulations: int,
) -> Floats:
    """[S, M] tables of random rankings, rounded as the printed one; the draws are fixed, so that p is as well."""
    rng = np.random.default_rng([num_candidates, num_users, num_simulations])
    if num_users * num_simulations <= _DIRECT:
        every = _outcomes(names, np.arange(1, num_candidates + 1), num_candidates=num_candidates)
        tables = np.stack(
            [every[rng.integers(num_candidates, size=num_users)].mean(axis=0) for _ in range(num_simulations)]
        )
    else:
        tables = _counted(names, rng, num_candidates, num_users, num_simulations)
    for i, places in enumerate(digits):
        if places is not None:
            tables[:, i] = np.round(tables[:, i], places)
    return tables


def _counted(
    names: Sequence[str], rng: np.random.Generator, num_candidates: int, num_users: int, num_simulations: int
) -> Floats:
    """The same for many users, from how many have each rank; the tail of ranks adds a normal sum."""
    deepest = max((Measure.parse(name).k or 1 for name in names), default=1)
    head = min(num_candidates, max(_RESOLVED, deepest))
    every = _outcomes(names, np.arange(1, num_candidates + 1), num_candidates=num_candidates)
    shares = np.append(np.full(head, 1 / num_candidates), 1 - head / num_candidates).clip(0)
    counts = rng.multinomial(num_users, shares / shares.sum(), size=num_simulations)
    total = counts[:, :head] @ every[:head]
    tail = every[head:]
    if len(tail):
        beyond = counts[:, head:].astype(np.float64)
        spread = np.linalg.cholesky(np.cov(tail.T, bias=True).reshape(len(names), -1) + 1e-18 * np.eye(len(names)))
        noise = rng.standard_normal((num_simulations, len(names))) @ spread.T
        total = total + beyond * tail.mean(axis=0) + np.sqrt(beyond) * noise
    return np.asarray(total / num_users)


def _counted_tail(obtained: float, null: Floats) -> float:
    """P(statistic >= obtained) among the simulated tables, the table itself counted with them."""
    return (1 + int((null >= obtained * (1 - 1e-12)).sum())) / (1 + len(null))


def _bernstein(z: float, *, reach: float, num_users: int) -> float:
    """A bound on P(|mean - expected| >= z errors) that holds for any number of users.

    Bernstein's inequality for independent terms that are at most `reach` standard deviations from their mean:
    2 exp(-z^2 / 2 / (1 + reach z / (3 sqrt n))).
    """
    return 2 * math.exp(-0.5 * z**2 / (1 + reach * z / (3 * math.sqrt(num_users))))


def table_chance(
    table: Mapping[str, float],
    *,
    num_candidates: int,
    num_users: int,
    num_relevant: int = 1,
    decimals: Mapping[str, int] | None = None,
    subject: str = "table",
    alpha: float = ALPHA,
    num_tables: int = 1,
) -> CheckResult:
    """``chance/joint``: whether a whole table is better than random ranking.

    With several relevant items the covariance is not a function of one rank; each z is then tested at a level shared
    among all. `num_tables` is how many tables `table` was chosen from, for the same sharing.
    """
    check = "chance/joint"
    settings = {"num_candidates": num_candidates, "num_users": num_users}
    try:
        if num_relevant == 1:
            joint = joint_chance(table, **settings, decimals=decimals)
        else:
            joint = _separately(table, **settings, num_relevant=num_relevant)
    except (MetricError, ValueError) as e:
        return not_measured(check, subject, str(e))
    return _verdict(check, subject, table, joint, p=min(1.0, joint.p * num_tables), alpha=alpha)


def _separately(table: Mapping[str, float], *, num_candidates: int, num_users: int, num_relevant: int) -> JointChance:
    z = {}
    for name, value in table.items():
        mean, error = chance(name, num_candidates=[num_candidates] * num_users, num_relevant=num_relevant)
        sign = 1.0 if Measure.parse(name).higher_is_better else -1.0
        if error > 0 and math.isfinite(value):
            z[name] = sign * (value - mean) / error
    if not z:
        msg = f"no finite cell of {', '.join(table) or 'the table'} can tell rankings apart"
        raise MetricError(msg)
    largest = max(z, key=lambda name: abs(z[name]))
    p = min(1.0, len(z) * math.erfc(abs(z[largest]) / math.sqrt(2)))
    return JointChance(p=p, chi_square=math.nan, degrees=0, largest=largest, z=z)


def _verdict(
    check: str, subject: str, table: Mapping[str, float], joint: JointChance, *, p: float, alpha: float
) -> CheckResult:
    each = ", ".join(f"{name} {table[name]:g} (z {z:+.2f})" for name, z in joint.z.items())
    how = f"chi2({joint.degrees}) = {joint.chi_square:.2f}, " if joint.degrees else ""
    limit = f"p < {alpha:g}; a single metric needs z > {z_limit(alpha):.2f}"
    if p >= alpha:
        return CheckResult(
            check=check,
            subject=subject,
            verdict=Verdict.CHANCE,
            figure=f"the whole table is what random ranking gives ({how}p = {p:.2g})",
            expected="a table that random ranking does not give",
            limit=limit,
            outside=each,
            detail="nothing that this evaluation can see was learned; overfitting and data size are no explanations",
            advice="check that evaluation scores with what was trained: id maps, stale tables, dead branches",
        )
    return judged(
        check,
        subject,
        ok=joint.better,
        figure=f"{how}p = {p:.2g}; {each}",
        expected="a table that random ranking does not give",
        limit=limit,
        detail="" if joint.better else "WORSE THAN CHANCE: the scores are inverted, or the relevant items are masked",
        advice="look at the sign of the scores, and at what is masked",
    )
