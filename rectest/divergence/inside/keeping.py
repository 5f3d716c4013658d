"""A recording that is written out early, so that a process that is killed leaves most of its tape.

A trainer writes at each step; until then, and in children that take none (data workers end without notice), events are
handed to the operating system before the 2nd, 4th, 8th, ... of them: the places depend on the program alone, so two
equal runs have equal tapes, and the last event stays in reach of those that add to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .session import Config, Drawn, Session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KeptSession"]


class KeptSession(Session):
    """See the module."""

    def __init__(self, config: Config, *, process: str, header: dict[str, Any]) -> None:
        super().__init__(config, process=process, header=header)
        self._steps = False
        self._is_child = False
        self._num_events = 0
        self._num_draws = 0

    def event(
        self,
        kind: str,
        name: str,
        digest: str = "",
        *,
        site: str = "",
        info: dict[str, Any] | None = None,
        phase: str = "",
    ) -> None:
        """Note one event, and write out those before it if it is time."""
        self._num_events += 1
        if not self._steps and _is_power_of_two(self._num_events):
            self._write_out()
        super().event(kind, name, digest, site=site, info=info, phase=phase)

    def drawing(
        self, name: str, generator: str, site: str, *, state: Callable[[], str], new_digest: Callable[[], Any]
    ) -> Drawn:
        """The block that a draw belongs to; in a child without steps, blocks end at powers of two."""
        if self._is_child and not self._steps:
            if self._num_draws and _is_power_of_two(self._num_draws):
                self.write_draws()
                self._write_out()
            self._num_draws += 1
        return super().drawing(name, generator, site, state=state, new_digest=new_digest)

    def next_step(self) -> None:
        """A process that takes steps writes at each of them."""
        self._steps = True
        super().next_step()

    def in_child(self, process: str) -> None:
        """Go on in a forked child, which may take no steps."""
        super().in_child(process)
        self._is_child, self._steps, self.busy = True, False, 0
        self._num_events = self._num_draws = 0

    def _write_out(self) -> None:
        # a place that is kept for an event to come would be lost
        if self._writer is not None and all(self._writer._events):
            self._writer.flush()


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
