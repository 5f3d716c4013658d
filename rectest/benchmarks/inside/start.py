"""The measured process: pytest, in the tree that is its working directory, with `worker.py` as its only addition.

Started by path as ``python start.py ARGUMENTS``. The import path is that of ``python -m pytest``: this file's own
folder is taken off it, so that nothing of this rectest can stand in for what the tree has.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

__all__: list[str] = []

QUIET = {"xdist": "-n0", "pytest_timeout": "--timeout=0", "pytest_rerunfailures": "--reruns=0"}
"""What must be off by installed module: workers of its own, and clocks that would run while the other side is timed."""


def _main() -> int:
    sys.path[0] = os.getcwd()  # noqa: PTH109
    spec = importlib.util.spec_from_file_location("_rectest_measured", Path(__file__).with_name("worker.py"))
    if spec is None or spec.loader is None:
        return 3
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    off = [option for name, option in QUIET.items() if importlib.util.find_spec(name) is not None]
    return int(module.run([*sys.argv[1:], *off]))


if __name__ == "__main__":
    sys.exit(_main())
