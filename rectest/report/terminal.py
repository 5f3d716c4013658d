"""The terminal section: one line per system and property, with verdict, figure, baseline and limit.

A family of properties that is green throughout is one line with an example; everything that is not green, and every
comparison with a baseline, has lines of its own. Verbose output has a line for each result.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rectest.checks.result import CheckResult, Verdict

__all__ = ["counts_line", "owner_and_rest", "summary_lines"]

_GAP = "  "
_NAME_WIDTH = 26
_NEVER_FOLDED = ("baseline",)
"""Families whose every number is what the reader came for."""


def summary_lines(
    results: Sequence[CheckResult], *, width: int = 100, notes: Iterable[str] = (), verbose: bool = False
) -> list[str]:
    """The section's lines, grouped by what was trained, in the order in which results came.

    Cells that do not fit go to the next line; nothing is cut off and no word is broken, because words are paths and
    commands to copy: a line is longer than `width` only where one word is. Advice is printed for what is not green.

    >>> from rectest.checks.result import CheckResult, Verdict
    >>> line = CheckResult(check="chance", subject="comirec", verdict=Verdict.PASS, figure="0.34", limit="> 0.04")
    >>> for text in summary_lines([line], width=60): print(text)
    comirec
      PASS  chance  0.34  limit > 0.04
    1 property: 1 PASS
    """
    lines = [line for note in notes for line in _fill("", note, width=width, indent=_GAP)]
    groups: dict[str, list[CheckResult]] = {}
    for result in results:
        groups.setdefault(owner_and_rest(result.subject)[0], []).append(result)
    for subject, members in groups.items():
        rows = [(str(r.verdict), *_row(r)) for r in members] if verbose else list(_folded(members))
        lines += [*_fill("", subject, width=width, indent=_GAP), *_table(rows, width)]
    return lines + _fill("", counts_line(results), width=width, indent=_GAP)


def counts_line(results: Sequence[CheckResult]) -> str:
    """``14 properties: 13 PASS, 1 FAIL``."""
    counts = Counter(result.verdict for result in results)
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    noun = "property" if len(results) == 1 else "properties"
    return f"{len(results)} {noun}: {parts or 'nothing was measured'}"


def owner_and_rest(subject: str) -> tuple[str, str]:
    """What was trained and what of it was judged: ``comirec test/item`` is ``test/item`` of ``comirec``.

    What was trained may be a file, ``/my/model.py:train``, whose slashes and blanks divide nothing.
    """
    file, colon, rest = subject.partition(".py:")
    owner, *others = re.split("[/ ]", rest if colon else subject, maxsplit=1)
    return f"{file}{colon}{owner}" if colon else owner, "".join(others)


Row = tuple[str, str, list[str]]
"""Verdict, name and cells of one line."""


def _folded(members: Sequence[CheckResult]) -> Iterator[Row]:
    families: dict[str, list[CheckResult]] = {}
    for result in members:
        families.setdefault(result.check.partition("/")[0], []).append(result)
    for family, found in families.items():
        green = [result for result in found if result.verdict is Verdict.PASS]
        if family in _NEVER_FOLDED or len(green) == 1:
            green = []
        yield from ((str(r.verdict), *_row(r)) for r in found if r not in green)
        if green:
            name, cells = _row(green[0])
            example = f"{len(green)} of {len(found)}, e.g. {name.removeprefix(f'{family}/')}: {cells[0]}"
            yield str(Verdict.PASS), family, [example, *cells[1:]]


def _row(result: CheckResult) -> tuple[str, list[str]]:
    rest = owner_and_rest(result.subject)[1]
    cells = [result.figure]
    compared = "baseline" if result.check.startswith("baseline/") else "expected"
    cells += [f"{compared} {result.expected}"] if result.expected else []
    cells += [f"limit {result.limit}"] if result.limit else []
    cells += [f"next: {result.advice}"] if result.advice and result.verdict is not Verdict.PASS else []
    return (f"{result.check} [{rest}]" if rest else result.check), cells


def _table(rows: Sequence[Row], width: int) -> list[str]:
    verdict_width = max(len(verdict) for verdict, _, _ in rows)
    name_width = min(max(len(name) for _, name, _ in rows), _NAME_WIDTH)
    indent = " " * (2 * len(_GAP) + verdict_width + 2)
    lines = []
    for verdict, name, cells in rows:
        head = _fill(f"{_GAP}{verdict:<{verdict_width}}{_GAP}", name, width=width, indent=indent)
        head[-1] = head[-1].ljust(2 * len(_GAP) + verdict_width + name_width)
        lines += _flow(head, cells, width=width, indent=indent)
    return lines


def _flow(head: Sequence[str], cells: Iterable[str], *, width: int, indent: str) -> list[str]:
    """`head` and then the cells, each on the current line where it fits there, else on the next.

    The first cell that does not fit fills up the line of the head.
    """
    lines = list(head)
    for place, cell in enumerate(" ".join(cell.split()) for cell in cells):
        fits = len(lines[-1] + _GAP + cell) <= width
        begun = lines.pop() + _GAP if fits or place == 0 else indent
        lines += [begun + cell] if fits else _fill(begun, cell, width=width, indent=indent)
    return [line.rstrip() for line in lines]


def _fill(begun: str, text: str, *, width: int, indent: str) -> list[str]:
    """`text` word by word after what is `begun`; further lines start with `indent`."""
    lines, blank = [begun], True
    for word in text.split():
        longer = lines[-1] + ("" if blank else " ") + word
        if len(longer) <= width or (blank and len(longer) <= len(indent + word)):
            lines[-1] = longer
        else:
            lines.append(indent + word)
        blank = False
    return lines
