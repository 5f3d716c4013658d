"""Texts that fit: no control characters, long names shortened in the middle, sites with their source line, sizes.

What is said is decided in `rectest.divergence.answer` and in the page.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Site", "clean", "difference_text", "growth_text", "plural", "shorten", "wrapped"]

_LONGEST_WORD = 72
_MOST_BYTES = 2 << 20


def clean(text: object) -> str:
    r"""`text` on one line, with everything that a terminal would not print as it stands escaped.

    >>> clean("a\x1b[31mb\n c")
    'a\\x1b[31mb c'
    """
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)


def shorten(text: str, longest: int = _LONGEST_WORD) -> str:
    """`text` with its middle left out where it is longer than `longest`; its end is what tells names apart.

    >>> shorten("encoder.blocks.11.attention.weight", 20)
    'encod...ntion.weight'
    """
    if len(text) <= longest:
        return text
    head = (longest - 3) // 3
    return f"{text[:head]}...{text[len(text) - (longest - 3 - head) :]}"


def wrapped(text: str, *, width: int, most: int = 3) -> list[str]:
    """`text`, made printable, in at most `most` lines of `width`; what is left out is marked with three dots."""
    words = " ".join(shorten(word, min(width, _LONGEST_WORD)) for word in clean(text).split())
    return textwrap.wrap(words, width, max_lines=most, placeholder=" ...", break_on_hyphens=False)


def plural(count: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "step"), plural(31240, "event")
    ('1 step', '31,240 events')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def difference_text(value: float) -> str:
    """A relative difference for people.

    >>> difference_text(0.0), difference_text(3.04e-8), difference_text(0.0312), difference_text(2.5)
    ('no difference', '3e-08', '3.1 %', '250 %')
    """
    if not math.isfinite(value):
        return "not a finite number"
    if value == 0:
        return "no difference"
    if value < 1e-4:
        return f"{value:.0e}"
    return f"{100 * value:,.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def growth_text(parts: Iterable[tuple[int, float]]) -> str:
    """Differences after numbers of steps.

    >>> growth_text([(1, 3e-8), (10, 0.004)])
    '3e-08 after 1 step, 0.4 % after 10'
    """
    said = [f"{difference_text(value)} after {plural(num, 'step')}" for num, value in list(parts)[:1]]
    return ", ".join([*said, *(f"{difference_text(value)} after {num:,}" for num, value in list(parts)[1:])])


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A line of code, as sites on the tape name it."""

    path: str
    line: int
    function: str = ""

    @classmethod
    def parse(cls, text: str) -> Site | None:
        """The parts of ``path:line:function``; None where it is something else.

        >>> Site.parse("C:/a.py:12:draw")
        Site(path='C:/a.py', line=12, function='draw')
        """
        path, _, rest = text.rpartition(":")
        path, _, line = path.rpartition(":")
        return cls(path=path, line=int(line), function=rest) if path and line.isdecimal() and line.isascii() else None

    @property
    def shown(self) -> str:
        """For people: where, and in which function."""
        inside = f" in {self.function}" if self.function and not self.function.startswith("<module") else ""
        return f"{self.path}:{self.line}{inside}"

    def source(self, roots: Sequence[Path]) -> str:
        """The line itself, from the first of `roots` that has the file; empty where it cannot be read."""
        for root in roots:
            try:
                file = root / self.path
                if file.stat().st_size <= _MOST_BYTES:
                    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                    return lines[self.line - 1].strip() if 0 < self.line <= len(lines) else ""
            except (OSError, ValueError):
                continue
        return ""
