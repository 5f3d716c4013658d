"""Why a gate said what it said: its evidence in words, a picture of characters, and formulas with their values.

It tells what was decided in `rectest.baseline.levels` and decides nothing. The numbers over seeds are worked out anew
in `arithmetic`, so that what is printed follows from the values that were judged; the picture is `strips`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from rectest.baseline.ensemble import centre, percent
from rectest.baseline.evidence import Evidence, PrefixEvidence
from rectest.baseline.judge import EXACT
from rectest.baseline.levels import ORACLES, Level
from rectest.baseline.looks import caught_drop
from rectest.baseline.messages import GATE, PAIRED
from rectest.baseline.paired import ENVELOPE_FACTOR, LEAST_ENVELOPE
from rectest.baseline.schema import WEAK_SEEDS
from rectest.checks.result import CheckResult, Verdict
from rectest.environment import Environment
from rectest.report.advice import next_steps
from rectest.report.arithmetic import Arithmetic, alarm_lines, arithmetic_of, exclusion_lines, sample_lines
from rectest.report.strips import LEGEND, features_on_limits, ladder, paragraph, table_lines

__all__ = ["explain", "explain_results"]

_ORDER = (Level.ORACLES, Level.BITWISE, Level.PAIRED, Level.UNPAIRED)
_COLUMNS = ("feature", "stored", "new", "change", "noise from", "to", "catches", "run sd", "p", "level")
_LEVEL_WIDTH = 14


def explain(evidence: Evidence, *, width: int = 100) -> str:
    """Everything about one gate, for a person; lines are longer than `width` only where one word is.

    Raises:
        RecordError: the evidence contradicts itself.
    """
    found = arithmetic_of(evidence)
    sections = [
        ("", _head(evidence)),
        ("What each level found", _levels(evidence, found)),
        ("By hand", _by_hand(evidence, found)),
        ("What this gate sees", _promise(evidence, found)),
        ("What to do next", _next(evidence, compared=found is not None)),
    ]
    texts = [_section(title, lines, width) for title, lines in sections]
    texts.insert(2, _pictured(evidence, found, width))
    return "\n\n".join(text for text in texts if text)


def explain_results(name: str, results: Sequence[CheckResult], *, width: int = 100) -> str:
    """A gate without evidence: no baseline, one that cannot be read, or a training that failed.

    Args:
        results: What was said instead, what weighs most first.

    Raises:
        ValueError: no results.
    """
    if not results:
        msg = f"nothing is known about the gate of {name}"
        raise ValueError(msg)
    first, *others = sorted(results, key=lambda result: result.verdict is Verdict.PASS)
    head = [
        f"{name}: {first.verdict}, before anything was compared: {first.figure}",
        *_told("looked for", first.expected),
        *_told("why", first.detail),
        *(f"also: {other.verdict}, {other.figure}" for other in others),
    ]
    steps = next_steps(first, name)
    return "\n\n".join([_section("", head, width), _section("What to do next", steps, width)])


def _next(evidence: Evidence, *, compared: bool) -> Iterator[str]:
    weak = len(evidence.stored_seeds) < WEAK_SEEDS
    return next_steps(evidence.headline, evidence.name, level=evidence.level, compared=compared, weak=weak)


def _section(title: str, lines: Iterator[str] | Sequence[str], width: int) -> str:
    """Paragraphs below their title; nothing where there are none."""
    written = [title] if title else []
    begun = "  " if title else ""
    for line in lines:
        hanging = " " * (_LEVEL_WIDTH if re.match(r"L\d ", line) else 4)
        written += paragraph(line, width=width, begun=begun, indent=begun + hanging)
    return "\n".join(written) if len(written) > bool(title) else ""


def _told(name: str, text: str) -> list[str]:
    return [f"{name}: {text}"] if text else []


def _runs(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} run{'s' if len(seeds) != 1 else ''} (seed{'s' if len(seeds) != 1 else ''} " + (
        f"{', '.join(map(str, seeds))})"
    )


def _head(evidence: Evidence) -> Iterator[str]:
    head = evidence.headline
    decided = "at" if head.verdict is Verdict.UNDECIDED else "decided by"
    runs = _runs(evidence.seeds)
    yield f"{evidence.name} ({evidence.env_class}): {evidence.verdict}, {decided} {evidence.level} after {runs}"
    yield head.figure
    for name, text in (("where", head.worst), ("how sure", head.outside), ("why", head.detail)):
        yield from _told(name, text)
    yield f"ran in: {Environment.from_dict(dict(evidence.environment)).describe()}"
    told = evidence.provenance
    if told:
        dirty = ", with uncommitted changes" if told.get("dirty") else ""
        yield (
            f"against: {len(evidence.stored_seeds)} seeds recorded {told.get('date')} at commit "
            f"{str(told.get('commit') or 'unknown')[:12]}{dirty} in {told.get('environment')}; {told.get('reason')}"
        )


def _levels(evidence: Evidence, found: Arithmetic | None) -> Iterator[str]:
    """One paragraph for each level: what it found, and why it did or did not decide."""
    results = [CheckResult.from_dict(values) for values in evidence.results]
    place = _ORDER.index(Level(evidence.level))
    texts = (_oracles(evidence, results, found), _bitwise(results), _paired(results), _unpaired(evidence, found))
    names = ("oracles", "bitwise", "paired", "unpaired")
    for number, (level, name, text) in enumerate(zip(_ORDER, names, texts, strict=True)):
        if number == place:
            text = f"{'asks for another seed' if evidence.verdict == Verdict.UNDECIDED else 'decided'}: {text}"
        elif number > place:
            text = f"not needed after {evidence.level}" + (f"; it says: {text}" if text else "")
        yield f"{level} {name:<{_LEVEL_WIDTH - 4}} {text}"
    yield f"L4 {'trend':<{_LEVEL_WIDTH - 4}} takes no part: nightly results over time are information"


def _oracles(evidence: Evidence, results: Sequence[CheckResult], found: Arithmetic | None) -> str:
    red = [result for result in results if result.check.startswith(f"{ORACLES}/")]
    if red:
        return "; ".join(_oracle(result) for result in red)
    if found is None:
        odd = [result for result in results if result.verdict == evidence.verdict and result.check != GATE]
        return f"{evidence.verdict}: {'; '.join(dict.fromkeys(result.figure for result in odd))}"
    return "nothing impossible, at chance or below popularity, which needs no statistics over seeds"


def _oracle(result: CheckResult) -> str:
    name = result.check.removeprefix(f"{ORACLES}/")
    told = "".join(
        f", {what} {text}" for what, text in (("expected", result.expected), ("limit", result.limit)) if text
    )
    return f"{result.verdict}: {name} of {result.subject}, {result.figure}{told}"


def _bitwise(results: Sequence[CheckResult]) -> str:
    found = [result for result in results if result.check == EXACT]
    if not found:
        return "nothing to compare"
    exact = found[0]
    if exact.verdict is Verdict.UNCALIBRATED:
        return f"off, {_here(exact.worst)}" if exact.worst else f"off, {exact.figure}"
    if exact.verdict is Verdict.PASS:
        return exact.figure
    return f"{exact.verdict}: {exact.figure}" + "".join(f"; {text}" for text in (exact.worst, exact.outside) if text)


def _here(differences: str) -> str:
    """``torch '2.13' -> '2.12'`` as a sentence.

    >>> _here("threads 1 -> 4, torch '2.13.0' -> '2.12.0'")
    'no bits are stored for this machine: it has threads 4 (stored: 1), torch 2.12.0 (stored: 2.13.0)'
    """
    told = re.sub(r"(\w+) ('[^']*'|[\d.]+) -> ('[^']*'|[\d.]+)", r"\1 \3 (stored: \2)", differences)
    return f"no bits are stored for this machine: it has {told.replace(chr(39), '')}"


def _paired(results: Sequence[CheckResult]) -> str:
    found = [result for result in results if result.check == PAIRED]
    if not found:
        return ""
    paired = found[0]
    if paired.verdict is Verdict.PASS:
        return f"{paired.figure}; {paired.outside and f'{paired.outside}; '}{paired.detail}"
    if paired.verdict is Verdict.CHANGED:
        return f"beyond rounding, which is no failure by itself: {paired.figure}; whether it is worse is for L3"
    return f"{paired.figure}; {paired.detail}"


def _unpaired(evidence: Evidence, found: Arithmetic | None) -> str:
    if found is None:
        return ""
    alarms = [each.name for each in evidence.features if each.alarm]
    least = f"alarms of {', '.join(alarms)}" if alarms else f"no alarm among {len(evidence.features)} features"
    text = f"{found.decision.state} after {_runs(evidence.seeds)} of at most {found.rule.max_runs}, {least}"
    if evidence.level == Level.UNPAIRED and evidence.verdict == Verdict.CHANGED:
        text += "; not worse, yet numbers differ and no level above explains it away: a person decides"
    return text


def _pictured(evidence: Evidence, found: Arithmetic | None, width: int) -> str:
    """Strips and table; nothing where values could not be compared."""
    if found is None:
        return ""
    features, decision = evidence.features, found.decision
    picture = features_on_limits(features, decision.drops, decision.rises, width=width - 2)
    rows = []
    for each, drop in zip(features, decision.drops, strict=True):
        new = [value for value in each.new if value is not None]
        numbers = (each.change or 0.0, each.lowest or 0.0, each.highest or 0.0)
        change, lowest, highest = (percent(value) for value in numbers)
        sd, sees = f"{100 * drop.sd:.3g} %", f"{100 * caught_drop(each.name, drop):.3g} %"
        means = (f"{centre(each.stored):.5g}", f"{centre(new):.5g}")
        rows.append((each.name, *means, change, lowest, highest, sees, sd, f"{each.p:.2g}", f"{each.level:.2g}"))
    written = [*picture, *paragraph(LEGEND, width=width - 2), "", *table_lines(_COLUMNS, rows, width=width - 2)]
    note = (
        "stored and new are geometric means; p is of the direction that is nearer to its limit, where p is the "
        "level; for catches see below"
    )
    written += paragraph(note, width=width - 2)
    return "\n".join(["The features", *(f"  {line}".rstrip() for line in written)])


def _by_hand(evidence: Evidence, found: Arithmetic | None) -> Iterator[str]:
    """The deciding number with its formula."""
    if evidence.level == Level.BITWISE:
        yield "Digests are equal or they are not; no number decides."
    if evidence.prefix is not None and (evidence.level == Level.PAIRED or evidence.verdict == Verdict.CHANGED):
        yield from _prefix_lines(evidence.prefix)
    if found is None or evidence.level == Level.ORACLES:
        return
    look = found.decision.deciding
    name = evidence.features[look.feature].name
    told = {"PASS": "Nearest to its limit for the worse is", "UNDECIDED": "Furthest from being excluded is"}
    if evidence.level != Level.UNPAIRED:
        yield "Though L3 was not needed, its numbers are:"
    yield f"{told.get(found.decision.state, 'The alarm that decides is')} {name}, {look.side}s of x:"
    yield from sample_lines(evidence, look)
    yield from alarm_lines(evidence, look, found.rule)
    if found.decision.state in ("PASS", "UNDECIDED"):
        yield from exclusion_lines(evidence, found)


def _prefix_lines(prefix: PrefixEvidence) -> Iterator[str]:
    pairs = zip(prefix.difference, prefix.envelope, strict=True)
    shares = [
        math.inf if value is None else value / most if most else (math.inf if value else 0.0) for value, most in pairs
    ]
    yield f"The first {len(shares)} losses of seed {prefix.seed} beside those of its stored run, relative to those:"
    yield (
        f"|loss - stored| / stored <= max({ENVELOPE_FACTOR:g} x the largest such difference of a stored run and its "
        f"rounding twin so far, {LEAST_ENVELOPE:g})"
    )
    worst = max(range(len(shares)), key=shares.__getitem__)
    difference, most = prefix.difference[worst], prefix.envelope[worst]
    told = "no finite loss" if difference is None else f"{difference:.3g}, where {most:.3g} is rounding"
    yield f"nearest to the limit, or furthest beyond, at step {worst + 1}: {told}"
    yield f"share of the limit, step by step: [{ladder(shares)}]"


def _promise(evidence: Evidence, found: Arithmetic | None) -> Iterator[str]:
    if found is None:
        yield "Nothing could be compared, so nothing would have been caught by L2 or L3."
        return
    rule = found.rule
    alpha = rule.alpha_drop + rule.alpha_rise
    yield (
        f"False-alarm rate {100 * alpha:.3g} % for each judgement of unchanged code, over all features and looks: "
        f"{rule.alpha_drop:.2g} for drops, {rule.alpha_rise:.2g} for rises."
    )
    drops = zip(evidence.features, found.decision.drops, strict=True)
    sees = {each.name: caught_drop(each.name, drop) for each, drop in drops}
    main = next((name for name in sees if name.startswith("test/")), next(iter(sees)))
    yield (
        f"Caught with {100 * (1 - rule.beta):.0f} % probability, within {rule.max_runs} runs, is a change for the "
        f"worse of {100 * sees[main]:.3g} % in {main}, and in the others of what the table calls catches: 80 % upper "
        f"limits, because the run-to-run sd rests on {len(evidence.stored_seeds)} seeds."
    )
    declared = (evidence.declared or {}).get("mdd") or {}
    moved = [name for name, value in declared.items() if name in sees and abs(sees[name] - value) > 0.1 * value]
    if moved:
        then = ", ".join(f"{100 * declared[name]:.3g} % in {name}" for name in moved)
        yield f"When the baseline was recorded it declared {then}; today's rule comes to the numbers above."
