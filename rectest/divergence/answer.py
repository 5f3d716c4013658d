"""The answer on one screen: where two runs parted, what did it, how far it leads, and what to change.

Plain lines for a terminal, at most 25 of at most 100 columns, whatever the finding holds. How texts are made to fit is
`rectest.divergence.wording`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rectest.divergence.confirm import GENERAL, Confirmed
from rectest.divergence.finding import DIVERGED, IDENTICAL, STAGES, Cause, Finding
from rectest.divergence.wording import Site, clean, growth_text, plural, shorten, wrapped

__all__ = ["MOST_COLUMNS", "MOST_LINES", "answer", "headline", "state_of"]

MOST_LINES, MOST_COLUMNS = 25, 100

_LABEL = 11
_MOST_CAUSES = 3
_AFTER = (1, 10, 100)
"""Steps after the first divergence at which its size is told."""

_NATURES = {
    "other numbers": "the runs drew other random numbers",
    "other arithmetic": "the same numbers went in, and other ones were computed from them",
    "other input": "the runs read other data, or the same in another order",
    "other settings": "the runs had other settings",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A label and its lines."""

    label: str
    lines: tuple[str, ...]
    rank: int
    """Parts with the highest rank lose lines first where there are too many."""


def answer(
    finding: Finding,
    *,
    confirmed: Confirmed | None = None,
    num_runs: int = 2,
    roots: Sequence[Path] = (),
    details: str = "",
    notes: Sequence[str] = (),
    can_confirm: bool = True,
) -> list[str]:
    """The screen.

    Args:
        finding: what the comparison found, before anything was held still.
        confirmed: what `--confirm` has shown; None if it was not asked for.
        num_runs: runs that were compared.
        roots: folders in which source files are looked for, to show the line of a site.
        details: where the tapes and pages are.
        notes: what else the reader has to know, such as that the script failed.
        can_confirm: whether there is a command that `--confirm` could run again.
    """
    if confirmed is not None:
        finding = confirmed.applied_to(finding)
    parts = [part for part in _parts(finding, confirmed, roots) if can_confirm or part.label != "proof"]
    parts += [_part("note", [note], rank=3) for note in notes[:3]]
    if details:
        parts.append(_part("details", [details], rank=0))
    head = wrapped(headline(finding, num_runs=num_runs), width=MOST_COLUMNS, most=3)
    lines = [line for part in _fitting(parts, MOST_LINES - len(head) - 1) for line in _labelled(part)]
    return [*head, "", *lines] if lines else head


def headline(finding: Finding, *, num_runs: int = 2) -> str:
    """The verdict in one line."""
    if finding.verdict == IDENTICAL:
        size = f"{plural(max(finding.num_steps), 'step')}, {plural(max(finding.num_events), 'event')}"
        return f"IDENTICAL: {plural(num_runs, 'run')}, {size}" + (", every bit" if not finding.reason else "")
    if finding.verdict != DIVERGED:
        return f"COULD NOT TELL: {clean(finding.reason) or 'the runs could not be compared'}"
    when = f"at step {finding.step:,}" if finding.step else "before training"
    name = f": {shorten(clean(finding.name))}" if finding.name else ""
    process = f" (process {shorten(clean(finding.process), 24)})" if finding.process not in ("", "main") else ""
    return f"DIVERGED {when}, {clean(finding.stage).replace('_', ' ') or 'unknown'}{name}{process}"


def _parts(finding: Finding, confirmed: Confirmed | None, roots: Sequence[Path]) -> Iterator[_Part]:
    """Everything below the headline, in the order of reading."""
    if finding.verdict != DIVERGED:
        if finding.verdict == IDENTICAL and finding.reason:
            yield _part("but", [finding.reason], rank=1)
    else:
        yield _part("what", [STAGES.get(finding.stage, "")], rank=4)
        yield from _causes(finding, roots, identical=confirmed is not None and confirmed.identical)
        yield _part("evidence", _evidence(finding)[:4], rank=5)
        yield _part("nature", [_NATURES.get(finding.nature, finding.nature)], rank=4)
        yield _part("size", _size(finding), rank=4)
        yield _part("change", _advice(finding), rank=1)
        yield _part("proof", state_of(finding, confirmed), rank=0)
    if finding.harmless:
        yield _part("harmless", [_harmless(finding.harmless)], rank=6)


