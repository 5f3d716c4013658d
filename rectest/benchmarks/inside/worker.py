"""The pytest plugin of a measured process: it stops each benchmark where it would be timed, and obeys the driver.

Messages are lines of JSON over a socket. To the driver: ``collected`` (once), then for each benchmark ``at``, the
answers ``sample`` and ``memory``, and ``done``. From the driver: a job first, then ``run``, ``memory`` or ``next``. How
often and in which turn is the driver's business; a process whose driver is gone ends at once.

pytest-benchmark's own fixture stays in place (its `extra_info`, its marks, its rule of one use); only its loops are
replaced. This file imports nothing of rectest.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest  # noqa: TID251

__all__ = ["Worker", "run"]

CHANNEL = "RECTEST_BENCH_CHANNEL"
LONGEST = 4000
"""Characters of a failure that are told."""


def run(args: list[str]) -> int:
    """Run pytest with this plugin; the job is the first message."""
    channel = Channel(socket.socket(fileno=int(os.environ.pop(CHANNEL))))
    return int(pytest.main(args, plugins=[Worker(channel, channel.receive())]))


class Channel:
    """Lines of JSON, both ways."""

    def __init__(self, connection: socket.socket) -> None:
        connection.set_inheritable(False)
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8")

    def send(self, kind: str, **values: Any) -> None:
        """Tell the driver."""
        try:
            self._connection.sendall((json.dumps({"kind": kind, **values}) + "\n").encode())
        except OSError:
            os._exit(3)

    def receive(self) -> dict[str, Any]:
        """The driver's next word; without a driver there is nothing left to do, not even a teardown."""
        line = self._lines.readline()
        if not line:
            os._exit(3)
        return dict(json.loads(line))


class Worker:
    """One measured process."""

    def __init__(self, channel: Channel, job: dict[str, Any]) -> None:
        self.channel = channel
        self.job = job
        self.errors: dict[str, str] = {}
        self.outcome: dict[str, str] = {}
        self.tests: set[str] = set()
        self.origin = _beside("origin").Origin(**job["origin"])

    def pytest_configure(self) -> None:
        """Put our loops in the place of pytest-benchmark's."""
        fixture_class: Any = importlib.import_module("pytest_benchmark.fixture").BenchmarkFixture
        gear = _beside("call")
        for name in ("_raw", "_raw_pedantic", "_make_stats"):
            if not hasattr(fixture_class, name):
                msg = f"this pytest-benchmark has no BenchmarkFixture.{name}; needed one with the loops of version 5.3"
                raise pytest.UsageError(msg)

        def raw(fixture: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return self.measured(fixture, gear.Call(function, args=args, kwargs=kwargs))

        def pedantic(fixture: Any, target: Callable[..., Any], **given: Any) -> Any:
            chosen = {name: given.get(name) for name in ("args", "kwargs", "setup", "teardown", "iterations")}
            return self.measured(fixture, gear.Call(target, **chosen))

        for name, own in (("_raw", raw), ("_raw_pedantic", pedantic)):
            setattr(fixture_class, name, own)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected, where it speaks of benchmarks."""
        path = Path(report.nodeid.partition("::")[0])
        if report.passed or path.suffix != ".py":
            return
        with contextlib.suppress(OSError):
            if "benchmark" in path.read_text(encoding="utf-8", errors="replace"):
                self.errors[report.nodeid] = _last(report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Leave the benchmarks that the job names, in its order; tell which ones others deselect."""
        all_items = list(items)
        # What -k leaves out was not asked for; what anyone else leaves out was, and is not measured.
        expression, config.option.keyword = config.option.keyword, ""
        yield
        left = {item.nodeid for item in items}
        config.option.keyword = expression
        asked = [item for item in all_items if "benchmark" in getattr(item, "fixturenames", ())]
        markers, config.option.markexpr = config.option.markexpr, ""
        mark = config.pluginmanager.get_plugin("mark")
        if expression and mark is not None:
            mark.pytest_collection_modifyitems(items=asked, config=config)
        config.option.markexpr = markers
        names = [item.nodeid for item in asked]
        self.tests = {os.path.realpath(item.path) for item in all_items}
        self.channel.send(
            "collected",
            names=[name for name in names if name in left],
            deselected=[name for name in names if name not in left],
            errors=self.errors,
        )
        by_name = {item.nodeid: item for item in asked if item.nodeid in left}
        wanted = self.job["names"]
        items[:] = [by_name[name] for name in (by_name if wanted is None else wanted) if name in by_name]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first thing that went wrong with a benchmark, in whichever phase."""
        if report.failed and self.outcome.get("outcome") != "failed":
            self.outcome = {"outcome": "failed", "text": f"in {report.when}: {_last(report)}"}
        elif report.skipped and "outcome" not in self.outcome:
            self.outcome = {"outcome": "skipped", "text": _last(report)}

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tell how a benchmark ended, its teardown included, and whether it was the tree's code that it ran."""
        foreign = self.origin.problem()
        wrong = {"outcome": "failed", "text": foreign} if foreign else {}
        told = {"outcome": "passed", "text": "", **self.outcome, **wrong}
        self.channel.send("done", name=nodeid, foreign=bool(foreign), own=self.origin.runs_own(self.tests), **told)
        self.outcome = {}

    def measured(self, fixture: Any, call: Any) -> Any:
        """Obey the driver until it says ``next``; then the value that the test goes on with."""
        # The stats are for tests that look at them; saving and comparing them would be another comparison.
        fixture._add_stats = lambda _stats: None
        stats = fixture._make_stats(1)
        self.channel.send("at", name=fixture.fullname, limit=_number(fixture.extra_info.get("rectest_limit")))
        with _steady():
            while (wanted := self.channel.receive())["do"] != "next":
                if wanted["do"] == "memory":
                    host, device = call.memory()
                    self.channel.send("memory", host=host, device=device)
                    continue
                taken = call.timed(int(wanted["calls"]))
                stats.update(taken["wall"] / int(wanted["calls"]))
                self.channel.send("sample", **taken)
            return call.once()


@contextlib.contextmanager
def _steady() -> Iterator[None]:
    """No tracer, and collections that do not walk what was there before the benchmark."""
    tracer, profiler = sys.gettrace(), sys.getprofile()
    gc.collect()
    gc.freeze()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        sys.setprofile(profiler)
        gc.unfreeze()


def _beside(name: str) -> Any:
    """A module of this folder: by path, as this one."""
    place = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_rectest_measured_{name}", place)
    if spec is None or spec.loader is None:
        msg = f"{place.name} is missing beside worker.py"
        raise pytest.UsageError(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _last(report: Any) -> str:
    """The end of what pytest would print, where the error stands."""
    found = report.longrepr
    text = str(found[2]) if isinstance(found, tuple) else str(report.longreprtext or found)
    return text.strip()[-LONGEST:]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
