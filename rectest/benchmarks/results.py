"""`Measurement`, `Comparison`, `Report`: what measuring and comparing return, as values and as JSON.

This file owns what the figures mean and which outcomes are red. How they are come by is for `runner` and `compare`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias, TypeVar

from rectest.errors import RectestError

__all__ = ["SCHEMA", "Clock", "Comparison", "Measurement", "Report", "State"]

SCHEMA = 1

Clock: TypeAlias = Literal["cpu", "wall"]
_T = TypeVar("_T")


class State(StrEnum):
    """What was found about one benchmark, in time or in memory."""

    PASS = "PASS"
    FASTER = "FASTER"
    LEANER = "LEANER"
    NEW = "NEW"
    """The base has no such benchmark: nothing to compare with, and nothing wrong."""

    SLOWER = "SLOWER"
    FATTER = "FATTER"
    VANISHED = "VANISHED"
    """The base has it and the head has not: nobody would see it become slow."""

    NOT_MEASURED = "NOT MEASURED"

    @property
    def red(self) -> bool:
        """Whether the comparison fails by it."""
        return self in (State.SLOWER, State.FATTER, State.VANISHED, State.NOT_MEASURED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One benchmark with the code of one commit: what a call takes."""

    name: str
    """The node id, relative to the project's root."""

    seconds: float
    """Wall time of a call: the median over processes of the median over samples."""

    cpu_seconds: float
    """CPU time of all threads of the process, likewise."""

    clock: Clock
    """Which of the two says what the benchmark costs: CPU time where one thread works and never waits."""

    process_seconds: tuple[float, ...] = ()
    """A call on `clock`, one value a process (each the median of its samples): what varies between processes."""

    num_samples: int = 0
    """Timings over all processes."""

    calls_per_sample: int = 1
    peak_bytes: int | None = None
    """Host memory that a call needs at its peak, above what the process held before; None where unknown."""

    device_peak_bytes: int | None = None
    """The same on CUDA devices; None where none is used."""

    def __post_init__(self) -> None:
        for name in ("seconds", "cpu_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                msg = f"{name} of {self.name} must be finite and not negative, got {value!r}"
                raise ValueError(msg)

    @property
    def judged_seconds(self) -> float:
        """A call on `clock`."""
        return self.cpu_seconds if self.clock == "cpu" else self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "process_seconds": list(self.process_seconds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_dict`.

        Raises:
            RectestError: a field is missing, unknown or of a wrong value.
        """
        return _built(cls, {**values, "process_seconds": tuple(values.get("process_seconds", ()))})


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One benchmark, base against head."""

    name: str
    time: State
    memory: State | None = None
    """None where it was not asked for, or the system does not tell."""

    base: Measurement | None = None
    head: Measurement | None = None
    ratio: float | None = None
    """Head by base on `clock`: 1.1 is a slowdown of 10 %. Of adjacent samples, so not the ratio of the two figures."""

    low: float | None = None
    """Lower end of the 95 % confidence interval of `ratio`, from the variation between process pairs."""

    high: float | None = None
    surely_above: float | None = None
    """The bound that decides SLOWER: at the declared false-alarm rate the ratio is above it."""

    surely_below: float | None = None
    """The bound that decides PASS: at the declared rate of misses the ratio is below it."""

    limit: float = 0.05
    """The relative slowdown that must not pass."""

    detectable: float | None = None
    """The relative slowdown that these samples would have shown with 90 % probability."""

    num_pairs: int = 0
    clock: Clock = "cpu"
    detail: str = ""
    """Why it was not measured, or what is odd about it, for people."""

    @property
    def red(self) -> bool:
        """Whether time or memory fails."""
        return self.time.red or (self.memory is not None and self.memory.red)

    @property
    def verdict(self) -> str:
        """One word or two for a table: the red ones first, else what is worth telling."""
        found = [self.time] if self.memory is None else [self.time, self.memory]
        told = [state for state in found if state.red] or [state for state in found if state is not State.PASS]
        return ", ".join(told) or State.PASS

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sides = {side: None if (found := getattr(self, side)) is None else found.to_dict() for side in ("base", "head")}
        return {**asdict(self), **sides, "red": self.red}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """The inverse of `to_dict`.

        Raises:
            RectestError: as `Measurement.from_dict`.
        """
        given = {name: value for name, value in values.items() if name != "red"}
        try:
            given["time"] = State(given["time"])
            given["memory"] = None if given.get("memory") is None else State(given["memory"])
        except (KeyError, ValueError) as e:
            msg = f"a comparison of benchmarks that this version does not understand ({e!r})"
            raise RectestError(msg) from e
        for side in ("base", "head"):
            given[side] = None if given.get(side) is None else Measurement.from_dict(given[side])
        return _built(cls, given)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A whole comparison."""

    base: str
    """The commit that the head was compared with."""

    head: str
    """The commit that is checked out, with ``+`` where files differ from it."""

    comparisons: tuple[Comparison, ...]
    alpha: float
    """Declared: probability that any benchmark is called slower when none is."""

    beta: float
    """Declared: probability that a benchmark slower by its limit passes."""

    seconds: float = 0.0
    """What the whole comparison took."""

    machine: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def red(self) -> bool:
        """Whether any benchmark is red, or none was compared or new."""
        return not self.comparisons or any(found.red for found in self.comparisons)

    def to_json(self) -> str:
        """JSON text, without NaN."""
        values = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in ("base", "head", "alpha", "beta", "seconds", "red")},
            "machine": dict(self.machine),
            "notes": list(self.notes),
            "comparisons": [found.to_dict() for found in self.comparisons],
        }
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of `to_json`.

        Raises:
            RectestError: it is no JSON, of another schema, or a field is missing or unknown.
        """
        try:
            values = json.loads(text)
        except ValueError as e:
            msg = f"a comparison of benchmarks is JSON; this is not ({e})"
            raise RectestError(msg) from e
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            msg = f"a comparison of benchmarks of schema {SCHEMA} was needed; compare again with this version"
            raise RectestError(msg)
        values.pop("red", None)
        values["notes"] = tuple(values.get("notes", ()))
        values["comparisons"] = tuple(Comparison.from_dict(found) for found in values.get("comparisons", ()))
        return _built(cls, values)


def _built(cls: type[_T], values: Mapping[str, Any]) -> _T:
    try:
        return cls(**values)
    except (TypeError, ValueError) as e:
        msg = f"a {cls.__name__.lower()} of benchmarks that this version does not understand ({e})"
        raise RectestError(msg) from e
