"""Entropy that reaches a script past every generator: the operating system's, clocks, process ids, salted hashes.

Only what user code and third-party packages ask for is noted; what the standard library, torch or NumPy read for
themselves (temporary names, timestamps of log lines) is passed on. `datetime.now`, `time.localtime` and what compiled
code reads is not seen.
"""

from __future__ import annotations

import builtins
import functools
import os
import random
import secrets
import sys
import sysconfig
import time
import uuid
from typing import TYPE_CHECKING, Any

from .digests import digest_value
from .watch import Watch, holding, inside, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["asker", "install", "read"]

_THROUGH = frozenset({"random.py", "secrets.py", "uuid.py"})
"""Files of the standard library that read entropy for whoever calls them."""

_CARRIERS = frozenset({"copy.py", "copyreg.py", "pickle.py", "multiprocessing", "concurrent"})
"""Files and packages of the standard library that make objects for others: copies, and what came from a process."""

_STDLIB = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
_PACKAGES = tuple(f"{os.sep}{place}{os.sep}" for place in ("site-packages", "dist-packages"))
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SECRETS = ("choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe")
_CLOCKS = ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns")
_UNSALTED = frozenset({int, float, bool, complex, type(None)})
_judged: dict[str, str] = {}
"""What asks, by file name: see `asker`, and ``through`` for files that are looked through."""


def install(watch: Watch) -> None:
    """Watch `os.urandom`, `uuid`, `secrets`, clocks, `os.getpid` and `hash`."""
    patch = watch.session.patches.set
    urandom = _wrapped(os.urandom, "os.urandom", lambda watch, site, size: watch.pins.octets(site, size))
    patch(os, "urandom", urandom)
    patch(random, "_urandom", urandom)
    patch(uuid, "uuid4", _wrapped(uuid.uuid4, "uuid.uuid4"))
    patch(uuid, "uuid1", _wrapped(uuid.uuid1, "uuid.uuid1", _fixed_uuid1))
    patch(os, "getpid", _wrapped(os.getpid, "os.getpid", lambda watch, _: watch.pins.process_id()))
    for name in _SECRETS:
        patch(secrets, name, _wrapped(getattr(secrets, name), "secrets"))
    for name in _CLOCKS:
        patch(time, name, _wrapped(getattr(time, name), f"time.{name}", _clock(is_whole=name.endswith("_ns"))))
    patch(builtins, "hash", _wrapped_hash(builtins.hash))


def read(
    watch: Watch,
    original: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    name: str,
    fixed: Callable[..., Any] | None = None,
) -> Any:
    """Call a function that reads entropy, and note it if the script asked for it.

    Args:
        watch: the recording.
        original: the function.
        args: its arguments.
        kwargs: its arguments by name.
        name: what the script called.
        fixed: what a pinned line gets instead; None for functions that go through `os.urandom`.
    """
    if asker(sys._getframe(2)) != "script":
        return original(*args, **kwargs)
    site, held = watch.site(sys._getframe(2)), inside.held
    inside.depth += 1
    try:
        inside.held = site if watch.pins.holds(site) else ""
        value = fixed(watch, site, *args) if inside.held and fixed is not None else original(*args, **kwargs)
        watch.count("entropy", name, site, lambda: digest_value(value))
        return value
    finally:
        inside.depth -= 1
        inside.held = held


def asker(frame: Any) -> str:
    """Who asks, as seen from a frame.

    ``script`` (and third-party packages), ``stdlib``, ``carrier`` (copying, unpickling), ``library`` (torch, NumPy) or
    ``here`` (the recording).
    """
    while frame is not None:
        filename = frame.f_code.co_filename
        verdict = _judged.get(filename)
        if verdict is None:
            verdict = _judged[filename] = _judge(filename)
        if verdict != "through":
            return verdict
        frame = frame.f_back
    return "script"


def _judge(filename: str) -> str:
    if filename.startswith("<"):
        return "stdlib" if filename.startswith("<frozen") else "through"
    if filename.startswith(_HERE):
        return "here"
    for place in _PACKAGES:
        if place in filename:
            package = filename.rpartition(place)[2].partition(os.sep)[0]
            return "library" if package in ("torch", "numpy") else "script"
    for folder in _STDLIB:
        if filename.startswith(folder):
            name = filename[len(folder) :].partition(os.sep)[0]
            return "through" if name in _THROUGH else "carrier" if name in _CARRIERS else "stdlib"
    return "script"


def _wrapped(original: Callable[..., Any], name: str, fixed: Callable[..., Any] | None = None) -> Callable[..., Any]:
    @functools.wraps(original)
    def reading(*args: Any, **kwargs: Any) -> Any:
        watch = listening()
        if watch is not None:
            return read(watch, original, args, kwargs, name=name, fixed=fixed)
        if inside.held and fixed is not None and (holder := holding()) is not None:
            return fixed(holder, inside.held, *args)
        return original(*args, **kwargs)

    return reading


def _fixed_uuid1(watch: Watch, site: str, *_: Any) -> uuid.UUID:
    return uuid.UUID(bytes=watch.pins.octets(site, 16), version=1)


def _clock(*, is_whole: bool) -> Callable[..., Any]:
    def fixed(watch: Watch, site: str) -> float | int:
        seconds = watch.pins.clock(site)
        return round(seconds * 1e9) if is_whole else seconds

    return fixed


def _wrapped_hash(original: Callable[[Any], int]) -> Callable[[Any], int]:
    @functools.wraps(original)
    def hash(obj: Any, /) -> int:  # noqa: A001  it stands for the builtin
        value = original(obj)
        if type(obj) in _UNSALTED or (watch := listening()) is None:
            return value
        code = sys._getframe(1).f_code
        # within __hash__ it serves a dictionary or set, which is not a value that the script computes with
        if code.co_name != "__hash__" and not code.co_filename.startswith("<") and _is_salted(obj):
            inside.depth += 1
            try:
                if asker(sys._getframe(1)) == "script":
                    watch.count("hash", "hash", watch.site(sys._getframe(1)), lambda: digest_value(value))
            finally:
                inside.depth -= 1
        return value

    return hash


def _is_salted(value: Any) -> bool:
    if isinstance(value, str | bytes | os.PathLike):
        return True
    return isinstance(value, tuple | frozenset) and any(_is_salted(item) for item in value)
