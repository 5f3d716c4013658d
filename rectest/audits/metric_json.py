"""Metric tables in JSON: a flat object, objects by split or model, lists of rows, JSON lines.

Numbers are kept as texts, so that their digits count. Keys give the measures wherever they stand; what an object is
nested in becomes the label of its table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rectest.audits.metric_grid import TIME, Entry, Read, collected
from rectest.audits.metric_names import Name, cut_off_of, looks_like_a_metric, name_of, plain
from rectest.errors import DataError

__all__ = ["read_json", "read_json_lines"]

_MAX_DEPTH = 40
_VALUE_KEYS = ("value", "score", "mean", "result")
_NAME_KEYS = ("metric", "measure", "name", "tag")


class _Number(str):
    """A number as its text."""

    __slots__ = ()


def read_json(text: str) -> Read:
    """The tables of one JSON document.

    Raises:
        DataError: the text is no JSON.
    """
    return _read([(_loaded(text), "")])


def read_json_lines(text: str) -> Read:
    """The tables of a file with one JSON value a line; a broken line is a `DataError` that names it."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    return _read([(_loaded(line, line=number), f"line {number}") for number, line in lines])


def _loaded(text: str, *, line: int | None = None) -> Any:
    try:
        return json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    except json.JSONDecodeError as e:
        problem = f"it is no JSON: {e.msg} at column {e.colno}"
        raise DataError(problem, line=e.lineno if line is None else line) from e
    except RecursionError as e:
        problem = "it is nested too deeply"
        raise DataError(problem) from e


def _read(values: Sequence[tuple[Any, str]]) -> Read:
    entries: list[tuple[str, Entry]] = []
    left_out: dict[str, None] = {}
    for value, label in values:
        for where, entry in _walk(value, group="", label=label, left_out=left_out, depth=0):
            entries.append((where, entry))
    read = Read(left_out=tuple(left_out))
    for group in dict.fromkeys(where for where, _ in entries):
        read += collected((entry for where, entry in entries if where == group), group=group)
    return read


def _walk(
    value: Any, *, group: str, label: str, left_out: dict[str, None], depth: int, series: bool = False
) -> Iterator[tuple[str, Entry]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        own, timed = _own_label(value, label)
        series = series or timed
        pair = _named_value(value)
        if pair is not None:
            yield group, Entry(name=pair[0], k=None, text=pair[1], label=own, series=series)
            return
        for key, inner in value.items():
            yield from _member(key, inner, group, own, series=series, left_out=left_out, depth=depth)
    elif isinstance(value, list):
        for number, inner in enumerate(value, start=1):
            plain_row = isinstance(inner, Mapping) and _named_value(inner) is None
            own = label or (f"row {number}" if plain_row else "")
            yield from _walk(inner, group=group, label=own, left_out=left_out, depth=depth + 1, series=series)


def _member(
    key: str, inner: Any, group: str, label: str, *, series: bool, left_out: dict[str, None], depth: int
) -> Iterator[tuple[str, Entry]]:
    name = name_of(key)
    if isinstance(inner, str) and name is not None and name.measure:
        yield group, Entry(name=name, k=None, text=inner, label=label, series=series)
    elif isinstance(inner, Mapping) and name is not None and name.k is None and _by_cut_off(inner):
        for depth_text, text in inner.items():
            yield group, Entry(name=name, k=cut_off_of(depth_text), text=str(text), label=label, series=series)
    elif isinstance(inner, list) and name is not None and name.measure and all(isinstance(v, _Number) for v in inner):
        for number, text in enumerate(inner, start=1):
            yield group, Entry(name=name, k=None, text=text, label=f"{label} entry {number}".strip(), series=True)
    elif isinstance(inner, Mapping | list):
        below = "/".join(filter(None, (group, plain(key))))
        yield from _walk(inner, group=below, label=label, left_out=left_out, depth=depth + 1, series=series)
    elif isinstance(inner, _Number) and name is None and looks_like_a_metric(key):
        left_out[key] = None


def _by_cut_off(inner: Mapping[str, Any]) -> bool:
    return bool(inner) and all(cut_off_of(key) and isinstance(value, str) for key, value in inner.items())


def _named_value(value: Mapping[str, Any]) -> tuple[Name, str] | None:
    """``{"metric": "recall@10", "value": 0.5}``."""
    name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
    text = next((value[key] for key in _VALUE_KEYS if isinstance(value.get(key), str)), None)
    found = name_of(name) if name is not None and not isinstance(name, _Number) else None
    return (found, text) if found is not None and found.measure and text is not None else None


def _own_label(value: Mapping[str, Any], label: str) -> tuple[str, bool]:
    """What an object says of itself: its epoch or step, its model, its name."""
    keys = [key for key in value if plain(key) in (*TIME, "model", "split", "seed", "dataset", "run", "system")]
    known = {key: value[key] for key in keys if isinstance(value[key], str)}
    if not known:
        return label, False
    return " ".join(f"{plain(key)} {text}" for key, text in known.items()), any(plain(key) in TIME for key in known)
