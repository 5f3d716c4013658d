"""The details file: everything that ``rectest why`` found, as JSON, and reading it back.

Its schema is a number in the file; a file of another schema is refused with a sentence. What the fields mean is told
where they are made: `rectest.divergence.finding`, `rectest.divergence.confirm`, `rectest.divergence.draws`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from rectest.divergence.confirm import Confirmed
from rectest.divergence.draws import DrawRow
from rectest.divergence.finding import DIVERGED, IDENTICAL, UNKNOWN, Cause, Finding, Growth
from rectest.errors import RecordError
from rectest.record import atomic_write

__all__ = ["SCHEMA", "Details", "RunFacts", "read_details", "write_details"]

SCHEMA = 1

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """One run of the command."""

    tape: str
    """Its folder; gone afterwards unless tapes are kept."""

    seconds: float | None = None
    exit_code: int | None = None
    num_steps: int = 0
    num_events: int = 0
    log: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Versions, flags and threads, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """A finding with everything that led to it."""

    finding: Finding
    answer: tuple[str, ...]
    """The screen, line by line."""

    command: tuple[str, ...] = ()
    """What was run; empty where kept tapes were compared."""

    runs: tuple[RunFacts, ...] = ()
    draws: tuple[DrawRow, ...] = ()
    trials: tuple[Mapping[str, Any], ...] = ()
    """What `--confirm` tried, in order: see `rectest.divergence.confirm.Trial`."""

    confirmed: bool | None = None
    """Whether the runs are identical with the confirmed causes held still; None if it was not tried."""

    notes: tuple[str, ...] = ()
    version: str = ""
    """Of rectest."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the schema first."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    @classmethod
    def trials_of(cls, confirmed: Confirmed | None) -> tuple[Mapping[str, Any], ...]:
        """The trials as they are stored."""
        return () if confirmed is None else tuple(trial.to_dict() for trial in confirmed.trials)


def write_details(path: Path, details: Details) -> Path:
    """Write the file in one atomic step."""
    return atomic_write(path, f"{json.dumps(details.to_dict(), indent=1, allow_nan=False)}\n".encode())


def read_details(path: str | Path) -> Details:
    """Read what `write_details` wrote.

    Raises:
        RecordError: the file is missing or no JSON, of another schema, or not of the shape that the schema says.
    """
    file = Path(path)
    try:
        values = json.loads(file.read_bytes())
    except OSError as e:
        msg = f"cannot be read ({e.strerror}); give a file that --json wrote"
        raise RecordError(msg, path=file) from e
    except ValueError as e:
        msg = f"is no JSON ({e}); give a file that --json wrote"
        raise RecordError(msg, path=file) from e
    found = values.get("schema") if isinstance(values, dict) else None
    if found != SCHEMA:
        problem = f"is no details file of schema {SCHEMA} (found {found!r}); run rectest why again with --json"
        raise RecordError(problem, path=file)
    try:
        return _details(values)
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        msg = f"is damaged ({e}); run rectest why again with --json"
        raise RecordError(msg, path=file) from e


def _details(values: Mapping[str, Any]) -> Details:
    read = {
        "finding": _finding(values["finding"]),
        "answer": tuple(map(str, values["answer"])),
        "command": tuple(map(str, values["command"])),
        "runs": tuple(_made(RunFacts, run) for run in values["runs"]),
        "draws": tuple(_made(DrawRow, row, count=tuple(row["count"])) for row in values["draws"]),
        "trials": tuple(dict(trial) for trial in values["trials"]),
        "notes": tuple(map(str, values["notes"])),
    }
    return _made(Details, {key: value for key, value in values.items() if key != "schema"}, **read)


def _finding(values: Mapping[str, Any]) -> Finding:
    read = {
        "causes": tuple(_made(Cause, cause) for cause in values["causes"]),
        "harmless": tuple(_made(Cause, cause) for cause in values["harmless"]),
        "growth": tuple(
            Growth(step=int(row["step"]), loss=float(row["loss"]), parameters=float(row["parameters"]))
            for row in values["growth"]
        ),
        "evidence": tuple(map(str, values["evidence"])),
        "num_steps": _pair(values["num_steps"]),
        "num_events": _pair(values["num_events"]),
        "timeline": tuple(dict(row) for row in values["timeline"]),
    }
    finding = _made(Finding, values, **read)
    if finding.verdict not in (IDENTICAL, DIVERGED, UNKNOWN):
        msg = f"verdict {finding.verdict!r}"
        raise ValueError(msg)
    return finding


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _made(kind: type[_Value], values: Mapping[str, Any], **read: Any) -> _Value:
    """An instance of a dataclass from plain values; every field must be there, and no other."""
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    if names != set(values):
        odd = ", ".join(sorted(names ^ set(values)))
        msg = f"missing or unknown fields: {odd}"
        raise ValueError(msg)
    return kind(**{**values, **read})


def _plain(value: Any) -> Any:
    """JSON has no NaN: floats that are not finite become their names, which `float` reads back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
