"""Two runs in, one finding out: whether they are identical, and if not, where they part and through which line.

Pure: it reads tapes that are loaded already and runs nothing. The likeliest cause is a suspicion until
`rectest.divergence.confirm` has held it still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rectest.divergence.align import Symptom, earliest, find_symptom
from rectest.divergence.case import Case
from rectest.divergence.classify import nature_of, stage_of, step_of_stage
from rectest.divergence.evidence import evidence_of
from rectest.divergence.finding import DIVERGED, IDENTICAL, UNKNOWN, Finding
from rectest.divergence.growth import first_metric, growth
from rectest.divergence.pairs import Pair
from rectest.divergence.suspects import harmless, suspects
from rectest.divergence.tapes import Run, Tape
from rectest.divergence.timeline import timeline

__all__ = ["compare_many", "compare_runs"]


def compare_runs(first: Run, second: Run, *, outputs: tuple[str, str] | None = None) -> Finding:
    """Where two runs part, why, and how far apart they get.

    Args:
        first: the tapes of the first run.
        second: the tapes of the second run.
        outputs: what both runs printed, to find the first metric that differs.
    """
    problem = _incomparable(first, second)
    pairs = _pairs(first, second)
    if problem or not pairs:
        return _unknown(first, second, problem or "the runs have no training process in common")
    symptom = earliest(find_symptom(pair) for pair in pairs)
    lengths = _length(pairs)
    if symptom is not None and (not symptom.evaluation or lengths is None or symptom.step <= min(lengths.num_steps)):
        return _diverged(first, second, pairs, symptom, outputs)
    ended = _ended_early(pairs)
    if ended:
        return _unknown(first, second, ended, pairs)
    if lengths is not None:
        return _other_length(first, second, lengths, outputs)
    return _identical(first, second, pairs)


def compare_many(runs: Sequence[Run], *, outputs: Sequence[str | Path] | None = None) -> Finding:
    """The first run against each other one; the earliest divergence is told.

    Args:
        runs: at least two.
        outputs: what each of them printed, or files that hold it.

    Raises:
        ValueError: fewer than two runs.
    """
    if len(runs) < 2:
        msg = f"a comparison needs at least two runs, found {len(runs)}"
        raise ValueError(msg)
    texts = [_text(output) for output in outputs] if outputs else None
    pairs = [(texts[0], text) for text in texts[1:]] if texts else [None] * (len(runs) - 1)
    found = [compare_runs(runs[0], other, outputs=pair) for other, pair in zip(runs[1:], pairs, strict=True)]
    diverged = [finding for finding in found if finding.verdict == DIVERGED]
    if not diverged:
        return next((finding for finding in found if finding.verdict == UNKNOWN), found[0])
    first = min(diverged, key=lambda finding: finding.step)
    if len(found) == 1:
        return first
    note = f"{len(diverged)} of the {len(found)} other runs part from the first"
    return replace(first, evidence=(*first.evidence, note))


def _text(output: str | Path) -> str:
    return output.read_bytes().decode("utf-8", "replace") if isinstance(output, Path) else output


def _incomparable(first: Run, second: Run) -> str:
    """Why two runs cannot be compared, empty if they can."""
    for number, run in (("first", first), ("second", second)):
        if not run.trainers:
            return f"the {number} run has no training on its tape{_its_end(run)}"
    for name in sorted(first.tapes.keys() & second.tapes.keys()):
        one, two = first.tapes[name].header, second.tapes[name].header
        for key in ("digest", "sample"):
            if one and two and one.get(key) != two.get(key):
                return f"the runs were recorded with another {key}: {one.get(key)} and {two.get(key)}; record them anew"
    if not first.num_steps and not second.num_steps and not _computes(first, second):
        return f"no optimizer step was seen in either run{_its_end(first)}"
    return ""


def _computes(first: Run, second: Run) -> bool:
    return all(any(True for t in run.trainers for _ in t.of("init", "input", "forward")) for run in (first, second))


def _its_end(run: Run) -> str:
    ends = sorted({tape.end for tape in run.tapes.values() if tape.end not in ("exit", "stopped")})
    return f"; it ended: {ends[0]}" if ends else ""


def _pairs(first: Run, second: Run) -> list[Pair]:
    """The tapes of training processes that both runs have."""
    names = {tape.process for tape in first.trainers} | {tape.process for tape in second.trainers}
    common = sorted(names & first.tapes.keys() & second.tapes.keys())
    return [Pair(process=name, first=first.tapes[name], second=second.tapes[name]) for name in common]


def _length(pairs: list[Pair]) -> Pair | None:
    return next((pair for pair in pairs if pair.num_steps[0] != pair.num_steps[1]), None)


def _ended_early(pairs: list[Pair]) -> str:
    """Why two runs that agree so far cannot be called identical, empty if they can."""
    for pair in pairs:
        ends = pair.first.end, pair.second.end
        common = min(pair.num_steps)
        if _done(ends[0]) and _done(ends[1]):
            continue
        if ends[0] == ends[1] and ends[0] != "cut" and pair.num_steps[0] == pair.num_steps[1]:
            if not common:
                return f"both runs ended before the first step was over: {ends[0]}"
            continue
        number = "first" if not _done(ends[0]) and pair.num_steps[0] <= pair.num_steps[1] else "second"
        end = ends[0] if number == "first" else ends[1]
        if _done(end):
            number, end = ("second", ends[1]) if number == "first" else ("first", ends[0])
        where = f"identical up to step {common}" if common else "nothing differs before the first step"
        return f"{where}, where the {number} run ended: {'it was killed' if end == 'cut' else end}"
    return ""


def _done(end: str) -> bool:
    return end in ("exit", "stopped")


def _diverged(first: Run, second: Run, pairs: list[Pair], symptom: Symptom, outputs: tuple[str, str] | None) -> Finding:
    pair = next(pair for pair in pairs if pair.process == symptom.process)
    case = Case(first=first, second=second, pair=pair, symptom=symptom)
    found = suspects(case)
    top = found[0] if found else None
    stage = stage_of(case, top)
    return Finding(
        verdict=DIVERGED,
        stage=stage,
        step=step_of_stage(case, stage),
        process=symptom.process,
        name=symptom.name,
        nature=nature_of(case, top, stage),
        causes=tuple(suspect.cause for suspect in found),
        evidence=evidence_of(case, top, pairs),
        growth=growth(pair.first, pair.second, start=symptom.step),
        metric=first_metric(pair.first, outputs),
        num_steps=pair.num_steps,
        num_events=_num_events(first, second),
        timeline=timeline(pair, around=symptom.step),
    )


def _other_length(first: Run, second: Run, pair: Pair, outputs: tuple[str, str] | None) -> Finding:
    common = min(pair.num_steps)
    case = Case(first=first, second=second, pair=pair, symptom=None)
    ends = [f"{n} steps ({_how(tape)})" for n, tape in zip(pair.num_steps, (pair.first, pair.second), strict=True)]
    return Finding(
        verdict=DIVERGED,
        stage="length",
        step=common + 1,
        process=pair.process,
        name="steps",
        nature="other settings",
        evidence=(
            f"all {common} common steps are identical",
            f"the first run took {ends[0]}, the second {ends[1]}",
        ),
        growth=growth(pair.first, pair.second, start=common + 1),
        metric=first_metric(pair.first, outputs),
        harmless=harmless(case),
        num_steps=pair.num_steps,
        num_events=_num_events(first, second),
        timeline=timeline(pair, around=common),
    )


def _how(tape: Tape) -> str:
    return {"cut": "killed", "exit": "then it ended"}.get(tape.end, tape.end)


def _identical(first: Run, second: Run, pairs: list[Pair]) -> Finding:
    case = Case(first=first, second=second, pair=pairs[0], symptom=None)
    return Finding(
        verdict=IDENTICAL,
        reason=_restriction(pairs),
        process=pairs[0].process,
        harmless=harmless(case),
        evidence=_agreement(pairs),
        num_steps=pairs[0].num_steps,
        num_events=_num_events(first, second),
        timeline=timeline(pairs[0], around=1),
    )


def _restriction(pairs: list[Pair]) -> str:
    """Under what restriction two runs are identical."""
    said = []
    end = pairs[0].first.end
    if end.startswith("exception"):
        said.append(f"both runs ended at the same place: {end}")
    elif "stopped" in (end, pairs[0].second.end):
        said.append(f"the recording was stopped after {min(pairs[0].num_steps)} steps")
    sample = pairs[0].first.header.get("sample")
    if sample:
        said.append(f"about {sample} elements of each tensor were compared")
    return "; ".join(said)


def _agreement(pairs: list[Pair]) -> tuple[str, ...]:
    steps = max(pair.num_steps[0] for pair in pairs)
    number = sum(len(pair.first.events) for pair in pairs)
    where = f" in {len(pairs)} processes" if len(pairs) > 1 else ""
    return (f"{steps} steps{where} agree bit by bit ({number} events)",)


def _unknown(first: Run, second: Run, reason: str, pairs: list[Pair] | None = None) -> Finding:
    return Finding(
        verdict=UNKNOWN,
        reason=reason,
        process=pairs[0].process if pairs else "",
        num_steps=(first.num_steps, second.num_steps),
        num_events=_num_events(first, second),
        timeline=timeline(pairs[0], around=1) if pairs else (),
    )


def _num_events(first: Run, second: Run) -> tuple[int, int]:
    one, two = (sum(len(tape.events) for tape in run.tapes.values()) for run in (first, second))
    return one, two
