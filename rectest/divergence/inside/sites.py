"""Call sites: which line of the user's code asked for a random number, a listing, a file.

The site is the nearest frame that is not the standard library, this package, torch, NumPy or their kin: that a
DataLoader's sampler drew is no news, the loop that iterates it is. Paths are relative to the working directory, so that
copies of one project give equal sites.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import Any

__all__ = ["call_site", "set_root", "shown_path"]

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STDLIB = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
_PACKAGES = tuple(f"{os.sep}{place}{os.sep}" for place in ("site-packages", "dist-packages"))
_SHOWN_PACKAGES = ("site-packages" + os.sep, "dist-packages" + os.sep)
_INTERNAL = ("torch", "numpy", "scipy", "sklearn", "pandas")
_root = ""
_known: dict[str, str | None] = {}


def set_root(root: str) -> None:
    """Paths under `root` (the working directory) are shown relative to it; without one all are absolute."""
    global _root
    _root = os.path.join(os.path.realpath(root), "") if root else ""
    _known.clear()


def call_site(skip: int = 1, *, own: bool = False) -> str:
    """``path:line:function`` of the nearest frame of the user's code; empty when there is none.

    Args:
        skip: frames above this function's caller to leave out at once.
        own: look through installed packages, too, as long as there is a frame outside of them.
    """
    package = ""
    frame: Any = sys._getframe(skip + 1)
    while frame is not None:
        code = frame.f_code
        path = _known.get(code.co_filename, "")
        if path == "":
            path = _known[code.co_filename] = _judge(code.co_filename)
        if path is not None:
            site = f"{path}:{frame.f_lineno}:{code.co_name}"
            if not own or not path.startswith(_SHOWN_PACKAGES):
                return site
            package = package or site
        frame = frame.f_back
    return package


def shown_path(filename: str) -> str:
    """The path as it stands in sites: relative to the root, from the package on, or absolute."""
    real = os.path.realpath(filename)
    if _root and real.startswith(_root):
        return real[len(_root) :]
    for place in _PACKAGES:
        if place in real:
            return place.strip(os.sep) + os.sep + real.rpartition(place)[2]
    return real


def _judge(filename: str) -> str | None:
    """The path to show, or None for frames that are looked through."""
    if filename.startswith(("<", _HERE)):
        return filename if filename.startswith("<ipython") else None
    for place in _PACKAGES:
        if place in filename:
            package = filename.rpartition(place)[2].partition(os.sep)[0]
            return None if package in _INTERNAL else shown_path(filename)
    return None if filename.startswith(_STDLIB) else shown_path(filename)
