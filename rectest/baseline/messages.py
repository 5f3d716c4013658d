"""What the gate says to people: one line per verdict, with the number that decides and what to do next.

A message names what was found, what noise explains, and how sure the gate is: its false-alarm rate and the smallest
drop it would have caught. Everything is computed elsewhere; here it becomes words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rectest.baseline.ensemble import percent, relative_change, signed_logs
from rectest.baseline.features import raw_feature
from rectest.baseline.judge import REVIEW
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, BETA, LookOutcome, Noise, caught_drop, promised_drop
from rectest.baseline.paired import Pairing, PairingState
from rectest.baseline.power import t_quantile
from rectest.baseline.schema import WEAK_SEEDS, Baseline
from rectest.baseline.sequential import Decision, Look, Rule
from rectest.checks.result import CheckResult, Verdict
from rectest.environment import Environment
from rectest.record import RunRecord

__all__ = ["GATE", "PAIRED", "headline", "paired_result", "promise", "within_rounding"]

GATE = "baseline/gate"
PAIRED = "baseline/paired"

_ACCEPT = (
    "if intended: rectest baseline record SYSTEM --reason TEXT, or with the candidates of CI rectest baseline accept "
    "CANDIDATES --reason TEXT; a loss of quality that is meant needs --new-anchor as well"
)
_LIMIT_OF_OTHERS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """What every message draws on."""

    records: Sequence[RunRecord]
    baseline: Baseline
    decision: Decision
    rule: Rule
    noise: Noise | None
    pairing: Pairing | None

    @property
    def names(self) -> list[str]:
        """Features, in the order of the looks."""
        return list(self.baseline.ensemble.features)

    @property
    def runs(self) -> str:
        return _runs(self.records)

    @property
    def caught(self) -> tuple[str, str]:
        """The feature whose promise is told, and that promise."""
        name = _main_feature(self.baseline)
        drop = caught_drop(name, self.decision.drops[self.names.index(name)])
        return name, f"{100 * drop:.2g} %"


def headline(
    verdict: Verdict,
    level: str,
    records: Sequence[RunRecord],
    baseline: Baseline,
    looked: LookOutcome,
    results: Sequence[CheckResult],
    pairing: Pairing | None,
) -> CheckResult:
    """The verdict of the whole gate as one result."""
    told = [result for result in (*results, *looked.results) if result.verdict is verdict]
    if looked.decision is None or looked.rule is None or level == "L0":
        texts = _first_of(f"{level}, {_runs(records)}", told)
    else:
        judged = _Judged(
            records=records,
            baseline=baseline,
            decision=looked.decision,
            rule=looked.rule,
            noise=looked.noise,
            pairing=pairing,
        )
        texts = _judged_text(verdict, level, judged, told)
    if weak := _weak(baseline, looked.noise):
        texts["detail"] = f"{texts['detail']}; {weak}" if texts.get("detail") else weak
    return CheckResult(check=GATE, subject=baseline.name, verdict=verdict, **texts)


def promise(baseline: Baseline, *, noise: Noise | None = None) -> str:
    """The two declared numbers of a gate in words."""
    name = _main_feature(baseline)
    caught = f"{100 * promised_drop(baseline, name, noise=noise):.2g} %"
    return _promise(name, caught, beta=BETA, rate=ALPHA_DROP + ALPHA_RISE)


def _promise(name: str, caught: str, *, beta: float, rate: float) -> str:
    return (
        f"a change for the worse of {caught} in {name} would have been caught with {100 * (1 - beta):.2g} % "
        f"probability; false-alarm rate {100 * rate:.2g} %"
    )


def paired_result(
    pairings: Sequence[Pairing], told: Pairing, baseline: Baseline, environment: Environment
) -> CheckResult:
    """The paired lane as a result, with the words of the pair that is `told`.

    One pair beyond rounding among others within it is a chaotic seed, and one alone asks for another pair. In another
    environment a difference has two possible causes and is not red.
    """
    texts = {"figure": f"seed {told.seed}: {told.figure}", "expected": "the stored run of the same seed"}
    beyond, within = (sum(each.state is state for each in pairings) for state in (_BEYOND, _WITHIN))
    same_environment = environment.fingerprint == baseline.ensemble.fingerprint
    if within and beyond <= 1 and within + beyond == len(pairings):
        verdict = Verdict.PASS
        texts["detail"] = "nothing but rounding differs from the stored run of this seed"
        if beyond:
            texts["outside"] = f"{beyond} of {len(pairings)} seeds"
            texts["detail"] = "the other seeds are within rounding, which carries a chaotic seed this far"
    elif told.state is PairingState.OTHER_PROTOCOL:
        verdict, texts["advice"] = Verdict.CHANGED, REVIEW
        texts["detail"] = "no environment changes how many users are scored, how long is trained, or what is recorded"
    elif told.state is PairingState.NO_PAIR:
        verdict, texts["detail"] = Verdict.UNCALIBRATED, "the ensemble lane judges"
    elif not same_environment:
        what = "numbers differ beyond rounding" if told.state is _BEYOND else "random streams differ"
        verdict, texts["advice"] = Verdict.UNCALIBRATED, "tell them apart with: rectest attribute"
        texts["detail"] = (
            f"{what}, and so does the environment: which of code and environment did it is not known here; "
            "the ensemble lane judges"
        )
    elif len(pairings) == 1 and told.state is _BEYOND:
        verdict, texts["advice"] = Verdict.UNDECIDED, f"train seed {told.seed + 1}"
        texts["detail"] = "rounding carries a chaotic seed this far, but not two of two"
    else:
        verdict, texts["advice"] = Verdict.CHANGED, REVIEW
        texts["detail"] = "the same seed in the same environment computes something else now"
    return CheckResult(check=PAIRED, subject=baseline.name, verdict=verdict, **texts)


_BEYOND, _WITHIN = PairingState.BEYOND, PairingState.WITHIN


def within_rounding(result: CheckResult) -> CheckResult:
    """An exact result whose difference was found to be rounding."""
    if result.verdict is not Verdict.CHANGED:
        return result
    detail = "bits changed, and no number moved further than rounding moves it"
    return replace(
        result, verdict=Verdict.PASS, figure=f"{result.figure}; within rounding", outside="", detail=detail, advice=""
    )


def _first_of(head: str, told: Sequence[CheckResult]) -> dict[str, str]:
    """The words of the first result that has the verdict, and how many more have it."""
    first = told[0]
    others = {result.figure for result in told} - {first.figure}
    more = f" (and {len(others)} more)" if others else ""
    return {"figure": f"{head}: {first.figure}{more}", "detail": first.detail, "advice": first.advice}


def _judged_text(verdict: Verdict, level: str, judged: _Judged, told: Sequence[CheckResult]) -> dict[str, str]:
    if verdict is Verdict.PASS:
        return _passed(level, judged)
    if verdict is Verdict.UNDECIDED:
        return _undecided(judged)
    if verdict is Verdict.CHANGED:
        return _changed(judged, told)
    return _alarm(judged)


def _passed(level: str, judged: _Judged) -> dict[str, str]:
    decision = judged.decision
    look = min(decision.drops, key=lambda drop: drop.shift / drop.limit)
    name = judged.names[look.feature]
    worst, limit = (percent(relative_change(name, shift)) for shift in (look.shift, -look.limit))
    found = {"L1": "every stored bit is equal; ", "L2": _within(judged)}
    rule = judged.rule
    return {
        "figure": f"{level}, {judged.runs}: {found.get(level, '')}worst feature {name} {worst} (limit {limit})",
        "detail": _promise(*judged.caught, beta=rule.beta, rate=rule.alpha_drop + rule.alpha_rise)
        + _pooled(judged.noise),
    }


def _within(judged: _Judged) -> str:
    pairing, count = judged.pairing, len(judged.records)
    if pairing is None:
        return ""
    chaotic = f"1 of {count} seeds is beyond rounding, " if pairing.state is _BEYOND else ""
    return f"{chaotic}{pairing.figure}; "


def _undecided(judged: _Judged) -> dict[str, str]:
    look = judged.decision.deciding
    name = judged.names[look.feature]
    following = max(record.spec.seed for record in judged.records) + 1
    advice = f"train seed {following} (at most {judged.rule.max_runs} runs)"
    if judged.decision.state != "UNDECIDED" and judged.pairing is not None:
        figure = f"after {judged.runs}: seed {judged.pairing.seed} differs beyond rounding ({judged.pairing.figure})"
        return {"figure": figure, "detail": "one chaotic seed may; a second one decides", "advice": advice}
    change, error = percent(relative_change(name, look.shift)), 100 * look.error
    return {
        "figure": f"after {judged.runs}: {name} {change} ± {error:.2g} %",
        "detail": "the runs so far exclude neither noise nor a change that the gate promises to see",
        "advice": advice,
    }


def _alarm(judged: _Judged) -> dict[str, str]:
    look, names, baseline = judged.decision.deciding, judged.names, judged.baseline
    name, drop = names[look.feature], look.side == "drop"
    half = t_quantile(0.025, look.df) * look.error
    ends = sorted(relative_change(name, look.shift + way * half) for way in (-1, 1))
    values = signed_logs(name, [raw_feature(record, name) for record in judged.records])
    centre = float(signed_logs(name, baseline.ensemble.features[name]).mean())
    beyond = sum((value < centre) is drop for value in values.tolist())
    others = [f"{names[x.feature]} {percent(relative_change(names[x.feature], x.shift))}" for x in _others(judged)]
    if drop:
        why = "not noise"
    else:
        why = "better than seed noise allows: look for a leak or a changed evaluation before accepting; not noise"
    return {
        "figure": f"{name} {percent(relative_change(name, look.shift))} [{percent(ends[0])}, {percent(ends[1])}] after "
        f"{judged.runs}",
        "worst": f"{beyond} of {len(values)} seeds {'worse' if drop else 'better'} than the stored mean",
        "outside": f"p = {look.p:.1g}, alarm below {look.level:.1g}",
        "detail": f"{why}: run-to-run sd is {100 * look.sd:.2g} % over {len(baseline.ensemble.seeds)} stored seeds"
        + _pooled(judged.noise)
        + (f"; also {', '.join(others[:_LIMIT_OF_OTHERS])}" if others else ""),
        "advice": _ACCEPT,
    }


def _others(judged: _Judged) -> list[Look]:
    """Further alarms on the side that decided."""
    deciding = judged.decision.deciding
    looks = judged.decision.drops if deciding.side == "drop" else judged.decision.rises
    return [look for look in looks if look.alarm and look.feature != deciding.feature]


def _changed(judged: _Judged, told: Sequence[CheckResult]) -> dict[str, str]:
    pairing = judged.pairing
    if pairing is not None and pairing.state in (PairingState.BEYOND, PairingState.OTHER_STREAMS):
        what = f"numbers differ from the same seed beyond rounding ({pairing.figure})"
    elif pairing is not None and pairing.state is PairingState.OTHER_PROTOCOL:
        what = f"another protocol than when stored ({pairing.figure})"
    else:
        what = f"numbers differ from the same seed ({told[0].figure}), and whether that is rounding is not known"
    feature, caught = judged.caught
    return {
        "figure": what,
        "detail": f"{feature} is not worse by more than the gate promises to see, {caught}" + _pooled(judged.noise),
        "advice": _ACCEPT,
    }


def _weak(baseline: Baseline, noise: Noise | None) -> str:
    num_seeds = len(baseline.ensemble.seeds)
    if num_seeds >= WEAK_SEEDS:
        return ""
    caught = promised_drop(baseline, _main_feature(baseline), noise=noise)
    world = f" --world {baseline.world}" if baseline.world else ""
    return (
        f"WEAK: only {num_seeds} baseline seeds, so that the smallest drop this gate can promise to catch is "
        f"{100 * caught:.2g} %; record 16: rectest baseline record {baseline.system}{world} --seeds 16 --reason TEXT"
    )


def _pooled(noise: Noise | None) -> str:
    return "" if noise is None else f"; noise is pooled over {noise.num_systems} systems"


def _main_feature(baseline: Baseline) -> str:
    """The feature whose promise is printed: the first test metric, or whatever there is."""
    names = list(baseline.ensemble.features)
    return next((name for name in names if name.startswith("test/")), names[0])


def _runs(records: Sequence[RunRecord]) -> str:
    return f"{len(records)} run{'s' if len(records) != 1 else ''}"
