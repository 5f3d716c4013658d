"""Child processes: each gets a name that is equal in another run, and its start is noted in its parent.

Names are given in order of starts: ``main.1``, ``main.2``, and ``main.1.1`` for a grandchild. A forked child goes on
recording under its name; one that starts an interpreter of its own finds the name in its environment.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from functools import wraps
from typing import TYPE_CHECKING, Any

from . import queues
from .imports import when_imported
from .session import Session, active
from .sites import call_site

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install"]

PROCESS = "RECTEST_WHY_PROCESS"
"""The environment variable that `start.process_name` reads."""

_ENV_PLACE = 10
"""Where ``env`` stands among the arguments of `subprocess.Popen`."""


class _Children:
    """How many children were started, and the names of those that are being started now."""

    def __init__(self) -> None:
        self.owner: Session | None = None
        self.num = 0
        self.num_served = 0
        self.starting: dict[int, str] = {}
        """By thread: the name given to a child by a wrapper, before anything forks."""
        self.forking: dict[int, str] = {}
        self.hooked = False

    def new_name(self, session: Session) -> str:
        """The name of the next child."""
        self.num += 1
        return f"{session.process}.{self.num}"


_children = _Children()


def install(session: Session) -> None:
    """Watch forks, `subprocess`, `multiprocessing` and its queues."""
    _children.owner, _children.num, _children.num_served = session, 0, 0
    if not _children.hooked:
        os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
        _children.hooked = True
    when_imported("subprocess", lambda: _watch_subprocess(session))
    when_imported("multiprocessing.process", lambda: _watch_multiprocessing(session))
    queues.install(session)


def _recording() -> Session | None:
    session = active()
    return session if session is not None and session is _children.owner else None


def _before_fork() -> None:
    session = _recording()
    if session is None:
        return
    thread = get_ident()
    name = _children.starting.get(thread)
    _children.forking[thread] = name or _children.new_name(session)


def _in_parent() -> None:
    session, name = _recording(), _children.forking.pop(get_ident(), "")
    if session is None or not name or get_ident() in _children.starting:
        return
    _note(session, name, "fork", "")


def _in_child() -> None:
    session, name = _recording(), _children.forking.pop(get_ident(), "")
    if session is None or not name:
        return
    parent = session.process
    session.in_child(name)
    session.busy = 0
    session.header = {**session.header, "parent": parent, "pid": os.getpid()}
    _children.num = _children.num_served = 0
    _children.starting.clear()
    _children.forking.clear()
    os.environ[PROCESS] = f"{name}.child"


def _note(session: Session, name: str, how: str, target: str) -> None:
    try:
        session.event("process", name, site=call_site(skip=2), info={"how": how, "target": target})
    except Exception as e:
        session.failed("processes", e)


def _watch_subprocess(session: Session) -> None:
    """Tell a child interpreter its name; the script's own environment mapping is left alone."""
    popen: Any = sys.modules["subprocess"].Popen
    original: Callable[..., None] = popen.__init__

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if active() is not session or session.busy:
            original(self, *args, **kwargs)
            return
        name, thread = _children.new_name(session), get_ident()
        words = args[0] if args else kwargs.get("args", "")
        args, kwargs = _with_name(args, kwargs, name)
        _children.starting[thread] = name
        try:
            original(self, *args, **kwargs)
        finally:
            _children.starting.pop(thread, None)
        _note(session, name, "Popen", _program(words))

    session.patches.set(popen, "__init__", __init__)


def _with_name(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    positional = len(args) > _ENV_PLACE
    given = args[_ENV_PLACE] if positional else kwargs.get("env")
    environ: Any = os.environ if given is None else given
    try:
        named = {**environ, PROCESS: name} if PROCESS in environ else None
    except TypeError:
        named = None
    if named is None:
        return args, kwargs
    if positional:
        return (*args[:_ENV_PLACE], named, *args[_ENV_PLACE + 1 :]), kwargs
    return args, {**kwargs, "env": named}


def _program(words: Any) -> str:
    first = words if isinstance(words, str | bytes | os.PathLike) else next(iter(words), "")
    return os.path.basename(os.fsdecode(first).split(" ")[0])


def _watch_multiprocessing(session: Session) -> None:
    """Name children of `multiprocessing.Process`, however they are started."""
    base: Any = sys.modules["multiprocessing.process"].BaseProcess
    original: Callable[..., None] = base.start

    @wraps(original)
    def start(self: Any) -> None:
        if active() is not session or session.busy:
            original(self)
            return
        name, in_environment, thread = *_names(session, self), get_ident()
        target = getattr(getattr(self, "_target", None), "__qualname__", type(self).__qualname__)
        queues.remember_holder(self, name)
        before = os.environ.get(PROCESS, "")
        _children.starting[thread], os.environ[PROCESS] = name, in_environment
        try:
            original(self)
        finally:
            _children.starting.pop(thread, None)
            os.environ[PROCESS] = before
        _note(session, name, "Process", target)

    session.patches.set(base, "start", start)


def _names(session: Session, process: Any) -> tuple[str, str]:
    """The name of a child, and the one to put into the environment: a fork server's where it is that which forks."""
    if _start_method(process) != "forkserver":
        name = _children.new_name(session)
        return name, name
    _children.num_served += 1
    server = f"{session.process}.server"
    return f"{server}.{_children.num_served}", server


def _start_method(process: Any) -> str:
    method = getattr(process, "_start_method", None)
    if method is None:
        context = sys.modules.get("multiprocessing.context")
        default = getattr(context, "_default_context", None)
        method = None if default is None else default.get_start_method(allow_none=True)
    return str(method)
