"""Worlds from the user's own files, named ``FORMAT:PATH``, e.g. ``inter:data/mine.inter`` or ``lines:beauty.txt``.

Owns the naming only; what each format is and how it can be wrong is `readers`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rectest.data.rawlog import RawLog, index_log
from rectest.data.readers import read_behaviour_rows, read_inter, read_pairs, read_udata, read_user_lines
from rectest.data.world import World

__all__ = ["FORMATS", "absolute_world", "load_file_world", "names_a_file"]

FORMATS: dict[str, Callable[[Path], RawLog]] = {
    "behaviours": read_behaviour_rows,
    "inter": read_inter,
    "lines": read_user_lines,
    "pairs": read_pairs,
    "udata": read_udata,
}
"""``user item behaviour time`` rows, RecBole's typed ``.inter``, a line per user, integer pairs, and ``u.data``."""


def names_a_file(world: str) -> bool:
    """Whether a world's name is ``FORMAT:PATH``.

    >>> names_a_file("lines:beauty.txt"), names_a_file("taste-small")
    (True, False)
    """
    kind, colon, path = world.partition(":")
    return bool(colon and path) and kind in FORMATS


def absolute_world(world: str) -> str:
    """The name with an absolute path in it, for a process with another working directory; other names as they are."""
    if not names_a_file(world):
        return world
    kind, _, path = world.partition(":")
    return f"{kind}:{Path(path).expanduser().resolve()}"


def load_file_world(world: str) -> World:
    """The world in the named file, called after the file's stem; it has no oracle.

    Raises:
        DataError: the file cannot be read as that format; the message names the line.
    """
    kind, _, path = world.partition(":")
    file = Path(path)
    return index_log(FORMATS[kind](file), name=file.stem)
