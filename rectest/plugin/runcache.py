"""The run cache: each `RunSpec` is trained once per test run, whatever number of workers and tests ask for it.

Entries are files under the temporary folder that all xdist workers share, each guarded by a file lock. A failed
training is remembered too: every test that needs it fails with the same message at once. An entry that cannot be
read (a full disk, a killed worker) is no entry: the spec is trained again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rectest.record import RunRecord, RunSpec
    from rectest.training.launch import Launch

__all__ = ["RunCache"]

PATIENCE = 60.0
"""Seconds beyond its deadline that somebody else's training of the same spec is waited for."""


@dataclass(frozen=True, kw_only=True)
class RunCache:
    """Trains specs in child processes and keeps their records for the rest of the test run."""

    folder: Path
    how: Callable[[RunSpec], Launch]
    progress: Callable[[str], None]

    def get(self, spec: RunSpec) -> RunRecord:
        """The record of `spec`, trained now or earlier in this test run.

        Raises:
            ChildFailed: its training failed, now or earlier.
        """
        from filelock import FileLock, Timeout

        from rectest.errors import ChildFailed

        how = self.how(spec)
        name, patience = f"{spec.key}-{how.hash_seed}", how.deadline + PATIENCE
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / f"{name}.lock", timeout=patience):
                return self._recall(name) or self._train(name, spec, how)
        except Timeout as e:
            detail = f"another worker has been training it for over {patience:g} s; is that process alive?"
            raise ChildFailed(spec.describe(), reason="deadline", detail=detail) from e

    def get_many(self, specs: Sequence[RunSpec], *, processes: int) -> list[RunRecord]:
        """The records of several specs, at most `processes` trainings at a time; the first failure is raised."""
        from rectest.errors import ChildFailed
        from rectest.training.launch import stop_children

        with ThreadPoolExecutor(max_workers=max(1, processes)) as pool:
            try:
                return list(pool.map(self.get, specs))
            except ChildFailed:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                stop_children()
                raise

    def _recall(self, name: str) -> RunRecord | None:
        """What an earlier request left: its record, its failure as an exception, or None."""
        from rectest.errors import ChildFailed, RecordError
        from rectest.record import RunRecord

        failure = self.folder / f"{name}.failed.json"
        if failure.exists():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                kept = json.loads(failure.read_text())
                raise ChildFailed(kept["what"], reason=kept["reason"], detail=kept["detail"], log=kept["log"])
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            with contextlib.suppress(RecordError):
                return RunRecord.load(path)
        return None

    def _train(self, name: str, spec: RunSpec, how: Launch) -> RunRecord:
        from rectest.errors import ChildFailed
        from rectest.record import atomic_write
        from rectest.training.launch import launch

        try:
            record = launch(spec, how=how)
        except ChildFailed as e:
            kept = {"what": e.what, "reason": e.reason, "detail": e.detail, "log": e.log}
            atomic_write(self.folder / f"{name}.failed.json", json.dumps(kept).encode())
            self.progress(f"{spec.describe()}: failed")
            raise
        record.save(self.folder / f"{name}.safetensors")
        self.progress(f"{spec.describe()}: {_seconds(record):.1f} s")
        return record


def _seconds(record: RunRecord) -> float:
    return sum(float(v) for k, v in record.facts.get("timing", {}).items() if k != "peak_rss_mib")
