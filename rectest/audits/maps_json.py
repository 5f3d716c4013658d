"""Id maps in JSON: objects either way round, lists, and nested ones; every pair is seen, repeated keys as well.

`json.load` keeps the last of two equal keys in silence, so objects are read as lists of pairs. Large flat objects are
read by `maps_flat.py`, which gives the same entries or nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rectest.audits.maps_flat import flat_entries, padded
from rectest.audits.maps_odd import number_of
from rectest.checks.mapping_entries import Entries, as_raw
from rectest.checks.mapping_ids import PADDED, RawIds
from rectest.errors import DataError

__all__ = ["Pairs", "entries_of", "parse_pairs", "read_json"]

_DIGITS = re.compile(r"[0-9]{1,18}")


class Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object in their order, which a list of JSON is not."""


def read_json(path: Path, *, key: str | None) -> tuple[Entries, str]:
    """The map of a JSON file.

    Raises:
        DataError: no JSON, no map, or several of which `key` names none.
    """
    data = padded(path)
    if key is None and (entries := flat_entries(data)) is not None:
        return entries, "JSON object of indices"
    return entries_of(parse_pairs(data[:-PADDED].tobytes(), path), path, key=key)


def parse_pairs(content: bytes, path: Path) -> Any:
    """The values of JSON text, its objects as `Pairs`; a number of thousands of digits stays text.

    Raises:
        DataError: not UTF-8, or not JSON; the line is named.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"not UTF-8 text: {error.reason} at byte {error.start}"
        raise DataError(msg, path=path) from error
    try:
        return json.loads(text, object_pairs_hook=Pairs, parse_int=number_of)
    except json.JSONDecodeError as error:
        hint = "write the map with json.dump" if text.strip() else "the file is empty"
        msg = f"not JSON: {error.msg}, column {error.colno}"
        raise DataError(msg, path=path, line=error.lineno, hint=hint) from error
    except RecursionError as error:
        msg = "JSON nested too deeply for an id map"
        raise DataError(msg, path=path) from error


def entries_of(value: Any, path: Path, *, key: str | None) -> tuple[Entries, str]:
    """The map in values of JSON, and what it was found to be."""
    if isinstance(value, Pairs):
        inner = {name: part for name, part in value if isinstance(part, list)}
        if key is not None or (inner and max(map(len, inner.values())) >= len(value)):
            name = _chosen(inner, path, key)
            entries, layout = _flat(inner[name], path)
            return entries, f"{layout} under {name!r}"
    return _flat(value, path)


def _chosen(inner: dict[str, Any], path: Path, key: str | None) -> str:
    if key is None and len(inner) == 1:
        return next(iter(inner))
    if key is not None and key in inner:
        return key
    known = ", ".join(f"{name!r} ({len(part)} entries)" for name, part in list(inner.items())[:20])
    problem = "holds several maps" if key is None else f"holds no map named {key!r}"
    msg = f"{problem}; known: {known or 'none'}"
    raise DataError(msg, path=path, hint="name one with --key")


def _flat(value: Any, path: Path) -> tuple[Entries, str]:
    if isinstance(value, Pairs):
        return _object(value)
    if isinstance(value, list):
        if any(isinstance(part, list) for part in value):
            hint = "write an object from raw ids to indices, or a list of raw ids"
            msg = "a list of lists or objects is no id map"
            raise DataError(msg, path=path, hint=hint)
        texts = [as_raw(part) for part in value]
        return Entries(ids=RawIds.from_texts(texts), index=np.arange(len(texts))), "JSON list of raw ids"
    msg = f"JSON of a single {type(value).__name__} is no id map"
    raise DataError(msg, path=path)


def _object(pairs: Sequence[tuple[str, Any]]) -> tuple[Entries, str]:
    names, values = [name for name, _ in pairs], [value for _, value in pairs]
    if names and _from_indices(names, values):
        return Entries.from_values(values, [int(name) for name in names]), "JSON object from indices to raw ids"
    return Entries.from_values(names, values), "JSON object of indices"


def _from_indices(names: list[str], values: list[Any]) -> bool:
    """Whether an object goes from indices to raw ids: its keys count, and its values are texts that do not."""
    if not all(isinstance(value, str) for value in values) or not all(map(_DIGITS.fullmatch, names)):
        return False
    return not all(_DIGITS.fullmatch(value) for value in values) or (_dense(names) and not _dense(values))


def _dense(texts: list[str]) -> bool:
    numbers = {int(text) for text in texts}
    return len(numbers) == len(texts) and min(numbers) <= 1 and max(numbers) <= len(numbers)
