"""What the cells of one table of metrics imply about each other: no ranking whatever can break these rules.

Owns the inequalities and the slack that rounding earns. A violation means that the table is wrong (a shifted column,
a list shorter than its k, a wrong ideal DCG), not that the model is; what to do with it is for `rectest.checks`.

The means over the same users inherit every linear rule of a single user. Let F(k) be the share of users whose *best*
rank is at most k: `hit@k`, and with one relevant item per user `recall@k` as well, with F(0) = 0.

- range: mean_rank >= 1, everything else in [0, 1]
- monotone: `hit`, `recall`, `mrr` and k x `precision` (hits) never fall with k; nor does `ndcg` with one relevant item
- at one: hit@1 = precision@1 = ndcg@1 = mrr@1, and with one relevant item = recall@1
- hits: k x precision@k = R x recall@k if all users have R relevant items, and recall@k = hit@k if R = 1; otherwise
  `recall`, `precision` and `ndcg` are at most `hit`, which is at most k x `precision`
- mrr from F: a user who enters between a and b has 1/b <= 1/rank <= 1/(a + 1), so between cut-offs a < b
  dF / b <= d mrr <= dF / (a + 1); whoever is beyond the last cut-off adds at most 1 / (k + 1) to the uncut mrr
- ndcg, one relevant item: likewise dF / log2(b + 1) <= d ndcg <= dF / log2(a + 2)
- mrr <= ndcg, one relevant item: 1/r <= 1/log2(1 + r); cut at the same k, or the uncut mrr less what lies beyond k
- mean_rank >= 1 / mrr (Jensen), and >= the sum of dF times the first rank of each interval
- counts: hit@k (and recall@k with one relevant item) times the number of users is a whole number

Where `a + 1` and `k + 1` stand above, the best rank beyond a cut-off is meant. Expected ranks under ties may be
fractions (2.5), for which it is `a` itself; `ties=True` uses that.

Slack: a cell printed with `decimals` digits lies within h = 0.5 x 10^-decimals of its true value, so a rule that is
linear in cells, sum of c_i x_i >= 0, may miss by h x sum of |c_i|. A true table is never rejected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from rectest.errors import MetricError
from rectest.metrics.linear import Linear, cell
from rectest.metrics.measure import Measure

__all__ = ["Violation", "cell_slack", "coherence_violations", "constraints"]

Table = Mapping[Measure, float]
Rule = tuple[str, Linear, Linear | None, Linear | None]
"""Name, quantity, and the lower and upper end of what it may be (None: no such end)."""

_FLOAT_ERROR = 1e-9
"""Slack of a cell that was not rounded: generous for the error of a mean over many users in float64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One rule that the table breaks."""

    rule: str
    """finite, range, monotone, at_one, hits, mrr_from_hits, ndcg_from_hits, mrr_at_most_ndcg, mean_rank or counts."""
    cells: Mapping[str, float]
    """The cells that the rule ties together, as the table has them."""
    quantity: str
    """What was held against the interval, such as "ndcg@10 - ndcg@5"."""
    obtained: float
    low: float
    """Lower end of what is possible given the other cells as printed; -inf where there is none."""
    high: float
    excess: float
    """By how much `obtained` is outside after all rounding slack is granted; inf for a NaN."""

    def __str__(self) -> str:
        return (
            f"{self.rule}: {self.quantity} is {self.obtained:.6g}, possible is [{self.low:.6g}, {self.high:.6g}], "
            f"outside by {self.excess:.3g} more than rounding explains"
        )


def coherence_violations(
    table: Mapping[str, float],
    *,
    single_relevant: bool,
    num_users: int | None = None,
    decimals: int | Mapping[str, int] | None = None,
    relevant_per_user: int | None = None,
    ties: bool = False,
) -> list[Violation]:
    """Every rule that the means in `table` (measure name -> value) break; an empty list: nothing is impossible.

    `single_relevant` says that every averaged user had exactly one relevant item, which makes most rules possible;
    `relevant_per_user` is that number where it is the same for all. `num_users` is how many users were averaged.
    `decimals` is how many digits the cells were rounded to: one number, or one for each rounded cell. `ties` says that
    ranks may be fractions (`tie_share` above 0). All cells must be of the same users and the same ranking. A table
    without any cell is a `MetricError`: nothing would be checked.

    >>> table = {"recall@5": 0.7803, "recall@10": 0.8915, "ndcg@5": 0.7063, "ndcg@10": 0.7244}
    >>> print(*coherence_violations(table, single_relevant=True, decimals=4))
    ndcg_from_hits: ndcg@10 - ndcg@5 is 0.0181, possible is [0.032144, 0.0396102], outside by 0.0139 more than \
