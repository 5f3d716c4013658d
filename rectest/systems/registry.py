"""The registered systems by name, and the way to reach a user's own by ``module:attribute`` or ``file.py:attribute``.

Nothing is imported before it is asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rectest.errors import RectestError, UnknownNameError
from rectest.systems.protocol import System

__all__ = ["SYSTEMS", "make_system", "resolve"]

SYSTEMS: dict[str, str] = {
    "adaptive_sasrec": "rectest.systems.adaptive_sasrec.system:AdaptiveSASRec",
    "comirec": "rectest.systems.comirec.system:ComiRec",
    "gram_c": "rectest.systems.gram_c.system:GramCSystem",
    "gear": "rectest.systems.gear.system:GEAR",
    "ur4rec": "rectest.systems.ur4rec.system:UR4RecSystem",
}


def resolve(target: str) -> Any:
    """The object behind a registered name, ``module:attribute`` or ``path/to/file.py:attribute``.

    Raises:
        UnknownNameError: no system of that name is registered.
        RectestError: the module cannot be imported or has no such attribute.
    """
    if ":" not in target:
        if target not in SYSTEMS:
            raise UnknownNameError("system", target, SYSTEMS)
        target = SYSTEMS[target]
    place, _, attribute = target.rpartition(":")
    found: Any = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    for part in attribute.split("."):
        if not hasattr(found, part):
            msg = f"{place} has no {attribute!r}"
            raise RectestError(msg)
        found = getattr(found, part)
    return found


def make_system(name: str, settings: Mapping[str, Any] | None = None) -> System[Any]:
    """The system called `name` with `settings` over its defaults.

    Raises:
        UnknownNameError: nobody registered that name.
        ConfigError: a setting does not exist or does not fit.
        RectestError: what was found is not a `System`.
    """
    found = resolve(name)
    if not (isinstance(found, type) and issubclass(found, System)):
        msg = f"{name} is {found!r}, a subclass of rectest.System was needed"
        raise RectestError(msg)
    return found.from_settings(settings or {})


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name is None or not (name == e.name or name.startswith(f"{e.name}.")):
            raise
        msg = f"cannot import {name!r}; is it on the path of the test run (pythonpath in pyproject.toml)?"
        raise RectestError(msg) from e


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        msg = f"no such file: {path}"
        raise RectestError(msg)
    name = f"rectest_user_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"cannot import {path}"
        raise RectestError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
