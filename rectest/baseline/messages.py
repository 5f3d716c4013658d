"""What the gate says to people: one line per verdict, with the number that decides and what to do next.

A message names what was found, what noise explains, and how sure the gate is: its false-alarm rate and the smallest
drop it would have caught. Everything is computed elsewhere; here it becomes words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rectest.baseline.ensemble import percent, relative_change, signed_logs
from rectest.baseline.features import raw_feature
from rectest.baseline.judge import REVIEW
from rectest.baseline.looks import ALPHA_DROP, ALPHA_RISE, MAX_RUNS, LookOutcome, promised_drop
from rectest.baseline.paired import Pairing, PairingState
from rectest.baseline.power import t_quantile
from rectest.baseline.schema import WEAK_SEEDS, Baseline
from rectest.baseline.sequential import Decision, Look
from rectest.checks.result import CheckResult, Verdict
from rectest.record import RunRecord

__all__ = ["GATE", "PAIRED", "headline", "paired_result", "promise", "within_rounding"]

GATE = "baseline/gate"
PAIRED = "baseline/paired"

_ACCEPT = "if intended: rectest baseline accept CANDIDATES --reason TEXT, or pytest -m gate --rectest-update=failed"
_LIMIT_OF_OTHERS = 3


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
    runs = f"{len(records)} run{'s' if len(records) != 1 else ''}"
    decision, names = looked.decision, list(baseline.ensemble.features)
    red = [result for result in (*results, *looked.results) if result.red]
    if verdict is Verdict.PASS and decision is not None:
        texts = _passed(f"{level}, {runs}", names, baseline, decision, pairing)
    elif verdict is Verdict.UNDECIDED and decision is not None:
        texts = _undecided(runs, names, records, decision)
    elif verdict in (Verdict.FAIL, Verdict.SUSPICIOUS) and decision is not None and level == "L3":
        texts = _alarm(runs, names, records, baseline, decision)
    elif verdict is Verdict.CHANGED and decision is not None:
        texts = _changed(red, baseline, pairing)
    else:
        texts = {"figure": red[0].figure if red else looked.results[0].figure, "advice": red[0].advice if red else ""}
        texts["figure"] = f"{level}, {runs}: {texts['figure']}"
    weak = _weak(baseline)
    if weak:
        texts["detail"] = f"{texts['detail']}; {weak}" if texts.get("detail") else weak
    return CheckResult(check=GATE, subject=baseline.name, verdict=verdict, **texts)


def promise(baseline: Baseline) -> str:
    """The two declared numbers of a gate in words."""
    name = _main_feature(baseline)
    caught = promised_drop(baseline, name)
    return (
        f"a change for the worse of {100 * caught:.2g} % in {name} would have been caught with 90 % probability; "
        f"false-alarm rate {100 * (ALPHA_DROP + ALPHA_RISE):.2g} %"
    )


def paired_result(pairing: Pairing, baseline: Baseline, *, same_environment: bool) -> CheckResult:
    """The paired lane as a result; in another environment a difference has two possible causes and is not red."""
    state = pairing.state
    texts = {"figure": f"seed {pairing.seed}: {pairing.figure}", "expected": "the stored run of the same seed"}
    if state is PairingState.WITHIN:
        verdict = Verdict.PASS
        texts["detail"] = "nothing but rounding differs from the stored run of this seed"
    elif state is PairingState.NO_PAIR:
        verdict = Verdict.UNCALIBRATED
        texts["detail"] = "the ensemble lane judges"
    elif same_environment:
        verdict = Verdict.CHANGED
        texts["detail"] = "the same seed in the same environment computes something else now"
        texts["advice"] = REVIEW
    else:
        verdict = Verdict.UNCALIBRATED
        texts["detail"] = (
            "numbers differ beyond rounding, and so does the environment: which of the two did it is not known here; "
            "the ensemble lane judges"
        )
        texts["advice"] = "tell them apart with: rectest attribute"
    return CheckResult(check=PAIRED, subject=baseline.name, verdict=verdict, **texts)


def within_rounding(result: CheckResult) -> CheckResult:
    """An exact result whose difference was found to be rounding."""
    if result.verdict is not Verdict.CHANGED:
        return result
    detail = "the bits changed and the numbers did not: another order of the same operations explains it"
    return replace(
        result, verdict=Verdict.PASS, figure=f"{result.figure}; within rounding", outside="", detail=detail, advice=""
    )


def _passed(
    head: str, names: Sequence[str], baseline: Baseline, decision: Decision, pairing: Pairing | None
) -> dict[str, str]:
    look = decision.deciding if decision.deciding.side == "drop" else min(decision.drops, key=_used)
    name = names[look.feature]
    worst = percent(relative_change(name, look.shift))
    limit = percent(relative_change(name, -look.limit))
    found = {"L1": "every stored bit is equal", "L2": pairing.figure if pairing else ""}.get(head[:2], "")
    figure = f"{head}: {found + '; ' if found else ''}worst feature {name} {worst} (limit {limit})"
    return {"figure": figure, "detail": promise(baseline)}


def _undecided(runs: str, names: Sequence[str], records: Sequence[RunRecord], decision: Decision) -> dict[str, str]:
    look = decision.deciding
    name = names[look.feature]
    change, error = percent(relative_change(name, look.shift)), 100 * look.error
    following = max(record.spec.seed for record in records) + 1
    return {
        "figure": f"after {runs}: {name} {change} ± {error:.2g} %",
        "detail": "the runs so far exclude neither noise nor a change that the gate promises to see",
        "advice": f"train seed {following} (at most {MAX_RUNS} runs)",
    }


def _alarm(
    runs: str, names: Sequence[str], records: Sequence[RunRecord], baseline: Baseline, decision: Decision
) -> dict[str, str]:
    look = decision.deciding
    name, drop = names[look.feature], look.side == "drop"
    half = t_quantile(0.025, look.df) * look.error
    ends = sorted(relative_change(name, look.shift + way * half) for way in (-1, 1))
    values = signed_logs(name, [raw_feature(record, name) for record in records])
    centre = float(signed_logs(name, baseline.ensemble.features[name]).mean())
    beyond = sum((value < centre) is drop for value in values)
    alarms = [x for x in (decision.drops if drop else decision.rises) if x.alarm and x is not look]
    others = [f"{names[x.feature]} {percent(relative_change(names[x.feature], x.shift))}" for x in alarms]
    if drop:
        why = "not noise"
    else:
        why = "better than seed noise allows: look for a leak or a changed evaluation before accepting; not noise"
    return {
        "figure": f"{name} {percent(relative_change(name, look.shift))} [{percent(ends[0])}, {percent(ends[1])}] after "
        f"{runs}",
        "worst": f"{beyond} of {len(values)} seeds {'worse' if drop else 'better'} than the stored mean",
        "outside": f"p = {look.p:.1g}, alarm below {look.level:.1g}",
        "detail": f"{why}: run-to-run sd is {100 * look.sd:.2g} % over {len(baseline.ensemble.seeds)} stored seeds"
        + (f"; also {', '.join(others[:_LIMIT_OF_OTHERS])}" if others else ""),
        "advice": _ACCEPT,
    }


def _changed(red: Sequence[CheckResult], baseline: Baseline, pairing: Pairing | None) -> dict[str, str]:
    known = pairing is not None and pairing.state is not PairingState.NO_PAIR
    where = pairing.figure if known and pairing is not None else red[0].figure
    beyond = "beyond rounding" if known else "and whether that is rounding is not known"
    name = _main_feature(baseline)
    return {
        "figure": f"numbers differ from the same seed {beyond} ({where})",
        "detail": f"{name} is not worse by more than the gate promises to see, "
        f"{100 * promised_drop(baseline, name):.2g} %",
        "advice": _ACCEPT,
    }


def _weak(baseline: Baseline) -> str:
    num_seeds = len(baseline.ensemble.seeds)
    if num_seeds >= WEAK_SEEDS:
        return ""
    caught = promised_drop(baseline, _main_feature(baseline))
    return (
        f"WEAK: only {num_seeds} baseline seeds, so that the smallest drop this gate can promise to catch is "
        f"{100 * caught:.2g} %; record 16: rectest baseline record {baseline.name} --seeds 16"
    )


def _main_feature(baseline: Baseline) -> str:
    """The feature whose promise is printed: the first test metric, or whatever there is."""
    names = list(baseline.ensemble.features)
    return next((name for name in names if name.startswith("test/")), names[0])


def _used(look: Look) -> float:
    return look.shift / look.limit if look.limit else math.inf
