"""The one recording of a process: where it stands (step, phase), and the way by which events reach the tape.

Draws are gathered by function, generator and line between two other events, and written before the later one: a loop
that draws a million numbers is one event.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .patches import Patches
from .tape import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Config", "Drawn", "Session", "active", "in_backward"]

_active: Session | None = None


def active() -> Session | None:
    """The recording of this process, or None."""
    return _active


@dataclass(frozen=True)
class Config:
    """What to record; it reaches the watched process as JSON in its environment."""

    tape: str
    """Folder of the run's tape."""

    root: str = ""
    """Working directory of the run: sites and files below it are shown relative to it."""

    watch: bool = True
    """Whether draws, seeds, entropy and hashes are watched; ``--fast`` leaves it out."""

    modules: bool = True
    """Whether the output of every module is digested."""

    sample: int = 0
    """Digest about so many elements of each tensor instead of all; 0 for all."""

    listing_seed: int = 0
    """Shuffle directory listings with it; 0 leaves them alone."""

    stop_after: int = 0
    """End the process after so many optimizer steps; 0 for never."""

    pins: tuple[str, ...] = ()
    """Sources of difference to hold still: see `rectest.divergence.confirm`."""

    locate_orders: bool = False
    """Rewrite the script's own modules so that the iteration order of every set of strings reaches the tape."""


@dataclass
class Drawn:
    """Draws of one function, generator and line between two other events."""

    digest: Any
    """A hasher that is fed the drawn values; it has ``hexdigest``."""

    state: str
    """Digest of the generator's state before the first of them."""

    phase: str
    """When the first was drawn: the block is written at the next event, which may belong to another phase."""

    count: int = 0


def in_backward(torch: Any) -> bool:
    """Whether autograd is computing gradients just now; False where this version of torch cannot tell."""
    task = getattr(torch._C, "_current_graph_task_id", None)
    return task is not None and task() != -1


class _Busy(threading.local):
    depth = 0


class Session:
    """Records one process. Hooks and wrappers talk to it; it talks to the writer."""

    def __init__(self, config: Config, *, process: str, header: dict[str, Any]) -> None:
        self.config = config
        self.process = process
        self.header = header
        self.patches = Patches()
        self.step = 1
        """The optimizer step that is being worked on, from 1."""
        self.trained = False
        """Whether a training forward has been seen; before it the phase is ``setup``."""
        self.forwarded = False
        """Whether any root module has been called."""
        self.updating = False
        """Whether an optimizer is at work, which it is without gradients."""
        self._busy = _Busy()
        self.before_flush: list[Callable[[], None]] = []
        """Called before anything is written: what waits for a device fills its reserved places."""
        self._failures: set[str] = set()
        self._writer: Writer | None = None
        self._drawn: dict[tuple[str, str, str], Drawn] = {}

    @property
    def busy(self) -> int:
        """Above zero while the recording itself computes in this thread: wrappers pass through and note nothing."""
        return self._busy.depth

    @busy.setter
    def busy(self, depth: int) -> None:
        self._busy.depth = depth

    @property
    def writer(self) -> Writer:
        """The file of this process, made at its first event: a process that does nothing leaves no tape."""
        if self._writer is None:
            self._writer = Writer(self.config.tape, self.process, self.header)
        return self._writer

    @property
    def phase(self) -> str:
        """``setup``, ``train`` or ``eval``, as far as it can be told between two module calls."""
        torch = sys.modules.get("torch")
        if self.forwarded and torch is not None and not torch.is_grad_enabled():
            return "train" if self.updating or in_backward(torch) else "eval"
        return "train" if self.trained else "setup"

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Inside, nothing that the recording itself does is recorded."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

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
        """Note one event of a kind in `rectest.divergence.inside.tape.KINDS`, after the draws that came before it."""
        self.write_draws()
        self.writer.add(self.step, phase or self.phase, kind, name, digest, site, info)

    def reserve(self) -> Callable[..., None]:
        """Keep a place in the order; the function that is returned fills it, with the arguments of `event`."""
        self.write_draws()
        place, step = self.writer.reserve(), self.step

        def fill(
            kind: str,
            name: str,
            digest: str = "",
            *,
            site: str = "",
            info: dict[str, Any] | None = None,
            phase: str = "",
        ) -> None:
            place[:] = [step, phase or self.phase, kind, name, digest, site, info]

        return fill

    def drawing(
        self, name: str, generator: str, site: str, *, state: Callable[[], str], new_digest: Callable[[], Any]
    ) -> Drawn:
        """The block that a draw belongs to; ask before drawing, then add the values to its digest and to its count.

        Args:
            name: the function, such as ``numpy.random.Generator.integers``.
            generator: which generator, by a name that is equal in another run (``numpy``, ``numpy#2``).
            site: who asks.
            state: digest of the generator's state; called for the first draw of a block only.
            new_digest: makes the hasher.
        """
        key = (name, generator, site)
        drawn = self._drawn.get(key)
        if drawn is None:
            drawn = self._drawn[key] = Drawn(new_digest(), state(), self.phase)
        return drawn

    def write_draws(self) -> None:
        """Write the draws gathered so far, in the order of their first calls."""
        if not self._drawn:
            return
        drawn, self._drawn = self._drawn, {}
        for (name, generator, site), block in drawn.items():
            info = {"generator": generator, "count": block.count, "state": block.state}
            self.writer.add(self.step, block.phase, "draw", name, block.digest.hexdigest(), site, info)

    def failed(self, where: str, error: BaseException) -> None:
        """Note once for each place that the recording itself failed there; the script goes on."""
        if where in self._failures:
            return
        self._failures.add(where)
        text = f"{where}: {type(error).__name__}: {error}"[:500]
        self.event("environment", "capture", info={"capture_error": text})

    def flush(self) -> None:
        """Hand everything to the operating system; reserved places that nobody has filled by now are left out."""
        self.write_draws()
        self._settle()
        self.writer.flush()

    def next_step(self) -> None:
        """An optimizer step is over: write everything, and end the process if it was asked to."""
        self.flush()
        self.step += 1
        if self.config.stop_after and self.step > self.config.stop_after:
            self.close("stopped")
            sys.stdout.flush()
            os._exit(0)

    def _settle(self) -> None:
        for action in self.before_flush:
            try:
                action()
            except Exception as e:
                self.failed("reading a device", e)

    def start(self) -> None:
        """Make this the recording of the process."""
        global _active
        _active = self

    def in_child(self, process: str) -> None:
        """Go on in a forked child under a tape of its own; what the parent had not written yet stays the parent's."""
        self.process, self._writer, self._drawn = process, None, {}
        self.header = {**self.header, "parent": self.header.get("process", "")}

    def close(self, end: str) -> None:
        """Write what is left, undo every patch, and stop recording."""
        global _active
        if self._drawn:
            self.write_draws()
        self._settle()
        if self._writer is not None:
            self._writer.close(end)
        self.patches.undo()
        if _active is self:
            _active = None
