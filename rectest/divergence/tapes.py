"""Reading tapes: one run is a folder, one process a file, one line a block of events.

A damaged or foreign file is a `TapeError` that names the line; a file that ends in the middle of a line (a kill) loses
that line only and is marked as cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rectest.divergence.inside.tape import KINDS, PHASES, TABLES, VERSION
from rectest.errors import TapeError

__all__ = ["Event", "Run", "Tape", "load_run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One line of what a process did."""

    step: int
    """The optimizer step that was being worked on, from 1; what comes before training has step 1, phase ``setup``."""

    phase: str
    kind: str
    name: str
    digest: str = ""
    site: str = ""
    """``path:line:function`` or empty."""

    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_draw(self) -> bool:
        """Whether numbers were drawn from a generator."""
        return self.kind == "draw"

    @property
    def tensors(self) -> dict[str, str]:
        """For kinds in `TABLES`: digest (16 hex digits) by tensor name; empty for other kinds."""
        names, each = self.info.get("names", ()), self.info.get("each", "")
        return {name: each[16 * i : 16 * i + 16] for i, name in enumerate(names)}


@dataclass(frozen=True, kw_only=True)
class Tape:
    """Everything that one process noted, in program order."""

    process: str
    """Stable over runs: ``main``, ``rank0``, ``main.1`` (its first child), ``main.1~2`` (a name that came twice)."""

    header: Mapping[str, Any]
    events: tuple[Event, ...]
    end: str
    """``exit``, ``stopped``, ``exception: ...``, or ``cut`` where the process was killed."""

    @property
    def num_steps(self) -> int:
        """Completed optimizer steps."""
        return len({event.step for event in self.events if event.kind == "parameter"})

    def of(self, *kinds: str) -> Iterator[Event]:
        """The events of some kinds."""
        return (event for event in self.events if event.kind in kinds)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The tapes of all processes of one run."""

    path: Path
    tapes: Mapping[str, Tape]

    @cached_property
    def trainers(self) -> tuple[Tape, ...]:
        """Processes that took optimizer steps, by name; if none did, those that noted anything but files."""
        found = [tape for tape in self.tapes.values() if tape.num_steps]
        found = found or [tape for tape in self.tapes.values() if any(True for _ in tape.of("draw", "forward", "loss"))]
        return tuple(sorted(found, key=lambda tape: tape.process))

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the process that took most."""
        return max((tape.num_steps for tape in self.tapes.values()), default=0)


def load_run(path: str | Path) -> Run:
    """Read the tape of a run.

    Raises:
        TapeError: the folder is missing or empty, a file is no tape, of another version, or damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        problem = "is a file; a tape is a folder" if folder.exists() else "does not exist"
        raise TapeError(folder, problem)
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise TapeError(folder, "holds no tape: nothing was recorded in it")
    tapes = [_load(file) for file in files]
    return Run(path=folder, tapes={tape.process: tape for tape in tapes})


def _load(path: Path) -> Tape:
    lines = path.read_bytes().split(b"\n")
    cut = lines.pop() != b""
    values = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
    if not values:
        return Tape(process=path.stem, header={}, events=(), end="cut")
    header = values[0]
    if not isinstance(header, dict) or header.get("tape") != VERSION:
        found = header.get("tape") if isinstance(header, dict) else type(header).__name__
        raise TapeError(path, f"is no tape of version {VERSION} (found {found!r}); record it again with this version")
    end = values[-1].get("end", "cut") if isinstance(values[-1], dict) and len(values) > 1 and not cut else "cut"
    blocks = [value for value in values[1:] if isinstance(value, list)]
    return Tape(process=path.stem, header=header, events=tuple(_events(path, blocks)), end=str(end))


def _parse(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as e:
        raise TapeError(path, f"line {number} is damaged ({e}); record the run again") from e


def _events(path: Path, blocks: list[list[Any]]) -> Iterator[Event]:
    names: dict[tuple[str, str], list[str]] = {}
    for block in blocks:
        for row in block:
            try:
                step, phase, kind, name, digest, site, info = row
            except (TypeError, ValueError) as e:
                raise TapeError(path, f"holds an event of another shape ({row!r:.80}); record the run again") from e
            if kind not in KINDS or phase not in PHASES:
                raise TapeError(path, f"holds an unknown event ({phase!r}, {kind!r}); record it with this version")
            if kind in TABLES:
                known = names[kind, name] = (info or {}).get("names") or names.get((kind, name), [])
                info = {**(info or {}), "names": known}
            yield Event(step=step, phase=phase, kind=kind, name=name, digest=digest, site=site, info=info or {})
