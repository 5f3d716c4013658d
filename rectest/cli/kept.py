"""`KeptTrainer`: many trainings of which none is lost when one crashes or the command is killed.

Every finished run is kept in a folder until its baseline is written. Whether a kept run still is what would be trained
now is measured, not believed: before any of them is used one is trained again, and all are thrown away unless it comes
out equal to the last bit. That holds for code, data and libraries alike, committed or not. A run of another environment
is never used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rectest.errors import ChildFailed
    from rectest.record import RunRecord, RunSpec
    from rectest.training.launch import Launch

__all__ = ["KeptTrainer", "default_folder"]

_SHOWN = 3


def default_folder() -> Path:
    """Where runs are kept between two calls of the command, as the XDG base directory specification has it."""
    import os

    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "rectest" / "recordings"


def _silent(_text: str) -> None:
    """Say nothing."""


@dataclass(kw_only=True)
class KeptTrainer:
    """Trains specs in child processes, `processes` at a time; the same spec once."""

    folder: Path
    processes: int
    how: Callable[[RunSpec], Launch]
    finished: Callable[[str], None] = _silent
    """Called with a few words after each training, and for each kept run that is used."""

    note: Callable[[str], None] = _silent
    """Called with what a person should know: kept runs that are used, or thrown away."""

    _trained: dict[str, RunRecord] = field(default_factory=dict)
    _kept: set[Path] = field(default_factory=set)

    def many(self, specs: Sequence[RunSpec]) -> list[RunRecord]:
        """The records of `specs`, in order; all that can be trained are, and kept, before a failure is raised.

        Raises:
            TrainingError: some trainings failed; it names them, and says what became of the others.
            ChildFailed: the only training failed.
        """
        self._recall([spec for spec in specs if spec.key not in self._trained])
        failed = self._train([spec for spec in specs if spec.key not in self._trained], keep=True)
        self._refuse(specs, failed)
        return [self._trained[spec.key] for spec in specs]

    def briefly(self, specs: Sequence[RunSpec]) -> list[RunRecord]:
        """As `many`, for runs that are not worth keeping.

        Raises:
            ChildFailed: a training failed.
        """
        for failure in self._train([spec for spec in specs if spec.key not in self._trained], keep=False):
            raise failure
        return [self._trained[spec.key] for spec in specs]

    def forget(self) -> None:
        """Delete what was kept: its baseline is written."""
        for path in self._kept:
            path.unlink(missing_ok=True)
        self._kept.clear()

    def _recall(self, specs: Sequence[RunSpec]) -> None:
        """Use the kept runs of `specs`, if one of them that is trained again comes out the same."""
        kept = [record for spec in specs if (record := self._load(spec)) is not None]
        if not kept:
            return
        probe = kept[0].spec
        if self._train([probe], keep=True):
            return
        fresh = self._trained[probe.key]
        if not _same(kept[0], fresh):
            self.note(f"{len(kept)} kept runs are not what is trained now (seed {probe.seed} differs): trained anew")
            return
        usable = [record for record in kept[1:] if not fresh.environment.differences(record.environment)]
        for record in usable:
            self._trained[record.spec.key] = record
            self._kept.add(self._path(record.spec))
            self.finished(f"{_shortly(record.spec)}: kept")
        if usable:
            self.note(f"{len(usable)} kept runs are used; seed {probe.seed} was trained again, equal to the last bit")

    def _train(self, specs: Sequence[RunSpec], *, keep: bool) -> list[ChildFailed]:
        """Train what is missing; the failures."""
        from rectest.errors import ChildFailed
        from rectest.training.launch import launch_many

        def done(spec: RunSpec, outcome: RunRecord | ChildFailed) -> None:
            if not isinstance(outcome, ChildFailed):
                self._trained[spec.key] = outcome
                if keep:
                    self._kept.add(outcome.save(self._path(spec)))
            self.finished(f"{_shortly(spec)}{': failed' if isinstance(outcome, ChildFailed) else ''}")

        if specs and keep:
            self.folder.mkdir(parents=True, exist_ok=True)
        outcomes = launch_many(specs, how=self.how, processes=self.processes, done=done) if specs else []
        return [outcome for outcome in outcomes if isinstance(outcome, ChildFailed)]

    def _refuse(self, specs: Sequence[RunSpec], failed: Sequence[ChildFailed]) -> None:
        if not failed:
            return
        if len(specs) == 1:
            raise failed[0]
        from rectest.errors import TrainingError

        lost = [spec.describe() for spec in specs if spec.key not in self._trained]
        fine = len(specs) - len(lost)
        names = "; ".join(lost[:_SHOWN]) + (f"; and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
        kept = f"; the other {fine} are kept in {self.folder}, so that the same command trains only what is missing"
        msg = (
            f"{len(lost)} of {len(specs)} trainings failed ({names}); the first one: {failed[0].detail}. Nothing was "
            f"written{kept if fine else ''}"
        )
        raise TrainingError(msg) from failed[0]

    def _path(self, spec: RunSpec) -> Path:
        return self.folder / f"{spec.key}.safetensors"

    def _load(self, spec: RunSpec) -> RunRecord | None:
        """The kept run of `spec`; one that cannot be read is none."""
        from rectest.errors import RecordError
        from rectest.record import RunRecord

        with contextlib.suppress(RecordError, OSError):
            record = RunRecord.load(self._path(spec))
            return record if record.spec == spec else None
        return None


def _shortly(spec: RunSpec) -> str:
    """``gear, seed 3, rounding``."""
    plant = f", {spec.plant.rpartition(':')[2]}" if spec.plant else ""
    return f"{spec.system}, seed {spec.seed}{plant}"


def _same(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs of one spec left the same in the same environment, but for the time they took."""

    def plain(record: RunRecord) -> str:
        return json.dumps({key: value for key, value in record.facts.items() if key != "timing"}, sort_keys=True)

    alike = not one.environment.differences(other.environment) and plain(one) == plain(other)
    return alike and one.digest() == other.digest()