def _causes(finding: Finding, roots: Sequence[Path], *, identical: bool) -> Iterator[_Part]:
    """Where the difference enters: everything that is confirmed, else the likeliest, then what else it may be.

    Args:
        finding: with what is known of its causes.
        roots: where source files are looked for.
        identical: whether what is confirmed is all there is.
    """
    shown = _shown(finding)
    for place, cause in enumerate(shown):
        site = Site.parse(cause.site)
        where = [clean(site.shown if site else cause.site)] if cause.site else []
        source = clean(site.source(roots)) if site else ""
        code = [f"  {site.line}   {source}"] if site and source else []
        yield _part("then" if place else "where", [*where, *code, cause.what], rank=2)
        if cause.drawn_at and cause.drawn_at != cause.site:
            yield _part("used at", [_used(cause)], rank=5)
    if not shown:
        yield _part("where", ["no line of code was found that does it"], rank=2)
    others = [cause for cause in finding.causes if cause not in shown and cause.confirmed is None]
    if others and not identical:
        yield _part("or else", ["; ".join(_named(cause) for cause in others[:_MOST_CAUSES])], rank=6)


def _shown(finding: Finding) -> list[Cause]:
    sure = [cause for cause in finding.causes if cause.confirmed]
    first = [cause for cause in finding.causes if cause.confirmed is None][:1]
    return (sure or first)[: _MOST_CAUSES + 1]


def _evidence(finding: Finding) -> list[str]:
    """Without what spoke for a source that was held still in vain."""
    sites = [Site.parse(place) for cause in finding.causes if cause.confirmed is False for place in (cause.site,)]
    refuted = [f"{site.path}:{site.line}" for site in sites if site]
    return [text for text in finding.evidence if not any(place in text for place in refuted)]


def _used(cause: Cause) -> str:
    site = Site.parse(cause.drawn_at)
    since = f" from step {cause.step} on" if cause.step else ""
    draws = f": {plural(cause.num_draws, 'draw')}{since}" if cause.num_draws else ""
    return f"{site.shown if site else cause.drawn_at}{draws}"


def _named(cause: Cause) -> str:
    site = Site.parse(cause.site)
    return f"{cause.what} ({shorten(site.shown if site else cause.site)})" if cause.site else cause.what


def _size(finding: Finding) -> list[str]:
    """How far apart the runs are some steps later, and the first printed number that shows it."""
    begun = max(1, finding.step)
    after = {growth.step - begun + 1: growth for growth in finding.growth if growth.step >= begun}
    wanted = [num for num in _AFTER if num in after]
    last = max(after, default=0)
    if last and last not in wanted and (not wanted or last < max(_AFTER)):
        wanted.append(last)
    said = _grown("loss", [(num, after[num].loss) for num in wanted])
    said = said or _grown("parameters", [(num, after[num].parameters) for num in wanted])
    return [text for text in (said, finding.metric) if text]


def _grown(what: str, parts: Iterable[tuple[int, float]]) -> str:
    known = [(num, value) for num, value in parts if not math.isnan(value)]
    return f"{what}: {growth_text(known)}" if known else ""


def _advice(finding: Finding) -> list[str]:
    return list(dict.fromkeys(cause.advice for cause in _shown(finding) if cause.advice))


def _harmless(causes: Sequence[Cause]) -> str:
    """Sources that differ and do not matter, in few words."""
    named = "; ".join(_named(cause) for cause in causes[:_MOST_CAUSES])
    more = f"; and {len(causes) - _MOST_CAUSES} more" if len(causes) > _MOST_CAUSES else ""
    differ = "differs" if len(causes) == 1 else "differ"
    return f"{plural(len(causes), 'source')} {differ} and did not reach training: {named}{more}"


