"""`Cell`: a number of a metric table as it was written, with the digits that it was rounded to.

Owns the reading of one cell and the unit of a whole file: percentages without a sign are known only from the cells
beside them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rectest.audits.metric_names import plain
from rectest.metrics.coherence import coherence_violations
from rectest.metrics.measure import Measure

__all__ = ["Cell", "MetricTable", "as_fractions", "read_cell", "sorted_names", "with_common_digits"]

_CELL = re.compile(
    r"(?P<number>[+\-\u2212]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+\-]?\d+)?|[+\-]?(?:nan|inf(?:inity)?))\s*(?P<percent>%?)"
    r"\s*(?:(?:±|\+/-|\+-)\s*[\d.]+(?:e[+\-]?\d+)?\s*%?)?\s*(?:\([^()]*\)|\[[^\[\]]*\])?\s*[*^]*"
)

EXACT = 12
"""Digits from which a number is taken to be written in full; a float64 has 15 to 17."""

_FLOAT32 = 7
"""Digits from which a number may be a float32 in full. Its mean over up to 80 batches is then known to about 5e-6
(80 x 2^-24), which is what five digits grant; `mean_rank` gets two, being a thousand times larger."""

_LARGEST = 1e12
"""No rank is larger; a number that is counts as infinite, which no metric may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One number of a table."""

    text: str
    value: float
    decimals: int | None
    """Digits that it was rounded to; None for a float64 written in full."""

    percent: bool = False
    """Whether it carries a percent sign, or its header does; `value` is then still the number as written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricTable:
    """The metrics of one ranking: an epoch, a model, a split."""

    label: str
    group: str
    """What all tables of one series share: the split, or the block of the file."""

    cells: Mapping[str, Cell]
    """By measure, in the spelling of rectest."""

    series: bool = False
    """Whether it is one of several evaluations of one training."""

    @property
    def values(self) -> dict[str, float]:
        """The numbers alone."""
        return {name: cell.value for name, cell in self.cells.items()}

    @property
    def decimals(self) -> dict[str, int]:
        """The digits of every rounded cell."""
        return {name: cell.decimals for name, cell in self.cells.items() if cell.decimals is not None}


def read_cell(text: str, *, in_percent: bool = False) -> Cell | None:
    """A cell as a number; None where it holds none, or more than one.

    >>> read_cell("**0.7803**"), read_cell("0.274→0.687")
    (Cell(text='**0.7803**', value=0.7803, decimals=4, percent=False), None)
    """
    bare = plain(text).strip("|$ ")
    if re.fullmatch(r"[+-]?\d,\d+\s*%?|\d{2},\d+\s*%?", bare):
        bare = bare.replace(",", ".")
    match = _CELL.fullmatch(bare)
    if match is None:
        return None
    number = match["number"].replace("\u2212", "-")
    value = float(number)
    return Cell(
        text=text.strip(),
        value=math.inf if abs(value) > _LARGEST else value,
        decimals=_digits(number),
        percent=in_percent or bool(match["percent"]),
    )


def _digits(number: str) -> int | None:
    """Digits after the point that the text resolves; None from `EXACT` on."""
    if not any(character.isdigit() for character in number):
        return None
    mantissa, _, exponent = number.partition("e")
    digits = max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))
    return None if digits >= EXACT and len(mantissa.strip("+-0.")) >= EXACT else digits


def with_common_digits(tables: Sequence[MetricTable]) -> list[MetricTable]:
    """The tables of a file that a program wrote, where trailing zeros were dropped: every column has its most digits.

    A column with a number in full is in full throughout. A column of nothing but 0.0 and 1.0, which is how programs
    write a whole number of any precision, has the digits of the finest column beside it. Numbers that could be a
    float32 are granted what a mean in float32 loses.
    """
    columns: dict[tuple[str, str], list[Cell]] = {}
    for table in tables:
        for name, cell in table.cells.items():
            columns.setdefault((table.group, name), []).append(cell)
    narrow = all(_is_float32(cell.value) for column in columns.values() for cell in column)
    digits = {key: _column_digits(key[1], column, narrow=narrow) for key, column in columns.items()}
    shares = {key: column for key, column in columns.items() if key[1] != "mean_rank"}
    for key, column in shares.items():
        if all(_is_bare(cell) for cell in column):
            beside = [digits[other] for other in shares if other[0] == key[0]]
            digits[key] = max(beside, key=lambda num: math.inf if num is None else num)
    return [
        replace(
            table,
            cells={name: replace(cell, decimals=digits[table.group, name]) for name, cell in table.cells.items()},
        )
        for table in tables
    ]


