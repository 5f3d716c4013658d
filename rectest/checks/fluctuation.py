"""The experiments of report 000 as judgements: how far runs of one seed, and runs of several seeds, lie apart.

Two questions that the report mixes are kept apart. *The same seed* in one environment has one correct spread, zero:
anything else is FAIL. *Different seeds* have a distribution; the report's bands for it come from experience, have no
false-alarm rate and contradict each other, so they are printed beside the measured value and the noise floor and
never fail anything: inside the "problem" band is PASS, outside it UNCALIBRATED (neither green nor red), because only
a stored baseline can say whether that spread is usual for this system.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.reproducible import bit_equal, comparable
from rectest.checks.result import CheckResult, Verdict, judged, not_measured, percent
from rectest.checks.tolerance import false_alarm_of_band, user_noise_floor
from rectest.metrics.measure import Measure
from rectest.record import RunRecord

__all__ = ["PHASE_BANDS", "PhaseBand", "amplitude", "hit_overlap", "phases", "same_seed_spread", "seed_spread"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseBand:
    """One row of report 000's table: how far runs may lie from their mean in a part of the curve, relatively."""

    name: str
    first: int
    """First evaluation of the phase, counted from 1."""

    last: int | None
    """Last evaluation of the phase; None means to the end."""

    normal: tuple[float, float]
    """What the report calls normal, as +- shares of the mean."""

    problem: float
    """Beyond this share the report suspects a problem."""

    @property
    def title(self) -> str:
        """The phase in words, e.g. ``evaluations 1-10``."""
        return f"evaluations {self.first}-{self.last}" if self.last else f"evaluations {self.first} and later"


PHASE_BANDS = (
    PhaseBand(name="early", first=1, last=10, normal=(0.15, 0.30), problem=0.50),
    PhaseBand(name="mid", first=11, last=50, normal=(0.05, 0.10), problem=0.20),
    PhaseBand(name="late", first=51, last=None, normal=(0.02, 0.05), problem=0.10),
)
"""Report 000's table, reported and not believed."""

FINAL_BAND = 0.05
"""Report 000 expects final performance of different seeds within +-2-5 %."""

_BANDS_ARE_BELIEFS = "the band comes from experience, not from this system; a baseline over seeds is what can judge it"


def amplitude(values: FloatArray) -> FloatArray:
    """Relative fluctuation per evaluation, (max - min) / mean over the runs, for values [runs, evaluations].

    Where all runs agree it is 0, also at a mean of 0.

    >>> amplitude(np.array([[0.1, 0.2], [0.3, 0.2]])).round(6).tolist()
    [1.0, 0.0]
    """
    span = values.max(axis=0) - values.min(axis=0)
    mean = np.abs(values.mean(axis=0))
    relative = np.where(span > 0, np.inf, 0.0)
    np.divide(span, mean, out=relative, where=(span > 0) & (mean > 0))
    return relative


def same_seed_spread(
    before: Sequence[RunRecord], after: Sequence[RunRecord], metric: str, *, first: int = 5
) -> list[CheckResult]:
    """Report 000's first experiment: runs of one seed before and after a fix, over the first evaluations.

    The runs after the fix must agree to the last bit; a band of a few percent is not reproducibility. The runs before
    are the experiment's control: where they agree already, the result says that the fix changed nothing.
    """
    subject = f"{before[0].spec.system if before else 'no runs'} {metric}"
    curves = []
    for name, group in (("before", before), ("after", after)):
        problem = _not_one_group(group, metric)
        if problem:
            return [not_measured("fluctuation/same_seed", subject, f"runs {name} the fix: {problem}")]
        curves.append(_curves(group, metric)[:, :first])
    old, new = (amplitude(curve) for curve in curves)
    if min(old.size, new.size) == 0:
        return [not_measured("fluctuation/same_seed", subject, "the runs have no evaluations")]
    worst = int(np.argmax(new))
    return [
        judged(
            "fluctuation/same_seed",
            subject,
            ok=bool(_all_equal(curves[1])),
            figure=f"fluctuation {percent(float(old.max()))} before and {percent(float(new.max()))} after the fix",
            expected="0 % after the fix: same seed, same environment, same bits",
            limit="0 %",
            worst=f"evaluation {worst + 1}: {percent(float(new[worst]))}; "
            f"per evaluation {', '.join(percent(float(v)) for v in new)}",
            outside=f"{int((new > 0).sum())} of {new.size} evaluations differ",
            detail=_effect_of_fix(old, new),
            advice="checks.reproducible(first, second) names the first stage that differs",
        )
    ]


