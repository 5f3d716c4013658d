"""Queues of `multiprocessing`: whose object was taken when, and a fixed order of producers on request.

Every object travels with the name of the process that put it, by way of its pickle: unpickling gives the object
itself and leaves the name with the thread that took it, so nothing of the recording is ever seen by the script. The
pin ``queue`` is `turns`. What torch's data loader and process pools move between their own processes is left alone;
`Pool.imap_unordered` is watched where its results come out.
"""

from __future__ import annotations

import os
import sys
import weakref
from _thread import _local
from collections import deque
from functools import wraps
from typing import TYPE_CHECKING, Any

from .imports import when_imported
from .session import Session, active
from .sites import call_site
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install", "remember_holder"]

_NAME, _HOLDERS, _SEEN = "_rectest_name", "_rectest_holders", "_rectest_seen"
_TURNS, _ORDER = "_rectest_turns", "_rectest_order"
"""Attributes on queues and iterators; queues pickle a fixed list of others, so these stay in the process."""

_INTERNAL = ("multiprocessing.", "concurrent.futures.", "torch.")
_NOT_INTERNAL = ("multiprocessing.process.",)  # it calls the target of a process, which may be a queue's put
_MAX_DEPTH = 2


class _Taken(_local):
    producer = ""
    """Who put the object that this thread unpickled last."""


class _Note:
    """The event that further objects of the same queue and line are added to, while it is the last one."""

    def __init__(self) -> None:
        self.key: tuple[str, str] = ("", "")
        self.event: list[Any] = []
        self.hasher: Any = None
        self.count = 0


_taken = _Taken()
_note_now = _Note()


class Tagged:
    """An object on its way through a queue, with the name of the process that put it."""

    def __init__(self, value: Any, producer: str) -> None:
        self.value = value
        self.producer = producer

    def __reduce__(self) -> tuple[Any, ...]:
        return arrived, (self.producer, self.value)


def arrived(producer: str, value: Any) -> Any:
    """What unpickling a tagged object calls."""
    _taken.producer = producer
    return value


def install(session: Session) -> None:
    """Watch the queues of `multiprocessing` once the script has imported them."""
    when_imported("multiprocessing.queues", lambda: _watch_queues(session))
    when_imported("multiprocessing.pool", lambda: _watch_pool(session))


def remember_holder(process: Any, name: str) -> None:
    """Remember on every queue among a process's arguments that this process may feed it."""
    module = sys.modules.get("multiprocessing.queues")
    if module is None:
        return
    kinds = (module.Queue, module.SimpleQueue)
    for queue in _queues_in(list(vars(process).values()), kinds, depth=0):
        holders = vars(queue).setdefault(_HOLDERS, {})
        holders[name] = weakref.ref(process)


def _queues_in(value: Any, kinds: tuple[type, ...], *, depth: int) -> list[Any]:
    if isinstance(value, kinds):
        return [value]
    if depth > _MAX_DEPTH:
        return []
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return []
    return [queue for part in value for queue in _queues_in(part, kinds, depth=depth + 1)]


def _watch_queues(session: Session) -> None:
    module: Any = sys.modules["multiprocessing.queues"]
    if active() is not session:
        return
    for kind in (module.Queue, module.SimpleQueue):
        _watch_making(session, kind)
        _watch_get(session, kind)
    for kind in (module.Queue, module.JoinableQueue, module.SimpleQueue):
        _watch_put(session, kind)
    if "queue" in session.config.pins:
        _count_waiting(session, module)


def _watch_making(session: Session, kind: Any) -> None:
    original: Callable[..., None] = kind.__init__

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if active() is session:
            vars(self)[_NAME] = f"queue@{call_site().rpartition(':')[0]}"

    session.patches.set(kind, "__init__", __init__)


def _watch_put(session: Session, kind: Any) -> None:
    original: Callable[..., None] = kind.put

    @wraps(original)
    def put(self: Any, obj: Any, *args: Any, **kwargs: Any) -> None:
        if active() is session and not _is_internal():
            obj = Tagged(obj, session.process)
        original(self, obj, *args, **kwargs)

    session.patches.set(kind, "put", put)


