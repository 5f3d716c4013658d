"""Pictures and tables of characters: features on their limits, columns that fit, paragraphs that do not break words.

Everything is text of a wanted width; `plain` is the same text for terminals without Unicode, sign by sign. What the
numbers mean is told in `explain`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rectest.baseline.ensemble import percent, signed_logs
from rectest.baseline.evidence import FeatureEvidence
from rectest.baseline.sequential import Look

__all__ = ["LEGEND", "features_on_limits", "ladder", "paragraph", "plain", "table_lines"]

_BARS = "▂▄▆█"
_LIMITS, _MEAN, _RUN, _CENTRE, _OUTSIDE, _BEYOND = "├┤", "●", "○", "│", "─", "◀▶"
_ASCII = str.maketrans(
    {
        **dict(zip(_BARS + _LIMITS + _MEAN + _RUN + _CENTRE + _OUTSIDE + _BEYOND, ".:+#[]Oo|-<>", strict=True)),
        "±": "+-",
        "×": "x",
        "✗": "!",
        "·": "_",
    }
)

LEGEND = (
    f"{_BARS} 1, 2, 3, more stored seeds; {_CENTRE} their mean; {_LIMITS[0]} {_LIMITS[1]} ends of what is noise for "
    f"the mean of the new runs; {_MEAN} that mean; {_RUN} single new runs; {_BEYOND[0]} {_BEYOND[1]} further out than "
    "drawn"
)

_LEAST_STRIP, _MOST_STRIP = 30, 72
_MARGIN = 0.2
"""Share of a strip outside the limits on either side."""

_ALARM = " alarm"
_COMMAND = "$ "


def plain(text: str, encoding: str) -> str:
    """`text`, or what is left of it where `encoding` has no such signs.

    >>> plain("▂█ ±1", "ascii"), plain("▂█ ±1", "utf-8")
    ('.# +-1', '▂█ ±1')
    """
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode("ascii", "replace").decode()
    return text


def paragraph(text: str, *, width: int, begun: str = "", indent: str = "") -> list[str]:
    """`text` after what is `begun`, in lines of `width`; further ones start with `indent`.

    No word is broken, no percent sign parts from its number, and a command (``$ ...``) is one line to copy.
    """
    if text.startswith(_COMMAND):
        return [f"{begun}  {text}"]
    lines = textwrap.wrap(
        text.replace(" %", "\u00a0%"),
        width,
        initial_indent=begun,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\u00a0", " ") for line in lines] or [begun.rstrip()]


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[str]:
    """A table without frames, its first column to the left; columns that do not fit go into a second one below it.

    >>> for line in table_lines(("name", "a", "b"), [("x", "1", "22")], width=7): print(line)
    name  a
    x     1
    <BLANKLINE>
    name   b
    x     22
    """
    sizes = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    blocks, used = [[0]], sizes[0]
    for place in range(1, len(columns)):
        if len(blocks[-1]) > 1 and used + 2 + sizes[place] > width:
            blocks.append([0])
            used = sizes[0]
        blocks[-1].append(place)
        used += 2 + sizes[place]
    lines: list[str] = []
    for block in blocks:
        lines += [""] if lines else []
        for row in (columns, *rows):
            cells = [row[place].rjust(sizes[place]) if place else row[0].ljust(sizes[0]) for place in block]
            lines.append("  ".join(cells).rstrip())
    return lines


def features_on_limits(
    features: Sequence[FeatureEvidence], drops: Sequence[Look], rises: Sequence[Look], *, width: int
) -> list[str]:
    """One line for each feature: name, change, and its values on a strip whose limits stand in the same place in all.

    Left is worse for all of them, so that a loss that grew stands left as a recall that fell does. Where a name and a
    strip do not fit into one line the strip has its own.
    """
    name_width = max(len(each.name) for each in features)
    changes = [percent(each.change or 0.0) for each in features]
    change_width = max(len(change) for change in changes)
    room = width - name_width - change_width - len(_ALARM) - 4
    alone = room < _LEAST_STRIP
    size = min(_MOST_STRIP, max(width - len(_ALARM) - 2 if alone else room, 12))
    begun = "  " if alone else " " * (name_width + change_width + 4)
    lines = [f"{begun}worse{'better'.rjust(size - 5)}"]
    for each, change, drop, rise in zip(features, changes, drops, rises, strict=True):
        strip = _strip(each, drop, rise, size) + (_ALARM if each.alarm else "")
        head = f"{each.name.ljust(name_width)}  {change.rjust(change_width)}"
        lines += [head, f"  {strip}"] if alone else [f"{head}  {strip}"]
    return lines


def _strip(feature: FeatureEvidence, drop: Look, rise: Look, size: int) -> str:
    stored = signed_logs(feature.name, feature.stored)
    centre = float(stored.mean())
    new = signed_logs(feature.name, [value for value in feature.new if value is not None]) - centre
    left = round(_MARGIN * (size - 1))
    right = size - 1 - left

    def place(shift: float) -> int:
        return left + round((shift + drop.limit) / (drop.limit + rise.limit) * (right - left))

    def inside(where: int) -> int:
        return min(max(where, 0), size - 1)

    cells = [_OUTSIDE] * left + [" "] * (right - left + 1) + [_OUTSIDE] * left
    counts = [0] * size
    for shift in (stored - centre).tolist():
        counts[inside(place(shift))] += 1
    for where, count in enumerate(counts):
        if count:
            cells[where] = _BARS[min(count, len(_BARS)) - 1]
    middle = place(0.0)
    cells[middle] = _CENTRE if not counts[middle] else cells[middle]
    cells[left], cells[right] = _LIMITS[0], _LIMITS[1]
    marks = [(shift, _RUN) for shift in new.tolist()] if len(new) > 1 else []
    for shift, mark in [*marks, (float(new.mean()), _MEAN)]:
        where = place(shift)
        cells[inside(where)] = _BEYOND[0] if where < 0 else _BEYOND[1] if where >= size else mark
    return "".join(cells)


def ladder(shares: Sequence[float]) -> str:
    """One bar for each share of a limit that is used up: a dot at nothing, full at all of it, a cross beyond.

    >>> ladder([0.0, 0.3, 0.99, 1.2])
    '·▄█✗'
    """
    return "".join(
        "✗" if not share <= 1 else "·" if share == 0 else _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]
        for share in shares
    )
