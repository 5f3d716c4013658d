"""`rec_train`: train a system or a user's own training function in child processes, once per test run."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rectest.plugin.collect import attach_note
from rectest.plugin.options import Options
from rectest.plugin.runcache import RunCache
from rectest.plugin.why import note_trained

if TYPE_CHECKING:
    from rectest.errors import ChildFailed
    from rectest.record import RunRecord, RunSpec
    from rectest.training.launch import Launch

__all__ = ["REPLICA_HASH_SEED", "Trainer", "one_message", "target_name"]

REPLICA_HASH_SEED = 20_011
"""Each repetition gets another `PYTHONHASHSEED`; any two different numbers would do."""


@dataclass
class Trainer:
    """Makes run specs with this run's options in them and trains them through the run cache."""

    options: Options
    folder: Path
    processes: int
    progress: Callable[[str], None]
    item: pytest.Item | None = None
    _paths: list[str] = field(default_factory=list)

    def spec(self, target: Any, **settings: Any) -> RunSpec:
        """The spec of `target`: a registered name, ``module:attribute``, a function, a `System`, or a spec itself.

        Args:
            settings: fields of `RunSpec` (seed, steps, config, ...); world and device default to this run's options.
        """
        __tracebackhide__ = True
        from rectest.record import RunSpec

        with one_message(self.item, str(target)):
            if isinstance(target, RunSpec):
                return target.with_(**settings) if settings else target
            name = self._name(target)
            defaults = {"world": self._world(name), "device": self.options.device}
            return RunSpec(system=name, **{**defaults, **settings})

    def _world(self, system: str) -> str:
        """The world that was asked for; a system's default world is called by no name, so that it is one world."""
        if not self.options.world:
            return ""
        from rectest.data.files import absolute_world
        from rectest.systems.registry import SYSTEMS, resolve

        default = resolve(system).default_world if system in SYSTEMS else ""
        return "" if self.options.world == default else absolute_world(self.options.world)

    def __call__(self, target: Any, **settings: Any) -> RunRecord:
        """Train `target` and return its record; a failed training fails the test with one clear message."""
        return self.many([self.spec(target, **settings)])[0]

    def many(self, targets: Sequence[Any]) -> list[RunRecord]:
        """Train several specs or targets, some at a time where this process may; records come in order."""
        __tracebackhide__ = True
        from rectest.errors import ChildFailed

        specs = [self.spec(target) for target in targets]
        note_trained(self.item, self, specs)
        if not specs:
            pytest.fail("NOT MEASURED: rec_train.many was given nothing to train", pytrace=False)
        cache = RunCache(folder=self.folder, how=self.how, progress=self.progress)
        failure: ChildFailed | None = None
        try:
            records = cache.get_many(specs, processes=self.processes)
        except ChildFailed as e:
            failure = e
        if failure is not None:
            self._fail(failure)
        if self.item is not None:
            attach_note(self.item, "environment", records[0].environment.to_dict())
        return records

    def how(self, spec: RunSpec) -> Launch:
        """How to launch a child for `spec`; a repetition has another hash seed."""
        from rectest.training.launch import Launch

        return Launch(
            deadline=self.options.deadline,
            hash_seed=spec.replica * REPLICA_HASH_SEED,
            sys_path=[*self._paths, *sys.path],
            scratch=self.folder / "children",
        )

    def _name(self, target: Any) -> str:
        if isinstance(target, str):
            return target
        name, folder = target_name(target)
        if folder not in self._paths:
            self._paths.append(folder)
        return name

    def _fail(self, failure: ChildFailed) -> None:
        __tracebackhide__ = True
        from rectest.checks.result import CheckResult, Verdict
        from rectest.plugin.collect import attach
        from rectest.plugin.exit_status import INFRASTRUCTURE, is_infrastructure

        if self.item is not None:
            subject = failure.what.partition(" on ")[0].partition(",")[0]
            result = CheckResult(
                check=INFRASTRUCTURE if is_infrastructure(failure) else "training",
                subject=subject,
                verdict=Verdict.NOT_MEASURED,
                figure=f"{failure.what} {failure.detail}",
            )
            attach(self.item, result)
        log = f"\n\n--- what the child last said ---\n{failure.log}" if failure.log else ""
        pytest.fail(f"{failure}{log}", pytrace=False)


@contextmanager
def one_message(item: pytest.Item | None, subject: str) -> Iterator[None]:
    """Turn a mistake that can be named into a NOT MEASURED result and one message, without rectest's own frames."""
    __tracebackhide__ = True
    from rectest.errors import RectestError

    problem = ""
    try:
        yield
    except (RectestError, ValueError, TypeError) as e:
        problem = str(e)
    if problem:
        from rectest.checks.result import CheckResult, Verdict
        from rectest.plugin.collect import attach

        if item is not None:
            verdict = Verdict.NOT_MEASURED
            attach(
                item, CheckResult(check="training", subject=subject.replace("/", "."), verdict=verdict, figure=problem)
            )
        pytest.fail(f"NOT MEASURED: {problem}", pytrace=False)


def target_name(target: Any) -> tuple[str, str]:
    """``module:attribute`` of a function or class, and the folder a child needs on its path to import it.

    A test module that pytest imported by path has no importable name; its file's name serves then.

    Raises:
        TypeError: `target` is neither a function nor a class, or lives inside a function.
    """
    if not (inspect.isfunction(target) or inspect.isclass(target)) or "<" in target.__qualname__:
        msg = f"cannot train {target!r}: a name, a function or a class at the top level of a module was needed"
        raise TypeError(msg)
    file = Path(inspect.getsourcefile(target) or "").resolve()
    module = target.__module__
    parts = Path(*module.split("."))
    homes = [Path(entry or ".").resolve() for entry in sys.path]
    if not any(file in (home / parts.with_suffix(".py"), home / parts / "__init__.py") for home in homes):
        module = file.stem
    return f"{module}:{target.__qualname__}", str(file.parent)
