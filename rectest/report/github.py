"""The Markdown summary for a CI job: a table of systems, then what is red with what to do. GitHub-flavoured.

It is appended, as the file behind ``$GITHUB_STEP_SUMMARY`` wants it. Texts from outside are escaped: a name is never
markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rectest.checks.result import CheckResult, Verdict
from rectest.report.figures import percent_text
from rectest.report.machine import RunReport
from rectest.report.summary import SIGNS, SystemSummary, headline_of, summaries
from rectest.report.terminal import counts_line

__all__ = ["append_summary", "markdown_summary"]

_MOST_RED = 20
"""Red properties shown for one system; the JSON report has all."""


def append_summary(path: Path, report: RunReport) -> Path:
    """Append the summary to a file, which is made with its folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blank = "\n\n" if path.exists() and path.stat().st_size else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(blank + markdown_summary(report))
    return path


def markdown_summary(report: RunReport) -> str:
    """The summary, ending with a newline."""
    systems = summaries(report)
    red = any(system.red for system in systems) or report.exit_status or not systems
    parts = [f"### {'❌' if red else '✅'} rectest: {_plain(headline_of(report, systems))}"]
    parts += [f"> {_plain(note)}" for note in report.notes]
    if systems:
        parts.append("\n".join(_table(systems)))
    parts += [_details(system) for system in systems if system.red]
    origin = report.origin
    told = [counts_line([result for _, result in report.results]), origin.date, origin.code]
    parts.append(f"<sub>{' · '.join(_plain(each) for each in told if each)}</sub>")
    return "\n\n".join(parts) + "\n"


def _table(systems: Sequence[SystemSummary]) -> list[str]:
    rows = ["| | system | verdict | what was found | smallest drop caught |", "|:-:|---|---|---|--:|"]
    for system in systems:
        verdict = system.verdict or system.worst
        found = system.headline.figure if system.headline else "no gate was run"
        if system.red_properties:
            number = len(system.red_properties)
            found += f"; {number} red propert{'ies' if number != 1 else 'y'}"
        drop = percent_text(system.smallest_drop, signed=False, digits=2)
        emoji = SIGNS[system.worst if system.red_properties else verdict].emoji
        word = str(verdict) if system.verdict else "not gated"
        rows.append(f"| {emoji} | {_plain(system.name)} | {word} | {_plain(found)} | {drop} |")
    rates = [rate for system in systems if (rate := system.false_alarms) is not None]
    if rates:
        promise = "A change for the worse of that size, in the first test metric, is caught with 90 % probability"
        rows += ["", f"{promise}; false-alarm rate {percent_text(max(rates), signed=False)} per gate."]
    return rows


def _details(system: SystemSummary) -> str:
    """What is red about one system, and what to do next."""
    parts = []
    head = system.headline
    if head is not None and head.verdict is not Verdict.PASS:
        parts.append(_told(head, f"#### {SIGNS[head.verdict].emoji} {_plain(system.name)}: {head.verdict}"))
        features = () if system.evidence is None else system.evidence.features
        alarms = [feature for feature in features if feature.alarm]
        if alarms:
            rows = ["| feature | change | noise explains | p |", "|---|--:|--:|--:|"]
            rows += [
                f"| {_plain(f.name)} | {percent_text(f.change)} | {percent_text(f.lowest)} to "
                f"{percent_text(f.highest)} | {'–' if f.p is None else f'{f.p:.1g}'} |"
                for f in alarms
            ]
            parts.append("\n".join(rows))
    red = system.red_properties
    shown = [
        _told(r, f"#### {SIGNS[r.verdict].emoji} {_plain(system.name)}: {r.verdict} {_plain(r.check)}")
        for r in red[:_MOST_RED]
    ]
    more = [f"and {len(red) - _MOST_RED} more red properties"] if len(red) > _MOST_RED else []
    return "\n\n".join([*parts, *shown, *more])


def _told(result: CheckResult, title: str) -> str:
    lines = [title, "", _plain(result.figure)]
    rows = {"worst": result.worst, "expected": result.expected, "limit": result.limit, "outside": result.outside}
    facts = [f"- {name}: {_plain(text)}" for name, text in (rows | {"why": result.detail}).items() if text]
    if facts:
        lines += ["", *facts]
    if result.advice:
        lines += ["", "What to do:", "", *_block(result.advice)]
    return "\n".join(lines)


def _block(text: str) -> Sequence[str]:
    """A block of code whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *text.splitlines(), fence]


def _plain(text: str) -> str:
    """Text as it is: on one line, and without anything that GitHub would take for markup, a table cell or a mention."""
    one_line = " ".join(text.split())
    escaped = re.sub(r"([\\`*_\[\]{}|~$#])", r"\\\1", one_line).replace("&", "&amp;")
    escaped = escaped.replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"(?<!\w)@(?=\w)", "@\u200b", escaped)
