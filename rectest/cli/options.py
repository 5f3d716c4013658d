"""What several commands read from the command line: settings of a system as ``key=value``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

__all__ = ["parse_settings"]


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
