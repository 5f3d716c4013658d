"""Copies of a working directory, so that a watched run changes nothing of the user's and runs differ as days differ.

Left out: virtual environments, bytecode, sockets and pipes, and copies that runs of this command keep. Git's objects
are not copied but borrowed (``objects/info/alternates``), so that ``git rev-parse`` works. Links into the directory
point into the copy; a link that leads out of it stays a link to the same place.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rectest.errors import WatchError

__all__ = ["MAX_BYTES", "WorkingCopy", "copy_tree", "mark_copies", "project_root", "tree_bytes"]

MAX_BYTES = 2 * 1024**3
"""A larger directory is not copied unasked."""

SPARE_BYTES = 256 * 1024**2
"""What must stay free on the disk beside the copy."""

_SKIPPED = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"})
_COPIES = ".rectest-why"
"""A folder that holds a file of this name holds copies: they may be kept within the directory that is copied."""

_ADVICE = "run in place (--in-place), or name a smaller directory to copy (--workdir)"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkingCopy:
    """A copy of the project and the place in it that stands for the directory the command was given in."""

    original: Path
    root: Path
    cwd: Path

    def translate(self, text: str) -> str:
        """A path into the original becomes one into the copy where the copy has it; ``--key=path`` too."""
        key, equals, value = text.partition("=")
        if equals and key.startswith("-"):
            return f"{key}={self._path(value)}"
        return self._path(text)

    def _path(self, text: str) -> str:
        path = Path(os.path.normpath(text))
        if not path.is_absolute() or not path.is_relative_to(self.original):
            return text
        copied = self.root / path.relative_to(self.original)
        left_out = path.exists() and not copied.exists()
        return text if left_out else str(copied)


def project_root(cwd: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """What has to be copied so that relative paths go on working: the repository around `cwd` if small enough."""
    for folder in (cwd, *cwd.parents):
        if (folder / ".git").exists():
            return folder if folder == cwd or tree_bytes(folder, limit=max_bytes) <= max_bytes else cwd
    return cwd


def tree_bytes(source: Path, *, limit: int | None = None) -> int:
    """Size of what a copy would hold; counting ends soon after `limit`."""
    total = 0
    for entry in _entries(source, source):
        if entry.is_file(follow_symlinks=False):
            total += entry.stat(follow_symlinks=False).st_size
        if limit is not None and total > limit:
            break
    return total


def copy_tree(source: Path, target: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Copy a directory as the module says.

    Raises:
        WatchError: it is larger than `max_bytes`, the disk has no room, or a file cannot be read.
    """
    try:
        size = tree_bytes(source, limit=max_bytes)
        _check_room(source, target, size, max_bytes)
        target.mkdir(parents=True)
        for entry in _entries(source, source):
            _copy_one(Path(entry.path), target / Path(entry.path).relative_to(source), source, target)
        _borrow_git_objects(source, target)
    except OSError as e:
        msg = f"{source} could not be copied ({e}); {_ADVICE}"
        raise WatchError(msg) from e


def mark_copies(folder: Path) -> None:
    """Make a folder for copies, which no copy takes along."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _COPIES).touch()


def _check_room(source: Path, target: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        msg = f"{source} holds more than {max_bytes / 1024**3:.1f} GiB, too much to copy for each run; {_ADVICE}"
        raise WatchError(msg)
    place = next(folder for folder in (target, *target.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < size + SPARE_BYTES:
        msg = (
            f"{place} has {free / 1024**2:.0f} MiB free, a copy of {source} needs {size / 1024**2:.0f} MiB and "
            f"{SPARE_BYTES / 1024**2:.0f} MiB to spare; free some, give another output directory, or {_ADVICE}"
        )
        raise WatchError(msg)


def _entries(folder: Path, root: Path) -> Iterator[os.DirEntry[str]]:
    """What belongs into a copy, folders before what they hold, in a fixed order."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if _is_skipped(entry, is_folder=is_folder, in_git=folder == root / ".git"):
            continue
        yield entry
        if is_folder:
            yield from _entries(Path(entry.path), root)


def _is_skipped(entry: os.DirEntry[str], *, is_folder: bool, in_git: bool) -> bool:
    if in_git:
        return entry.name in {"objects", "lfs", "modules", "worktrees"}
    if is_folder:
        marks = ("pyvenv.cfg", _COPIES)
        return entry.name in _SKIPPED or any(os.path.lexists(f"{entry.path}{os.sep}{mark}") for mark in marks)
    if entry.is_symlink():
        return False
    kind = entry.stat(follow_symlinks=False).st_mode
    # a .git that is a file leads to the original's index, which git status would rewrite
    return not stat.S_ISREG(kind) or entry.name == ".git"


def _copy_one(path: Path, target: Path, source_root: Path, target_root: Path) -> None:
    if path.is_symlink():
        target.symlink_to(_new_link(path, source_root, target_root))
    elif path.is_dir():
        target.mkdir()
        target.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IRWXU)
    else:
        shutil.copy2(path, target)


def _new_link(path: Path, source_root: Path, target_root: Path) -> Path:
    """Where the copy of a link leads: never back into the original."""
    link = path.readlink()
    leads_to = Path(os.path.normpath(path.parent / link))
    if not leads_to.is_relative_to(source_root):
        return leads_to
    return link if not link.is_absolute() else target_root / leads_to.relative_to(source_root)


def _borrow_git_objects(source: Path, target: Path) -> None:
    if not (target / ".git").is_dir():
        return
    info = target / ".git" / "objects" / "info"
    info.mkdir(parents=True)
    (info / "alternates").write_text(f"{source / '.git' / 'objects'}\n")
