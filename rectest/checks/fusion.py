"""Fusion: a score that is a sum must be made by all of its parts, and be worth at least its best part.

Report 001 added an untrained, unnormalised retriever (scores of -71 to 136) to a trained one (-4 to 4.6): the sum
ranked like the retriever, that is at chance. Two things show it without knowing the model: how far the spreads of the
parts lie apart, and how each part ranks alone. The loop measures both in ``facts["probes"]["components"]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rectest.checks.chance import against_chance, ranks_of
from rectest.checks.result import CheckResult, Verdict, judged, not_measured, percent
from rectest.checks.tolerance import ALPHA, bonferroni, z_limit
from rectest.errors import RectestError
from rectest.metrics.measure import Measure
from rectest.metrics.ranking import per_user
from rectest.record import RunRecord

__all__ = ["FUSED", "MAX_RATIO", "diluted_hit", "fusion", "pairs_decided"]

Parts = Mapping[str, Mapping[str, float]]

FUSED = "fused"
"""The name under which the sum itself was measured."""

MAX_RATIO = 5.0
"""Largest spread over smallest. `diluted_hit` says what is left of a scorer's hit@10 of 0.33 among 100 candidates
(chance 0.1) once noise of so many times its spread is added, `pairs_decided` in how many pairs it still decides:

=====  ======  ==================  =============
ratio  hit@10  lead over chance    pairs decided
=====  ======  ==================  =============
0      0.330   100 %               50 %
1      0.246   64 %                25 %
2      0.183   36 %                15 %
3      0.155   24 %                10 %
5      0.132   14 %                6.3 %
10     0.115   6.7 %               3.2 %
25     0.106   2.6 %               1.3 %
=====  ======  ==================  =============

