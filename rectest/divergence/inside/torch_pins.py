"""Holds torch's arithmetic still for a confirmation: ``threads`` and ``deterministic``; the only changes of the script.

Later calls of the script that would loosen a pin are ignored.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .session import Session

__all__ = ["install"]


def install(session: Session) -> None:
    """Apply those pins of the configuration that are torch's."""
    if "threads" in session.config.pins:
        _pin_threads(session)
    if "deterministic" in session.config.pins:
        _pin_algorithms(session)


def _pin_threads(session: Session) -> None:
    import torch

    before, patches = torch.get_num_threads(), session.patches
    patches.on_undo(lambda: torch.set_num_threads(before))
    torch.set_num_threads(1)
    for name in ("set_num_threads", "set_num_interop_threads"):
        patches.set(torch, name, _ignored)


def _pin_algorithms(session: Session) -> None:
    import torch

    patches = session.patches
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    patches.on_undo(lambda: torch.use_deterministic_algorithms(enabled, warn_only=warn_only))
    torch.use_deterministic_algorithms(True, warn_only=True)
    patches.set(torch, "use_deterministic_algorithms", _ignored)
    patches.set(torch, "set_deterministic_debug_mode", _ignored)
    cudnn: Any = torch.backends.cudnn
    for name, value in (("deterministic", True), ("benchmark", False)):
        patches.on_undo(partial(setattr, cudnn, name, getattr(cudnn, name)))
        setattr(cudnn, name, value)
        patches.set(type(cudnn), name, property(partial(_pinned, value), _ignored))


def _pinned(value: bool, owner: Any) -> bool:  # noqa: ARG001  the signature of getters
    return value


def _ignored(*args: Any, **kwargs: Any) -> None:
    """In place of a setter whose setting is pinned."""
