"""How many GPUs there are, found out without starting CUDA in the controlling process."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

__all__ = ["num_gpus"]

_DEVICE_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_ASK = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"


@cache
def num_gpus() -> int:
    """The number of CUDA devices that torch sees in a fresh process; 0 without a driver's device files.

    A child is asked, because a CUDA context in this process would be inherited by everything it starts.
    """
    if not any(Path(name).exists() for name in _DEVICE_FILES):
        return 0
    try:
        answer = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=120, check=True)
        return int(answer.stdout.strip().splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError, OSError):
        return 0