def state_of(finding: Finding, confirmed: Confirmed | None) -> list[str]:
    """What is proved, and what `--confirm` would do."""
    if confirmed is None:
        return [_unconfirmed(finding)]
    said = []
    if confirmed.causes:
        held = "with it held still" if len(confirmed.causes) == 1 else f"with these {len(confirmed.causes)} held still"
        said.append(f"confirmed: {held} {_ending(confirmed)}")
    said += [] if confirmed.identical else _open(confirmed)
    failed = [trial for trial in confirmed.trials if trial.outcome == "could not be tried"]
    if failed:
        names = ", ".join(trial.tried[-1].pin if trial.tried else "once more without" for trial in failed[:2])
        said.append(f"could not be tried: {names}: {failed[0].problem}")
    return said


def _unconfirmed(finding: Finding) -> str:
    first = _shown(finding)[:1]
    if first and first[0].kind == "extra_draws":
        return "not confirmed: draws that only one run makes cannot be held still; repair the line, and run again"
    if first and first[0].pin:
        return "not confirmed: --confirm runs it again with this source held still"
    return f"not confirmed: --confirm runs it again with {', '.join(GENERAL)} held still, one at a time"


def _ending(confirmed: Confirmed) -> str:
    if confirmed.identical:
        return "both runs are identical to the last bit"
    final = confirmed.final
    return f"the runs part elsewhere: {headline(final).removeprefix('DIVERGED ')}; another source remains"


def _open(confirmed: Confirmed) -> list[str]:
    """What was tried on the divergence that is left, and what that says."""
    if confirmed.intermittent:
        shown, of = confirmed.shown
        return [
            f"not confirmed: it comes and goes, and showed in {shown} of {of} comparisons with nothing new held still; "
            "more --runs show it more surely"
        ]
    vain = list(dict.fromkeys(cause.pin for cause in confirmed.refuted))
    said = [f"not the cause (held still one at a time, no change): {', '.join(vain)}"] if vain else []
    if not confirmed.causes and confirmed.trials and confirmed.trials[-1].outcome in ("gone", "moved"):
        said.append("not confirmed: it stayed away with one held still, but was not seen to come back without")
    elif not confirmed.causes:
        said.append("not confirmed: nothing that was held still makes the runs identical")
    if confirmed.limited:
        said.append(f"stopped after {plural(len(confirmed.trials), 'comparison')}")
    return said


def _part(label: str, texts: Iterable[str], *, rank: int) -> _Part:
    width = MOST_COLUMNS - _LABEL
    lines = [line for text in texts if text for line in _lines_of(text, width)]
    return _Part(label=label, lines=tuple(lines), rank=rank)


def _lines_of(text: str, width: int) -> list[str]:
    """A paragraph; a line of code, which is indented and printable already, stays one line."""
    if text.startswith("  "):
        return [text if len(text) <= width else f"{text[: width - 4]} ..."]
    return wrapped(text, width=width)


def _fitting(parts: Sequence[_Part], room: int) -> list[_Part]:
    """The parts with so many lines left out that they fit: of the least important first, and of those the last."""
    kept = [list(part.lines) for part in parts]
    least = max((part.rank for part in parts), default=0)
    for rank in range(least, -1, -1):
        for place in reversed(range(len(parts))):
            while sum(map(len, kept)) > room and parts[place].rank == rank and len(kept[place]) > (rank < 4):
                kept[place].pop()
    return [
        _Part(label=part.label, lines=tuple(lines), rank=part.rank)
        for part, lines in zip(parts, kept, strict=True)
        if lines
    ]


def _labelled(part: _Part) -> list[str]:
    return [f"{part.label if not place else '':{_LABEL}}{line}" for place, line in enumerate(part.lines)]
