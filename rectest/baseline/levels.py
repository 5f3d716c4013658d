"""The gate as a whole: its levels, cheapest first, and the one verdict they come to.

    L0  oracles    not finite, impossible, at chance, below popularity, above the optimum, an evaluation that does not
                   repeat itself: no statistics over seeds
    L1  bitwise    the stored bits of this very environment
    L2  paired     the stored run of the same seed, with rounding as the only noise
    L3  unpaired   the distribution over stored seeds, one run at a time
    L4  trend      nightly results over time, information only: see `trend`

A run stops at the first level that decides. Bits that differ are no failure by themselves: within rounding they pass,
beyond it L3 says whether the change is for the worse (FAIL) or not (CHANGED, for a person to accept). One pair beyond
rounding asks for another seed, because a few seeds are chaotic. Rounding that carries a run as far as another seed
would proves nothing about quality, so L2 passes only what the pairs or L3 show not to be worse. In another environment
of the same class L1 is off, and differences beyond rounding have two possible causes, so that L3 alone decides. No
level overrules an alarm of L3. Words are in `messages`; nothing is trained or written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectest.baseline.judge import judge_exact, judge_sequential
from rectest.baseline.looks import MAX_RUNS, LookOutcome, Noise
from rectest.baseline.messages import headline, paired_result, within_rounding
from rectest.baseline.paired import Pairing, PairingState, judge_pair, pairs_exclude
from rectest.baseline.schema import Baseline
from rectest.baseline.sequential import Decision
from rectest.baseline.sidecar import Sidecar
from rectest.checks.chance import above_chance, popularity_floor
from rectest.checks.coherence import coherence
from rectest.checks.purity import purity
from rectest.checks.result import CheckResult, Verdict, worst_verdict
from rectest.record import RunRecord

__all__ = ["ORACLES", "GateOutcome", "Level", "judge_gate", "merged"]

ORACLES = "baseline/oracles"


class Level(StrEnum):
    """Which level decided."""

    ORACLES = "L0"
    BITWISE = "L1"
    PAIRED = "L2"
    UNPAIRED = "L3"


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOutcome:
    """What a gate says after some runs."""

    level: Level
    verdict: Verdict
    """UNDECIDED asks for the run of another seed."""

    results: tuple[CheckResult, ...]
    """First ``baseline/gate``, the verdict in words, then what each level found."""

    decision: Decision | None = None
    pairing: Pairing | None = None

    @property
    def undecided(self) -> bool:
        """Whether another seed is to be trained."""
        return self.verdict is Verdict.UNDECIDED


def judge_gate(
    records: Sequence[RunRecord],
    baseline: Baseline,
    sidecar: Sidecar | None = None,
    *,
    max_runs: int = MAX_RUNS,
    noise: Noise | None = None,
    alpha_scale: float = 1.0,
) -> GateOutcome:
    """Judge the runs of a candidate's first seeds, in the order of the baseline's seeds.

    Args:
        records: Runs of one spec that differ in their seeds only.
        baseline: The baseline of their system, world and environment class.
        sidecar: Its curves; without them there is no paired level.
        max_runs: Runs after which the gate decides in any case, 2 to 5.
        noise: sds pooled over systems, where there are enough of them.
        alpha_scale: as in `judge_sequential`.

    Raises:
        ValueError: no records, too many, mixed ones, a repeated seed, or the baseline of another system or world.
    """
    looked = judge_sequential(records, baseline, max_runs=max_runs, noise=noise, alpha_scale=alpha_scale)
    exact = [result for record in records for result in judge_exact(record, baseline)]
    found = partial(_outcome, records, baseline, looked)
    # A gated value that is not finite was already found, and is told by its name.
    if oracles := [*_oracles(records), *(_not_finite(records) if looked.decision is not None else [])]:
        return found(Level.ORACLES, worst_verdict(oracles), [*oracles, merged(exact)])
    if looked.decision is None:
        return found(Level.ORACLES, worst_verdict(looked.results), [merged(exact)])
    unpaired = Verdict(looked.decision.state)
    alarm = unpaired in (Verdict.FAIL, Verdict.SUSPICIOUS)
    if all(result.verdict is Verdict.PASS for result in exact) and not alarm:
        return found(Level.BITWISE, Verdict.PASS, [merged(exact)])
    pairings = [judge_pair(record, baseline, sidecar) for record in records]
    pairing = min(pairings, key=lambda each: _TELLING.index(each.state))
    paired = paired_result(pairings, pairing, baseline, records[0].environment)
    if paired.verdict is Verdict.PASS:
        exact = [within_rounding(result) for result in exact]
        clear = pairs_exclude(pairings, looked.decision, num_stored=len(baseline.ensemble.seeds))
        if unpaired is Verdict.PASS or (clear and not alarm):
            return found(Level.PAIRED, Verdict.PASS, [merged(exact), paired], pairing)
    elif paired.verdict is Verdict.UNDECIDED:
        return found(Level.PAIRED, Verdict.UNDECIDED, [merged(exact), paired], pairing)
    if unpaired is Verdict.PASS and Verdict.CHANGED in {paired.verdict, *(result.verdict for result in exact)}:
        unpaired = Verdict.CHANGED
    return found(Level.UNPAIRED, unpaired, [merged(exact), paired], pairing)


_TELLING = (
    PairingState.OTHER_PROTOCOL,
    PairingState.OTHER_STREAMS,
    PairingState.BEYOND,
    PairingState.NO_PAIR,
    PairingState.WITHIN,
)
"""Of several pairs the first of these is told."""


def _outcome(
    records: Sequence[RunRecord],
    baseline: Baseline,
    looked: LookOutcome,
    level: Level,
    verdict: Verdict,
    results: Sequence[CheckResult],
    pairing: Pairing | None = None,
) -> GateOutcome:
    head = headline(verdict, str(level), records, baseline, looked, results, pairing)
    return GateOutcome(
        level=level,
        verdict=verdict,
        results=(head, *results, *looked.results),
        decision=looked.decision,
        pairing=pairing,
    )


def _oracles(records: Sequence[RunRecord]) -> list[CheckResult]:
    """What needs no statistics over seeds and is red; what cannot be looked at here is for checks of its own."""
    found = [
        result
        for record in records
        for check in (coherence, above_chance, popularity_floor, _repeatable)
        for result in check(record)
        if result.red and result.verdict is not Verdict.NOT_MEASURED
    ]
    return [replace(result, check=f"{ORACLES}/{result.check}") for result in found]


def _repeatable(record: RunRecord) -> list[CheckResult]:
    """Whether the final evaluation gave the same ranks twice; noise of its own may be as large as a drop of quality."""
    return [result for result in purity(record) if result.check == "purity/repeatable"]


def _not_finite(records: Sequence[RunRecord]) -> list[CheckResult]:
    """The first array of each run with NaN or infinity in it; users without a relevant item are allowed theirs."""
    found = []
    for record in records:
        dead = next((key for key in sorted(record.arrays) if key.startswith(_FINITE) and _dead(record[key])), "")
        if dead:
            figure = f"{dead} of seed {record.spec.seed} holds values that are not finite"
            detail = "NaN or infinity is no rounding, whether or not a gated number shows it yet"
            result = CheckResult(
                check=f"{ORACLES}/finite",
                subject=record.spec.system,
                verdict=Verdict.FAIL,
                figure=figure,
                detail=detail,
                advice="find the first step with it: a logarithm of 0, a division by an empty batch, an overflow",
            )
            found.append(result)
    return found


_FINITE = ("grad/", "loss/", "metric/", "table/", "table_init/")


def _dead(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and not bool(np.isfinite(array).all())


def merged(exact: Sequence[CheckResult]) -> CheckResult:
    """One exact result for several seeds: the first that is red, else one that counts those that were compared."""
    red = [result for result in exact if result.red]
    green = [result for result in exact if result.verdict is Verdict.PASS]
    if red or not green:
        return (red or exact)[0]
    plural = "s" if len(exact) != 1 else ""
    stored = "" if len(green) == len(exact) else f" of {len(exact)}"
    count = f"{len(green)}{stored} seed{plural}" + (" are stored" if stored else "")
    return replace(green[0], figure=f"{count}, {green[0].figure.partition(': ')[2]}")
