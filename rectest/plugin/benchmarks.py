"""A benchmark that was asked for and not measured makes the run red: ``--rectest-require=benchmark``.

pytest-benchmark turns itself off under xdist, when disabled or skipped, and then every limit in a benchmark passes.
Here each benchmark that was collected, and each that the last recorded runs or the ini list know, must have been
measured. One that needs a GPU and finds none is excused, as everywhere; ``--rectest-require=gpu`` excuses none.

Everything travels as user properties of reports, as results do. Nothing is registered where nothing is required.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

__all__ = ["NO_GPU", "Benchmarks", "require_benchmarks", "unmeasured"]

MEASURED = "rectest-benchmark"
"""Property of a benchmark's report: how often it was timed."""

NO_GPU = "rectest-no-gpu"
"""Property of a test that was skipped because it needs more GPUs than there are."""

_TAKES_BENCHMARK = re.compile(r"def test\w*\([^)]*\bbenchmark\b")

_DONE, _EXCUSED = "", "excused"

_KEY = pytest.StashKey["Benchmarks"]()


def require_benchmarks(config: pytest.Config) -> None:
    """Watch the benchmarks of this run, in the controller and on workers."""
    config.stash[_KEY] = Benchmarks(config=config)
    config.pluginmanager.register(config.stash[_KEY], "rectest-benchmarks")


def unmeasured(config: pytest.Config) -> list[str]:
    """What was not measured, one sentence a test; empty where benchmarks are not required or all were."""
    watch = config.stash.get(_KEY, None)
    return [] if watch is None else watch.problems()


@dataclass(eq=False)  # pytest keeps plugins in sets
class Benchmarks:
    """What became of every benchmark of a run."""

    config: pytest.Config
    collected: dict[str, None] = field(default_factory=dict)
    fate: dict[str, str] = field(default_factory=dict)
    """Why a benchmark was not measured; `_DONE` where it was, `_EXCUSED` where it may be left out."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note a benchmark before anybody can deselect it."""
        if _is_benchmark(item):
            self.collected[item.nodeid] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that skips itself before its benchmarks are known."""
        if report.skipped and report.nodeid.endswith(".py") and self._has_benchmarks(report.nodeid):
            self.collected[report.nodeid] = None
            self.fate[report.nodeid] = f"all of it was skipped ({_reason(report)})"

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note what -k, -m or a conftest left out."""
        for item in filter(_is_benchmark, items):
            self.fate[item.nodeid] = "it was deselected"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        """Say on the report of a benchmark how often it was timed."""
        if call.when == "call" and _is_benchmark(item):
            item.user_properties.append((MEASURED, _rounds(item)))
        elif call.when == "setup" and _is_benchmark(item):
            item.user_properties.append((MEASURED, 0))
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Read it on the controller."""
        properties: dict[str, Any] = dict(report.user_properties)
        if MEASURED not in properties or report.when == "teardown":
            return
        self.collected.setdefault(report.nodeid)
        if properties.get(NO_GPU):
            self.fate[report.nodeid] = _EXCUSED
        elif report.when == "call" and report.passed and properties[MEASURED]:
            self.fate[report.nodeid] = _DONE
        elif report.skipped:
            self.fate[report.nodeid] = f"it was skipped ({_reason(report)})"
        elif report.failed:
            self.fate[report.nodeid] = self._off() or f"it failed in {report.when}"
        elif report.when == "call":
            self.fate[report.nodeid] = self._off() or "it never timed anything"

    def problems(self) -> list[str]:
        """One sentence for each benchmark that was not measured, or for their absence."""
        recorded, damaged = self._recorded()
        known = dict.fromkeys((*self.collected, *map(str, self.config.getini("rectest_benchmarks")), *recorded))
        fates = {name: self._fate(name) for name in known}
        found = [f"{name} was not measured: {why}" for name, why in fates.items() if why not in (_DONE, _EXCUSED)]
        if not found and _DONE not in fates.values():
            found = [f"no benchmark ran: {self._off() or 'none was collected that this machine can run'}"]
        return [*found, *(f"the history is damaged: {line}" for line in damaged)]

    def _has_benchmarks(self, name: str) -> bool:
        """Whether any test in a file that was not imported takes the fixture."""
        try:
            text = (self.config.rootpath / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return _TAKES_BENCHMARK.search(text) is not None

    def _fate(self, name: str) -> str:
        if name in self.fate:
            return self.fate[name]
        if name in self.collected:
            return "it did not run"
        return self._off() or "it is known from earlier runs and was not collected"

    def _off(self) -> str:
        """Why pytest-benchmark measures nothing in this run; empty where it does."""
        manager = self.config.pluginmanager
        if not manager.hasplugin("benchmark"):
            return "pytest-benchmark is not loaded"
        given = self.config.getoption
        if hasattr(self.config, "workerinput") or given("dist", "no") != "no":
            return "pytest-benchmark is off under xdist; run it with -n0"
        if given("benchmark_skip", False) and not given("benchmark_only", False):
            return "--benchmark-skip is set"
        if given("benchmark_disable", False) and not given("benchmark_enable", False):
            return "--benchmark-disable is set"
        return ""

    def _recorded(self) -> tuple[list[str], list[str]]:
        """Names of the last recorded run of every environment class, and what of the histories cannot be read."""
        from rectest.benchmarks.history import read_histories
        from rectest.plugin.options import Options

        histories = read_histories(Options.of(self.config).baselines / "bench")
        names = sorted({name for found in histories for name in found.latest})
        return names, [line for found in histories for line in found.damaged]


def _is_benchmark(item: pytest.Item) -> bool:
    return "benchmark" in getattr(item, "fixturenames", ())


def _rounds(item: pytest.Item) -> int:
    """Rounds that pytest-benchmark timed in this test; 0 where it was off or its fixture not used."""
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    timed = getattr(getattr(fixture, "stats", None), "stats", None)
    return len(getattr(timed, "data", ()))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
