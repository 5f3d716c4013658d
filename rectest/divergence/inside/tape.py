"""The tape on disk: one folder a run, in it one file a process, one JSON line a block of events.

A line is complete or absent, so a killed process leaves all but its last block. Reading is `rectest.divergence.tapes`.

    {"tape": 1, "process": "main", "rank": null, ...}                       the first line: the header
    [[step, phase, kind, name, digest, site, info], ...]                    each other line: events, in program order
    {"end": "exit"}                                                         the last line; absent after a kill
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "PHASES", "TABLES", "VERSION", "Writer"]

VERSION = 1

PHASES = ("setup", "train", "eval")
"""Before the first training forward; training; with gradients switched off, or a model in evaluation mode."""

KINDS = {
    "environment": "versions, flags and threads (info); written at the first training forward and when they change",
    "file": "a file that was opened for reading (name: path, digest: content) or writing (info: mode)",
    "listing": "a directory listing (name: directory, digest: the order in which its names came)",
    "process": "a child process was started (name: its process name on the tape)",
    "queue": "objects taken from a queue that other processes feed",
    "seed": "a generator was made or seeded (name: generator, info.value: the seed, null for OS entropy)",
    "entropy": "os.urandom, uuid4, secrets, a clock or a process id was read (name: which)",
    "hash": "builtin hash() of a string or bytes",
    "order": "the order in which a set of strings was iterated (located by a rewritten run)",
    "draw": "numbers drawn (name: function, digest: values, info: generator, count, state before the first)",
    "init": "parameters and buffers of a root module before its first forward",
    "batch": "what a DataLoader handed out, leaf by leaf",
    "input": "arguments of a root module, leaf by leaf",
    "forward": "the output of a module",
    "loss": "what backward was called on (info.value: the number)",
    "local_gradient": "gradients of one process before they are reduced",
    "reduce": "a collective (name: which, digest: the result, info.input: digest of this process's part)",
    "gradient": "gradients as the optimizer sees them",
    "optimizer": "optimizer state and settings after its step",
    "parameter": "parameters after the optimizer's step",
    "weights": "parameters of a root module before its first training forward of a later step",
    "rng": "the state of a global generator after the optimizer's step (name: generator)",
    "sketch": "a few values of every parameter, to say how far apart two runs are (info.values: floats)",
    "output": "how much had been printed (info.bytes)",
}
"""Every kind of event. The digest is 32 hex digits or empty; ``site`` is ``path:line:function`` or empty."""

TABLES = ("init", "local_gradient", "gradient", "optimizer", "parameter", "weights")
"""Kinds whose digest stands for many tensors: ``info.each`` is 16 hex digits a tensor, run together; ``info.names``
their names, given when they are new for this kind and name and left out while they stay the same."""


class Writer:
    """Appends events to one file; a block is handed to the operating system at each `flush`."""

    def __init__(self, folder: str | Path, process: str, header: dict[str, Any]) -> None:
        self.path = self._create(Path(folder), process)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  it lives as long as the process
        self._pid = os.getpid()
        self._events: list[list[Any]] = []
        self._line({"tape": VERSION, "process": self.path.stem, **header})

    @staticmethod
    def _create(folder: Path, process: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            path = folder / (f"{process}.jsonl" if number == 1 else f"{process}~{number}.jsonl")
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            except FileExistsError:
                continue
            return path
        msg = f"{folder} holds thousands of tapes of {process!r}; give an empty folder"
        raise FileExistsError(msg)

    @property
    def num_waiting(self) -> int:
        """Events that are not written yet."""
        return len(self._events)

    def add(
        self, step: int, phase: str, kind: str, name: str, digest: str, site: str, info: dict[str, Any] | None
    ) -> None:
        """Note one event; it is written at the next `flush`."""
        self._events.append([step, phase, kind, name, digest, site, info])

    def reserve(self) -> list[Any]:
        """A place in the order of events that is filled later; an event that stays empty is left out."""
        place: list[Any] = []
        self._events.append(place)
        return place

    def flush(self) -> None:
        """Hand all events to the operating system; they survive a kill from here on."""
        events = [event for event in self._events if event]
        self._events = []
        if events:
            self._line(events)

    def close(self, end: str) -> None:
        """Write what is left and say how the process ended; a second call does nothing."""
        if self._file.closed or os.getpid() != self._pid:
            return
        self.flush()
        self._line({"end": end})
        self._file.close()

    def _line(self, value: Any) -> None:
        self._file.write(json.dumps(value, separators=(",", ":")) + "\n")
        self._file.flush()
