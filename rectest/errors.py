"""Every error that a user of rectest can meet. Each carries its operands, so that callers never parse text.

A caller's wrong argument is a plain `ValueError` or `TypeError`; the classes here are for the state of the world:
an unreadable file, an absent baseline, a training child that died.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "BaselineError",
    "ChildFailed",
    "ConfigError",
    "CorruptBaseline",
    "DataError",
    "MetricError",
    "NoBaseline",
    "RecordError",
    "RectestError",
    "TapeError",
    "TrainingError",
    "UnknownNameError",
    "UpdateRefused",
    "WatchError",
    "WorldError",
]


class RectestError(Exception):
    """Base of all errors that rectest raises on purpose; the command prints them without a traceback."""


class UnknownNameError(RectestError):
    """A system, world, metric, fault or option that nobody registered."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        near = difflib.get_close_matches(name, self.known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        super().__init__(f"unknown {kind} {name!r}{hint}; known: {', '.join(self.known) or 'none'}")


class ConfigError(RectestError):
    """A setting of a system that does not exist or has a value outside its range."""

    def __init__(self, owner: str, key: str, problem: str) -> None:
        self.owner = owner
        self.key = key
        super().__init__(f"{owner}: setting {key!r} {problem}")


class DataError(RectestError):
    """A data file or array that cannot be used as found."""

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = None if path is None else Path(path)
        self.line = line
        self.hint = hint
        where = "" if path is None else f"{path}{'' if line is None else f', line {line}'}: "
        super().__init__(f"{where}{problem}{'' if hint is None else f'; {hint}'}")


class WorldError(RectestError):
    """A world too small or too odd for what was asked of it (one user, no relevant items, no time column)."""

    def __init__(self, world: str, problem: str) -> None:
        self.world = world
        self.problem = problem
        super().__init__(f"world {world!r}: {problem}")


class MetricError(RectestError):
    """Scores or ranks from which no metric can be computed (NaN, infinite, nobody to score)."""


class RecordError(RectestError):
    """A run record that is missing something, damaged, or of a schema this version does not read."""

    def __init__(self, problem: str, *, path: str | Path | None = None) -> None:
        self.problem = problem
        self.path = None if path is None else Path(path)
        super().__init__(problem if path is None else f"{path}: {problem}")


class TapeError(RectestError):
    """The tape of a watched run that is missing, damaged, or of another version."""

    def __init__(self, path: str | Path, problem: str) -> None:
        self.path = Path(path)
        self.problem = problem
        super().__init__(f"{path} {problem}")


class WatchError(RectestError):
    """A command that could not be watched: it was not found, never started, hung, or recorded nothing."""


class TrainingError(RectestError):
    """Training itself went wrong in a way that can be named (loss not finite, no batch, empty evaluation)."""


class ChildFailed(RectestError):
    """A training child that raised, died, hung or ran out of memory.

    `reason` is one of ``raised``, ``killed``, ``deadline``, ``memory``, ``start``; `detail` is what is known.
    """

    def __init__(self, what: str, *, reason: str, detail: str, log: str | None = None) -> None:
        self.what = what
        self.reason = reason
        self.detail = detail
        self.log = log
        super().__init__(f"training {what}: {detail}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_child_failed, (self.what, self.reason, self.detail, self.log)


def _rebuild_child_failed(what: str, reason: str, detail: str, log: str | None) -> ChildFailed:
    return ChildFailed(what, reason=reason, detail=detail, log=log)


class BaselineError(RectestError):
    """Base of everything that can be wrong with stored baselines."""


class NoBaseline(BaselineError):
    """Nothing is stored for this system in this environment class; it is never borrowed from another."""

    def __init__(self, system: str, env_class: str, path: str | Path) -> None:
        self.system = system
        self.env_class = env_class
        self.path = Path(path)
        super().__init__(
            f"no baseline for {system} in environment class {env_class!r} ({path} does not exist); "
            "record one with: pytest -m gate --rectest-update=new"
        )


class CorruptBaseline(BaselineError):
    """A baseline file that cannot be read as this version's schema."""

    def __init__(self, path: str | Path, problem: str, *, hint: str | None = None) -> None:
        self.path = Path(path)
        self.problem = problem
        tail = hint or "restore it from version control, or record it anew with: pytest -m gate --rectest-update=all"
        super().__init__(f"{path}: {problem}; {tail}")


class UpdateRefused(BaselineError):
    """An update of stored baselines that must not happen (in CI, of NaN, of too few seeds)."""
