"""From a `RunSpec` to a `RunRecord` in this process: find what to train, pin the environment, run it.

A spec names a registered system, a user's subclass of `System`, or a user's plain training function that takes a
`Recorder`. Planted faults are applied here, so that the faulty system goes through the very same code.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rectest.data.worlds import load_world
from rectest.errors import ConfigError, RectestError, TrainingError
from rectest.record import RunRecord, RunSpec
from rectest.systems.protocol import System
from rectest.systems.registry import resolve
from rectest.training.determinism import deterministic, global_state
from rectest.training.launch import LAST
from rectest.training.loop import Halted, train_system
from rectest.training.recorder import Recorder
from rectest.training.sinks import open_sink

__all__ = ["planted", "run_spec"]


def run_spec(
    spec: RunSpec, *, checkpoint_dir: Path | None = None, resume: Path | None = None, halt_after: int | None = None
) -> RunRecord:
    """Train what `spec` says, in this process, and return its record.

    The arguments are those of `train_system`. A spec that is `interrupted_at` a step is halted there and resumed here;
    `launch` has a process for each part.

    `RECTEST_TENSORBOARD`, a folder, additionally writes every curve there as TensorBoard events.

    Raises:
        RectestError: one of its subclasses, for anything that can be named.
    """
    if spec.interrupted_at and resume is None and halt_after is None:
        with tempfile.TemporaryDirectory(prefix="rectest-") as scratch:
            place = checkpoint_dir or Path(scratch)
            with contextlib.suppress(Halted):
                return run_spec(spec, checkpoint_dir=place, halt_after=spec.interrupted_at)
            return run_spec(spec, checkpoint_dir=place, resume=place / LAST)
    before = global_state()
    target = resolve(spec.system)
    changed = {key: value for key, value in global_state().items() if value != before[key]}
    with deterministic(spec.seed, threads=spec.threads, device=spec.device, enabled=spec.deterministic) as environment:
        run = Recorder(spec, environment)
        run.facts["globals_changed"] = changed
        if isinstance(target, type) and issubclass(target, System):
            _train_class(target, run, checkpoint_dir=checkpoint_dir, resume=resume, halt_after=halt_after)
        elif callable(target):
            if resume is not None or halt_after is not None:
                msg = f"{spec.system} is a function and keeps its own checkpoints; a subclass of System can be resumed"
                raise TrainingError(msg)
            _train_function(target, run)
        else:
            msg = f"{spec.system} is {target!r}; a subclass of rectest.System or a function of one Recorder was needed"
            raise RectestError(msg)
        record = run.finish()
    folder = os.environ.get("RECTEST_TENSORBOARD")
    if folder:
        open_sink(Path(folder)).write(record)
    return record


def _train_class(target: type[System[Any]], run: Recorder, **how: Any) -> None:
    spec = run.spec
    settings = dict(spec.config)
    for key in ("steps", "eval_every"):
        value = getattr(spec, key)
        if value is not None:
            if key in settings:
                raise ConfigError(target.name, key, "is given twice: in the run spec and in its config")
            settings[key] = value
    system = target.from_settings(settings)
    if spec.plant:
        system = planted(system, spec.plant)
    world = load_world(spec.world or system.default_world)
    run.facts["world"] = world.name
    train_system(system, world, run, **how)


def _train_function(function: Callable[[Recorder], object], run: Recorder) -> None:
    if run.spec.plant:
        msg = f"{run.spec.system} is a function; faults can be planted in subclasses of rectest.System only"
        raise TrainingError(msg)
    function(run)
    if run.spec.world and not run.facts.get("inputs", {}).get("world"):
        msg = (
            f"{run.spec.system} was to be trained on world {run.spec.world!r} and never loaded it; "
            "call run.load_world(), or leave the world out"
        )
        raise TrainingError(msg)
    unread = sorted(set(run.spec.config) - run.config.read)
    if unread:
        raise ConfigError(run.spec.system, unread[0], "was given and never read from run.config")


def planted(system: System[Any], plants: str) -> System[Any]:
    """The system after each plant, from left to right."""
    for plant in plants.split(","):
        system = _plant_one(system, plant)
    return system


def _plant_one(system: System[Any], plant: str) -> System[Any]:
    module, _, name = plant.partition(":")
    try:
        planter = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        msg = f"cannot plant {plant!r}: {e}"
        raise RectestError(msg) from e
    made = planter(system)
    if not isinstance(made, System):
        msg = f"{plant} returned {made!r}, a System was needed"
        raise RectestError(msg)
    return made