Beyond 5 less than a sixth of the lead is left (less still in a larger catalogue) and 15 of 16 pairs are decided by
the other part alone: the sum is no fusion, whichever of the two is the good one."""


def fusion(record: RunRecord, *, max_ratio: float = MAX_RATIO, alpha: float = ALPHA) -> list[CheckResult]:
    """Whether the parts of a fused score have comparable spreads, rank better than chance each, and help together.

    - ``fusion/scale``: no part has more than `max_ratio` times the spread (mean over users of the standard deviation
      over candidates, weights included) of another.
    - ``fusion/best_part``: the sum ranks no worse than its best part by more than the users' noise, and no part ranks
      at chance; such a part is named.

    A system whose score is not a sum of parts gives an empty list; a record without probes is NOT MEASURED.
    """
    subject = record.spec.system
    probes = record.facts.get("probes")
    if probes is None:
        advice = "train it as a rectest.System, whose best weights the loop probes"
        missing = "the record has no probes"
        return [not_measured(check, subject, missing, advice=advice) for check in ("fusion/scale", "fusion/best_part")]
    if not probes.get("components"):
        return []
    parts: dict[str, Mapping[str, float]] = dict(probes["components"])
    fused = parts.pop(FUSED, None)
    if len(parts) < 2 or fused is None:
        missing = f"{len(parts)} parts {'and no fused score' if fused is None else ''}".strip()
        return [not_measured(check, subject, missing) for check in ("fusion/scale", "fusion/best_part")]
    return [_scale(subject, parts, max_ratio=max_ratio), _best_part(record, parts, fused, alpha=alpha)]


def pairs_decided(ratio: float) -> float:
    """Share of pairs of candidates in which the smaller of two independent parts decides the order.

    With normal differences x (sd 1) and y (sd r) the order of x + y is that of x but not of y with probability
    atan(1 / r) / pi (Sheppard, 1899); at equal spreads each part overrules the other in a quarter of the pairs.

    >>> round(pairs_decided(1.0), 3), round(pairs_decided(5.0), 3)
    (0.25, 0.063)
    """
    return math.atan2(1.0, ratio) / math.pi


def diluted_hit(hit: float, ratio: float, *, k: int = 10, num_candidates: int = 100) -> float:
    """hit@k that is left of a scorer after independent noise of `ratio` times its spread was added to its scores.

    One relevant item leads C - 1 normal competitors by d deviations, where d is what gives `hit` without noise; the
    noise makes that d / sqrt(1 + r^2). Integrated numerically over the score of the relevant item.

    >>> round(diluted_hit(0.33, 10.0), 3)
    0.115

    Raises:
        ValueError: `hit` is not between chance and 1.
    """
    chance = k / num_candidates
    if not chance < hit < 1:
        msg = f"need a hit@{k} between chance ({chance:g}) and 1, got {hit}"
        raise ValueError(msg)
    low, high = 0.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _hit(middle, k, num_candidates) < hit else (low, middle)
    return _hit(low / math.hypot(1.0, ratio), k, num_candidates)


def _hit(lead: float, k: int, num_candidates: int) -> float:
    """hit@k of a relevant item whose score is `lead` deviations above normal competitors."""
    offset = np.linspace(-8, 8, 801)
    weight = np.exp(-(offset**2) / 2)
    above = np.array([0.5 * math.erfc((lead + x) / math.sqrt(2)) for x in offset])
    others = num_candidates - 1
    within = sum(math.comb(others, j) * above**j * (1 - above) ** (others - j) for j in range(k))
    return float((weight * within).sum() / weight.sum())


def _scale(subject: str, parts: Parts, *, max_ratio: float) -> CheckResult:
    spreads = {name: float(part.get("spread", math.nan)) for name, part in parts.items()}
    broken = [name for name, value in spreads.items() if not (math.isfinite(value) and value > 0)]
    ratio = math.inf if broken else max(spreads.values()) / min(spreads.values())
    largest, smallest = max(spreads, key=lambda n: spreads[n]), min(spreads, key=lambda n: spreads[n])
    ok = ratio <= max_ratio
    figure = f"{broken[0]!r} has a spread of {spreads[broken[0]]}" if broken else ""
    drowned = f"{smallest!r} decides {percent(pairs_decided(ratio))} of the pairs, {largest!r} all others"
    return judged(
        "fusion/scale",
        subject,
        ok=ok,
        figure=figure or f"the spread of {largest!r} is {ratio:.3g} times that of {smallest!r}",
        expected="parts of comparable spread, so that each has a say",
        limit=f"<= {max_ratio:g} times",
        worst=", ".join(f"{name} {value:.4g}" for name, value in sorted(spreads.items())),
        detail="" if ok else ("a part that scores all candidates alike, or brokenly" if broken else drowned),
        advice="normalise each part (L2 on both sides, or a temperature that trains) before it is added",
    )


def _best_part(record: RunRecord, parts: Parts, fused: Mapping[str, float], *, alpha: float) -> CheckResult:
    check, subject = "fusion/best_part", record.spec.system
    name = _measure_of(record, fused)
    values = {part: float(facts[name]) for part, facts in parts.items() if name in facts}
    if not name or len(values) < len(parts):
        missing = f"no ranking quality ({name or 'no measure'}) of {', '.join(sorted({*parts} - {*values}))}"
        return not_measured(check, subject, missing)
    try:
        error = _error_of(record, name)
        at_chance = _at_chance(record, name, values, alpha=bonferroni(alpha, len(values)))
    except RectestError as e:
        return not_measured(check, subject, str(e), advice="record the test split with run.ranked(...)")
    return _compared(subject, name, values, float(fused[name]), error=error, at_chance=at_chance, alpha=alpha)


def _measure_of(record: RunRecord, fused: Mapping[str, Any]) -> str:
    """The monitored measure where the parts have it, else the first that they have."""
    known = sorted(key for key in fused if key != "spread")
    monitored = str((record.facts.get("early_stopping") or {}).get("measure", ""))
    return monitored if monitored in known else (known[0] if known else "")


def _error_of(record: RunRecord, name: str) -> float:
    values = per_user(ranks_of(record, "test"), name)
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.inf


def _at_chance(record: RunRecord, name: str, values: Mapping[str, float], *, alpha: float) -> list[str]:
    """The parts that do not rank better than chance."""
    ranks = ranks_of(record, "test")
    results = {
        part: against_chance(
            name, value, num_candidates=ranks.candidates_per_user, num_relevant=ranks.num_relevant, alpha=alpha
        )
        for part, value in values.items()
    }
    return [part for part, result in results.items() if result.verdict is not Verdict.PASS]


def _compared(
    subject: str,
    name: str,
    values: Mapping[str, float],
    fused: float,
    *,
    error: float,
    at_chance: list[str],
    alpha: float,
) -> CheckResult:
    """The sum against its best part. Both are means over the same users, so the error of their difference is at most
    sqrt 2 times that of one mean (less the more their hits agree), which makes the limit generous, never too strict."""
    sign = 1.0 if Measure.parse(name).higher_is_better else -1.0
    best = max(values, key=lambda part: sign * values[part])
    allowed = z_limit(alpha) * math.sqrt(2) * error
    behind = sign * (values[best] - fused)
    loses = not behind <= allowed
    reasons = [f"{part!r} ranks at chance" for part in at_chance]
    reasons += [f"the sum is {behind:.3g} worse than {best!r} alone"] if loses else []
    each = ", ".join(f"{part} {value:.4g}" for part, value in sorted(values.items()))
    return judged(
        "fusion/best_part",
        subject,
        ok=not reasons,
        figure="; ".join(reasons) or f"{name} {fused:.4g} of the sum, {values[best]:.4g} of {best!r} alone",
        expected=f"{name} of the sum at least that of its best part, and every part better than chance",
        limit=f"at most {allowed:.3g} worse, the noise of these users",
        worst=f"{name}: {each}, {FUSED} {fused:.4g}",
        detail=_why(best, at_chance, loses=loses),
        advice="train and normalise the part that drags the ranking down, or leave it out",
    )


def _why(best: str, at_chance: list[str], *, loses: bool) -> str:
    if at_chance and loses:
        return f"a part that knows nothing DROWNS {best!r}: no regularisation or learning rate repairs that"
    if at_chance:
        return "a part that knows nothing only adds noise; it is untrained, or looks at the wrong rows"
    return f"fusing costs quality: {best!r} alone would serve better" if loses else ""
