"""Candidates as they come: a folder that a gate wrote, the unpacked artifact of a CI job, or its zip file.

A hosted runner keeps what it was told to keep, often with a folder or two around it, and gives it back as a zip. This
file finds the one store inside. What comes from a zip is unpacked into a temporary folder, only the two kinds of file
that a store has, and nothing at all where one name would leave that folder.
"""

from __future__ import annotations

import json
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rectest.baseline.store import BaselineStore
from rectest.errors import UpdateRefused

__all__ = ["opened"]

DEPTH = 3
"""Folders around a store in which it is still found."""

MAX_FILES, MAX_BYTES = 10_000, 1 << 30
"""Most files and unpacked bytes of a zip: far beyond the baselines of any repository."""


@contextmanager
def opened(path: str | Path) -> Iterator[BaselineStore]:
    """The store of candidates at, below, or inside the zip file `path`; a zip is unpacked until the context ends.

    Raises:
        UpdateRefused: there are no candidates, they lie in more than one place, or the zip cannot be read safely.
    """
    path = Path(path)
    if not path.is_file():
        yield BaselineStore(_root_in(path, shown=path))
        return
    with tempfile.TemporaryDirectory(prefix="rectest-candidates-") as folder:
        try:
            _unpack(path, Path(folder))
        except _UNREADABLE as e:
            msg = f"{path} is neither a folder of candidates nor a readable zip of one ({e})"
            raise UpdateRefused(msg) from e
        yield BaselineStore(_root_in(Path(folder), shown=path))


_UNREADABLE = (
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What `zipfile` raises of bytes that are no zip, or one that is damaged, encrypted or packed in another way."""


def _root_in(folder: Path, *, shown: Path) -> Path:
    """The folder that holds ``<environment class>/<system>.json``, which must be one."""
    level = [folder]
    for _ in range(DEPTH + 1):
        found = [place for place in level if any(map(_is_baseline, place.glob("*/[!.]*.json")))]
        if len(found) > 1:
            names = ", ".join(str(place.relative_to(folder)) for place in found)
            msg = f"candidates lie in several folders of {shown}: {names}; name the one that is meant"
            raise UpdateRefused(msg)
        if found:
            return found[0]
        level = sorted(inner for place in level if place.is_dir() for inner in place.iterdir() if inner.is_dir())
    if any(folder.glob("*/[!.]*.json")):
        # Nothing looks right in it: reading it as a store says what is wrong with the first.
        return folder
    msg = f"no candidates in {shown} (looked for <environment class>/<system>.json, also {DEPTH} folders down)"
    raise UpdateRefused(msg)


def _is_baseline(path: Path) -> bool:
    """Whether a file is meant to be a baseline; whether it is a good one is for its reader to say."""
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(plain, dict) and {"schema", "system", "env_class"} <= plain.keys()


def _unpack(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        _refuse_unsafe(path, members)
        for member in members:
            if member.filename.endswith((".json", ".npz")):
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))


def _refuse_unsafe(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Nothing is unpacked of a zip with a name that leaves the folder, a link, or more than could be meant."""
    for member in members:
        name = PurePosixPath(member.filename)
        odd = name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename
        kind = stat.S_IFMT(member.external_attr >> 16)
        if odd or kind not in (0, stat.S_IFREG):
            what = "leaves the folder it is unpacked to" if odd else "is no plain file"
            msg = f"{path}: {member.filename!r} {what}; nothing was unpacked"
            raise UpdateRefused(msg)
    size = sum(member.file_size for member in members)
    if len(members) > MAX_FILES or size > MAX_BYTES:
        msg = f"{path}: {len(members)} files of {size} bytes are more than any candidates; nothing was unpacked"
        raise UpdateRefused(msg)
    if len({member.filename for member in members}) != len(members):
        msg = f"{path}: it holds two files of one name; nothing was unpacked"
        raise UpdateRefused(msg)
