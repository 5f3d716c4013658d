"""Directory listings: the order in which their names were handed out, and another order on request.

A file system promises no order, and the one at hand rarely changes between two runs on one machine. So the second run
gets another one, made of `Config.listing_seed` and the names alone: no generator is touched. `os.listdir` and
`os.scandir` are all there is below `glob`, `os.walk` and `pathlib`. Directories of the installation are left alone.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from .session import active
from .sites import call_site, shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .session import Session

__all__ = ["install", "reordered"]

_IMPORTERS = ("importlib", "importlib_metadata", "pkgutil", "pkg_resources")


class Scan:
    """What `os.scandir` returns, with its entries in the order that was chosen."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries: Iterator[Any] = iter(entries)

    def __iter__(self) -> Scan:
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hand out nothing more."""
        self._entries = iter(())


def install(session: Session) -> None:
    """Watch `os.listdir` and `os.scandir`."""
    list_names, scan = os.listdir, os.scandir

    def listdir(path: Any = None) -> list[Any]:
        names: list[Any] = list_names(path)
        if _is_watched(session, path):
            names = _note(session, path, names, key=os.fsencode)
        return names

    def scandir(path: Any = None) -> Any:
        if not _is_watched(session, path):
            return scan(path)
        with scan(path) as found:
            entries = list(found)
        return Scan(_note(session, path, entries, key=lambda entry: os.fsencode(entry.name)))

    session.patches.set(os, "listdir", listdir)
    session.patches.set(os, "scandir", scandir)


def reordered(names: list[Any], seed: int, *, key: Callable[[Any], bytes]) -> list[Any]:
    """The same names in an order that `seed` and the names decide; 0 leaves it alone.

    >>> reordered(["a", "b", "c", "d"], 1, key=str.encode) == reordered(["d", "b", "a", "c"], 1, key=str.encode)
    True
    """
    if not seed:
        return names
    import hashlib

    salt = str(seed).encode()
    return sorted(names, key=lambda name: hashlib.blake2b(key(name), key=salt, digest_size=16).digest())


def _is_watched(session: Session, path: Any) -> bool:
    from .files import is_library

    if session.busy or active() is not session or _looks_for_packages():
        return False
    return isinstance(path, int) or not is_library(os.path.join(os.path.abspath(os.fsdecode(path or ".")), ""))


def _looks_for_packages() -> bool:
    """Whether the import system asks: what it lists on the way to a package is no data."""
    frame: Any = sys._getframe(3)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith(_IMPORTERS):
            return True
        if name.partition(".")[0] not in sys.stdlib_module_names:
            return False
        frame = frame.f_back
    return False


def _note(session: Session, path: Any, names: list[Any], *, key: Callable[[Any], bytes]) -> list[Any]:
    site = call_site(skip=2)
    if len(names) < 2 or not site:
        return names
    if "listing" in session.config.pins:
        names = sorted(names, key=key)
    else:
        names = reordered(names, session.config.listing_seed, key=key)
    with session.quiet():
        digest = _digest([key(name) for name in names])
        info = {"sorted_after": True} if _sorts(session, site) else None
        session.event("listing", _shown(path), digest, site=site, info=info)
    return names


def _digest(names: list[bytes]) -> str:
    import hashlib

    return hashlib.blake2b(b"\0".join(names), digest_size=16).hexdigest()


def _shown(path: Any) -> str:
    if isinstance(path, int):
        return "an open directory"
    # the root itself has no name in sites: ask for a file in it
    return shown_path(os.path.join(os.path.abspath(os.fsdecode(path or ".")), "x"))[:-2] or "."


def _sorts(session: Session, site: str) -> bool:
    """Whether the line that asked sorts at once, as far as its text tells."""
    import linecache

    path, line, _ = site.rsplit(":", 2)
    return "sorted(" in linecache.getline(os.path.join(session.config.root, path), int(line))
