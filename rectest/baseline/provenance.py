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

from rectest.baseline.schema import Baseline, Provenance
from rectest.environment import Environment

__all__ = ["collect_provenance", "git_state", "with_provenance"]


def collect_provenance(
    reason: str,
    *,
    environment: Environment,
    argv: Sequence[str] | None = None,
    folder: Path | None = None,
    apart_from: Path | None = None,
    now: datetime | None = None,
) -> Provenance:
    """The provenance of something recorded now, by this process; `apart_from` as for `git_state`.

    Raises:
        ValueError: `reason` is blank.
    """
    if not reason.strip():
        msg = "a baseline needs a reason: one line that tells a reviewer why the numbers are what they are"
        raise ValueError(msg)
    commit, dirty = git_state(folder or Path.cwd(), apart_from=apart_from)
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    return Provenance(
        commit=commit,
        dirty=dirty,
        reason=reason.strip(),
        command=_command(sys.argv if argv is None else argv),
        date=moment.isoformat().replace("+00:00", "Z"),
        environment=environment.describe(),
    )


def with_provenance(baseline: Baseline, origin: Provenance) -> Baseline:
    """`baseline` with `origin` wherever its own provenance stands: with the ensemble, and with bits of the same day."""
    own = baseline.provenance
    exact = {
        fingerprint: entry.model_copy(update={"provenance": origin}) if entry.provenance == own else entry
        for fingerprint, entry in baseline.exact.items()
    }
    return baseline.model_copy(update={"provenance": origin, "exact": exact})


def git_state(folder: Path, *, apart_from: Path | None = None) -> tuple[str | None, bool | None]:
    """Commit hash and whether files that git tracks have changes; (None, None) where git cannot say.

    Args:
        folder: Anywhere in the repository.
        apart_from: A folder whose changes do not count: stored baselines train nothing, and recording several of them
            must not make the later ones look as if they came from changed code.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no", *_all_but(folder, apart_from))
    return (commit or None), (None if status is None else bool(status))


def _all_but(folder: Path, excluded: Path | None) -> list[str]:
    """Arguments of git for the whole repository without one folder in it."""
    top = _git(folder, "rev-parse", "--show-toplevel") if excluded is not None else None
    if not top or excluded is None:
        return []
    root, inside = Path(top).resolve(), (folder / excluded).resolve()
    if inside == root or not inside.is_relative_to(root):
        return []
    return ["--", ":/", f":(top,exclude,literal){inside.relative_to(root).as_posix()}"]


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
