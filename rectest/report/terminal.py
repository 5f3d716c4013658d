"""The terminal section: one line per system and property, with verdict, figure, baseline and limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import wrap

from rectest.checks.result import CheckResult, Verdict

__all__ = ["counts_line", "summary_lines"]

_INDENT = "  "
_GAP = "  "


def summary_lines(results: Sequence[CheckResult], *, width: int = 100, notes: Iterable[str] = ()) -> list[str]:
    """The section's lines for results in the order in which they came, grouped by subject.

    Cells that do not fit go to the next line; nothing is cut off. Advice is printed for what is not green.

    >>> from rectest.checks.result import CheckResult, Verdict
    >>> line = CheckResult(check="chance", subject="comirec", verdict=Verdict.PASS, figure="0.34", limit="> 0.04")
    >>> for text in summary_lines([line], width=60): print(text)
    comirec
      PASS  chance  0.34  limit > 0.04
    1 property: 1 PASS
    """
    lines = [piece for note in notes for piece in wrap(note, width, subsequent_indent=_INDENT)]
    groups: dict[str, list[CheckResult]] = {}
    for result in results:
        groups.setdefault(_group(result.subject), []).append(result)
    verdict_width = max((len(r.verdict) for r in results), default=0)
    name_width = max((len(_label(r)) for r in results), default=0)
    for subject, members in groups.items():
        lines.append(subject)
        for member in members:
            lines += _row(member, verdict_width, name_width, width)
    lines.append(counts_line(results))
    return lines


def counts_line(results: Sequence[CheckResult]) -> str:
    """``14 properties: 13 PASS, 1 FAIL``."""
    counts = Counter(result.verdict for result in results)
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    noun = "property" if len(results) == 1 else "properties"
    return f"{len(results)} {noun}: {parts or 'nothing was measured'}"


def _group(subject: str) -> str:
    return subject.partition("/")[0]


def _label(result: CheckResult) -> str:
    rest = result.subject.partition("/")[2]
    return f"{result.check} [{rest}]" if rest else result.check


def _row(result: CheckResult, verdict_width: int, name_width: int, width: int) -> list[str]:
    head = f"{_INDENT}{result.verdict:<{verdict_width}}{_GAP}{_label(result):<{name_width}}{_GAP}"
    cells = [result.figure]
    cells += [f"baseline {result.expected}"] if result.expected else []
    cells += [f"limit {result.limit}"] if result.limit else []
    if result.verdict is not Verdict.PASS:
        cells += [f"next: {result.advice}"] if result.advice else []
    indent = " " * min(len(head), width // 3)
    body_width = max(width - len(head), 24)
    rows = _flow(cells, body_width)
    return [f"{head}{rows[0]}".rstrip(), *(f"{indent}{row}" for row in rows[1:])]


def _flow(cells: Sequence[str], width: int) -> list[str]:
    rows: list[str] = []
    for cell in cells:
        if rows and len(rows[-1]) + len(_GAP) + len(cell) <= width:
            rows[-1] += f"{_GAP}{cell}"
        else:
            rows += wrap(cell, width) or [""]
    return rows or [""]
