"""The page of ``rectest why``: one self-contained HTML file without a script; equal details give equal bytes.

The template owns the words between the values and the looks; this file makes plain texts of the details. Everything
that came from outside is escaped by the template; only the figure is not, and it holds numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rectest.record import atomic_write

if TYPE_CHECKING:
    from rectest.divergence.details import Details
    from rectest.divergence.finding import Cause, Finding

__all__ = ["growth_figure", "why_page", "write_why_page"]

_TEMPLATES = Path(__file__).with_name("templates")
_TONES = {"identical": ("good", "✓"), "diverged": ("bad", "✕")}
_CELLS = {True: ("same", "·", "equal"), False: ("other", "✕", "differs"), None: ("absent", "–", "absent in a run")}
_LABEL = 11
"""Columns of a label on the screen."""

_MOST_COLUMNS = 44
_BEFORE, _AFTER = 8, 20
"""Steps around the first difference that have a column of their own where there are too many for all."""

_MOST_POINTS = 200
_WIDTH, _HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 34


def why_page(details: Details) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    finding = details.finding
    tone, mark = _TONES.get(finding.verdict, ("warn", "?"))
    values = {
        "headline": details.answer[0] if details.answer else finding.verdict,
        "answer": _blocks(details.answer[1:]),
        "verdict": finding.verdict,
        "tone": tone,
        "mark": mark,
        "command": " ".join(details.command),
        "timeline": _timeline(finding),
        "growth": growth_figure([(row.step, row.loss, row.parameters) for row in finding.growth]),
        "causes": [_cause(cause) for cause in finding.causes],
        "harmless": [_cause(cause) for cause in finding.harmless],
        "trials": [_trial(trial) for trial in details.trials],
        "runs": details.runs,
        "notes": details.notes,
        "version": details.version,
        "css": "".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "why.css")),
    }
    page = templates.get_template("why.html").render(**values, **_draws(details), **_environment(details))
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def write_why_page(path: Path, details: Details) -> Path:
    """Write the page in one atomic step."""
    return atomic_write(path, why_page(details).encode())


def _blocks(lines: Sequence[str]) -> list[dict[str, str]]:
    """The screen below its headline as label and text; further lines of a label have none of their own."""
    blocks: list[dict[str, str]] = []
    for line in filter(None, lines):
        label, text = line[:_LABEL].strip(), line[_LABEL:]
        if label or not blocks:
            blocks.append({"label": label, "text": text})
        else:
            blocks[-1]["text"] += f"\n{text}"
    return blocks


def _cause(cause: Cause) -> dict[str, str]:
    state = {True: "✓ confirmed", False: "✕ not it", None: "not tried"}[cause.confirmed]
    used = cause.drawn_at if cause.drawn_at != cause.site else ""
    return {"state": state, "what": cause.what, "site": cause.site, "drawn_at": used, "advice": cause.advice}


def _trial(trial: Mapping[str, Any]) -> dict[str, str]:
    found = trial.get("finding") or {}
    place = f"step {found.get('step')}, {found.get('stage')}: {found.get('name')}"
    return {
        "pins": ", ".join(trial.get("pins", ())) or "nothing new",
        "outcome": str(trial.get("outcome", "")),
        "found": str(trial.get("problem") or (place if found.get("stage") else found.get("verdict", ""))),
    }


def _draws(details: Details) -> dict[str, Any]:
    rows = [
        {
            "equal": row.equal,
            "site": row.site,
            "function": row.function,
            "generator": row.generator,
            "process": row.process,
            "count": f"{row.count[0]:,}" if row.count[0] == row.count[1] else f"{row.count[0]:,} and {row.count[1]:,}",
            "first_step": row.first_step,
        }
        for row in details.draws
    ]
    return {"draws": rows, "num_other": sum(not row["equal"] for row in rows)}


def _environment(details: Details) -> dict[str, Any]:
    """One row a version, flag or count; those that differ come first."""
    sides = [run.environment for run in details.runs]
    rows = []
    for name in dict.fromkeys(name for side in sides for name in side):
        cells = [side.get(name, "–") for side in sides]
        rows.append({"name": name, "cells": cells, "differs": len(set(cells)) > 1})
    rows.sort(key=lambda row: not row["differs"])
    return {"environment": rows, "environment_differs": sum(bool(row["differs"]) for row in rows)}


def _timeline(finding: Finding) -> dict[str, Any]:
    """Rows in the order in which stages come up, columns by step."""
    cells: dict[tuple[str, int], bool | None] = {}
    for row in finding.timeline:
        key = str(row["stage"]), int(row["step"])
        cells[key] = _worse(cells[key], row["equal"]) if key in cells else row["equal"]
    steps = sorted({step for _, step in cells})
    columns = _columns(steps, finding.step)
    own = finding.stage, finding.step
    first = own if cells.get(own) is False else _first(cells)
    rows = []
    for stage in dict.fromkeys(stage for stage, _ in cells):
        row_cells = [_cell(cells, stage, column, first) for column in columns]
        rows.append({"name": stage.replace("_", " "), "cells": row_cells})
    return {"columns": [_label(column) for column in columns], "rows": rows}


def _first(cells: Mapping[tuple[str, int], bool | None]) -> tuple[str, int] | None:
    """The cell that differs first, where the class of the divergence has no row of its own."""
    return min((key for key, equal in cells.items() if equal is False), key=lambda key: key[1], default=None)


def _worse(first: bool | None, second: bool | None) -> bool | None:
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def _columns(steps: Sequence[int], first: int) -> list[list[int]]:
    """Every step a column, or single steps around the first difference and blocks of equal size elsewhere."""
    if len(steps) <= _MOST_COLUMNS:
        return [[step] for step in steps]
    near = [step for step in steps if first - _BEFORE <= step <= first + _AFTER]
    sides = [step for step in steps if step < first - _BEFORE], [step for step in steps if step > first + _AFTER]
    size = -(-(len(sides[0]) + len(sides[1])) // (_MOST_COLUMNS - _BEFORE - _AFTER - 3))
    blocks = [[side[k : k + size] for k in range(0, len(side), size)] for side in sides]
    return [*blocks[0], *([step] for step in near), *blocks[1]]


def _label(column: Sequence[int]) -> str:
    if len(column) > 1:
        return f"{column[0]}–{column[-1]}"
    return str(column[0]) if column[0] else "setup"


def _cell(
    cells: Mapping[tuple[str, int], bool | None],
    stage: str,
    column: Sequence[int],
    first: tuple[str, int] | None,
) -> dict[str, Any] | None:
    found = [cells[stage, step] for step in column if (stage, step) in cells]
    if not found:
        return None
    equal = found[0]
    for other in found[1:]:
        equal = _worse(equal, other)
    kind, mark, says = _CELLS[equal]
    here = first is not None and stage == first[0] and first[1] in column
    title = f"{stage}, {'step ' if column[0] else ''}{_label(column)}: {says}{', the first' if here else ''}"
    return {"kind": kind, "mark": mark, "first": here, "title": title}


def growth_figure(rows: Sequence[tuple[int, float, float]]) -> str:
    """Differences of loss and parameters by step, on a log scale; empty where no step has a finite positive one.

    Args:
        rows: step, relative difference of the loss, of the parameters; NaN where unknown.
    """
    values = [value for row in rows for value in row[1:] if math.isfinite(value) and value > 0]
    if not values:
        return ""
    every = -(-len(rows) // _MOST_POINTS)
    rows = [row for place, row in enumerate(rows) if place % every == 0 or place == len(rows) - 1]
    low, high = math.floor(math.log10(min(values))) - 1, math.ceil(math.log10(max(values)))
    high = max(high, low + 2)
    steps = [row[0] for row in rows]
    scale = _Scale(min(steps), max(steps), low, high)
    parts = [_grid(scale)]
    for place, (name, mark) in enumerate((("loss", "dot"), ("parameters", "square")), start=1):
        points = [(scale.x(row[0]), scale.y(row[place])) for row in rows if math.isfinite(row[place])]
        if points:
            parts.append(_line(points, name, mark))
    label = (
        f"relative difference of loss and parameters from step {min(steps)} to {max(steps)}, up to {max(values):.2g}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="growth" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
    return f'{head} aria-label="{label}">{"".join(parts)}</svg>'


class _Scale:
    """Steps and powers of ten to places in the figure; zero is at the foot."""

    def __init__(self, first: int, last: int, low: int, high: int) -> None:
        self.first, self.last, self.low, self.high = first, last, low, high

    def x(self, step: float) -> float:
        share = (step - self.first) / max(1, self.last - self.first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.height(math.log10(value) if value > 0 else self.low)

    def height(self, power: float) -> float:
        return _TOP + (self.high - power) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(scale: _Scale) -> str:
    every = -(-(scale.high - scale.low) // 6)
    parts = []
    for power in [*range(scale.high, scale.low, -every), scale.low]:
        y = scale.height(power)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = "0" if power == scale.low else f"1e{power}"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    ends = {scale.first: "start", scale.last: "end"} if scale.last > scale.first else {scale.first: "start"}
    for step, anchor in ends.items():
        parts.append(f'<text x="{scale.x(step):.1f}" y="{_HEIGHT - 18}" text-anchor="{anchor}">{step}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH) / 2:.1f}" y="{_HEIGHT - 4}" text-anchor="middle">step</text>')
    return "".join(parts)


def _line(points: Sequence[tuple[float, float]], name: str, mark: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = f'<polyline class="{name}" points="{path}"/>'
    shown = points[:: -(-len(points) // 30)]
    if mark == "dot":
        marks = (f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in shown)
    else:
        marks = (
            f'<rect class="square" x="{x - 2.2:.1f}" y="{y - 2.2:.1f}" width="4.4" height="4.4"/>' for x, y in shown
        )
    return line + "".join(marks)
