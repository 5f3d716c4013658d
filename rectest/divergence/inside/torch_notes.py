"""How torch's watchers write: one digest an event, tables of many, and both when their numbers lie on a device.

Nothing that this module does may reach the script: a failure is noted once and the script goes on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .digests import parts_of
from .hashing import digest_bytes
from .lanes import Late
from .naming import Roots
from .session import active
from .torch_environment import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .session import Session

__all__ = ["ABSENT", "Notes"]

ABSENT = bytes(16)
"""Stands for a tensor that is not there, such as the gradient of an unused parameter."""


class Notes:
    """What the watchers of models, steps and collectives share."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.roots = Roots()
        self.late = Late()
        self.last_loss: Any = None
        """``info`` of the last loss, whose number may still be on its way; None before the first."""
        self._environment: dict[str, Any] = {}
        self._looked_at_step = 0
        self._given: dict[tuple[str, str], list[str]] = {}
        self._writer: Any = None
        session.before_flush.append(self.late.settle)

    def ready(self) -> bool:
        """Whether what the script does now is recorded."""
        return not self.session.busy and active() is self.session

    def guarded(self, where: str, call: Callable[[], Any]) -> None:
        """Run a part of the recording; nothing that it computes is recorded, and nothing is raised."""
        self.session.busy += 1
        try:
            call()
        except Exception as e:
            self.session.failed(where, e)
        finally:
            self.session.busy -= 1

    def note(
        self, kind: str, name: str, value: Any, *, site: str = "", info: dict[str, Any] | None = None, phase: str = ""
    ) -> None:
        """One event with the digest of a value."""
        parts = parts_of(value, sample=self.session.config.sample)
        self.note_parts(kind, name, parts, site=site, info=info, phase=phase)

    def note_parts(
        self,
        kind: str,
        name: str,
        parts: list[Any],
        *,
        site: str = "",
        info: dict[str, Any] | None = None,
        phase: str = "",
    ) -> None:
        """One event with the digest of parts that were gathered before."""
        session = self.session
        if all(type(part) is bytes for part in parts):
            digest = digest_bytes(b"".join(parts)).hex() if parts else ""
            session.event(kind, name, digest, site=site, info=info, phase=phase)
            return
        fill, phase = session.reserve(), phase or session.phase
        self.late.add(
            [parts], lambda data: fill(kind, name, digest_bytes(data[0]).hex(), site=site, info=info, phase=phase)
        )

    def table(self, kind: str, name: str, names: list[str], groups: Sequence[list[Any]], *, phase: str) -> None:
        """One event for many tensors, each given as its parts."""
        info = self._table_info(kind, name, names)
        session = self.session
        if all(type(part) is bytes for parts in groups for part in parts):
            each = [digest_bytes(b"".join(parts)) if parts else ABSENT for parts in groups]
            info["each"] = _shown(each)
            session.event(kind, name, _over(names, each), info=info, phase=phase)
            return
        fill = session.reserve()

        def done(data: list[bytes]) -> None:
            each = [digest_bytes(item) if item else ABSENT for item in data]
            fill(kind, name, _over(names, each), info={**info, "each": _shown(each)}, phase=phase)

        self.late.add(list(groups), done)

    def parts(self, value: Any) -> list[Any]:
        """Parts of a value, such as a tensor for a `table`; none for None."""
        return [] if value is None else parts_of(value, sample=self.session.config.sample)

    def digest_into(self, info: dict[str, Any], key: str, parts: list[Any]) -> None:
        """Put a digest into the details of an event: now, or when its numbers have come from their device."""

        def done(data: list[bytes]) -> None:
            info[key] = digest_bytes(data[0]).hex() if data[0] else ""

        if all(type(part) is bytes for part in parts):
            done([b"".join(parts)])
        else:
            self.late.add([parts], done)

    def environment(self) -> None:
        """Versions, flags and threads, when they are new or have changed; they are looked at once a step."""
        if self._environment and self._looked_at_step == self.session.step:
            return
        self._looked_at_step = self.session.step
        found = describe(sys.modules["torch"])
        if found != self._environment:
            self._environment = found
            self.session.event("environment", "torch", info=found)

    def loss(self, tensors: Any) -> None:
        """What backward was called on, with its number where it is one."""
        value = tensors[0] if isinstance(tensors, list | tuple) and len(tensors) == 1 else tensors
        parts = self.parts(value)
        if not parts:  # a transformation that differentiates, not a training
            return
        self.session.write_draws()
        self.environment()
        self.session.trained = True
        info: dict[str, Any] = {"value": None}
        self.note_parts("loss", "loss", parts, info=info, phase="train")
        self.last_loss = info
        torch = sys.modules["torch"]
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.is_floating_point():
            return
        if value.is_cpu:
            info["value"] = float(value.detach())
        elif value.device.type != "meta":
            self.late.add_numbers(value.detach().reshape(1), lambda found: info.update(value=found[0]))

    def _table_info(self, kind: str, name: str, names: list[str]) -> dict[str, Any]:
        """The names, where this file does not have them yet."""
        if self._writer is not self.session.writer:
            self._writer = self.session.writer
            self._given.clear()
        if self._given.get((kind, name)) == names:
            return {}
        self._given[kind, name] = names
        return {"names": names}


def _shown(each: list[bytes]) -> str:
    return "".join([digest[:8].hex() for digest in each])


def _over(names: list[str], each: list[bytes]) -> str:
    return digest_bytes("\0".join(names).encode() + b"".join(each)).hex()