def _effect_of_fix(old: FloatArray, new: FloatArray) -> str:
    if new.max() == 0:
        return "the fix removed the fluctuation" if old.max() > 0 else "there was none before: the fix changed nothing"
    return "the runs still depend on something besides the seed; smaller is not reproducible"


def _not_one_group(group: Sequence[RunRecord], metric: str) -> str:
    """Why these runs are not repetitions of one spec whose metric can be compared, or nothing."""
    if len(group) < 2:
        return f"{len(group)} run, at least 2 are needed"
    if reasons := comparable(group[0], group[-1]) or [r for g in group[1:] for r in comparable(group[0], g)]:
        return f"not repetitions of one spec ({reasons[0]})"
    return _no_curves(group, metric)


def _no_curves(group: Sequence[RunRecord], metric: str) -> str:
    if any(f"metric/{metric}" not in record for record in group):
        return f"a run has no metric {metric}"
    curves = _curves(group, metric)
    return "" if np.isfinite(curves).all() else f"{metric} is not finite somewhere"


def _curves(group: Sequence[RunRecord], metric: str) -> FloatArray:
    """Values [runs, evaluations], cut to the shortest run."""
    values: list[npt.NDArray[Any]] = [record[f"metric/{metric}"] for record in group]
    num = min(len(v) for v in values)
    return np.stack([v[:num] for v in values]).astype(np.float64)


def _all_equal(curves: FloatArray) -> bool:
    return all(bit_equal(curves[0], other) for other in curves[1:])


def seed_spread(records: Sequence[RunRecord], metric: str) -> list[CheckResult]:
    """Report 000's second experiment: what the seed does to the final value of a metric.

    Prints mean, standard deviation and range beside the noise that the users alone make. FAIL where two runs of one
    seed differ, where a value is not finite, or where different seeds all give the very same bits.
    """
    subject = f"{records[0].spec.system if records else 'no runs'} {metric}"
    problem = _no_curves(records, metric) if len(records) > 1 else f"{len(records)} run, at least 2 are needed"
    if not problem and _curves(records, metric).shape[1] == 0:
        problem = "a run has no evaluations"
    if problem:
        return [not_measured("fluctuation/seeds", subject, problem)]
    values = np.array([record.final(metric) for record in records])
    seeds = {record.spec.seed for record in records}
    results = _same_seed_pairs(records, metric, subject)
    if len(seeds) > 1:
        results.append(_spread_of_final(records, metric, subject, values))
    return results


def _same_seed_pairs(records: Sequence[RunRecord], metric: str, subject: str) -> list[CheckResult]:
    """A FAIL for every two repetitions whose curves are not bit-equal; nothing where there is no repetition."""
    found = []
    for first, second in itertools.combinations(records, 2):
        key = f"metric/{metric}"
        if not comparable(first, second) and not bit_equal(first[key], second[key]):
            found.append(
                judged(
                    "fluctuation/same_seed",
                    subject,
                    ok=False,
                    figure=f"two runs with seed {first.spec.seed} differ in {metric}",
                    expected="bit-equal: same spec, same environment",
                    limit="0 %",
                    worst=f"final values {first.final(metric):.6g} and {second.final(metric):.6g}",
                    detail="repetitions differ, so a spread over seeds would measure something else too",
                    advice="checks.reproducible(first, second) names the first stage that differs",
                )
            )
    return found


def _spread_of_final(records: Sequence[RunRecord], metric: str, subject: str, values: FloatArray) -> CheckResult:
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    reach = _reach(values)
    floor, note = _floor(records, metric, mean)
    alive = any(not bit_equal(records[0][key], r[key]) for r in records[1:] for key in _curve_keys(records, metric))
    return judged(
        "fluctuation/seeds",
        subject,
        ok=alive,
        figure=f"mean {mean:.4g}, sd {sd:.3g} ({percent(sd / mean) if mean else 'mean 0'}) over {len(values)} runs",
        expected=f"report 000: within +-{percent(FINAL_BAND)} of the mean; measured +-{percent(reach)}; {note}",
        limit="the curves of different seeds differ",
        worst=f"{values.min():.6g} to {values.max():.6g}",
        detail="different seeds give the same bits, so the seed reaches nothing"
        if not alive
        else _caveat(FINAL_BAND, floor, num_values=len(values)),
        advice="check that the seed of the spec reaches the system's generators",
    )


def _curve_keys(records: Sequence[RunRecord], metric: str) -> list[str]:
    """The curves by which two runs are told apart: final values of few users may agree by chance, losses do not."""
    return [f"metric/{metric}", *(["loss/total"] if all("loss/total" in record for record in records) else [])]


