"""Checkpoints: weights, optimizer, step, random states and the whole configuration, in one atomic file.

Files are plain values and tensors, read with ``weights_only=True`` only, so that opening a foreign file runs no code.
Loading is strict and says what does not fit: a lenient load that matches nothing leaves a random model and no error.
Batches are not kept: they are a function of the seeds, so a resumed run skips as many as `step` says.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rectest.errors import RecordError
from rectest.record import atomic_write
from rectest.training.determinism import RandomStates

__all__ = ["Checkpoint", "Rollback", "load_checkpoint", "restore", "rollback", "save_checkpoint"]

_FORMAT = "rectest.checkpoint"
_SCHEMA = 1
_FIELDS = ("step", "settings", "model", "optimizer", "optimizer_class", "random", "generators", "extra")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file held."""

    path: Path
    step: int
    settings: Mapping[str, Any]
    """The whole configuration of the run, as JSON values (tuples come back as lists)."""

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None
    optimizer_class: str | None
    random: Mapping[str, Any] = field(repr=False)
    """States of the global generators."""

    generators: Mapping[str, Tensor] = field(repr=False)
    """States of the generators that modules own (dropout), by module and attribute."""

    extra: Mapping[str, Any]

    def differences(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Settings that differ, as (here, in the checkpoint); None stands for an absent one."""
        here = _plain("settings", settings)
        names = sorted({*here, *self.settings})
        return {n: (here.get(n), self.settings.get(n)) for n in names if here.get(n) != self.settings.get(n)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollback:
    """What a plainer model took from a checkpoint, and what it has no place for."""

    kept: tuple[str, ...]
    dropped: tuple[str, ...]


def save_checkpoint(
    path: str | Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    step: int,
    settings: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint beside `path` and rename it there; a killed process leaves the old file or none.

    Args:
        settings: the whole configuration (`System.settings()`), defaults included.
        extra: anything more, of plain values and tensors.

    Raises:
        ValueError: `settings` or `extra` hold something that a reader would have to execute code for.
    """
    content = {
        "format": _FORMAT,
        "schema": _SCHEMA,
        "step": int(step),
        "settings": _plain("settings", settings),
        "model": {name: value.detach().cpu() for name, value in model.state_dict().items()},
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "optimizer_class": None if optimizer is None else type(optimizer).__name__,
        "random": _random_to_plain(RandomStates.capture()),
        "generators": {name: generator.get_state() for name, generator in _generators(model)},
        "extra": dict(extra or {}),
    }
    written = _to_bytes(content)
    try:
        torch.load(io.BytesIO(written), weights_only=True)
    except Exception as e:
        msg = f"a checkpoint may hold plain values and tensors only: {_first_line(e)}"
        raise ValueError(msg) from e
    return atomic_write(Path(path), written)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        RecordError: the file is absent, damaged, of another program or of another schema.
    """
    place = Path(path)
    if not place.is_file():
        problem = "no such checkpoint"
        raise RecordError(problem, path=place)
    try:
        content = torch.load(place, map_location="cpu", weights_only=True)
    except Exception as e:
        problem = f"not a readable checkpoint ({_first_line(e)}); it is damaged or holds more than plain tensors"
        raise RecordError(problem, path=place) from e
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        problem = f"a torch file, but not a rectest checkpoint; write one with {save_checkpoint.__name__}"
        raise RecordError(problem, path=place)
    if content.get("schema") != _SCHEMA or any(name not in content for name in _FIELDS):
        problem = f"checkpoint schema {content.get('schema')!r}, this version reads {_SCHEMA}; train again"
        raise RecordError(problem, path=place)
    return Checkpoint(path=place, **{name: content[name] for name in _FIELDS})


def restore(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Put the weights into `model`; with an `optimizer` also its state and all random states, to go on training.

    Nothing is changed unless everything fits.

    Args:
        settings: the configuration of `model`; when given, it must equal the checkpoint's.

    Raises:
        RecordError: names, shapes, the optimizer or settings do not match; the text says which.
    """
    differing = {} if settings is None else checkpoint.differences(settings)
    if differing:
        parts = [f"{name} is {here!r} here and {there!r} there" for name, (here, there) in differing.items()]
        problem = f"made under other settings: {_listed(parts)}; build the system from the checkpoint's settings"
        raise RecordError(problem, path=checkpoint.path)
    _require_fit(checkpoint, model.state_dict(), dropping=False)
    if optimizer is not None:
        _require_optimizer(checkpoint, optimizer)
        generators = dict(_generators(model))
        if set(generators) != set(checkpoint.generators):
            problem = f"generators of the model: {sorted(generators)} here, {sorted(checkpoint.generators)} there"
            raise RecordError(problem, path=checkpoint.path)
        assert checkpoint.optimizer is not None
        optimizer.load_state_dict(dict(checkpoint.optimizer))
        for name, state in checkpoint.generators.items():
            generators[name].set_state(state)
        _random_from_plain(checkpoint.random).restore()
    model.load_state_dict(dict(checkpoint.model), strict=True)


def rollback(checkpoint: Checkpoint, model: nn.Module) -> Rollback:
    """Give a model with features off the weights it shares with the checkpoint, and say what was left behind.

    Everything that `model` has must be in the checkpoint: a rollback may drop parts but never invent them. The
    optimizer starts afresh.

    Raises:
        RecordError: the model has a part that the checkpoint does not have in that shape.
    """
    _require_fit(checkpoint, model.state_dict(), dropping=True)
    kept = tuple(sorted(model.state_dict()))
    model.load_state_dict({name: checkpoint.model[name] for name in kept}, strict=True)
    return Rollback(kept=kept, dropped=tuple(sorted(set(checkpoint.model) - set(kept))))


def _require_fit(checkpoint: Checkpoint, wanted: Mapping[str, Tensor], *, dropping: bool) -> None:
    """All names in `wanted` with their shapes and dtypes, and (unless `dropping`) no others."""
    found = checkpoint.model
    shared = [name for name in wanted if name in found]
    wrong = [
        f"{name} is {_kind(found[name])}, {_kind(wanted[name])} was needed"
        for name in shared
        if _kind(found[name]) != _kind(wanted[name])
    ]
    groups = {
        "it lacks": sorted(set(wanted) - set(found)),
        "it has unexpected": [] if dropping else sorted(set(found) - set(wanted)),
        "it does not match in": wrong,
    }
    problems = [f"{what} {_listed(names)}" for what, names in groups.items() if names]
    if problems:
        problem = f"does not fit the model: {'; '.join(problems)}"
        raise RecordError(problem, path=checkpoint.path)


def _require_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    if checkpoint.optimizer is None:
        problem = "holds no optimizer state, so training cannot go on from it"
        raise RecordError(problem, path=checkpoint.path)
    if checkpoint.optimizer_class != type(optimizer).__name__:
        problem = f"was made with {checkpoint.optimizer_class}, the optimizer here is {type(optimizer).__name__}"
        raise RecordError(problem, path=checkpoint.path)
    here = [len(group["params"]) for group in optimizer.param_groups]
    there = [len(group["params"]) for group in checkpoint.optimizer["param_groups"]]
    if here != there:
        problem = f"its optimizer has {there} parameters by group, the optimizer here has {here}"
        raise RecordError(problem, path=checkpoint.path)


def _generators(model: nn.Module) -> Iterator[tuple[str, torch.Generator]]:
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Generator):
                yield f"{name}.{attribute}".lstrip("."), value


def _random_to_plain(states: RandomStates) -> dict[str, Any]:
    """Global random states as tensors and numbers, which ``weights_only`` accepts."""
    kind, keys, *rest = states.numpy
    version, words, gauss = states.python
    return {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), *(float(value) for value in rest)],
        "torch": states.torch,
        "cuda": list(states.cuda),
    }


def _random_from_plain(plain: Mapping[str, Any]) -> RandomStates:
    version, words, gauss = plain["python"]
    kind, keys, position, has_gauss, cached = plain["numpy"]
    return RandomStates(
        python=(version, tuple(words.tolist()), gauss),
        numpy=(kind, keys.numpy().astype(np.uint32), int(position), int(has_gauss), cached),
        torch=plain["torch"],
        cuda=list(plain["cuda"]),
    )


def _plain(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(dict(values), allow_nan=False)))
    except (TypeError, ValueError) as e:
        msg = f"{name} must hold plain JSON values: {e}"
        raise ValueError(msg) from e


def _to_bytes(content: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}".removeprefix("torch.")


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