def _column_digits(name: str, column: Sequence[Cell], *, narrow: bool) -> int | None:
    finite = [cell.decimals for cell in column if math.isfinite(cell.value)]
    exact = any(digits is None for digits in finite)
    most = max((digits for digits in finite if digits is not None), default=0)
    return _granted(name, None if exact else most, narrow=narrow)


def _is_bare(cell: Cell) -> bool:
    return cell.text in ("0.0", "1.0")


def _granted(name: str, digits: int | None, *, narrow: bool) -> int | None:
    cap = 2 if name == "mean_rank" else 5
    if digits is None:
        return cap if narrow else None
    return min(digits, cap) if digits >= _FLOAT32 else digits


def _is_float32(value: float) -> bool:
    return not math.isfinite(value) or float(np.float32(value)) == value


def as_fractions(
    tables: Sequence[MetricTable], *, single_relevant: bool, unit: str = "auto"
) -> tuple[list[MetricTable], str]:
    """All values as fractions, and a note on what was done.

    A percent sign decides for its cell. Without signs, cells above 1 make the file one of percentages when most cells
    are above 1, or when the whole file is possible as percentages and those above 1 are written like the others (61.44
    among 0.5201 is a fraction in another unit); `unit` (fraction, percent) overrides that.

    Raises:
        ValueError: `unit` is none of these.
    """
    if unit not in ("auto", "fraction", "percent"):
        msg = f"the unit must be auto, fraction or percent, got {unit!r}"
        raise ValueError(msg)
    signed = [_scaled(table, only_signed=True) for table in tables]
    num_signed = sum(cell.percent for table in tables for cell in table.cells.values())
    note = f"{num_signed} values with a percent sign were read as fractions" if num_signed else ""
    bare = [c.value for table in tables for n, c in table.cells.items() if n != "mean_rank" and not c.percent]
    above = sum(value > 1 for value in bare)
    if unit == "fraction" or (unit == "auto" and not above):
        return signed, note
    scaled = [_scaled(table, only_signed=False) for table in tables]
    most = 2 * above > len(bare)
    possible = not _lone_percentages(tables) and not any(_broken(table, single_relevant) for table in scaled)
    if unit == "percent" or most or possible:
        why = "as asked" if unit == "percent" else f"{above} of {len(bare)} lie above 1"
        return scaled, "; ".join(filter(None, (note, f"values were read as percentages: {why}")))
    return signed, note


def _lone_percentages(tables: Sequence[MetricTable]) -> bool:
    """Whether the cells above 1 have two digits less than the others, as percentages among fractions have."""
    cells = [c for table in tables for name, c in table.cells.items() if name != "mean_rank" and not c.percent]
    above = [cell.decimals for cell in cells if cell.value > 1]
    others = [cell.decimals for cell in cells if not cell.value > 1]
    most = max((digits for digits in others if digits is not None), default=0)
    return bool(above) and all(digits is not None and 0 < digits <= most - 2 for digits in above)


def _broken(table: MetricTable, single_relevant: bool) -> bool:
    return bool(coherence_violations(table.values, single_relevant=single_relevant, decimals=table.decimals, ties=True))


def _scaled(table: MetricTable, *, only_signed: bool) -> MetricTable:
    cells = {
        name: cell if name == "mean_rank" or (only_signed and not cell.percent) else _hundredth(cell)
        for name, cell in table.cells.items()
    }
    return replace(table, cells=cells)


def _hundredth(cell: Cell) -> Cell:
    return replace(cell, value=cell.value / 100, decimals=None if cell.decimals is None else cell.decimals + 2)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Measures in the order of tables."""
    return sorted(names, key=Measure.parse)
