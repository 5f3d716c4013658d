"""How far two runs are apart after they part, and the first printed metric that shows it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rectest.divergence.finding import Growth
from rectest.divergence.tapes import Tape

__all__ = ["first_metric", "growth"]

_MOST_POINTS = 60
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\b(?:nan|inf)\b")
_METRIC = re.compile(
    r"(?P<name>[\w/.-]*?(?:recall|ndcg|hit(?:_?rate)?|hr|mrr|auc|map|precision|accuracy|acc|loss|score)"
    r"(?:[@_]\d+)?)(?![a-z])(?P<between>['\"]?\s*(?:[:=,|(]|is)?\s*)(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)",
    re.IGNORECASE,
)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_HEX = re.compile(r"\b[0-9a-f]{8,}\b|\b0x[0-9a-f]+\b")


def growth(first: Tape, second: Tape, *, start: int) -> tuple[Growth, ...]:
    """Relative differences of loss and parameters at steps from `start` on, at most 60 of them, log-spaced."""
    one, two = _sketches(first), _sketches(second)
    steps = [step for step in sorted(one.keys() & two.keys()) if step >= max(1, start)]
    return tuple(
        Growth(
            step=step,
            loss=_relative(one[step].get("loss"), two[step].get("loss")),
            parameters=_apart(one[step].get("values", ()), two[step].get("values", ())),
        )
        for step in _spaced(steps)
    )


def _sketches(tape: Tape) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for event in tape.of("sketch", "loss"):
        here = found.setdefault(event.step, {})
        if event.kind == "loss":
            here["loss"] = event.info.get("value")
        else:
            here.update({key: value for key, value in event.info.items() if value is not None})
    return found


def _spaced(steps: Sequence[int]) -> list[int]:
    """Every step if there are few, otherwise denser at the start; the first and the last are among them."""
    if len(steps) <= _MOST_POINTS:
        return list(steps)
    last = len(steps) - 1
    places = {round(math.expm1(math.log1p(last) * k / (_MOST_POINTS - 1))) for k in range(_MOST_POINTS)}
    return [steps[place] for place in sorted(places)]


def _relative(one: Any, two: Any) -> float:
    if not isinstance(one, int | float) or not isinstance(two, int | float):
        return math.nan
    if _same(one, two):
        return 0.0
    return abs(one - two) / max(abs(one), abs(two)) if math.isfinite(one) and math.isfinite(two) else math.nan


def _same(one: float, two: float) -> bool:
    return one == two or (one != one and two != two)


def _apart(one: Sequence[float], two: Sequence[float]) -> float:
    """The largest difference of two samples of the parameters, by their root mean square."""
    if not one or len(one) != len(two):
        return math.nan
    moved = [(a, b) for a, b in zip(one, two, strict=True) if not _same(a, b)]
    if not moved:
        return 0.0
    if not all(map(math.isfinite, (*one, *two))):
        return math.nan
    size = math.sqrt(sum(value * value for value in one) / len(one))
    return max(abs(a - b) for a, b in moved) / size if size else math.inf


def first_metric(first: Tape, outputs: tuple[str, str] | None) -> str:
    """The first metric or loss that both runs printed in the same words with other numbers; empty if there is none.

    >>> from rectest.divergence.tapes import Tape
    >>> tape = Tape(process="main", header={}, events=(), end="exit")
    >>> first_metric(tape, ("took 1 s, recall@10: 0.25\\n", "took 2 s, recall@10: 0.26\\n"))
    'recall@10 0.25 and 0.26'
    """
    if outputs is None:
        return ""
    theirs: dict[str, list[list[tuple[str, str]]]] = {}
    for key, values, _ in _lines(outputs[1]):
        theirs.setdefault(key, []).append(values)
    for key, values, end in _lines(outputs[0]):
        waiting = theirs.get(key)
        if not waiting:
            continue
        for (name, one), (_, two) in zip(values, waiting.pop(0), strict=False):
            if one != two:
                step = _step_of(first, end)
                return f"{f'step {step}: ' if step else ''}{name} {one} and {two}"
    return ""


def _lines(text: str) -> list[tuple[str, list[tuple[str, str]], int]]:
    """Lines that name a metric: their text without numbers, names and numbers, and the byte after them."""
    found, end = [], 0
    for line in re.split(r"(?<=[\n\r])", text):
        end += len(line.encode("utf-8", "replace"))
        plain = _ESCAPES.sub("", line)
        values = [(match["name"].strip("./-_"), match["value"]) for match in _METRIC.finditer(plain)]
        if values:
            found.append((_words(plain, values), values, end))
    return found


def _words(line: str, values: Sequence[tuple[str, str]]) -> str:
    names = ",".join(name for name, _ in values)
    return f"{names}|{' '.join(_NUMBER.sub('#', _HEX.sub('#', line)).split())}"


def _step_of(tape: Tape, end: int) -> int:
    """How many steps were over when the byte `end` had been printed; 0 if unknown."""
    positions: list[tuple[int, Mapping[str, Any]]] = [(event.step, event.info) for event in tape.of("output")]
    if not positions:
        return 0
    done = [step for step, info in positions if int(info.get("bytes", 0)) < end]
    return max(done, default=0)
