"""Training with the code of another folder: the children import from there what they would import from the repository.

A commit's worktree lies beside the working tree; every entry of the import path that lies in the repository is moved
into it, and whatever the repository does not hold (installed packages, a virtual environment) stays as it is. Children
are fresh interpreters, never forks of a server that has the code of this process loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rectest.record import RunRecord, RunSpec
from rectest.training.launch import Launch, launch

__all__ = ["Code"]

_PROBE = """
import importlib.util, json, sys
sys.path[:] = dict.fromkeys([*json.loads(sys.argv[1]), *sys.path])
try:
    found = importlib.util.find_spec(sys.argv[2])
except ModuleNotFoundError:
    found = None
print((found and found.origin) or "")
"""

_REPEATED_HASH_SEED = 20_011
"""`PYTHONHASHSEED` of repetitions; any number but that of the first runs would do."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code below `root`, where that of a repository is meant."""

    root: Path
    """The repository's own root, or the worktree of a commit."""

    repository: Path
    import_path: Sequence[str]
    """What this process would import from."""

    deadline: float

    @property
    def path(self) -> list[str]:
        """What the children import from.

        The root and its ``src`` come last: a package that is installed in place is found there rather than by the hook
        of its installation, which would lead to the working tree.
        """
        moved = [place for entry in self.import_path if (place := self._moved(Path(entry or ".").resolve()))]
        own = [place for place in (self.root, self.root / "src") if place.is_dir()]
        return list(dict.fromkeys(map(str, [*moved, *own])))

    def train(self, specs: Sequence[RunSpec]) -> list[RunRecord]:
        """Train in fresh interpreters, one after another.

        Raises:
            ChildFailed: one of them failed.
        """
        # A variable of the children's own is also what keeps them from being forked.
        environ = {"PYTHONPATH": os.pathsep.join(self.path), "RECTEST_CODE": str(self.root)}
        how = {
            replica: Launch(
                deadline=self.deadline, sys_path=self.path, environ=environ, hash_seed=replica * _REPEATED_HASH_SEED
            )
            for replica in {spec.replica for spec in specs}
        }
        return [launch(spec, how=how[spec.replica]) for spec in specs]

    def file_of(self, module: str) -> Path | None:
        """The file that a child would import a module from; None where it finds none."""
        command = [sys.executable, "-c", _PROBE, json.dumps(self.path), module]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(self.path)}
        done = subprocess.run(
            command,
            env=environ,
            cwd=self.root.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=self.deadline,
        )
        lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
        return Path(lines[-1]).resolve() if lines else None

    def _moved(self, entry: Path) -> Path | None:
        """Where an entry of the import path lies here; None where this code has no such folder."""
        if not entry.is_relative_to(self.repository) or _is_installation(entry, self.repository):
            return entry
        moved = self.root / entry.relative_to(self.repository)
        return moved if moved.exists() else None


def _is_installation(entry: Path, repository: Path) -> bool:
    """Whether an entry belongs to a virtual environment that lies in the repository and is none of its files."""
    prefixes = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    return any(p != repository and p.is_relative_to(repository) and entry.is_relative_to(p) for p in prefixes)
