"""The few odd entries of a large flat JSON object, read by `json`: indices that are no plain digits, escaped names.

`maps_flat.py` reads all others as columns, and asks here for the parts of a text in which it met something else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_entries import Entries, OddIndex
from rectest.checks.mapping_ids import PADDED, RawIds

__all__ = ["number_of", "odd_indices", "renamed", "unescaped"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def number_of(text: str) -> int | float:
    """A whole number of JSON; infinite where it has thousands of digits."""
    return int(text) if len(text) < 400 else float("inf")


def odd_indices(text: bytes, num: int, first: int) -> tuple[Ints, tuple[OddIndex, ...]] | None:
    """The indices of `num` pairs, each with a comma after it; None where the text is anything else, or is nested.

    `first` is the place of the first pair among all entries.
    """
    try:
        pairs = json.loads("{" + text.decode() + '"": 0}', object_pairs_hook=lambda pairs: pairs, parse_int=number_of)
    except (ValueError, RecursionError):
        return None
    values: list[Any] = [value for _, value in pairs[:-1]]
    if len(values) != num or any(isinstance(value, list) for value in values):
        return None
    found = Entries.from_values([""] * num, values)
    odd = (OddIndex(place=first + entry.place, written=entry.written, kind=entry.kind) for entry in found.odd)
    return found.index, tuple(odd)


def unescaped(text: bytes) -> str | None:
    """The text that quoted JSON text stands for; None where it is no such text.

    >>> unescaped(b'"caf\\\\u00e9"')
    'café'
    """
    try:
        return str(json.loads(text.decode()))
    except ValueError:
        return None


def renamed(data: Bytes, start: Ints, length: Ints, names: Mapping[int, str]) -> RawIds:
    """The ids of a text, some of them by other names, which are kept after its end; both columns are written to."""
    places: Sequence[int] = sorted(names)
    texts = [names[place].encode("utf-8", "surrogatepass") for place in places]
    length[places] = [len(text) for text in texts]
    start[places] = len(data) - PADDED + np.cumsum(length[places]) - length[places]
    ends = np.frombuffer(b"".join([*texts, bytes(PADDED)]), dtype=np.uint8)
    return RawIds(np.concatenate([data[:-PADDED], ends]), start, length)
