"""`Claim` and `Measured`: one sentence of an incident report, and what came out when it was put to the test.

The numbers that a report states are inputs of a claim; what is measured is computed from them, from simulations and
from trainings, and so is the verdict. Each claim that needs no training carries a `counter`: inputs under which its
verdict is another one, because a measurement that can only come out one way measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rectest.errors import RectestError

if TYPE_CHECKING:
    from rectest.claims.runs import Runs
    from rectest.record import RunSpec

__all__ = ["Book", "Claim", "Finding", "Measured", "NotHere", "Stated", "finding"]

Stated = Mapping[str, Any]
"""What a report states, by name."""


class Finding(StrEnum):
    """What became of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDABLE = "undecidable here"
    """Neither, with what is at hand: data, a device or runs are missing, or the error is larger than the effect."""


class NotHere(RectestError):
    """Something that a measurement needs is not at hand here: a data set, a GPU, a training that was left out."""


def finding(holds: bool) -> Finding:
    """Confirmed where the claim holds, refuted elsewhere."""
    return Finding.CONFIRMED if holds else Finding.REFUTED


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The outcome of one measurement."""

    figure: str
    """The measured numbers, ready to print."""

    verdict: Finding
    truth: str = ""
    """What is really so, where it is known."""

    where: str = ""
    """What of this repository measured it: functions, checks, planted faults."""

    command: str = ""
    """A command that gives the figure again."""

    def to_dict(self) -> dict[str, str]:
        """Plain strings."""
        return {key: str(value) for key, value in asdict(self).items()}


Measure = Callable[[Stated, "Runs"], Measured]
Trains = Callable[[Stated], Sequence["RunSpec"]]


def _no_training(_stated: Stated) -> tuple[RunSpec, ...]:
    return ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Claim:
    """One claim of one report, with its measurement."""

    report: str
    number: str
    """The report and the place in it, e.g. ``001.3``."""

    said: str
    """The claim in short words of ours."""

    measure: Measure
    stated: Stated = field(default_factory=dict)
    counter: Stated = field(default_factory=dict)
    """Changes of `stated` under which the verdict is another one; empty where only other runs can change it."""

    trains: Trains = _no_training

    @property
    def needs_training(self) -> bool:
        """Whether the measurement asks for trained runs."""
        return self.trains is not _no_training

    def specs(self, **changes: Any) -> tuple[RunSpec, ...]:
        """What has to be trained for it."""
        return tuple(self.trains({**self.stated, **changes}))

    def judge(self, runs: Runs, **changes: Any) -> Measured:
        """Measure the claim with some of its stated numbers changed.

        What is not at hand here, a failed training included, makes it undecidable and is named as the figure.
        """
        try:
            measured = self.measure({**self.stated, **changes}, runs)
        except RectestError as e:
            measured = Measured(figure=f"not measured: {e}", verdict=Finding.UNDECIDABLE)
        return measured if measured.command else replace(measured, command=f"rectest reports {self.number}")


class Book:
    """The claims of one report in order."""

    def __init__(self, report: str, title: str) -> None:
        self.report = report
        self.title = title
        self.claims: list[Claim] = []

    def claim(
        self,
        number: int,
        said: str,
        *,
        stated: Stated | None = None,
        counter: Stated | None = None,
        trains: Trains | None = None,
    ) -> Callable[[Measure], Measure]:
        """Enter the decorated measurement as claim `number`.

        Raises:
            ValueError: the number is taken.
        """
        name = f"{self.report}.{number}"
        if any(claim.number == name for claim in self.claims):
            msg = f"there are two claims {name}"
            raise ValueError(msg)

        def enter(measure: Measure) -> Measure:
            self.claims.append(
                Claim(
                    report=self.report,
                    number=name,
                    said=said,
                    measure=measure,
                    stated=stated or {},
                    counter=counter or {},
                    trains=trains or _no_training,
                )
            )
            return measure

        return enter
