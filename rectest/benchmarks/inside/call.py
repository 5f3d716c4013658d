"""The call that is measured: its times on every clock, and the memory it needs at its peak.

This file imports nothing of rectest, and torch only where the benchmark has imported it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Call"]

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
"""Written to ``clear_refs``, it sets VmHWM back to VmRSS (proc_pid_clear_refs(5))."""

_THIS_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class Call:
    """What the test gave to its `benchmark`, to be called any number of times."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        iterations: int | None = None,
    ) -> None:
        self.function = function
        self.args = tuple(args or ())
        self.kwargs = dict(kwargs or {})
        self.setup = setup
        self.teardown = teardown
        self.iterations = iterations or 1

    def timed(self, calls: int) -> dict[str, float]:
        """Seconds that so many calls took, setup and teardown left out.

        ``wall``; ``cpu`` of all threads of this process; ``thread``, the CPU time of this thread; ``waits``, how often
        it gave up the processor by itself; ``elapsed`` with setup and teardown; ``device`` 1 where CUDA was in use.
        """
        started = time.perf_counter()
        total = [0.0, 0.0, 0.0, 0.0]
        for repeats in [calls] if self.setup is None and self.teardown is None else [1] * calls:
            args, kwargs = self._arguments()
            function, span = self.function, range(repeats * self.iterations)
            _synchronise()
            before = _clocks()
            for _ in span:
                function(*args, **kwargs)
            device = _synchronise()
            total = [sum_ + now - then for sum_, now, then in zip(total, _clocks(), before, strict=True)]
            if self.teardown is not None:
                self.teardown(*args, **kwargs)
        wall, cpu, thread, waits = (value / self.iterations for value in total)
        elapsed = time.perf_counter() - started
        return {"wall": wall, "cpu": cpu, "thread": thread, "waits": waits, "elapsed": elapsed, "device": float(device)}

    def memory(self) -> tuple[int | None, int | None]:
        """Bytes at the peak of one call above what was held before it, on the host and on CUDA devices.

        None where the system does not tell; what the arguments hold is held before.
        """
        args, kwargs = self._arguments()
        gc.collect()
        _give_back()
        cuda = _cuda()
        devices = range(cuda.device_count()) if cuda is not None else range(0)
        held = [cuda.memory_allocated(index) for index in devices]
        for index in devices:
            cuda.reset_peak_memory_stats(index)
        before = _reset_peak()
        self.function(*args, **kwargs)
        _synchronise()
        host = None if before is None else max(0, _status("VmHWM") - before)
        device = sum(cuda.max_memory_allocated(index) - then for index, then in zip(devices, held, strict=True))
        if self.teardown is not None:
            self.teardown(*args, **kwargs)
        return host, device if cuda is not None else None

    def once(self) -> Any:
        """What a call returns."""
        args, kwargs = self._arguments()
        found = self.function(*args, **kwargs)
        if self.teardown is not None:
            self.teardown(*args, **kwargs)
        return found

    def _arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if self.setup is None:
            return self.args, self.kwargs
        made = self.setup()
        return made or (self.args, self.kwargs)


def _clocks() -> tuple[float, float, float, float]:
    """Seconds on the wall, of the process, of this thread, and its waits; the wall is read last and first enough."""
    waits = resource.getrusage(_THIS_THREAD).ru_nvcsw
    return time.perf_counter(), time.process_time(), time.thread_time(), float(waits)


def _cuda() -> Any:
    """``torch.cuda`` where this process uses it."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _synchronise() -> bool:
    """Wait for what CUDA was told to do; whether there is a CUDA in use."""
    cuda = _cuda()
    if cuda is None:
        return False
    for index in range(cuda.device_count()):
        cuda.synchronize(index)
    return True


def _give_back() -> None:
    """Return to the system what was freed, so that it does not hide in what is held before the call."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> int | None:
    """Bytes that the process holds, from which on its peak is taken anew; None where that cannot be asked."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
        return _status("VmHWM")
    except (OSError, KeyError):
        return None


def _status(name: str) -> int:
    """A size in ``/proc/self/status`` in bytes."""
    text = _STATUS.read_text()
    values = dict(line.partition(":")[::2] for line in text.splitlines())
    return int(values[name].split()[0]) * 1024
