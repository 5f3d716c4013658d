"""`Figure`: a number as somebody wrote it down, with the interval of values that round to it.

A report says 12.98 MB, +151 %, 0.274. Such a number is right when some value that rounds to it follows from the data;
this file owns that interval and no verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Figure", "growth"]

_SUFFIX = {"K": 1e3, "M": 1e6, "B": 1e9}
_TEXT = re.compile(r"([+-]?)\s*(\d[\d,]*)(?:\.(\d*))?\s*([KMB]?)(?:\s*(?:%|MB))?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A stated number: what was written, and the values that it may stand for."""

    text: str
    value: float
    half: float
    """Half a unit of the last digit; 0 for a whole number without a suffix, which is taken as exact."""

    @classmethod
    def parse(cls, text: str, *, exact_integers: bool = True) -> Figure:
        """Read ``0.274``, ``+151 %``, ``12.98 MB``, ``3.2M`` or ``203,455``.

        Args:
            exact_integers: whether a whole number stands for itself; otherwise it is rounded like any other.

        Raises:
            ValueError: the text is no such number.

        >>> Figure.parse("3.2M").interval
        (3150000.0, 3250000.0)
        """
        match = _TEXT.fullmatch(text.strip().replace("\N{MINUS SIGN}", "-"))
        if match is None:
            msg = f"{text!r} is no number as reports write them; '0.274', '+151 %', '12.98 MB' or '3.2M' was needed"
            raise ValueError(msg)
        sign, whole, decimals, suffix = match.groups()
        unit = _SUFFIX.get(suffix, 1.0)
        value = float(f"{sign}{whole.replace(',', '')}.{decimals or 0}") * unit
        exact = decimals is None and not suffix and exact_integers
        half = 0.0 if exact else 0.5 * unit * 10.0 ** -len(decimals or "")
        return cls(text=text.strip(), value=value, half=half)

    @property
    def interval(self) -> tuple[float, float]:
        """Smallest and largest value that rounds to the figure."""
        return self.value - self.half, self.value + self.half

    def allows(self, low: float, high: float | None = None) -> bool:
        """Whether a value in ``low..high`` rounds to the figure; ends count, with a slack of float rounding."""
        high = low if high is None else high
        slack = 1e-9 * max(1.0, abs(self.value))
        return low <= self.interval[1] + slack and high >= self.interval[0] - slack


def growth(before: Figure, after: Figure) -> tuple[float, float]:
    """Smallest and largest growth in percent from one positive figure to another, given how both were rounded.

    >>> low, high = growth(Figure.parse("0.274"), Figure.parse("0.687"))
    >>> round(low, 1), round(high, 1)
    (150.1, 151.4)
    """
    if before.interval[0] <= 0:
        msg = f"growth needs a positive start, got {before.text}"
        raise ValueError(msg)
    low = after.interval[0] / before.interval[1] - 1
    return 100 * low, 100 * (after.interval[1] / before.interval[0] - 1)
