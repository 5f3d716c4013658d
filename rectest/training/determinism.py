"""Determinism: one context that pins every seed and switch known to change bits, and gives all of them back.

It owns process-wide state only: seeds of the global generators, torch's switches, threads. What a system draws
itself comes from its `SeedPlan`; the global generators are pinned for what cannot be handed one (dropout).
"""

from __future__ import annotations

import os
import platform
import random
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rectest.environment import Environment, cpu_model
from rectest.errors import TrainingError
from rectest.seeding import SeedPlan

__all__ = ["RandomStates", "deterministic", "global_state", "peak_rss_mib", "preserved_random_states", "probe"]

CUBLAS_WORKSPACE = ":4096:8"
"""The value that PyTorch documents for reproducible cuBLAS; it must be set before CUDA starts."""

_PROCESS = threading.RLock()


@dataclass(frozen=True, kw_only=True)
class RandomStates:
    """The states of all global generators: Python, NumPy, torch on the CPU and on every CUDA device."""

    python: Any
    numpy: Any
    torch: Tensor
    cuda: list[Tensor]

    @classmethod
    def capture(cls) -> RandomStates:
        """The states now; CUDA is asked only where it is already running, so that this never starts it."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        return cls(
            python=random.getstate(),
            numpy=np.random.get_state(legacy=True),  # noqa: NPY002  the global generator is what we guard
            torch=torch.get_rng_state(),
            cuda=cuda,
        )

    def restore(self) -> None:
        """Put every generator back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)

    def moved(self, later: RandomStates) -> list[str]:
        """The names of the generators that drew between this state and `later`."""
        names = []
        if self.python != later.python:
            names.append("python")
        if any(not np.array_equal(a, b) for a, b in zip(self.numpy, later.numpy, strict=True)):
            names.append("numpy")
        if not torch.equal(self.torch, later.torch):
            names.append("torch")
        if len(self.cuda) != len(later.cuda) or any(
            not torch.equal(a, b) for a, b in zip(self.cuda, later.cuda, strict=True)
        ):
            names.append("cuda")
        return names


@contextmanager
def preserved_random_states() -> Iterator[list[str]]:
    """Run a block and put all global generators back; the yielded list then names those that had drawn.

    Evaluation runs in here, so that its schedule can never change what is trained on.
    """
    drew: list[str] = []
    before = RandomStates.capture()
    try:
        yield drew
    finally:
        drew.extend(before.moved(RandomStates.capture()))
        before.restore()


@contextmanager
def deterministic(seed: int, *, threads: int = 1, device: str = "cpu", enabled: bool = True) -> Iterator[Environment]:
    """Pin all seeds and switches for a block; yield the `Environment` in force; restore everything, on error too.

    Seeds Python's, NumPy's and torch's global generators (from named streams of `seed`), demands deterministic
    algorithms, fixes the cuBLAS workspace, turns TF32 and cuDNN autotuning off and sets the intra-op threads.
    With `enabled` false only seeds and threads are set: a run as users usually make it.

    All of that belongs to the process, so a second thread waits until the first has left the block.

    Raises:
        TrainingError: `device` is CUDA and there is none, or CUDA already started under another cuBLAS workspace.
    """
    _require_device(device)
    with _PROCESS:
        states, switches = RandomStates.capture(), _Switches.capture()
        try:
            torch.set_num_threads(threads)
            if enabled:
                _set_switches(device)
            _seed_globals(SeedPlan(root=seed))
            yield probe(device)
        finally:
            switches.restore()
            states.restore()


