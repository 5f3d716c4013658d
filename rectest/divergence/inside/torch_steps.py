"""Watches optimizers of torch: the gradients they see, what they make of them, and where everything stands afterwards.

An optimizer that steps within another's step (SAM, Lookahead) is a part of that step. With a closure, which computes
the gradients within the step, they are read after it.
"""

from __future__ import annotations

import os
import random
import stat
import sys
import weakref
from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session
    from .torch_notes import Notes

__all__ = ["install"]

_MAX_FRAMES = 300
_MAX_SKETCHED, _MAX_EACH = 128, 8


def install(
    session: Session, notes: Notes, local_gradients: Callable[[list[Any]], list[Any] | None], forget: Callable[[], None]
) -> None:
    """Record the steps of every optimizer.

    Args:
        session: the recording.
        notes: where to write.
        local_gradients: parts of each parameter's gradient before it was reduced; None where nothing reduces.
        forget: called at each step; no module is running then.
    """
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    is_compiling = torch.compiler.is_compiling
    steps = _Steps(notes, local_gradients)

    def before(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_compiling() or not notes.ready() or _nested(sys._getframe(1)) or _capturing(torch):
            return
        if not _closure(args, kwargs):
            notes.guarded("gradients", lambda: steps.gradients(optimizer))
            session.updating = True

    def after(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_compiling() or not notes.ready() or _nested(sys._getframe(1)) or _capturing(torch):
            return
        session.updating = False
        if _closure(args, kwargs):
            notes.guarded("gradients", lambda: steps.gradients(optimizer))
        notes.guarded("a step", lambda: steps.stepped(optimizer))
        forget()
        session.next_step()

    session.patches.on_undo(register_optimizer_step_pre_hook(before).remove)
    session.patches.on_undo(register_optimizer_step_post_hook(after).remove)


class _Known:
    """An optimizer's name and those of its parameters, which are held weakly."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: list[str] = []
        self._held: list[weakref.ref[Any]] = []

    def holds(self, parameters: list[Any]) -> bool:
        """Whether the names belong to these very parameters."""
        held = self._held
        return len(held) == len(parameters) and all(
            reference() is parameter for reference, parameter in zip(held, parameters, strict=True)
        )

    def learn(self, parameters: list[Any], names: list[str]) -> None:
        """Take other parameters."""
        self._held = [weakref.ref(parameter) for parameter in parameters]
        self.names = names


class _Steps:
    """Writes what a step saw and did."""

    def __init__(self, notes: Notes, local_gradients: Callable[[list[Any]], list[Any] | None]) -> None:
        self.notes = notes
        self.session = notes.session
        self._local_gradients = local_gradients
        self._known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
        self._count = 0

    def gradients(self, optimizer: Any) -> None:
        """Each parameter's gradient, and before it this process's part of it where processes share the work."""
        known, parameters = self._parameters(optimizer)
        notes = self.notes
        self.session.write_draws()
        notes.environment()
        self.session.trained = True
        parts = self._local_gradients(parameters)
        if parts is not None:
            notes.table("local_gradient", known.name, known.names, parts, phase="train")
        groups = [notes.parts(parameter.grad) for parameter in parameters]
        notes.table("gradient", known.name, known.names, groups, phase="train")

    def stepped(self, optimizer: Any) -> None:
        """State and settings, parameters, generators, a sketch for the growth of differences, and the output."""
        known, parameters = self._parameters(optimizer)
        notes, name, names = self.notes, known.name, known.names
        states = [_state_of(optimizer, parameter) for parameter in parameters]
        groups = [notes.parts(state or None) for state in states]
        groups.append(notes.parts([_settings(group) for group in optimizer.param_groups]))
        notes.table("optimizer", name, [*names, "settings"], groups, phase="train")
        notes.table("parameter", name, names, [notes.parts(parameter) for parameter in parameters], phase="train")
        for generator, state in _random_states():
            notes.note("rng", generator, state, phase="train")
        self._sketch(parameters)
        printed = _printed()
        if printed is not None:
            self.session.event("output", "stdout", info={"bytes": printed}, phase="train")

    def _parameters(self, optimizer: Any) -> tuple[_Known, list[Any]]:
        known = self._known.get(optimizer)
        if known is None:
            known = self._known[optimizer] = _Known(f"optimizer{self._count}")
            self._count += 1
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if not known.holds(parameters):
            places = [
                f"group{number}[{place}]"
                for number, group in enumerate(optimizer.param_groups)
                for place in range(len(group["params"]))
            ]
            known.learn(parameters, self.notes.roots.parameter_names(parameters, places))
        return known, parameters

    def _sketch(self, parameters: list[Any]) -> None:
        each = max(1, min(_MAX_EACH, _MAX_SKETCHED // max(1, len(parameters))))
        info: dict[str, Any] = {"values": [], "loss": None}
        self.session.event("sketch", "parameters", info=info, phase="train")
        values: list[float] = info["values"]
        late: list[Any] = []
        for parameter in parameters[:_MAX_SKETCHED]:
            tensor = parameter.detach()
            if type(tensor) is not sys.modules["torch"].Tensor or not tensor.is_floating_point() or not tensor.numel():
                continue
            step = max(1, tensor.numel() // each)
            picked = tensor.reshape(-1)[step // 2 :: step][:each]
            if tensor.is_cpu:
                values.extend([_short(value) for value in picked.tolist()])
            elif tensor.device.type != "meta":
                late.append(picked.double())
        if late:
            numbers = sys.modules["torch"].cat(late)
            self.notes.late.add_numbers(numbers, lambda found: values.extend([_short(value) for value in found]))
        loss = self.notes.last_loss
        if loss is not None:
            self.notes.late.on_settled(lambda: info.update(loss=loss["value"]))


def _short(value: float) -> float:
    """Nine digits tell any two float32 apart."""
    return float(f"{value:.9g}")


def _state_of(optimizer: Any, parameter: Any) -> Any:
    try:
        return optimizer.state.get(parameter)
    except (AttributeError, KeyError, TypeError):
        return None


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _random_states() -> list[tuple[str, Any]]:
    """The state of each global generator that exists; CUDA's only where it runs already."""
    version, words, gauss = random.getstate()
    state = b"%d" % version + array("I", words).tobytes() + repr(gauss).encode()
    found: list[tuple[str, Any]] = [("random", state)]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        kind, keys, *rest = numpy.random.get_state(legacy=True)
        found.append(("numpy", kind.encode() + keys.tobytes() + repr(rest).encode()))
    torch = sys.modules["torch"]
    found.append(("torch", torch.get_rng_state()))
    if torch.cuda.is_initialized():
        device = torch.cuda.current_device()
        found.append((f"cuda:{device}", torch.cuda.get_rng_state(device)))
    return found


def _printed() -> int | None:
    """Bytes that stand in the file behind standard output; None where that is no file."""
    try:
        if not stat.S_ISREG(os.fstat(1).st_mode):
            return None
        sys.stdout.flush()
        return os.lseek(1, 0, os.SEEK_CUR)
    except (OSError, ValueError, AttributeError):
        return None


def _closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return callable(kwargs.get("closure")) or any(callable(value) for value in args[1:2])


def _nested(frame: Any) -> bool:
    """Whether the function of torch that calls a hook of this step is running further out as well."""
    code = frame.f_code
    for _ in range(_MAX_FRAMES):
        frame = frame.f_back
        if frame is None:
            return False
        if frame.f_code is code:
            return True
    return False


def _capturing(torch: Any) -> bool:
    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
