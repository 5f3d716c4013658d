"""A recorded run in the formats of others: pytest-benchmark's own, github-action-benchmark's and Bencher's.

Each function returns plain values for JSON. Of memory the other two get what a call needs of its own, where that is
known, and the peak elsewhere; CPU seconds are left out for github-action-benchmark. Ratios have no direction that is
known here (``sha256`` per digest should be large, ``recorded`` per step small), so github-action-benchmark, whose file
says "smaller is better" of all its entries, does not get them; in Bencher each has a measure, and thresholds, of its
own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from rectest.benchmarks.history import RecordedRun, Timing
from rectest.benchmarks.pytest_json import environment_values

__all__ = ["FORMATS", "bencher", "github_action_benchmark", "pytest_benchmark"]

Json: TypeAlias = Any

_NANO = 1e9


def pytest_benchmark(run: RecordedRun) -> Json:
    """What ``--benchmark-json`` wrote of this run, without single rounds; ``pytest-benchmark compare`` reads it."""
    cpu = {"brand_raw": run.machine.get("cpu", ""), "count": int(run.machine.get("cores", 0))}
    return {
        "machine_info": {
            "cpu": cpu,
            "machine": run.machine.get("machine", ""),
            "node": "",
            "processor": run.machine.get("cpu", ""),
            "python_version": run.environment.python,
            "system": run.machine.get("system", ""),
        },
        "commit_info": {"id": run.commit or "unversioned", "dirty": bool(run.dirty), "time": None, "branch": None},
        "benchmarks": [_entry(run, timing) for timing in run.benchmarks.values()],
        "datetime": run.date.replace("Z", "+00:00"),
        "version": "rectest",
    }


def github_action_benchmark(run: RecordedRun) -> Json:
    """Entries of ``customSmallerIsBetter``: the median time and the memory of each benchmark."""
    return [entry for timing in run.benchmarks.values() for entry in _smaller_is_better(run, timing)]


def bencher(run: RecordedRun) -> Json:
    """Bencher Metric Format: ``latency`` in nanoseconds with the quartiles around it, memory in bytes, ratios."""
    return {name: dict(_measures(timing)) for name, timing in run.benchmarks.items()}


FORMATS: Mapping[str, Callable[[RecordedRun], Json]] = {
    "pytest-benchmark": pytest_benchmark,
    "github-action-benchmark": github_action_benchmark,
    "bencher": bencher,
}


def _entry(run: RecordedRun, timing: Timing) -> Json:
    extra: dict[str, Any] = {"environment": environment_values(run.environment), **timing.ratios}
    if timing.memory:
        extra["memory"] = dict(timing.memory)
    if timing.cpu_seconds is not None:
        extra["cpu_seconds"] = timing.cpu_seconds
    mean = float(timing.stats["mean"])
    return {
        "group": timing.group,
        "name": timing.name.rpartition("::")[2],
        "fullname": timing.name,
        "params": None if timing.params is None else dict(timing.params),
        "param": timing.param,
        "extra_info": extra,
        "options": {},
        "stats": {"ops": 1 / mean if mean else 0.0, "iterations": 1, **timing.stats},
    }


def _smaller_is_better(run: RecordedRun, timing: Timing) -> Iterator[Json]:
    rounds = f"{timing.stats['rounds']} rounds, min {timing.stats['min']:.6g} s, {run.environment.describe()}"
    yield {
        "name": timing.name,
        "unit": "seconds",
        "value": timing.median,
        "range": f"± {timing.stats['stddev']:.3g}",
        "extra": rounds,
    }
    for kind, size in timing.own_memory.items():
        yield {"name": f"{timing.name} ({kind})", "unit": "bytes", "value": size, "extra": run.environment.describe()}


def _measures(timing: Timing) -> Iterator[tuple[str, Json]]:
    stats = timing.stats
    low, high = float(stats.get("q1", stats["min"])), float(stats.get("q3", stats["max"]))
    # With few rounds the quartiles that pytest-benchmark gives need not lie around the median.
    bounds = {"lower_value": min(low, timing.median), "upper_value": max(high, timing.median)}
    yield "latency", {name: _NANO * value for name, value in {"value": timing.median, **bounds}.items()}
    if timing.cpu_seconds is not None:
        yield "cpu-time", {"value": _NANO * timing.cpu_seconds}
    for kind, size in timing.own_memory.items():
        yield f"memory-{_slug(kind)}", {"value": size}
    for name, value in sorted(timing.ratios.items()):
        yield f"ratio-{_slug(name)}", {"value": value}


def _slug(name: str) -> str:
    """Bencher's way to write a name in an address.

    >>> _slug("fresh / warm"), _slug("host_peak")
    ('fresh-warm', 'host-peak')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"
