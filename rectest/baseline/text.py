"""A baseline as JSON text: its one writing, its one reading, and the way from older schemas to this one.

What a valid baseline is, is `schema`'s business. Reading refuses whatever JSON allows and a baseline must not hold:
NaN, a key given twice, another schema.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rectest.baseline.schema import SCHEMA, Baseline
from rectest.errors import CorruptBaseline

__all__ = ["parse_baseline", "render_baseline"]


def render_baseline(baseline: Baseline) -> bytes:
    """JSON for people and for diffs: sorted keys, two spaces, one number per line, floats at full precision."""
    plain = baseline.model_dump(mode="json", by_alias=True)
    text = json.dumps(plain, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def parse_baseline(content: bytes, *, path: str | Path) -> Baseline:
    """The inverse of `render_baseline`; `path` only names the file in errors.

    Raises:
        CorruptBaseline: not JSON, another schema, a field missing, unknown or of the wrong type, NaN or infinity.
    """
    plain = _migrated(_plain_json(content, path), path)
    try:
        return Baseline.model_validate_json(json.dumps(plain))
    except RecursionError as e:
        raise CorruptBaseline(path, f"not a baseline ({e})") from e
    except ValidationError as e:
        first, *rest = e.errors(include_url=False)
        more = f" (and {len(rest)} more)" if rest else ""
        raise CorruptBaseline(path, f"{_json_path(first['loc'])}: {_problem(first)}{more}") from e


def _plain_json(content: bytes, path: str | Path) -> object:
    try:
        return json.loads(
            content.decode(),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
    except json.JSONDecodeError as e:
        raise CorruptBaseline(path, f"not valid JSON in line {e.lineno}, column {e.colno} ({e.msg})") from e
    except (ValueError, RecursionError) as e:
        raise CorruptBaseline(path, f"not a baseline ({e})") from e


def _migrated(plain: object, path: str | Path) -> dict[str, Any]:
    """The content in this version's schema, whatever version wrote it."""
    if not isinstance(plain, dict):
        raise CorruptBaseline(path, f"$: holds a JSON {type(plain).__name__}, needed an object")
    number = plain.get("schema")
    if isinstance(number, bool) or not isinstance(number, int):
        raise CorruptBaseline(path, f"$.schema: needed a schema number, found {number!r}")
    while plain["schema"] != SCHEMA:
        step = _MIGRATIONS.get(plain["schema"])
        if step is None:
            newer = "it was written by a newer rectest: upgrade rectest"
            older = "it was written by an older rectest: record it anew with: pytest -m gate --rectest-update=all"
            problem = f"$.schema: schema {number}, this version of rectest reads schema 1 to {SCHEMA}"
            raise CorruptBaseline(path, problem, hint=newer if number > SCHEMA else older)
        plain = step(plain)
    return plain


def _from_1(plain: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had neither twins nor streams nor a sidecar, and no early and middle windows.

    What is not as schema 1 had it is left alone: the validation that follows names it.
    """
    ensemble = plain.get("ensemble")
    names = ensemble.get("features") if isinstance(ensemble, dict) else None
    if not isinstance(ensemble, dict) or not isinstance(names, dict):
        return {**plain, "schema": 2}
    late = [name.removesuffix("late") for name in names if name.endswith("/late")]
    left_out = {f"{stem}{part}": "recorded by a version that kept late windows only" for stem in late for part in _NEW}
    return {**plain, "schema": 2, "ensemble": {**ensemble, "left_out": left_out}}


_NEW = ("early", "mid")
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def _refuse_constant(name: str) -> float:
    msg = f"{name} where a finite number is needed"
    raise ValueError(msg)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text} is outside the range of a float"
        raise ValueError(msg)
    return value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON readers keep the last of two equal keys, which hides half of a badly merged file."""
    seen = dict(pairs)
    if len(seen) != len(pairs):
        keys = [key for key, _ in pairs]
        msg = f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice"
        raise ValueError(msg)
    return seen


def _problem(error: Mapping[str, Any]) -> str:
    found = error["input"]
    text = error["msg"].removeprefix("Value error, ")
    shown = repr(found)
    return text if isinstance(found, dict | list | tuple) or len(shown) > 100 else f"{text}, found {shown}"


def _json_path(loc: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else _json_key(part) for part in loc]
    return "$" + "".join(parts)


def _json_key(key: str) -> str:
    return f".{key}" if key.replace("_", "").isalnum() else f"[{key!r}]"
