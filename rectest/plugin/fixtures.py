"""The fixtures: ``rec_train``, ``rec_check``, ``rec_gate``, ``rec_world``, ``rec_device``."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from rectest.plugin.gate import Gate, require_green
from rectest.plugin.options import Options
from rectest.plugin.train import Trainer

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult

__all__ = ["rec_check", "rec_device", "rec_gate", "rec_train", "rec_world"]


@pytest.fixture
def rec_train(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Train something under a fixed seed, in a child process: ``record = rec_train("comirec", seed=3)``.

    The same spec is trained once per test run, whoever asks. ``rec_train.many([...])`` trains several at a time.
    """
    worker = hasattr(request.config, "workerinput")
    options = Options.of(request.config)
    return Trainer(
        options=options,
        folder=shared_folder(request.config, tmp_path_factory),
        processes=1 if worker else options.processes,
        progress=_progress(request.config),
        item=request.node,
    )


class CheckReporter(Protocol):
    """What `rec_check` is: called with results, and with what was trained."""

    def __call__(self, results: Iterable[CheckResult], *, of: str = "") -> None: ...


@pytest.fixture
def rec_check(request: pytest.FixtureRequest) -> CheckReporter:
    """Report check results and fail the test when one is red: ``rec_check(embeddings(record), of="mymodel")``."""

    def report(results: Iterable[CheckResult], *, of: str = "") -> None:
        __tracebackhide__ = True
        require_green(request.node, list(results), of=of)

    return report


@pytest.fixture
def rec_gate(request: pytest.FixtureRequest, rec_train: Trainer) -> Gate:
    """Judge something against its stored baseline: ``rec_gate("comirec")`` or ``rec_gate(my_training_function)``."""
    return Gate(trainer=rec_train, item=request.node)


@pytest.fixture
def rec_world(request: pytest.FixtureRequest) -> str:
    """The world that was asked for with ``--rectest-world``; empty for each system's default."""
    return Options.of(request.config).world


@pytest.fixture
def rec_device(request: pytest.FixtureRequest) -> str:
    """The device that training children use: ``cuda`` in tests marked ``gpu``, else ``--rectest-device``."""
    device = Options.of(request.config).device
    return "cuda" if request.node.get_closest_marker("gpu") and device == "cpu" else device


def shared_folder(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for runs that all workers of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if hasattr(config, "workerinput") else base) / "rectest-runs"


_SPEAKING = threading.Lock()
"""Trainings end in several threads, and pytest's capturing is switched for the whole process."""


def _silent(_text: str) -> None:
    """Say nothing."""


def _progress(config: pytest.Config) -> Callable[[str], None]:
    """Lines on a terminal while children train; silence in CI, in pipes and on workers."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    quiet = reporter is None or hasattr(config, "workerinput") or os.environ.get("CI")
    if quiet or not sys.__stdout__ or not sys.__stdout__.isatty():
        return _silent

    def say(text: str) -> None:
        with _SPEAKING, contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled():
            reporter.write_line(f"rectest: trained {text}")

    return say
