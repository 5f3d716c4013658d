"""`Entries`: the raw ids and indices of a map as they were written, with those that are not as they should be.

Owns the form in which every judge of id maps takes its map, and how a written index becomes a number; the judgement
is in `mapping.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_ids import RawIds
from rectest.checks.mapping_numbers import Numbers, numbers_of

__all__ = ["NO_INDEX", "PADDINGS", "SPECIALS", "Entries", "OddIndex", "as_raw"]

Ints = npt.NDArray[np.int64]

NO_INDEX = int(np.iinfo(np.int64).min)
"""Stands for an index that is no whole number of 64 bits."""

PADDINGS = frozenset({"[pad]", "<pad>", "pad", "padding", "[padding]", "<padding>", "__pad__", "_pad_"})
"""Names that stand for no item, in lower case; they may have the index of padding."""

SPECIALS = PADDINGS | {"[unk]", "<unk>", "[mask]", "<mask>", "[cls]", "[sep]", "<s>", "</s>", "<bos>", "<eos>", "[oov]"}
"""Names of entries that are no raw ids, in lower case; no format is asked of them."""

_LONGEST_SPECIAL = max(map(len, SPECIALS))
_BEGINS = np.isin(np.arange(256), np.frombuffer(b"[<pP_", dtype=np.uint8))
_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+\.0*")


@dataclass(frozen=True, kw_only=True, slots=True)
class OddIndex:
    """An index that is not written as a whole number."""

    place: int
    """Which entry, in the order of the file."""

    written: str
    kind: str
    """What it is: a decimal number, text, null, a truth value, nested, not a number, out of range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entries:
    """The entries of one map."""

    ids: RawIds
    index: Ints
    odd: tuple[OddIndex, ...] = ()
    _numbers: list[Numbers] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.index):
            msg = f"{len(self.ids)} raw ids but {len(self.index)} indices; one index for each raw id is needed"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def from_values(cls, raws: Sequence[str] | RawIds, values: Sequence[Any], *, quoted: bool = True) -> Entries:
        """The entries of values as a file gave them; `quoted`: digits in text are odd, as in JSON."""
        ids = raws if isinstance(raws, RawIds) else RawIds.from_texts(raws)
        if all(type(value) is int for value in values):
            try:
                return cls(ids=ids, index=np.array(values, dtype=np.int64))
            except OverflowError:
                pass
        index = np.full(len(values), NO_INDEX, dtype=np.int64)
        odd = []
        for place, value in enumerate(values):
            number, kind = _as_index(value, quoted=quoted)
            index[place] = number
            if kind:
                odd.append(OddIndex(place=place, written=_written(value), kind=kind))
        return cls(ids=ids, index=index, odd=tuple(odd))

    def numbers(self) -> Numbers | None:
        """The indices that are numbers, as ranges; None where there is none. Kept."""
        if not self._numbers:
            known = self.index[self.index != NO_INDEX] if self.odd else self.index
            if not known.size:
                return None
            self._numbers.append(numbers_of(known))
        return self._numbers[0]

    def find(self, others: RawIds) -> Ints:
        """The index of each of the `others`; -1 where it is absent or has none."""
        places = self.ids.find(others)
        found = np.where(places >= 0, self.index[places], -1)
        return np.where(found == NO_INDEX, -1, found)

    def special(self) -> Ints:
        """Places of entries that are no raw ids by their names."""
        if self.ids.shortest > _LONGEST_SPECIAL or self.ids.all_digits:
            return np.zeros(0, dtype=np.int64)
        likely = np.flatnonzero(_BEGINS[self.ids.first_bytes()])
        hashes = self.ids.take(likely).hashes(fold=True)
        likely = likely[np.isin(hashes, RawIds.from_texts(sorted(SPECIALS)).hashes(fold=True))]
        return np.array([i for i in likely.tolist() if self.ids[i].lower() in SPECIALS], dtype=np.int64)


def as_raw(value: object) -> str:
    """A raw id as a file gave it, as text; null is an empty one.

    >>> as_raw(487), as_raw(None), as_raw(487.0)
    ('487', '', '487.0')
    """
    return "" if value is None else str(value)


def _as_index(value: object, *, quoted: bool) -> tuple[int, str]:
    if value is None:
        return NO_INDEX, "null"
    if isinstance(value, bool):
        return NO_INDEX, "a truth value"
    if isinstance(value, int):
        return _in_range(value, "")
    if isinstance(value, float):
        if not np.isfinite(value):
            return NO_INDEX, "not a number"
        return _in_range(int(value), "a decimal number") if value == int(value) else (NO_INDEX, "a decimal number")
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text) and len(text) < 4000:
            return _in_range(int(text), "text" if quoted else "")
        if _DECIMAL.fullmatch(text) and len(text) < 4000:
            return _in_range(int(text.partition(".")[0]), "text" if quoted else "a decimal number")
        return NO_INDEX, "text" if quoted else _unquoted(text)
    return NO_INDEX, "nested"


def _in_range(number: int, kind: str) -> tuple[int, str]:
    return (number, kind) if -(2**63) < number < 2**63 else (NO_INDEX, "out of range")


def _unquoted(text: str) -> str:
    if not text or text.lower() in ("null", "none", "na"):
        return "null"
    try:
        return "a decimal number" if np.isfinite(float(text)) else "not a number"
    except ValueError:
        return "text"


def _written(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
