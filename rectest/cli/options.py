"""What several commands read from the command line: what to train, and its settings as ``key=value``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["import_path", "parse_settings", "parse_target"]


def parse_target(text: str) -> str:
    """A registered name or ``module:attribute`` as it is, ``file.py:attribute`` with the absolute path of the file.

    Children have a working directory of their own, in which a relative path leads nowhere.
    """
    file, _, attribute = text.rpartition(":")
    return f"{Path(file).resolve()}:{attribute}" if file.endswith(".py") else text


def import_path() -> list[str]:
    """Where children look for modules: where this process does, and in the folder that the command was called in."""
    return list(dict.fromkeys([*sys.path, str(Path.cwd())]))


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Settings from ``key=value`` texts; values are JSON where they can be read as JSON, else plain text.

    >>> parse_settings(["steps=30", "model=dnn", "adaptive=true", "patience=null"])
    {'steps': 30, 'model': 'dnn', 'adaptive': True, 'patience': None}

    Raises:
        ValueError: a text has no ``=``, or a key is given twice.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            msg = f"a setting is given as key=value, got {pair!r}"
            raise ValueError(msg)
        if key in settings:
            msg = f"setting {key!r} is given twice"
            raise ValueError(msg)
        try:
            settings[key] = json.loads(text)
        except ValueError:
            settings[key] = text
    return settings
