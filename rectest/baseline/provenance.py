"""Where a recording came from: commit, uncommitted changes, command line, date.

Works without git and outside a repository: what is unknown is stored as unknown.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rectest.baseline.schema import Provenance
from rectest.environment import Environment

__all__ = ["collect_provenance", "git_state"]


def collect_provenance(
    reason: str,
    *,
    environment: Environment,
    argv: Sequence[str] | None = None,
    folder: Path | None = None,
    now: datetime | None = None,
) -> Provenance:
    """The provenance of something recorded now, by this process.

    Raises:
        ValueError: `reason` is blank.
    """
    if not reason.strip():
        msg = "a baseline needs a reason: one line that tells a reviewer why the numbers are what they are"
        raise ValueError(msg)
    commit, dirty = git_state(folder or Path.cwd())
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    return Provenance(
        commit=commit,
        dirty=dirty,
        reason=reason.strip(),
        command=_command(sys.argv if argv is None else argv),
        date=moment.isoformat().replace("+00:00", "Z"),
        environment=environment.describe(),
    )


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit hash and whether files that git tracks have changes; (None, None) where git cannot say."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return (commit or None), (None if status is None else bool(status))


def _git(folder: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _command(argv: Sequence[str]) -> str:
    """The command line without the folder of its program, which differs from machine to machine."""
    if not argv:
        return ""
    program = Path(argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *argv[1:]]).encode(errors="replace").decode()