def _reach(values: FloatArray) -> float:
    """How far the farthest value is from the mean, relatively: the reading of +-x %."""
    mean = abs(float(values.mean()))
    far = float(np.abs(values - values.mean()).max())
    return far / mean if mean > 0 else (float("inf") if far > 0 else 0.0)


def _floor(records: Sequence[RunRecord], metric: str, rate: float) -> tuple[float | None, str]:
    """The noise floor of a metric with this mean, None where it is unknown, and the sentence that reports it.

    A split whose ranks were not kept is taken to have as many users as the one whose ranks were.
    """
    split, _, name = metric.partition("/")
    protocols = records[0].facts.get("protocol", {})
    known = split if split in protocols else next(iter(sorted(protocols)), "")
    num_users = int(protocols.get(known, {}).get("num_scored", 0))
    if num_users < 1 or not 0 <= rate <= 1:
        return None, "noise floor unknown"
    overlap = hit_overlap(records, known, name)
    floor = user_noise_floor(rate, num_users, overlap=overlap or 0.0)
    how = f"overlap {overlap:.2f} in {known}" if overlap is not None else "overlap unknown, taken as 0"
    return floor, f"noise floor {percent(floor)} for {num_users} users, {how}"


def _caveat(band: float, floor: float | None, *, num_values: int) -> str:
    """Why a band decides nothing, and how often it would alarm without any fault."""
    if floor is None:
        return _BANDS_ARE_BELIEFS
    rate = percent(false_alarm_of_band(band, floor, num_values=num_values))
    return f"noise of the users alone leaves +-{percent(band)} in {rate} of healthy groups; {_BANDS_ARE_BELIEFS}"


def hit_overlap(records: Sequence[RunRecord], split: str, measure: str) -> float | None:
    """P(a relevant item is hit under another seed | hit under one), from the final ranks; None where unknown.

    A hit is a rank within the measure's cut-off; a measure without one has no hits.
    """
    depth = Measure.parse(measure).k
    key = f"ranks/{split}/expected"
    if depth is None or any(key not in record for record in records):
        return None
    ranks = [record[key] for record in records]
    if len(ranks) < 2 or len({len(r) for r in ranks}) > 1:
        return None
    hits = np.stack([r <= depth for r in ranks]).astype(np.float64)
    pairs = hits @ hits.T
    num = len(hits)
    ordered_hits = float(np.trace(pairs)) * (num - 1)
    return (float(pairs.sum()) - float(np.trace(pairs))) / ordered_hits if ordered_hits else None


def phases(records: Sequence[RunRecord], metric: str, *, bands: Sequence[PhaseBand] = PHASE_BANDS) -> list[CheckResult]:
    """Report 000's third experiment: the spread of runs early, midway and late, beside the report's bands.

    One result for each phase that the curves reach; see the module for what the verdicts mean.
    """
    subject = f"{records[0].spec.system if records else 'no runs'} {metric}"
    problem = _no_curves(records, metric) if len(records) > 1 else f"{len(records)} run, at least 2 are needed"
    curves = _curves(records, metric) if not problem else np.zeros((0, 0))
    if not problem and curves.shape[1] == 0:
        problem = "a run has no evaluations"
    if problem:
        return [not_measured("fluctuation/phases", subject, problem)]
    results = _same_seed_pairs(records, metric, subject)
    return results + [
        _phase(band, curves[:, band.first - 1 : band.last], records, metric)
        for band in bands
        if curves.shape[1] >= band.first
    ]


def _phase(band: PhaseBand, curves: FloatArray, records: Sequence[RunRecord], metric: str) -> CheckResult:
    reach = np.array([_reach(curves[:, i]) for i in range(curves.shape[1])])
    worst = int(np.argmax(reach))
    floor, note = _floor(records, metric, float(curves[:, worst].mean()))
    inside = bool(reach[worst] <= band.problem)
    low, high = band.normal
    return CheckResult(
        check=f"fluctuation/{band.name}",
        subject=f"{records[0].spec.system} {metric}",
        verdict=Verdict.PASS if inside else Verdict.UNCALIBRATED,
        figure=f"runs within +-{percent(float(reach[worst]))} of their mean over {band.title}",
        expected=f"report 000: normal +-{percent(low)} to {percent(high)}; {note}",
        limit=f"problem beyond +-{percent(band.problem)}",
        worst=f"evaluation {band.first + worst}: {curves[:, worst].min():.4g} to {curves[:, worst].max():.4g}",
        outside="" if inside else f"{int((reach > band.problem).sum())} of {reach.size} evaluations",
        detail=_caveat(band.problem, floor, num_values=curves.size),
        advice="" if inside else "record a baseline over seeds and let the gate judge: pytest -m gate",
    )
