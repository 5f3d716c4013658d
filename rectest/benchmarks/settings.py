"""``[tool.rectest.bench]`` of a project: which benchmarks, and which slowdown of each must not pass.

    [tool.rectest.bench]
    paths = ["tests/bench"]
    limit = 0.05                                    # relative slowdown
    limits = { "*test_start_up*" = 0.2 }            # by node id, the last pattern that fits
    memory_limit = 0.02
    ignore = ["*[[]cuda]"]                          # neither compared nor missed
    removed = ["*test_old_loader"]                  # vanished on purpose

A test's own ``benchmark.extra_info["rectest_limit"]`` has the last word on its limit.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rectest.errors import ConfigError

__all__ = ["Settings"]

_OWNER = "[tool.rectest.bench]"

_MOST = 100.0
"""A limit that nothing reaches would be no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a project says about its benchmarks."""

    paths: tuple[str, ...] = ()
    """Relative to the project; none: where pytest looks by itself."""

    limit: float = 0.05
    limits: Mapping[str, float] = field(default_factory=dict)
    memory_limit: float = 0.02
    memory_least: int = 1 << 20
    """Bytes below which more memory is never red."""

    ignore: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    build: tuple[str, ...] = ()
    """Command that compiles a tree in place, run in both: a checkout of the base has no compiled files."""

    def __post_init__(self) -> None:
        for name, value in {"limit": self.limit, "memory_limit": self.memory_limit, **self.limits}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MOST:
                raise ConfigError(_OWNER, name, f"is a relative slowdown such as 0.05, above zero; got {value!r}")
        for name in ("paths", "ignore", "removed", "build"):
            values = getattr(self, name)
            if isinstance(values, str) or not all(isinstance(value, str) for value in values):
                raise ConfigError(_OWNER, name, f"is a list of texts, got {values!r}")

    def with_limit(self, limit: float | None) -> Settings:
        """With another default limit, where one is given; that of single benchmarks stays."""
        return self if limit is None else replace(self, limit=limit)

    def limit_of(self, name: str, *, own: float | None = None) -> float:
        """The limit of a benchmark; `own` is what the test itself says, where it is a limit."""
        if own is not None and 0 < own < _MOST:
            return own
        fitting = [limit for pattern, limit in self.limits.items() if fnmatchcase(name, pattern)]
        return fitting[-1] if fitting else self.limit

    def ignores(self, name: str) -> bool:
        """Whether the benchmark is to be left alone."""
        return _fits(name, self.ignore)

    def knows_removed(self, name: str) -> bool:
        """Whether the benchmark may be absent."""
        return _fits(name, self.removed)

    @classmethod
    def read(cls, project: Path) -> Settings:
        """From the ``pyproject.toml`` of a project; defaults where there is none, or no such table.

        Raises:
            ConfigError: it is not TOML, or a setting is unknown or of a wrong value.
        """
        path = project / "pyproject.toml"
        if not path.is_file():
            return cls()
        try:
            found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ConfigError(str(path), "file", f"is not TOML ({e})") from e
        for part in ("tool", "rectest", "bench"):
            found = found.get(part, {})
            if not isinstance(found, dict):
                raise ConfigError(_OWNER, part, "must be a table")
        known = {entry.name for entry in fields(cls)}
        for name in found:
            if name not in known:
                raise ConfigError(_OWNER, name, f"does not exist; known: {', '.join(sorted(known))}")
        lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return cls(**{**found, **lists})


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