def probe(device: str = "cpu") -> Environment:
    """The `Environment` that this process computes in right now."""
    cuda = torch.device(device).type == "cuda"
    capability = ".".join(str(part) for part in torch.cuda.get_device_capability(device)) if cuda else ""
    return Environment(
        device="cuda" if cuda else "cpu",
        device_name=torch.cuda.get_device_name(device) if cuda else cpu_model(),
        compute_capability=capability,
        arch=platform.machine(),
        isa=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        python=".".join(platform.python_version_tuple()[:2]),
        numpy=np.__version__,
        torch=torch.__version__,
        blas="mkl" if torch.backends.mkl.is_available() else "other",  # type: ignore[no-untyped-call]
        cuda=(torch.version.cuda or "") if cuda else "",
        cudnn=str(torch.backends.cudnn.version() or "") if cuda else "",  # type: ignore[no-untyped-call]
        flags={
            "deterministic": str(torch.are_deterministic_algorithms_enabled()),
            "tf32": str(torch.backends.cuda.matmul.allow_tf32),
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", "") if cuda else "",
        },
    )


def global_state() -> dict[str, str]:
    """Process-wide settings that importing a library may change behind one's back.

    Importing RecBole's sequential models, for one, turns autograd's anomaly detection on, which doubles every step.
    """
    return {
        "anomaly_detection": str(torch.is_anomaly_enabled()),
        "default_dtype": str(torch.get_default_dtype()),
        "grad_enabled": str(torch.is_grad_enabled()),
        "deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "threads": str(torch.get_num_threads()),
        "numpy_errors": str(sorted(np.geterr().items())),
    }


def peak_rss_mib() -> float:
    """The most memory this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (1024 * 1024 if sys.platform == "darwin" else 1024))


@dataclass(frozen=True, kw_only=True)
class _Switches:
    """Everything `deterministic` may change, beside the generators."""

    threads: int
    demand: int
    cudnn_deterministic: bool
    cudnn_benchmark: bool
    matmul_tf32: bool
    cudnn_tf32: bool
    precision: str
    cublas: str | None

    @classmethod
    def capture(cls) -> _Switches:
        return cls(
            threads=torch.get_num_threads(),
            demand=torch.get_deterministic_debug_mode(),
            cudnn_deterministic=torch.backends.cudnn.deterministic,
            cudnn_benchmark=torch.backends.cudnn.benchmark,
            matmul_tf32=torch.backends.cuda.matmul.allow_tf32,
            cudnn_tf32=torch.backends.cudnn.allow_tf32,
            precision=torch.get_float32_matmul_precision(),
            cublas=os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        )

    def restore(self) -> None:
        torch.set_num_threads(self.threads)
        _demand_determinism(self.demand)
        torch.backends.cudnn.deterministic = self.cudnn_deterministic
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.set_float32_matmul_precision(self.precision)
        torch.backends.cuda.matmul.allow_tf32 = self.matmul_tf32
        torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
        if self.cublas is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        else:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = self.cublas


def _set_switches(device: str) -> None:
    wanted = (CUBLAS_WORKSPACE, ":16:8")
    if torch.device(device).type == "cuda" and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in wanted:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            msg = (
                "CUDA started before the cuBLAS workspace was fixed, so its results may vary; "
                f"set CUBLAS_WORKSPACE_CONFIG={CUBLAS_WORKSPACE} in the environment of the run"
            )
            raise TrainingError(msg)
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACE
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    _demand_determinism(_ERROR)


def _demand_determinism(mode: int) -> None:
    """0 allows nondeterministic kernels, 1 warns, 2 refuses.

    `torch.use_deterministic_algorithms` does the same and also tells the compiler, for which it imports it: that
    doubles the start of a child that compiles nothing. It is called only where the compiler is already there.
    """
    if "torch._inductor.config" in sys.modules:
        torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)
    else:
        torch.set_deterministic_debug_mode(mode)


_ERROR = 2


def _seed_globals(seeds: SeedPlan) -> None:
    random.seed(seeds.seed("global/python"))
    np.random.seed(seeds.seed("global/numpy") % 2**32)  # noqa: NPY002  code under test may still draw from it
    torch.manual_seed(seeds.seed("global/torch"))


def _require_device(device: str) -> None:
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        msg = (
            f"device {device!r} was asked for, but torch {torch.__version__} sees no GPU here; use --rectest-device=cpu"
        )
        raise TrainingError(msg)