rounding explains
    """
    if not table:
        msg = "the table of metrics is empty, so there is nothing to hold against each other"
        raise MetricError(msg)
    cells = {measure: float(table[str(measure)]) for measure in sorted(map(Measure.parse, table))}
    slack = cell_slack(cells, decimals)
    finite = {measure: value for measure, value in cells.items() if math.isfinite(value)}
    broken = [_not_finite(measure, value) for measure, value in cells.items() if measure not in finite]
    for rule in _rules(finite, 1 if single_relevant else relevant_per_user, _first_tied if ties else _first):
        broken.extend(_judge(rule, finite, slack))
    broken.extend(_below_harmonic_mean(finite, slack))
    if num_users is not None:
        broken.extend(_not_counts(finite, slack, num_users=num_users, single=single_relevant))
    return broken


def constraints(names: Collection[Measure], *, num_relevant: int | None, ties: bool = False) -> Iterator[Linear]:
    """Every linear rule for a table with these cells, as a sum that must not be negative."""
    for _, quantity, low, high in _rules(dict.fromkeys(names, 0.0), num_relevant, _first_tied if ties else _first):
        if low is not None:
            yield quantity - low
        if high is not None:
            yield high - quantity


def cell_slack(cells: Collection[Measure], decimals: int | Mapping[str, int] | None) -> dict[Measure, float]:
    """How far each cell as printed may be from its true value."""
    given = decimals if isinstance(decimals, Mapping) else dict.fromkeys(map(str, cells), decimals)
    slack = dict.fromkeys(cells, _FLOAT_ERROR)
    for measure in cells:
        digits = given.get(str(measure))
        if digits is not None and digits < 0:
            msg = f"decimals must be at least 0, got {digits} for {measure}"
            raise ValueError(msg)
        slack[measure] += 0.0 if digits is None else 0.5 * 10.0**-digits
    return slack


def _judge(rule: Rule, cells: Table, slack: Table) -> Iterator[Violation]:
    name, quantity, low, high = rule
    below = 0.0 if low is None else (low - quantity).excess(cells, slack)
    above = 0.0 if high is None else (quantity - high).excess(cells, slack)
    if max(below, above) > 0:
        spoken_of = [form for form in (quantity, low, high) if form is not None]
        yield Violation(
            rule=name,
            cells={str(m): cells[m] for m in sorted({m for form in spoken_of for m in form.weights})},
            quantity=str(quantity),
            obtained=quantity.value(cells),
            low=-math.inf if low is None else low.value(cells),
            high=math.inf if high is None else high.value(cells),
            excess=max(below, above),
        )


def _first(cut_off: float) -> float:
    """The best rank beyond a cut-off."""
    return cut_off + 1


def _first_tied(cut_off: float) -> float:
    """The same where ties make ranks fractions."""
    return max(cut_off, 1.0)


def _rules(cells: Table, num_relevant: int | None, first: Callable[[float], float]) -> Iterator[Rule]:
    single = num_relevant == 1
    yield from _ranges(cells)
    yield from _monotone(cells, single=single)
    yield from _at_one(cells, single=single)
    yield from _hits(cells, num_relevant)
    entered = _entered(cells, single=single)
    yield from _from_hits("mrr", cells, entered, gain=lambda rank: 1 / rank, first=first)
    if single:
        yield from _from_hits("ndcg", cells, entered, gain=lambda rank: 1 / math.log2(1 + rank), first=first)
        yield from _mrr_at_most_ndcg(cells, entered, first)
    mean_rank = Measure("mean_rank")
    if mean_rank in cells and len(entered) > 2:
        least = _sum_of_steps(sorted(entered), entered, lambda start, _: first(start))
        yield "mean_rank", cell(mean_rank), least, None


def _ranges(cells: Table) -> Iterator[Rule]:
    for measure in cells:
        if measure.name == "mean_rank":
            yield "range", cell(measure), Linear(constant=1.0), None
        else:
            yield "range", cell(measure), Linear(), Linear(constant=1.0)


def _monotone(cells: Table, *, single: bool) -> Iterator[Rule]:
    for name in ("recall", "precision", "hit", "mrr", *(("ndcg",) if single else ())):
        for (a, first), (b, second) in pairwise(_by_depth(name, cells)):
            scale = (a, b) if name == "precision" else (1.0, 1.0)
            yield "monotone", cell(second) * scale[1] - cell(first) * scale[0], Linear(), None


def _at_one(cells: Table, *, single: bool) -> Iterator[Rule]:
    names = ("hit", "precision", "ndcg", "mrr", *(("recall",) if single else ()))
    for first, second in pairwise(m for m in (Measure(name, 1) for name in names) if m in cells):
        yield "at_one", cell(second) - cell(first), Linear(), Linear()


def _hits(cells: Table, num_relevant: int | None) -> Iterator[Rule]:
    """Relations between recall, precision, ndcg and hit at the same cut-off; those at 1 are in `_at_one`."""
    for k in sorted({measure.k for measure in cells if measure.k is not None}):
        recall, precision, hit, ndcg = (Measure(name, k) for name in ("recall", "precision", "hit", "ndcg"))
        if num_relevant is not None and recall in cells and precision in cells and (k > 1 or num_relevant > 1):
            yield "hits", cell(precision) * k - cell(recall) * num_relevant, Linear(), Linear()
        if hit not in cells or k == 1:
            continue
        if num_relevant == 1 and recall in cells:
            yield "hits", cell(recall) - cell(hit), Linear(), Linear()
        for lesser in (recall, precision, ndcg):
            if lesser in cells and not (num_relevant == 1 and lesser in (recall, ndcg)):
                yield "hits", cell(hit) - cell(lesser), Linear(), None
        if precision in cells:
            yield "hits", cell(precision) * k - cell(hit), Linear(), Linear() if num_relevant == 1 else None


def _entered(cells: Table, *, single: bool) -> dict[float, Linear]:
    """F: the share of users whose best rank is at most k, for every k at which the table has it, 0 and infinity."""
    entered = {0.0: Linear(), math.inf: Linear(constant=1.0)}
    for name in ("recall", "hit") if single else ("hit",):
        entered |= {k: cell(measure) for k, measure in _by_depth(name, cells)}
    return entered


def _from_hits(
    name: str,
    cells: Table,
    entered: Mapping[float, Linear],
    *,
    gain: Callable[[float], float],
    first: Callable[[float], float],
) -> Iterator[Rule]:
    """Who enters between a and b gains from gain(b) to gain(first(a)); summed over all the steps that F resolves."""
    known = {0.0: Linear()} | {k: cell(measure) for k, measure in _by_depth(name, cells) if k in entered}
    for a, b in pairwise(sorted(known)):
        if b > 1:  # at 1 the table is held to equality already
            steps = [k for k in sorted(entered) if a <= k <= b]
            low = _sum_of_steps(steps, entered, lambda _, end: gain(end))
            high = _sum_of_steps(steps, entered, lambda start, _: gain(first(start)))
            yield f"{name}_from_hits", known[b] - known[a], low, high


def _sum_of_steps(
    steps: list[float], entered: Mapping[float, Linear], weight: Callable[[float, float], float]
) -> Linear:
    total = Linear()
    for start, end in pairwise(steps):
        total = total + (entered[end] - entered[start]) * weight(start, end)
    return total


def _mrr_at_most_ndcg(cells: Table, entered: Mapping[float, Linear], first: Callable[[float], float]) -> Iterator[Rule]:
    for k, ndcg in _by_depth("ndcg", cells):
        if k > 1 and Measure("mrr", int(k)) in cells:
            yield "mrr_at_most_ndcg", cell(Measure("mrr", int(k))) - cell(ndcg), None, Linear()
        if Measure("mrr") in cells:
            # Who is beyond k adds at most 1 / first(k); without recall@k, at most 1 - ndcg@k of the users are.
            beyond = Linear(constant=1.0) - entered.get(k, cell(ndcg))
            yield "mrr_at_most_ndcg", cell(Measure("mrr")) - cell(ndcg), None, beyond * (1 / first(k))


def _by_depth(name: str, cells: Table) -> list[tuple[float, Measure]]:
    """The cells of one metric by cut-off, a metric without one standing at infinity."""
    found = [
        (math.inf if measure.k is None else float(measure.k), measure) for measure in cells if measure.name == name
    ]
    return sorted(found)


def _not_finite(measure: Measure, value: float) -> Violation:
    return Violation(
        rule="finite",
        cells={str(measure): value},
        quantity=str(measure),
        obtained=value,
        low=-math.inf,
        high=math.inf,
        excess=math.inf,
    )


def _below_harmonic_mean(cells: Table, slack: Table) -> Iterator[Violation]:
    mrr, mean_rank = Measure("mrr"), Measure("mean_rank")
    if mrr in cells and mean_rank in cells and cells[mrr] > 0:
        excess = 1 / (cells[mrr] + slack[mrr]) - cells[mean_rank] - slack[mean_rank]
        if excess > 0:
            yield Violation(
                rule="mean_rank",
                cells={str(m): cells[m] for m in (mrr, mean_rank)},
                quantity="mean_rank",
                obtained=cells[mean_rank],
                low=1 / cells[mrr],
                high=math.inf,
                excess=excess,
            )


def _not_counts(cells: Table, slack: Table, *, num_users: int, single: bool) -> Iterator[Violation]:
    """Shares of users, and hits per user, are whole numbers over `num_users`; too few decimals say nothing."""
    if num_users < 1:
        msg = f"num_users must be at least 1, got {num_users}"
        raise ValueError(msg)
    for measure, value in cells.items():
        if measure.name in ("hit", "precision", *(("recall",) if single else ())):
            whole = num_users * (measure.k or 1) if measure.name == "precision" else num_users
            if not math.isfinite(value * whole):
                continue  # far outside the range already
            nearest = round(value * whole) / whole
            if abs(value - nearest) > slack[measure]:
                yield Violation(
                    rule="counts",
                    cells={str(measure): value},
                    quantity=f"{measure} as a share of {whole}",
                    obtained=value,
                    low=nearest,
                    high=nearest,
                    excess=abs(value - nearest) - slack[measure],
                )
