"""The history of benchmarks: one JSON line per recorded run, one file per environment class, only ever appended to.

It owns the format, reading and appending; where the numbers come from is for `pytest_json`, what they say for
`changes`. A line that a killed process left half written stays where it is: readers report it, the next run begins a
line of its own, and nothing is dropped or merged.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rectest.environment import Environment
from rectest.errors import RecordError

__all__ = ["FOLDER", "BenchHistory", "RecordedRun", "Timing", "append_run", "read_histories", "read_history"]

FOLDER = "baselines/bench"
"""Where histories lie in a repository."""

SCHEMA = 1
LOCK_TIMEOUT = 60.0
"""Seconds to wait for another process that is appending."""

_NEEDED = ("median", "min", "max", "mean", "stddev", "rounds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What one benchmark of one run measured."""

    name: str
    """The test's node id."""

    stats: Mapping[str, Any]
    """Of pytest-benchmark, in seconds per iteration: median, min, max, mean, stddev, rounds and what else it gave."""

    cpu_seconds: float | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes: ``host_peak`` of the process, ``host_growth`` of a call, and the same of the ``device`` on CUDA."""

    ratios: Mapping[str, float] = field(default_factory=dict)
    group: str | None = None
    param: str | None = None
    params: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        numbers = {name: value for name, value in self.stats.items() if not isinstance(value, str)}
        numbers |= {name: self.stats.get(name) for name in _NEEDED}
        numbers |= {f"memory {name}": value for name, value in self.memory.items()}
        numbers |= {f"ratio {name}": value for name, value in self.ratios.items()}
        odd = [name for name, value in numbers.items() if not _finite(value)]
        if odd or not self.stats["median"] > 0 or self.stats["rounds"] < 1:
            told = ", ".join(f"{name} {numbers[name]!r}" for name in odd or ("median", "rounds"))
            msg = f"{self.name}: {told}; needed finite numbers, and a median over at least one round"
            raise RecordError(msg)

    @property
    def median(self) -> float:
        """Seconds per iteration, the middle one of all rounds."""
        return float(self.stats["median"])

    @property
    def own_memory(self) -> dict[str, int]:
        """Bytes that are the benchmark's doing: no peak of a process whose growth is known, as others filled it."""
        grown = {name.replace("growth", "peak") for name in self.memory if name.endswith("_growth")}
        return {name: size for name, size in sorted(self.memory.items()) if name not in grown}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """One line of a history: one run of benchmarks in one environment."""

    date: str
    """UTC, ISO 8601: equal to the order of time when sorted as text."""

    commit: str | None
    dirty: bool | None
    environment: Environment
    machine: Mapping[str, str]
    """Processor, cores and system: times of different machines are not compared, even where their bits agree."""

    benchmarks: Mapping[str, Timing]

    def __post_init__(self) -> None:
        """Raise where a run could not be put in its place, or says nothing."""
        try:
            datetime.fromisoformat(self.date)
        except (TypeError, ValueError) as e:
            msg = f"date {self.date!r} is not of ISO 8601"
            raise RecordError(msg) from e
        if not isinstance(self.commit, str | None) or not isinstance(self.dirty, bool | None):
            msg = f"commit {self.commit!r} and dirty {self.dirty!r}; needed a hash and true or false, or null"
            raise RecordError(msg)
        if not self.benchmarks:
            msg = "holds no benchmark"
            raise RecordError(msg)

    @property
    def label(self) -> str:
        """What people find it by: the commit, ``+`` where files had changed, or the date."""
        return self.date if self.commit is None else self.commit[:12] + ("+" if self.dirty else "")

    @property
    def series(self) -> tuple[str, str]:
        """The fingerprint and the machine: absolute values are comparable where both are equal."""
        return self.environment.fingerprint, " ".join(value for _, value in sorted(self.machine.items()))

    def to_line(self) -> bytes:
        """One line of JSON; equal runs give equal bytes."""
        values = {
            "schema": SCHEMA,
            "date": self.date,
            "commit": self.commit,
            "dirty": self.dirty,
            "fingerprint": self.environment.fingerprint,
            "summary": self.environment.describe(),
            "environment": self.environment.to_dict(),
            "machine": dict(self.machine),
            "benchmarks": {name: _plain(timing) for name, timing in self.benchmarks.items()},
        }
        return (json.dumps(values, sort_keys=True, allow_nan=False, separators=(",", ":")) + "\n").encode()

    @classmethod
    def from_line(cls, line: bytes) -> RecordedRun:
        """The inverse of `to_line`.

        Raises:
            RecordError: not JSON, cut off, of another schema, or not the values of a run.
        """
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as e:
            msg = f"not JSON, or cut off ({e})"
            raise RecordError(msg) from e
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            found = values.get("schema") if isinstance(values, dict) else type(values).__name__
            msg = f"schema {found!r}, this version reads {SCHEMA}"
            raise RecordError(msg)
        try:
            return cls._from_values(values)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            msg = f"not the values of a run ({type(e).__name__}: {e})"
            raise RecordError(msg) from e

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> RecordedRun:
        environment = Environment.from_dict(values["environment"])
        if environment.fingerprint != values["fingerprint"]:
            msg = f"its environment has the fingerprint {environment.fingerprint}, it says {values['fingerprint']}"
            raise RecordError(msg)
        return cls(
            date=values["date"],
            commit=values["commit"],
            dirty=values["dirty"],
            environment=environment,
            machine={str(name): str(value) for name, value in values["machine"].items()},
            benchmarks={name: Timing(name=name, **each) for name, each in values["benchmarks"].items()},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchHistory:
    """What a file holds."""

    path: Path
    runs: tuple[RecordedRun, ...]
    """By date."""

    damaged: tuple[str, ...] = ()
    """Lines that are no run, one sentence each; whoever shows the history shows these too."""

    @property
    def env_class(self) -> str:
        """The environment class that the file is named after."""
        return self.path.stem

    @property
    def latest(self) -> frozenset[str]:
        """Names of the benchmarks of the last run."""
        return frozenset(self.runs[-1].benchmarks) if self.runs else frozenset()


def read_history(path: Path) -> BenchHistory:
    """Read a file line by line; one that does not exist holds nothing.

    Raises:
        OSError: the file is there and cannot be read.
    """
    content = path.read_bytes() if path.exists() else b""
    runs, damaged = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            run = RecordedRun.from_line(line)
            _require_class(run, path)
        except RecordError as e:
            damaged.append(f"{path.name}, line {number} of {len(line)} bytes is no run: {e}")
        else:
            runs.append(run)
    return BenchHistory(path=path, runs=tuple(sorted(runs, key=lambda run: run.date)), damaged=tuple(damaged))


def read_histories(folder: Path) -> list[BenchHistory]:
    """The histories of all environment classes in a folder, by name; none where there is no folder."""
    return [read_history(path) for path in sorted(folder.glob("[!.]*.jsonl"))]


def append_run(folder: Path, run: RecordedRun) -> tuple[Path, tuple[str, ...]]:
    """Append a run to the file of its class, as one locked write that reached the disk; returns it and its damage.

    Raises:
        RecordError: the same run is there already, or another process held the lock too long.
        OSError: the file cannot be written.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.environment.env_class}.jsonl"
    try:
        with FileLock(folder / ".lock", timeout=LOCK_TIMEOUT):
            return path, _append(path, run)
    except Timeout as e:
        msg = f"another process has been appending for {LOCK_TIMEOUT:g} s; end it, or remove {folder / '.lock'}"
        raise RecordError(msg, path=path) from e


def _append(path: Path, run: RecordedRun) -> tuple[str, ...]:
    before = read_history(path)
    line = run.to_line()
    if any(other.to_line() == line for other in before.runs):
        msg = f"the run of {run.date} at {run.label} is there already"
        raise RecordError(msg, path=path)
    found = path.read_bytes() if path.exists() else b""
    content = line if not found or found.endswith(b"\n") else b"\n" + line
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return before.damaged


def _require_class(run: RecordedRun, path: Path) -> None:
    if run.environment.env_class != path.stem:
        msg = f"of environment class {run.environment.env_class}, which does not belong into {path.name}"
        raise RecordError(msg)


def _plain(timing: Timing) -> dict[str, Any]:
    values = asdict(timing)
    del values["name"]
    return {key: value for key, value in values.items() if value not in (None, {})}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
