"""What torch computes with: versions, flags, threads, devices. Reading them starts no device and changes no flag."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["describe"]

_fixed: dict[str, Any] = {}


def describe(torch: Any) -> dict[str, Any]:
    """Plain values, equal between equal runs; None where this torch does not say."""
    started = torch.cuda.is_initialized()
    return {
        **_versions(torch),
        "device": torch.cuda.get_device_name() if started else "cpu",
        "threads": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": _asked(torch._C, "_get_cudnn_benchmark"),
        "cudnn_deterministic": _asked(torch._C, "_get_cudnn_deterministic"),
        "tf32": _asked(torch._C, "_get_cublas_allow_tf32"),
        "matmul_precision": _asked(torch._C, "_get_float32_matmul_precision"),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
        "mkldnn": _asked(torch._C, "_get_mkldnn_enabled"),
        "default_dtype": str(torch.get_default_dtype()),
        "anomaly": torch.is_anomaly_enabled(),
    }


def _versions(torch: Any) -> dict[str, Any]:
    """What cannot change while the process lives, but for NumPy, which may come later."""
    if not _fixed:
        _fixed.update(torch=torch.__version__, cuda=torch.version.cuda, capability=_capability(torch))
    return {**_fixed, "numpy": getattr(sys.modules.get("numpy"), "__version__", None)}


def _capability(torch: Any) -> Any:
    cpu = getattr(torch.backends, "cpu", None)
    return _asked(cpu, "get_cpu_capability") if cpu is not None else None


def _asked(owner: Any, name: str) -> Any:
    """The answer of a getter; None where it is missing or refuses (torch mixes two ways of asking for TF32)."""
    getter: Callable[[], Any] | None = getattr(owner, name, None)
    if getter is None:
        return None
    try:
        return getter()
    except RuntimeError:
        return None
