"""The two trees that are compared: where the project lies in each, its build, and the head's benchmark files laid over
the base.

The same benchmark code runs on both sides, as it is the code under it that is compared; only what else the base has
(its conftest files, fixtures, data) is its own. A commit as a folder is `rectest.training.worktree`'s.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rectest.errors import RectestError
from rectest.training.commits import Code

__all__ = ["Overlay", "Tree", "project_in"]

_CONFIGURATIONS = ("pyproject.toml", "pytest.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """The code of one side."""

    side: str
    """``base`` or ``head``."""

    root: Path
    """The repository's root, or the worktree of a commit."""

    project: Path
    """The folder in it that pytest is run in, and that node ids are relative to."""

    import_path: tuple[str, ...]
    """What its processes import from before anything else."""

    copied_from: Path | None = None
    """The repository's root, where `root` is another folder: nothing may be imported from there."""

    @classmethod
    def of(cls, side: str, root: Path, *, repository: Path, project: Path, import_path: Iterable[str]) -> Tree:
        """The tree at `root` of what is `project` in `repository`; entries of the import path move with it.

        Raises:
            RectestError: the tree has no such folder.
        """
        place = root / project.relative_to(repository)
        if not place.is_dir():
            msg = f"the {side} has no folder {project.relative_to(repository)}; compare with a later commit"
            raise RectestError(msg)
        code = Code(root=root, repository=repository, import_path=list(import_path), deadline=0)
        own = [str(folder) for folder in (place, place / "src") if folder.is_dir()]
        return cls(
            side=side,
            root=root,
            project=place,
            import_path=tuple(dict.fromkeys([*own, *code.path])),
            copied_from=None if root == repository else repository,
        )

    def build(self, command: Sequence[str], *, deadline: float) -> None:
        """Compile what the project has to compile, in place; ``python`` means the interpreter that runs this.

        Raises:
            RectestError: the command does not exist, fails, or takes more than `deadline` seconds.
        """
        words = [sys.executable if word == "python" else word for word in command[:1]] + list(command[1:])
        try:
            why = _why_failed(words, self.project, deadline)
        except OSError as e:
            why = str(e)
        if why:
            msg = f"the {self.side} was not built by {shlex.join(command)} (build of [tool.rectest.bench]): {why}"
            raise RectestError(msg)


def _why_failed(words: Sequence[str], folder: Path, deadline: float) -> str:
    """Run a command; empty where it succeeded. Where it is cut short, what it started ends with it."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, cwd=folder, stdout=pipe, stderr=pipe, text=True, errors="replace", start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=deadline)
        except BaseException as e:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(e, subprocess.TimeoutExpired):
                return f"did not end within {deadline:g} s"
            raise
    said = (err.strip() or out.strip()).splitlines()
    return f"exit code {process.returncode}: {said[-1] if said else 'it said nothing'}" if process.returncode else ""


@dataclass(slots=True)
class Overlay:
    """Files of the head's project laid over the base's, to be taken back one by one."""

    base: Path
    head: Path
    _before: dict[str, bytes | None] = field(default_factory=dict)

    def lay(self, files: Iterable[str]) -> None:
        """Copy files, named relative to the project, from the head to the base."""
        for name in files:
            place = self.base / name
            self._before[name] = place.read_bytes() if place.is_file() else None
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((self.head / name).read_bytes())

    def had(self, name: str) -> bool:
        """Whether the base had a file of its own there, and another one."""
        before = self._before.get(name)
        return before is not None and before != (self.head / name).read_bytes()

    def take_back(self, name: str) -> None:
        """Put the base's own file back."""
        if (before := self._before.get(name)) is not None:
            (self.base / name).write_bytes(before)


def project_in(folder: Path, root: Path) -> Path:
    """The folder of pytest's configuration at or above `folder`, inside `root`; else `root`.

    A ``setup.cfg`` or the like counts without a section for pytest, too: it marks a project.
    """
    place = Path(os.path.abspath(folder))  # noqa: PTH100
    for found in (place, *place.parents):
        if found == root or not found.is_relative_to(root):
            break
        if any((found / name).is_file() for name in _CONFIGURATIONS):
            return found
    return root
