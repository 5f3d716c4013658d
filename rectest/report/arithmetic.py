"""The numbers behind a gate's verdict, worked out once more from the values that were judged, and spelled out.

A report holds raw values and what was made of them. Here the second is computed from the first again, through the
code that judged; where the two differ the report is refused instead of being told. Every formula is printed with its
values, so that a reader can follow it with a pocket calculator and a table of Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rectest.baseline.ensemble import relative_change, signed_logs
from rectest.baseline.evidence import Evidence, FeatureEvidence
from rectest.baseline.features import higher_is_better
from rectest.baseline.levels import Level
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, BETA, MAX_RUNS, caught_drop
from rectest.baseline.power import MIN_STORED, t_quantile
from rectest.baseline.sequential import Decision, Look, Rule, decide
from rectest.checks.result import Verdict
from rectest.errors import RecordError

__all__ = ["Arithmetic", "alarm_lines", "arithmetic_of", "exclusion_lines", "sample_lines"]

_SCALES = (1.0, 0.1)
"""Of the false-alarm rates: a gate on a change, a nightly one."""

_NEAR = 1e-9
_PRINTED_STORED = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """The rule that judged, and what it gives for the values of the report."""

    rule: Rule
    decision: Decision


def arithmetic_of(evidence: Evidence) -> Arithmetic | None:
    """The decision over seeds anew; None where no values could be compared.

    How many runs the gate would have trained at most and how its false-alarm rates were scaled show in the levels that
    the report has; degrees of freedom lent by other systems show in its limits.

    Raises:
        RecordError: what the report says about a feature does not follow from the feature's values.
    """
    features = evidence.features
    if not features or any(each.change is None or None in each.new for each in features):
        return None
    _refuse_unusable(evidence)
    odd = features[0].name
    for max_runs in range(max(2, len(evidence.seeds)), MAX_RUNS + 1)[::-1]:
        for scale in _SCALES:
            found = _under(features, max_runs, scale)
            wrong = next((each.name for place, each in enumerate(features) if not _agrees(each, place, found)), None)
            if wrong is None and _decides(evidence, found):
                return found
            wrong = wrong or "the verdict"
            odd = wrong if (max_runs, scale) == (MAX_RUNS, 1.0) else odd
    raise _contradiction(evidence, odd)


def _decides(evidence: Evidence, found: Arithmetic) -> bool:
    """Whether the verdict of a gate that seeds decided is theirs; CHANGED is a PASS with other numbers."""
    state = "PASS" if evidence.verdict == Verdict.CHANGED else evidence.verdict
    return evidence.level != Level.UNPAIRED or state == found.decision.state


def _refuse_unusable(evidence: Evidence) -> None:
    """Raise a `RecordError` for values that no gate can have judged."""
    sizes = (len(evidence.stored_seeds), len(evidence.seeds))
    for each in evidence.features:
        numbers = (*each.stored, *each.new, each.weight, each.run_sd)
        usable = all(isinstance(value, int | float) and 0 < value < math.inf for value in numbers)
        if not usable or (len(each.stored), len(each.new)) != sizes or sizes[0] < MIN_STORED:
            raise _contradiction(evidence, each.name)
    if not math.isclose(math.fsum(each.weight for each in evidence.features), 1, rel_tol=_NEAR):
        raise _contradiction(evidence, evidence.features[0].name)


def _contradiction(evidence: Evidence, name: str) -> RecordError:
    msg = (
        f"gate evidence of {evidence.name}: what it says about {name} does not follow from the values beside "
        "it; it was changed, or another version wrote it; run the gate again"
    )
    return RecordError(msg)


def _under(features: Sequence[FeatureEvidence], max_runs: int, scale: float) -> Arithmetic:
    rule = Rule(
        weights=tuple(each.weight for each in features),
        alpha_drop=ALPHA_DROP * scale,
        alpha_rise=ALPHA_RISE * scale,
        beta=BETA,
        max_runs=max_runs,
        min_effect=0.0,
    )
    stored = _by_run([signed_logs(each.name, each.stored).tolist() for each in features])
    new = _by_run([signed_logs(each.name, _known(each.new)).tolist() for each in features])
    sds = [each.run_sd or 0.0 for each in features]
    own = decide(stored, new, rule, floors=0.0, sd=sds)
    lent = [_df_lent(each, look) for each, look in zip(features, own.drops, strict=True)]
    return Arithmetic(rule=rule, decision=decide(stored, new, rule, floors=0.0, sd=sds, df_extra=lent))


def _by_run(columns: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _df_lent(feature: FeatureEvidence, look: Look) -> float:
    """Degrees of freedom beyond those of the stored seeds with which the drop limit is that of the report."""
    limit = -_shift(feature, worse=True)
    if limit >= look.limit * (1 - _NEAR):
        return 0.0
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        above = t_quantile(look.level, look.df + middle) * look.error > limit
        low, high = (middle, high) if above else (low, middle)
    return high


def _shift(feature: FeatureEvidence, *, worse: bool) -> float:
    """A limit of the report as a shift of logs in the direction in which down is worse."""
    ends = (feature.lowest or 0.0, feature.highest or 0.0)
    up = higher_is_better(feature.name)
    change = ends[0] if worse is up else ends[1]
    return math.log1p(change) if up else -math.log1p(change)


def _agrees(feature: FeatureEvidence, place: int, found: Arithmetic) -> bool:
    drop, rise = found.decision.drops[place], found.decision.rises[place]
    nearer = drop if drop.p / drop.level < rise.p / rise.level else rise
    pairs = (
        (relative_change(feature.name, drop.shift), feature.change),
        (-drop.limit, _shift(feature, worse=True)),
        (rise.limit, _shift(feature, worse=False)),
        (nearer.p, feature.p),
        (nearer.level, feature.level),
        (caught_drop(feature.name, drop), feature.mdd),
    )
    same = all(told is not None and math.isclose(known, told, rel_tol=1e-6, abs_tol=_NEAR) for known, told in pairs)
    return same and feature.alarm is (drop.alarm or rise.alarm)


def sample_lines(evidence: Evidence, look: Look) -> Iterator[str]:
    """Where shift and standard error come from."""
    feature = evidence.features[look.feature]
    stored, new = (
        signed_logs(feature.name, [v for v in row if v is not None]) for row in (feature.stored, feature.new)
    )
    n0, k, own = len(stored), len(new), float(stored.std(ddof=1))
    sign = "" if higher_is_better(feature.name) else "-"
    yield f"x = {sign}ln({feature.name}){'' if not sign else ', so that down is worse'}"
    if n0 <= _PRINTED_STORED:
        yield f"stored: {', '.join(f'{value:.7g}' for value in feature.stored)}"
    yield f"m0 = mean of x over the {n0} stored seeds = {stored.mean():.8f}"
    runs = zip(evidence.seeds, feature.new, new.tolist(), strict=True)
    yield f"new: {', '.join(f'seed {seed} {value:.7g} (x = {x:.8f})' for seed, value, x in runs)}"
    yield f"D_{k} = mean of x over the new runs - m0 = {new.mean():.8f} - ({stored.mean():.8f}) = {look.shift:.6g}"
    s = f"s = run-to-run sd of x over the stored seeds = {own:.6g}"
    if math.isclose(own, look.sd, rel_tol=_NEAR):
        yield s
    else:
        why = "of several systems together" if look.df > n0 - 1 else "a floor: rounding, one hit, or the noise of users"
        yield f"{s}; used is s = {look.sd:.6g}, {why}"
    yield f"se_{k} = s sqrt(1/{n0} + 1/{k}) = {look.error:.6g}"


def alarm_lines(evidence: Evidence, look: Look, rule: Rule) -> Iterator[str]:
    """The inequality that alarms, its p-value, and the witness."""
    k, drop = look.num_runs, look.side == "drop"
    alpha = rule.alpha_drop if drop else rule.alpha_rise
    verdict, sign, than = ("FAIL", "-", "<") if drop else ("SUSPICIOUS", "+", ">")
    weight, t = rule.weights[look.feature], t_quantile(look.level, look.df)
    yield (
        f"share of the false-alarm rate: q = alpha w / (K - 1) = {alpha:.6g} x {weight:.6g} / {rule.max_runs - 1} = "
        f"{look.level:.6g}, for {'drops' if drop else 'rises'} of this x at one of {rule.max_runs - 1} looks"
    )
    beyond = "yes" if abs(look.shift) > look.limit and (look.shift < 0) is drop else "no"
    yield (
        f"{verdict} needs D_{k} {than} {sign}t(q, {look.df:.6g} df) se_{k} = {sign}{t:.6g} x {look.error:.6g} = "
        f"{sign}{look.limit:.6g}: D_{k} = {look.shift:.6g}, {beyond}"
    )
    yield f"p = P(T {than} D_{k} / se_{k} = {look.shift / look.error:.6g}) = {look.p:.3g}, to be below q"
    if not math.isfinite(look.witness_limit):
        yield "witness: one run never alarms"
        return
    level, left = rule.witness[k - 2], k - k // 2
    yield (
        f"witness: without its {k // 2} most extreme run{'s' if k // 2 > 1 else ''} the shift is {look.witness:.6g}, "
        f"to be {than} {sign}t({level:g}, {look.df:.6g} df) s sqrt(1/{len(evidence.stored_seeds)} + 1/{left}) = "
        f"{sign}{look.witness_limit:.6g}: it {'holds' if look.witness_holds else 'does not hold'}"
    )


def exclusion_lines(evidence: Evidence, found: Arithmetic) -> Iterator[str]:
    """The inequality that passes a gate before its last run, of the feature that is nearest to break it."""
    decision, rule = found.decision, found.rule
    k, last = decision.num_runs, rule.max_runs
    if k == last:
        yield f"{k} runs are the most that this gate trains: what is not red now passes"
        return
    look = min((*decision.drops, *decision.rises), key=lambda look: look.margin)
    miss, drop = rule.beta / last, look.side == "drop"
    sum_, t = (look.shift if drop else -look.shift) + look.delta, t_quantile(rule.beta / last, look.df)
    yield (
        f"PASS after {k} of {last} runs needs, of every feature and both ways, {'D' if drop else '-D'}_{k} + delta > "
        f"t(beta / K, df) se_{k}; nearest to break it is {evidence.features[look.feature].name}, "
        f"{look.side}s of x"
    )
    yield (
        f"there delta = {look.delta:.6g}, the {'drop' if drop else 'rise'} of x that {last} runs miss with probability "
        f"beta / K = {miss:.6g}"
    )
    yield (
        f"{'D' if drop else '-D'}_{k} + delta = {sum_:.6g} > {t:.6g} x {look.error:.6g} = {t * look.error:.6g}: "
        f"{'yes, such a change is excluded' if look.excluded else 'no, such a change is not excluded yet'}"
    )
