"""What every benchmark here gets beside its times: CPU time and peak memory, on one thread.

pytest-benchmark's fixture gets two additions. Functions of tests marked `gpu` wait for the device before they return.
After the timed rounds the function is called once more, outside of them, with peak memory and CPU time taken:
``extra_info["memory"]`` holds the bytes of the process at its peak, those above what it held before the call, and the
device's. Where it ran is noted by the plugin.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

CLEAR_PEAK = "5"
"""What resets the peak of a process: proc(5), /proc/pid/clear_refs."""


class MeasuredBenchmark(BenchmarkFixture):
    """pytest-benchmark's fixture with one more call, for memory."""

    device: str

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        function = self._waiting(function_to_benchmark)
        result = super().__call__(function, *args, **kwargs)
        self._measure(function, args, kwargs)
        return result

    def pedantic(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        **rounds: Any,
    ) -> Any:
        function = self._waiting(target)
        result = super().pedantic(function, args, kwargs, setup, teardown, **rounds)
        args, kwargs = (setup() if setup else None) or (args, kwargs or {})
        self._measure(function, args, kwargs)
        if teardown is not None:
            teardown(*args, **kwargs)
        return result

    def _waiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.device == "cpu":
            return function

        def synchronised(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            torch.cuda.synchronize()
            return result

        return synchronised

    def _measure(self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> None:
        if self.stats is None:  # disabled, or measured by other means than pytest-benchmark's own
            return
        before = start_peak(self.device)
        start = time.process_time()
        function(*args, **kwargs)
        self.extra_info.setdefault("cpu_seconds", time.process_time() - start)
        self.extra_info.setdefault("memory", peak_since(before, self.device))


def start_peak(device: str) -> dict[str, int]:
    """Forget peaks, give back what is free, and return the bytes that are held now."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text(CLEAR_PEAK)
    device_bytes = torch.cuda.memory_allocated() if device != "cpu" else 0
    return {"host": _status("VmRSS"), "device": device_bytes}


def peak_since(before: Mapping[str, int], device: str) -> dict[str, int]:
    """Bytes by kind; nothing of the host where the system does not tell."""
    peaks = {"host": _status("VmHWM")} if before["host"] else {}
    if device != "cpu":
        peaks["device"] = torch.cuda.max_memory_allocated()
    growth = {f"{kind}_growth": max(0, peak - before[kind]) for kind, peak in peaks.items()}
    return {**growth, **{f"{kind}_peak": peak for kind, peak in peaks.items()}}


def _status(key: str) -> int:
    """Bytes of a line of /proc/self/status, 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Leave neither the other core nor the number of threads to chance."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _measured(request: pytest.FixtureRequest, _one_thread: None) -> None:
    """Take the memory of a benchmark beside its times."""
    benchmark = request.getfixturevalue("benchmark") if "benchmark" in request.fixturenames else None
    if type(benchmark) is not BenchmarkFixture:
        return
    benchmark.__class__ = MeasuredBenchmark
    benchmark.device = "cuda" if request.node.get_closest_marker("gpu") else "cpu"
