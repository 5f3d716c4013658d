"""What the watchers of `random`, NumPy and torch share: whether a call is noted, and how draws and seeds are.

A watched call that calls other watched functions is noted once, as what the script called. That is kept per thread.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from .digests import digest_value
from .drawn import feed, shown
from .generators import Fresh, Known, Names, state_digest
from .hashing import new_hasher
from .session import Session, active
from .sites import call_site, shown_path
from .source_pins import Pins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Watch", "holding", "inside", "listening", "watch_of"]


class _Thread(threading.local):
    depth = 0
    held = ""
    """The pinned line for which this thread reads entropy now; empty for none."""


_MOST_CODES = 10_000

inside = _Thread()
_watch: Watch | None = None


def watch_of(session: Session) -> Watch:
    """The watch of a recording; made at the first call."""
    global _watch
    if _watch is None or _watch.session is not session:
        _watch = Watch(session)
    return _watch


def listening() -> Watch | None:
    """The watch, if a call of this thread is to be noted: nothing watched is under way and a recording is on."""
    watch = _watch
    if watch is None or inside.depth or watch.session.busy or active() is not watch.session:
        return None
    return watch


def holding() -> Watch | None:
    """The watch, if this thread reads entropy for a pinned line."""
    return _watch if inside.held and _watch is not None and active() is _watch.session else None


class Watch:
    """Names, pins and notes of one recording."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.names = Names()
        self.pins = Pins(session.config.pins)
        self._installed: set[str] = set()
        self._sites: dict[int, tuple[Any, dict[int, str]]] = {}
        self._counted: dict[tuple[str, str, str], tuple[tuple[int, bool, str], dict[str, Any]]] = {}

    def first(self, library: str) -> bool:
        """Whether this is the first time that a library is to be watched."""
        is_first = library not in self._installed
        self._installed.add(library)
        return is_first

    def site(self, frame: Any) -> str:
        """The call site seen from a frame; remembered for each place in code that is one itself."""
        code, place = frame.f_code, frame.f_lasti
        known = self._sites.get(id(code))
        if known is None or known[0] is not code:
            if len(self._sites) >= _MOST_CODES:
                self._sites.clear()
            known = self._sites[id(code)] = (code, {})
        site = known[1].get(place)
        if site is None:
            found = call_site()
            is_here = found == f"{shown_path(code.co_filename)}:{frame.f_lineno}:{code.co_name}"
            site = known[1][place] = found if is_here else ""
        return site or call_site()

    def draw(
        self,
        original: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        name: str,
        known: Known,
        state: Callable[[], str],
        changed: Any = None,
        read: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Call a function that draws, and note what it drew.

        Args:
            original: the function.
            args: its arguments.
            kwargs: its arguments by name.
            name: what the script called.
            known: the generator it draws from.
            state: digest of the generator's state.
            changed: what it fills, for functions that return nothing.
            read: what of the result is digested; all of it by default.
        """
        inside.depth += 1
        try:
            try:
                if known.fresh is not None:
                    self._began(known, state())
                site = self.site(sys._getframe(2))
                block = self.session.drawing(name, known.name, site, state=state, new_digest=new_hasher)
            except Exception as e:
                self.session.failed("watching generators", e)
                return original(*args, **kwargs)
            result = original(*args, **kwargs)
            try:
                block.count += 1
                drawn = changed if result is None else result if read is None else read(result)
                if not feed(block.digest, drawn, sample=self.session.config.sample):
                    block.digest.update(state().encode())
            except Exception as e:
                self.session.failed("watching generators", e)
            return result
        finally:
            inside.depth -= 1

    def _began(self, known: Known, state: str) -> None:
        fresh, known.fresh = known.fresh, None
        if fresh is None:
            return
        if fresh.state == state:
            info = {"value": fresh.value, "how": fresh.how}
            self.session.event("seed", known.name, state, site=fresh.site, info=info)
        else:
            self.session.event("seed", known.name, state, site=fresh.site, info={"value": state, "how": "seeded"})

    def seeded(
        self, known: Known, value: Any, *, how: str, site: str, generator: Any = None, is_state: bool = False
    ) -> None:
        """Note that a generator was made or seeded.

        Args:
            known: its name.
            value: its seed; None for entropy.
            how: ``import``, ``created``, ``seeded`` or ``entropy``.
            site: the line that did it.
            generator: its state is the digest where there is no seed.
            is_state: its state is the seed.
        """
        try:
            known.fresh = None
            value = state_digest(generator) if is_state else value
            digest = state_digest(generator) if value is None and generator is not None else digest_value(shown(value))
            self.session.event("seed", known.name, digest, site=site, info={"value": shown(value), "how": how})
        except Exception as e:
            self.session.failed("watching generators", e)

    def made(self, generator: Any, library: str, value: Any, *, site: str, default: Any = None) -> Known:
        """Name a new generator; one without a seed is noted when it first draws (see `Fresh`).

        Args:
            generator: the new one.
            library: of which it is.
            value: its seed; None if it was given none.
            site: the line that made it.
            default: the seed that the library takes where none is given; None for entropy.
        """
        known = self.names.add(generator, library, site)
        if value is not None:
            self.seeded(known, value, how="created", site=site)
            return known
        try:
            known.fresh = Fresh(state_digest(generator), site, "created", default)
        except Exception as e:
            self.session.failed("watching generators", e)
        return known

    def found(self, generator: Any, library: str) -> Known:
        """What is known of a generator; one that nobody saw being made is named after the line that draws from it."""
        known = self.names.get(generator)
        if known is None:
            site = call_site()
            known = self.names.add(generator, library, site)
            self.seeded(known, None, how="created", site=site, generator=generator, is_state=True)
        return known

    def count(self, kind: str, name: str, site: str, digest: Callable[[], str]) -> None:
        """Note what was read at a line: one event a step, with the digest of the first value and their number."""
        try:
            session = self.session
            moment = (session.step, session.trained, session.process)
            last = self._counted.get((kind, name, site))
            if last is not None and last[0] == moment:
                last[1]["count"] += 1
                return
            info = {"count": 1}
            self._counted[kind, name, site] = moment, info
            session.event(kind, name, digest(), site=site, info=info)
        except Exception as e:
            self.session.failed("watching generators", e)
