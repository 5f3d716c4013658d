"""This repository's own test run: shared fixtures, and `slow` tests only when they are asked for."""

from __future__ import annotations

import os

import pytest

# One thread for torch in each test process, before anything imports it: workers and training children share the cores,
# and two processes with a thread for each core run at a third of the speed.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

pytest_plugins = ["pytester"]


@pytest.fixture
def pytester(pytester: pytest.Pytester) -> pytest.Pytester:
    """Pytest's own, without Hypothesis: its plugin is two thirds of what starting a pytest of no test costs."""
    pytester.plugins.append("no:hypothesispytest")
    return pytester


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect `slow` tests unless the marker expression speaks of them."""
    if "slow" in (config.option.markexpr or ""):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
