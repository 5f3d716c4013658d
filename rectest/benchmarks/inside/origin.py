"""Whose code a measured process runs: the tree's, or by an installation that of the other tree or of neither.

An installation in place whose hook comes before the import path, or whose sources lie where no path leads, gives the
head's package to the base as well; then both sides are the same code, and every ratio is 1. Only this process is looked
at: programs that a benchmark starts are not. This file imports nothing of rectest.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cached_property
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

__all__ = ["Origin"]

_OURS = ("__main__", "__mp_main__", "_rectest_measured")
_INSTALLED = ("site-packages", "dist-packages")


class Origin:
    """What the modules of this process must, and must not, be loaded from."""

    def __init__(self, *, own: str, project: str, other: str | None) -> None:
        """Look at nothing yet.

        Args:
            own: the root of this process's tree.
            project: the folder in it that pytest is run in.
            other: the root of the other tree, where this one is only a copy of it.
        """
        self.own = Path(os.path.realpath(own))
        self.other = None if other is None else Path(os.path.realpath(other))
        self.folders = {Path(own), Path(project)}

    @cached_property
    def packaged(self) -> set[str]:
        """Top-level modules of the project that is installed, by its name or by where it was installed from."""
        names = {_normal(name) for folder in self.folders if (name := _project_name(folder))}
        return {
            module
            for found in metadata.distributions()
            if _normal(str(found.name)) in names or any(_is_in(_source(found), home) for home in (self.own, self.other))
            for module in _modules(found)
        }

    def problem(self) -> str:
        """What of the project was loaded from elsewhere, and what to do; empty where nothing was."""
        wrong = [(name, place) for name, place in _loaded() if self._is_wrong(name, place)]
        if not wrong:
            return ""
        name, place = min(wrong)
        more = f" and {len(wrong) - 1} more modules" if len(wrong) > 1 else ""
        return (
            f"{name}{more} came from {place} and not from {self.own}, so that both sides would run the same code; "
            "name the folder of the sources in pytest's pythonpath, and uninstall the package where that is not enough"
        )

    def runs_own(self, tests: Collection[str]) -> bool:
        """Whether any module but `tests` (resolved files) and conftest files came from the tree."""
        return any(
            _is_in(place, self.own) and not _is_installed(place) and place.name != "conftest.py"
            for _, place in _loaded()
            if str(place) not in tests
        )

    def _is_wrong(self, name: str, place: Path) -> bool:
        installed = _is_installed(place)
        if not installed and _is_in(place, self.own):
            return False
        return name.partition(".")[0] in self.packaged or (not installed and _is_in(place, self.other))


def _loaded() -> Iterator[tuple[str, Path]]:
    """Modules and their files; whatever else stands in `sys.modules` is passed over."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and not name.startswith(_OURS):
            yield name, Path(os.path.realpath(file))


def _is_installed(place: Path) -> bool:
    """Whether a file belongs to an installation, one inside of the tree included."""
    return any(part in _INSTALLED for part in place.parts) or any(
        place.is_relative_to(os.path.realpath(prefix)) for prefix in (sys.base_prefix, sys.base_exec_prefix)
    )


def _is_in(place: Path | None, folder: Path | None) -> bool:
    return place is not None and folder is not None and place.is_relative_to(folder)


def _project_name(folder: Path) -> str:
    with suppress(OSError, ValueError):
        found = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        return str(found.get("name", "")) if isinstance(found, dict) else ""
    return ""


def _normal(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _source(found: metadata.Distribution) -> Path | None:
    """The folder or file that a distribution was installed from, where that was said (PEP 610)."""
    text = found.read_text("direct_url.json") or ""
    url = re.search(r'"url":\s*"(file:[^"]*)"', text)
    return Path(os.path.realpath(unquote(urlparse(url[1]).path))) if url else None


def _modules(found: metadata.Distribution) -> set[str]:
    """Top-level modules of a distribution, without the hooks of an installation in place."""
    listed = (found.read_text("top_level.txt") or "").split()
    files = [Path(str(file)) for file in found.files or () if file.suffix in (".py", ".so", ".pyd")]
    names = {*listed, *(file.parts[0].partition(".")[0] for file in files)}
    return {name for name in names if name.isidentifier() and not name.startswith("__") and "editable" not in name}