def _watch_get(session: Session, kind: Any) -> None:
    original: Callable[..., Any] = kind.get
    is_pinned = "queue" in session.config.pins

    def take(queue: Any, *args: Any, **kwargs: Any) -> tuple[Any, str]:
        _taken.producer = ""
        value = original(queue, *args, **kwargs)
        return value, _taken.producer

    @wraps(original)
    def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        if active() is not session or _is_internal():
            return original(self, *args, **kwargs)
        if is_pinned:
            value, producer = _turns(self).get(take, *args, **kwargs)
        else:
            value, producer = take(self, *args, **kwargs)
        if producer:
            vars(self).setdefault(_SEEN, set()).add(producer)
            _note(session, self, producer)
        return value

    session.patches.set(kind, "get", get)


def _count_waiting(session: Session, module: Any) -> None:
    """With the pin, objects that were taken early still count as being in the queue."""
    for kind, names in ((module.Queue, ("empty", "qsize")), (module.SimpleQueue, ("empty",))):
        for name in names:
            _count_one(session, kind, name)


def _count_one(session: Session, kind: Any, name: str) -> None:
    original: Callable[[Any], int] = getattr(kind, name)

    @wraps(original)
    def counted(self: Any) -> int:
        turns = vars(self).get(_TURNS)
        waiting = 0 if turns is None else turns.num_waiting
        return original(self) + waiting if name == "qsize" else original(self) and not waiting

    session.patches.set(kind, name, counted)


def _turns(queue: Any) -> Turns:
    turns: Turns | None = vars(queue).get(_TURNS)
    if turns is None or turns.pid != os.getpid():
        turns = vars(queue)[_TURNS] = Turns(queue, vars(queue).setdefault(_HOLDERS, {}))
    return turns


def _is_internal() -> bool:
    """Whether a queue was used by the machinery of pools and loaders; looks above the wrapper that asks."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "multiprocessing.queues":
        frame = frame.f_back
    name = "" if frame is None else f"{frame.f_globals.get('__name__', '')}."
    return name.startswith(_INTERNAL) and not name.startswith(_NOT_INTERNAL)


def _note(session: Session, queue: Any, producer: str) -> None:
    known = {*vars(queue).get(_SEEN, ()), *vars(queue).get(_HOLDERS, ())}
    _count(session, vars(queue).get(_NAME, "queue"), producer, num_producers=len(known))


def _count(session: Session, name: str, who: str, *, num_producers: int) -> None:
    """One event for objects taken at a line, as long as nothing else happens in between."""
    if session.busy:
        return
    import hashlib

    note, key = _note_now, (name, call_site(skip=3))
    goes_on = note.key == key and _is_last(session, note.event)
    if not goes_on:
        note.key, note.count, note.hasher = key, 0, hashlib.blake2b(digest_size=16)
    note.count += 1
    note.hasher.update(who.encode() + b"\0")
    digest, info = note.hasher.hexdigest(), {"count": note.count, "producers": num_producers}
    if goes_on:
        note.event[4], note.event[6] = digest, info
    else:
        session.event("queue", name, digest, site=key[1], info=info)
        note.event = _last(session)


def _last(session: Session) -> list[Any]:
    """The event that was noted last; nothing if it has been written already."""
    events = session.writer._events
    return events[-1] if events else []


def _is_last(session: Session, event: list[Any]) -> bool:
    events = session.writer._events
    return bool(events) and events[-1] is event and not session._drawn


def _watch_pool(session: Session) -> None:
    """`imap_unordered` hands out results as they come; with the pin, in the order of the tasks."""
    module: Any = sys.modules["multiprocessing.pool"]
    kind = module.IMapUnorderedIterator
    if active() is not session:
        return
    if "queue" in session.config.pins:
        session.patches.set(kind, "_set", module.IMapIterator._set)
        return
    set_result, take_next = kind._set, kind.next

    def _set(self: Any, i: int, obj: Any) -> None:
        vars(self).setdefault(_ORDER, deque()).append(i)
        vars(self).setdefault(_SEEN, len(self._pool._pool or ()))
        set_result(self, i, obj)

    def next_(self: Any, timeout: float | None = None) -> Any:
        try:
            value = take_next(self, timeout)
        except (StopIteration, TimeoutError, sys.modules["multiprocessing"].TimeoutError):
            raise
        except Exception:
            _result_taken(session, self)
            raise
        _result_taken(session, self)
        return value

    session.patches.set(kind, "_set", _set)
    session.patches.set(kind, "next", next_)
    session.patches.set(kind, "__next__", next_)


def _result_taken(session: Session, results: Any) -> None:
    order = vars(results).get(_ORDER)
    if order and active() is session:
        _count(session, "imap_unordered", str(order.popleft()), num_producers=vars(results).get(_SEEN, 0))
