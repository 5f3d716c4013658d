"""Beginning and ending the recording of a process: its name, the header of its tape, and who gets installed when.

What the watchers see is theirs (`files`, `processes`, `torch_hooks`, ...). A failure of the recording never reaches
the script: it is noted on the tape as ``capture_error``.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # below the module signal, whose functions call these
import atexit
import importlib
import json
import os
import sys
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from .hashing import algorithm
from .imports import forget, when_imported
from .keeping import KeptSession
from .session import Config, Session, active
from .sites import set_root, shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CONFIG", "ORIGINAL", "PROCESS", "begin", "finish", "header", "install", "note_process", "process_name"]

CONFIG, PROCESS, ORIGINAL = "RECTEST_WHY", "RECTEST_WHY_PROCESS", "RECTEST_WHY_ORIGINAL"
"""Environment variables: the configuration as JSON, this process's name, and the directory that `root` is a copy of."""

AT_ONCE = {"files": False, "processes": False, "orders": False, "watch_python": True}
"""Installers that need the standard library only, and whether ``watch=False`` leaves them out."""

LATER = {"numpy": {"watch_numpy": True}, "torch": {"torch_hooks": False, "watch_torch": True}}
"""Installers that run after the script has imported a package."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SHOWN = (*_THREADS, "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "MKL_CBWR", "RANK", "WORLD_SIZE", "LOCAL_RANK")


def begin() -> None:
    """Record this process if its environment asks for it; called before anything of the script runs."""
    config = _read_config(os.environ.get(CONFIG, ""))
    if config is None or _serves_multiprocessing():
        return
    name = process_name(os.environ)
    # a child that nobody named (os.system, exec) must not pass for this process
    os.environ[PROCESS] = f"{name}.child"
    _use_copy(config.root)
    set_root(config.root or os.getcwd())
    session = KeptSession(config, process=name, header=header(config))
    session.start()
    note_process(session)
    session.writer.flush()
    _close_at_end(session)
    install(session)


def note_process(session: Session) -> None:
    """Write what can differ between two processes before any line of the script has run."""
    _guard(session, "the header", lambda: session.event("environment", "process", info=_environment()))


def install(session: Session) -> None:
    """Install every watcher, each when what it watches is there; `Session.close` undoes all of them."""
    session.patches.on_undo(forget)
    for name, draws in AT_ONCE.items():
        _install_one(session, name, draws=draws)
    for package, installers in LATER.items():
        when_imported(package, partial(_install_later, session, installers))


def finish(session: Session | None, end: str) -> None:
    """Close the tape; nothing happens without a recording, and nothing is raised."""
    if session is None:
        return
    try:
        session.close(end)
    except Exception:
        session.patches.undo()


def process_name(environ: Mapping[str, str]) -> str:
    """The name on the tape, equal in another run: ``rank<R>`` under a launcher, else what the parent chose.

    >>> process_name({"RANK": "1", "WORLD_SIZE": "2"}), process_name({"RECTEST_WHY_PROCESS": "main.2"})
    ('rank1', 'main.2')
    """
    given = environ.get(PROCESS, "main")
    rank, world = environ.get("RANK", ""), environ.get("WORLD_SIZE", "")
    launched = "TORCHELASTIC_RUN_ID" in environ or (world.isdigit() and int(world) > 1)
    if rank.isdigit() and launched and not given.startswith("rank"):
        return f"rank{int(rank)}"
    return given


def _read_config(text: str) -> Config | None:
    """The configuration, or None if there is none that can be read: then nothing is recorded."""
    try:
        values = json.loads(text)
        known = {field.name for field in fields(Config)}
        values = {name: value for name, value in values.items() if name in known}
        return Config(**{**values, "pins": tuple(values.get("pins", ()))})
    except (ValueError, TypeError, AttributeError):
        return None


def _serves_multiprocessing() -> bool:
    """Whether this interpreter only keeps count of shared memory for another."""
    return any("multiprocessing.resource_tracker" in word for word in sys.orig_argv)


def _use_copy(root: str) -> None:
    """Packages installed as links into the original directory are taken from the copy that this run works in."""
    original = os.environ.get(ORIGINAL, "")
    if not original or not root:
        return
    for place, entry in enumerate(sys.path):
        if entry == original or entry.startswith(original + os.sep):
            copied = root + entry[len(original) :]
            if os.path.isdir(copied):
                sys.path[place] = copied


def header(config: Config) -> dict[str, Any]:
    """The first line of a tape: who writes it, and how its digests are made."""
    rank = os.environ.get("RANK", "")
    return {
        "digest": algorithm(),
        "sample": config.sample,
        "rank": int(rank) if rank.isdigit() else None,
        "pid": os.getpid(),
        "python": sys.version.split()[0],
    }


def _environment() -> dict[str, Any]:
    """What can differ between two processes before any line of the script has run."""
    return {
        "python": sys.version.split()[0],
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "argv": [shown_path(word) if os.path.isabs(word) else word for word in sys.orig_argv],
        "prefix": sys.prefix,
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "env": {name: os.environ[name] for name in _SHOWN if name in os.environ},
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return ""


def _install_later(session: Session, installers: Mapping[str, bool]) -> None:
    for name, draws in installers.items():
        _install_one(session, name, draws=draws)


def _install_one(session: Session, name: str, *, draws: bool) -> None:
    if active() is not session or (draws and not session.config.watch):
        return
    with session.quiet():
        failed = _try(lambda: importlib.import_module(f".{name}", __package__).install(session))
    if failed:
        _note_failure(session, f"{name}: {failed}")


def _guard(session: Session, what: str, call: Callable[[], Any]) -> None:
    failed = _try(call)
    if failed:
        _note_failure(session, f"{what}: {failed}")


def _try(call: Callable[[], Any]) -> str:
    """What went wrong, or nothing."""
    try:
        call()
    except Exception as e:
        return f"{type(e).__name__}: {e}"
    return ""


def _note_failure(session: Session, text: str) -> None:
    _try(lambda: session.event("environment", "capture", info={"capture_error": text}))


def _close_at_end(session: Session) -> None:
    """However the process ends, short of a kill, its tape is closed and says how."""
    atexit.register(lambda: finish(active(), _end()))
    leave = os._exit

    def _exit(status: int) -> None:
        finish(active(), "exit" if status == 0 else f"exception: left with status {status}")
        leave(status)

    session.patches.set(os, "_exit", _exit)
    if session.process == "main":
        _close_at_sigterm(session)


def _end() -> str:
    """``exit``, or the exception that ended the main thread; the interpreter keeps it there before any hook runs."""
    error = getattr(sys, "last_value", None)
    if error is None:
        return "exit"
    text = _first_line(error)
    return f"exception: {type(error).__name__}: {text}" if text else f"exception: {type(error).__name__}"


def _first_line(error: BaseException) -> str:
    try:
        return str(error).strip().partition("\n")[0][:300]
    except Exception:
        return ""


def _close_at_sigterm(session: Session) -> None:
    """Close the tape at a polite kill where the script leaves the signal alone; it sees the default handler all along.

    Only in the main process: a rank that waits within a collective could not run a handler, and must end at once.
    """
    set_handler, get_handler = _signal.signal, _signal.getsignal
    if get_handler(_signal.SIGTERM) != _signal.SIG_DFL:
        return

    def close(number: int, frame: Any) -> None:  # noqa: ARG001  the signature of handlers
        set_handler(_signal.SIGTERM, _signal.SIG_DFL)
        finish(active(), "exception: SIGTERM")
        os.kill(os.getpid(), _signal.SIGTERM)

    def signal(number: int, handler: Any, /) -> Any:
        old = set_handler(number, handler)
        return _signal.SIG_DFL if old is close else old

    def getsignal(number: int, /) -> Any:
        handler = get_handler(number)
        return _signal.SIG_DFL if handler is close else handler

    def restore() -> None:
        if get_handler(_signal.SIGTERM) is close and _in_main_thread():
            set_handler(_signal.SIGTERM, _signal.SIG_DFL)

    set_handler(_signal.SIGTERM, close)
    session.patches.on_undo(restore)
    session.patches.set(_signal, "signal", signal)
    session.patches.set(_signal, "getsignal", getsignal)
    os.register_at_fork(after_in_child=restore)


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
