"""Another commit of a repository as a folder beside the working tree, for as long as it is needed.

This file owns what git is asked: which commit a name means, a worktree of it with its submodules, what changed since.
A worktree is removed however its user ends, an interrupt and a ``kill`` among them; one that a ``kill -9`` left behind
is removed by the next call on the same machine. Nothing is fetched, no hook runs, and the working tree, the index and
the branches stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from rectest.errors import RectestError

__all__ = ["Repository", "worktree"]

_PREFIX = "rectest-base-"
_REASON = "rectest attribute"
_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
"""Variables that git sets in its hooks; they would point a command at another repository than its folder's."""

_GITLINK = "160000"
Handler: TypeAlias = Callable[[int, FrameType | None], Any] | signal.Handlers

_PATIENCE = 600.0
"""Seconds for one git command: a checkout of a large repository on a slow disk ends within."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository by the root of its working tree."""

    root: Path

    @classmethod
    def containing(cls, folder: Path) -> Repository:
        """The repository that `folder` lies in.

        Raises:
            RectestError: git is not installed, or the folder is in no repository.
        """
        return cls(Path(_git(folder, "rev-parse", "--show-toplevel")).resolve())

    def commit(self, name: str) -> str:
        """The full hash of the commit that `name` (a hash, a branch, ``HEAD~1``) means.

        Raises:
            RectestError: there is no such commit here.
        """
        found = self.find(name)
        if found is None:
            shallow = self._asked("rev-parse", "--is-shallow-repository") == "true"
            hint = "; this clone is shallow: git fetch --unshallow" if shallow else "; see git log"
            msg = f"{self.root} has no commit {name!r}{hint}"
            raise RectestError(msg)
        return found

    def find(self, name: str) -> str | None:
        """As `commit`, or None where there is no such commit."""
        if not name or name.startswith("-"):
            return None
        return self._asked("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")

    def merge_base(self, other: str) -> str | None:
        """The commit at which the branch that is checked out left `other`, or None."""
        return self._asked("merge-base", "HEAD", other) if self.find(other) else None

    def last_change(self, path: Path) -> str | None:
        """The last commit that changed a file, or None where none did or the file differs from it now."""
        if self._asked("diff", "--quiet", "HEAD", "--", str(path)) is None:
            return None
        return self._asked("log", "-1", "--format=%H", "--", str(path)) or None

    def changed(self, base: str, *, until: str = "", leaving_out: Sequence[Path] = ()) -> list[str]:
        """Lines of ``git diff --stat`` from `base` to the working tree (or to `until`), then files git ignores not.

        Args:
            leaving_out: folders whose files do not count.
        """
        inside = [path.resolve() for path in leaving_out if path.resolve().is_relative_to(self.root)]
        spec = ["--", ".", *(f":(exclude){path.relative_to(self.root)}" for path in inside if path != self.root)]
        ends = [base, until] if until else [base]
        lines = _git(self.root, "diff", "--stat=100", "--no-color", "--no-ext-diff", *ends, *spec).splitlines()
        if until:
            return [line.strip() for line in lines]
        new = _git(self.root, "ls-files", "--others", "--exclude-standard", *spec).splitlines()
        return [*(line.strip() for line in lines), *(f"{name} (not in git)" for name in new)]

    def refuse_dirty_submodules(self) -> None:
        """Raise a `RectestError` where a submodule has changes of its own: no commit here says what they are."""
        for line in _git(self.root, "status", "--porcelain=2", "--ignore-submodules=none").splitlines():
            # "1 XY sub ..." of a changed entry, where sub is N... for a file and S<commit><modified><untracked> here.
            words = line.split(" ", 8)
            if words[0] == "1" and words[2][0] == "S" and words[2][2] == "M":
                msg = f"submodule {words[8]} has changes that no commit holds; commit them there, or take them back"
                raise RectestError(msg)

    def _asked(self, *args: str) -> str | None:
        """What git says, or None where it refuses."""
        try:
            return _git(self.root, *args)
        except RectestError:
            return None


@contextlib.contextmanager
def worktree(repository: Repository, commit: str) -> Iterator[Path]:
    """A folder with the files of `commit` and of its submodules, gone afterwards.

    Raises:
        RectestError: git refuses, or a submodule's commit is not here.
    """
    _remove_left(repository.root)
    made: list[tuple[Path, Path]] = []
    with _killed_like_interrupted():
        parent = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        try:
            folder = parent / repository.root.name
            _add(repository.root, commit, folder, made)
            yield folder
        finally:
            with _undisturbed():
                for source, place in reversed(made):
                    _remove(source, place)
                shutil.rmtree(parent, ignore_errors=True)


def _add(source: Path, commit: str, folder: Path, made: list[tuple[Path, Path]]) -> None:
    made.append((source, folder))
    _git(source, "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", "--quiet", str(folder), commit)
    _git(source, "worktree", "lock", "--reason", _reason(os.getpid()), str(folder))
    for name, wanted in _submodules(source, commit):
        own = source / name
        if not (own / ".git").exists() or Repository(own).find(wanted) is None:
            msg = f"submodule {name} is not here at commit {wanted[:12]}: git submodule update --init --recursive"
            raise RectestError(msg)
        _add(own, wanted, folder / name, made)


def _submodules(source: Path, commit: str) -> list[tuple[str, str]]:
    """Folder and commit of each submodule of a commit."""
    entries = _git(source, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    split = [entry.partition("\t") for entry in entries if entry.startswith(_GITLINK)]
    return [(name, words.split(" ")[2]) for words, _, name in split]


def _remove(source: Path, folder: Path) -> None:
    """Remove a worktree and what the repository knows of it, as far as either exists."""
    with contextlib.suppress(RectestError):
        _git(source, "worktree", "unlock", str(folder))
    # Git takes the entry of an absent folder back, and refuses one whose folder is half made.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _git(source, "worktree", "remove", "--force", str(folder))
    except RectestError:
        with contextlib.suppress(RectestError):
            _git(source, "worktree", "prune")


def _remove_left(source: Path) -> None:
    """Remove worktrees of processes of this machine that are no more."""
    for entry in _git(source, "worktree", "list", "--porcelain").split("\n\n"):
        values = dict(line.partition(" ")[::2] for line in entry.splitlines())
        head, _, pid = values.get("locked", "").rpartition(" ")
        if pid.isdigit() and f"{head} {pid}" == _reason(int(pid)) and not _alive(int(pid)):
            left = Path(values["worktree"])
            _remove(source, left)
            if left.parent.name.startswith(_PREFIX):
                shutil.rmtree(left.parent, ignore_errors=True)


def _reason(pid: int) -> str:
    return f"{_REASON}, on {socket.gethostname()}, process {pid}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _killed_like_interrupted() -> Iterator[None]:
    """Leave by an exception on SIGTERM and SIGHUP, so that what an interrupt cleans up is cleaned up then too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    with _handling((signal.SIGTERM, signal.SIGHUP), leave):
        yield


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second interrupt wait until what the first one began to clean up is clean."""
    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """Have signals handled so; only the main thread of a process may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def _git(folder: Path, *args: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in _PLACES}
    environ |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=false", *args],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_PATIENCE,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError as e:
        msg = "git is not installed; it is needed to look at another commit"
        raise RectestError(msg) from e
    except subprocess.TimeoutExpired as e:
        msg = f"git {args[0]} did not end within {_PATIENCE:g} s in {folder}"
        raise RectestError(msg) from e
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
        msg = f"git {args[0]} in {folder}: {said.partition(': ')[2] or said}"
        raise RectestError(msg)
    return done.stdout.rstrip("\n")
