"""This repository's own test run: shared fixtures, `slow` tests only when asked for, the second core kept busy."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

import pytest

# Tests start some two hundred interpreters, and each would compile rectest anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

gc.set_threshold(100_000, 20, 100)  # half a million objects are collected as tests, and none of them is garbage

from rectest.plugin.fixtures import shared_folder  # noqa: E402

# One thread for torch in each test process, before anything imports it: workers and training children share the cores,
# and two processes with a thread for each core run at a third of the speed.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# A shell has what it starts in the background ignore interrupts, and so would what the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]


@pytest.fixture
def pytester(pytester: pytest.Pytester) -> pytest.Pytester:
    """Pytest's own, without Hypothesis: its plugin is two thirds of what starting a pytest of no test costs."""
    pytester.plugins.append("no:hypothesispytest")
    return pytester


_GATE = "tests/gate/test_gate.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect `slow` tests unless the marker expression speaks of them; put the gate's last, so that none waits.

    A single process has its trainings done ahead on the second core; workers have no such core, and long tests at the
    end would leave one of them idle.
    """
    if not hasattr(config, "workerinput"):
        items.sort(key=lambda item: _GATE in item.nodeid)
    if "slow" in (config.option.markexpr or ""):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_collection_finish() -> None:
    """Leave what was collected out of later collections of garbage: half a million objects that live to the end.

    A pytest that runs within a test ends with full collections, each of which would look at all of them.
    """
    gc.collect()
    gc.freeze()


_MANY = 500
"""Tests before the gate from which on training ahead of it pays."""


@pytest.fixture(scope="session", autouse=True)
def _gate_trained_ahead(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Train what the gate's tests will ask for while a single process runs the tests before them."""
    config, items = request.config, request.session.items
    first = next((place for place, item in enumerate(items) if _GATE in item.nodeid), 0)
    plain = not hasattr(config, "workerinput") and not config.getoption("rectest_world")
    if first < _MANY or not plain or config.getoption("rectest_device") != "cpu":
        yield
        return
    command = [sys.executable, "-m", "fixtures.gate_runs", str(shared_folder(config, tmp_path_factory))]
    with subprocess.Popen(command, cwd=config.rootpath, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ahead:
        yield
        ahead.terminate()
