"""`CheckResult` and `Verdict`: what every check returns and every report prints.

A result reads top down: verdict and name, the worst place, the limit, how much is outside it, what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

__all__ = [
    "CheckResult",
    "Verdict",
    "any_red",
    "count_of",
    "judged",
    "not_measured",
    "percent",
    "places",
    "render",
    "sample",
    "worst_verdict",
]


class Verdict(StrEnum):
    """What a check found. Only PASS is green."""

    PASS = "PASS"
    FAIL = "FAIL"
    SUSPICIOUS = "SUSPICIOUS"
    """Better than seed noise allows: a leak or a changed evaluation, until a person has looked."""

    CHANCE = "CHANCE"
    """What random ranking gives: nothing that this evaluation can see was learned."""

    CHANGED = "CHANGED"
    """Numbers differ beyond rounding in the environment they were stored in, and quality is not worse: a person
    decides whether that was meant."""

    UNDECIDED = "UNDECIDED"
    """The runs so far do not decide; a gate trains another seed and never ends with this."""

    UNCALIBRATED = "UNCALIBRATED"
    """No baseline for this environment; it is never borrowed from another one."""

    NOT_MEASURED = "NOT MEASURED"
    """The property could not be looked at. In a gate that is red: what was not measured is not green."""

    @property
    def red(self) -> bool:
        """Whether a test that carries this verdict must fail."""
        return self not in (Verdict.PASS, Verdict.UNCALIBRATED)


_ORDER = (
    Verdict.FAIL,
    Verdict.CHANCE,
    Verdict.SUSPICIOUS,
    Verdict.CHANGED,
    Verdict.UNDECIDED,
    Verdict.NOT_MEASURED,
    Verdict.UNCALIBRATED,
    Verdict.PASS,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """One property of one subject, judged."""

    check: str
    """The property, e.g. ``reproducible`` or ``embeddings/padding_row``."""

    subject: str
    """What was judged: a system, a table, a metric."""

    verdict: Verdict
    figure: str
    """The measured number or fact, ready to print, e.g. ``0.3412`` or ``0 of 500 rows``."""

    expected: str = ""
    """What it is compared with: a baseline value, a chance value, another run."""

    limit: str = ""
    """The limit that decides, e.g. ``>= 0.3120``."""

    worst: str = ""
    """Where it is worst: step, row, parameter, user."""

    outside: str = ""
    """How much is outside the limit, e.g. ``4 of 6400 (0.06 %)``."""

    detail: str = ""
    """One or two sentences a newcomer understands: what this means."""

    advice: str = ""
    """What to do next, a command where there is one."""

    rows: str = ""
    """Every place outside the limit, as `places` writes it; for machines, so that `render` leaves it out."""

    def __post_init__(self) -> None:
        if not isinstance(self.verdict, Verdict):
            object.__setattr__(self, "verdict", Verdict(self.verdict))

    @property
    def red(self) -> bool:
        """Whether this result fails a test."""
        return self.verdict.red

    def to_dict(self) -> dict[str, str]:
        """Plain strings, safe to send between processes and into JUnit files."""
        return {key: str(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CheckResult:
        """The inverse of `to_dict`."""
        return cls(**{**values, "verdict": Verdict(values["verdict"])})


def render(result: CheckResult) -> str:
    """The result as a few lines for a terminal; empty parts are left out."""
    lines = [f"{result.verdict} {result.check}: {result.subject}: {result.figure}"]
    rows = (
        ("worst", result.worst),
        ("expected", result.expected),
        ("limit", result.limit),
        ("outside", result.outside),
        ("why", result.detail),
        ("next", result.advice),
    )
    lines += [f"  {name:<9} {text}" for name, text in rows if text]
    return "\n".join(lines)


def any_red(results: Iterable[CheckResult]) -> bool:
    """Whether one of the results fails a test."""
    return any(result.red for result in results)


def worst_verdict(results: Iterable[CheckResult]) -> Verdict:
    """The verdict of a group: its worst; an empty group measured nothing."""
    found = {result.verdict for result in results}
    return next((verdict for verdict in _ORDER if verdict in found), Verdict.NOT_MEASURED)


def judged(check: str, subject: str, *, ok: bool, figure: str, **texts: str) -> CheckResult:
    """A result that is PASS where `ok` and FAIL elsewhere; a passing one keeps no advice."""
    if ok:
        texts.pop("advice", None)
    return CheckResult(
        check=check, subject=subject, verdict=Verdict.PASS if ok else Verdict.FAIL, figure=figure, **texts
    )


def not_measured(check: str, subject: str, missing: str, *, advice: str = "") -> CheckResult:
    """The result of a property that could not be looked at, saying what is `missing`."""
    return CheckResult(
        check=check,
        subject=subject,
        verdict=Verdict.NOT_MEASURED,
        figure=missing,
        detail="what was not measured is not green",
        advice=advice,
    )


def percent(share: float) -> str:
    """A share as text with three significant digits.

    >>> percent(0.0006), percent(0.5), percent(0.0)
    ('0.06 %', '50 %', '0 %')
    """
    return f"{100 * share:.3g} %"


def count_of(num: int, total: int, what: str = "") -> str:
    """A count with its total and share.

    >>> count_of(4, 6400, "rows")
    '4 of 6400 rows (0.0625 %)'
    """
    share = f" ({percent(num / total)})" if total and num else ""
    return f"{num} of {total}{' ' + what if what else ''}{share}"


def places(values: Iterable[int], *, limit: int = 1000) -> str:
    """Ascending whole numbers as ranges; after `limit` ranges an ellipsis and the number of all values.

    >>> places([3, 5, 6, 7, 9]), places(range(0, 100, 2), limit=2)
    ('3, 5-7, 9', '0, 2, ... (50 in all)')
    """
    ranges: list[list[int]] = []
    num, cut = 0, False
    for value in values:
        num += 1
        if ranges and value == ranges[-1][1] + 1 and not cut:
            ranges[-1][1] = value
        elif len(ranges) < limit:
            ranges.append([value, value])
        else:
            cut = True
    texts = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges]
    return ", ".join([*texts, f"... ({num} in all)"] if cut else texts)


def sample(values: Iterable[object], *, limit: int = 5) -> str:
    """The first few values, comma-separated, with an ellipsis where there are more.

    >>> sample([1, 2, 3], limit=2)
    '1, 2, ...'
    """
    shown = list(islice(values, limit + 1))
    return ", ".join([*map(str, shown[:limit]), *(["..."] if len(shown) > limit else [])])
