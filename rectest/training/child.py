"""The training child: ``python -m rectest.training.child JOB`` trains one spec and leaves a record or an error file.

Both are written atomically: the parent finds a whole record, a whole error, or nothing (the child died).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path

__all__ = ["HALTED", "die_with_parent", "is_memory", "main"]

HALTED = 5
"""Exit code of a child that ended where it was told to, with a checkpoint behind it."""


def main(job_path: str, *, parent: int | None = None) -> int:
    """Train the job in `job_path`; returns the exit code (0: record written, 3: error file written, 5: halted).

    Args:
        parent: the process to end with, where it is not the one that wrote the job.
    """
    job = json.loads(Path(job_path).read_text())
    die_with_parent(job["parent"] if parent is None else parent)
    sys.path[:] = dict.fromkeys([*job["sys_path"], *sys.path])
    from rectest.errors import RectestError
    from rectest.record import RunSpec, atomic_write

    try:
        from rectest.training.loop import Halted
        from rectest.training.program import run_spec

        folder, resume = (Path(job[key]) if job.get(key) else None for key in ("checkpoint_dir", "resume"))
        try:
            record = run_spec(
                RunSpec.from_dict(job["spec"]), checkpoint_dir=folder, resume=resume, halt_after=job.get("halt_after")
            )
        except Halted:
            return HALTED
        record.save(job["output"])
    except Exception as e:
        known = isinstance(e, RectestError | ValueError | TypeError) and not _from_user_code(e)
        error = {
            "kind": "memory" if is_memory(e) else "raised",
            "type": type(e).__name__,
            "message": str(e) or type(e).__name__,
            "known": known,
            "named": isinstance(e, RectestError),
            "traceback": traceback.format_exc(),
        }
        atomic_write(Path(job["error"]), json.dumps(error).encode())
        return 3
    return 0


def die_with_parent(parent: int) -> None:
    """End with the process that started this one, even where that is killed; only Linux offers this.

    It holds for this process, not for what training starts in turn (data loader workers).
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def is_memory(error: BaseException) -> bool:
    """Whether this is one of the ways in which running out of memory is said."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _from_user_code(error: BaseException) -> bool:
    """Whether the innermost frame lies outside rectest: then the traceback is what the user needs."""
    frames = traceback.extract_tb(error.__traceback__)
    package = Path(__file__).resolve().parents[1]
    return bool(frames) and not Path(frames[-1].filename).resolve().is_relative_to(package)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
