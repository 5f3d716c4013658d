"""The training child: ``python -m rectest.training.child JOB`` trains one spec and leaves a record or an error file.

Both are written atomically: the parent finds a whole record, a whole error, or nothing (the child died).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import sys
import traceback
from pathlib import Path

__all__ = ["main"]


def main(job_path: str) -> int:
    """Train the job in `job_path`; returns the exit code (0: record written, 3: error file written)."""
    _die_with_parent()
    job = json.loads(Path(job_path).read_text())
    for entry in job["sys_path"]:
        if entry not in sys.path:
            sys.path.append(entry)
    from rectest.errors import RectestError
    from rectest.record import RunSpec, atomic_write

    try:
        from rectest.training.program import run_spec

        checkpoints = job.get("checkpoint_dir")
        record = run_spec(RunSpec.from_dict(job["spec"]), checkpoint_dir=Path(checkpoints) if checkpoints else None)
        record.save(job["output"])
    except Exception as e:
        known = isinstance(e, RectestError | ValueError | TypeError) and not _from_user_code(e)
        error = {
            "kind": "memory" if _is_memory(e) else "raised",
            "type": type(e).__name__,
            "message": str(e) or type(e).__name__,
            "known": known,
            "traceback": traceback.format_exc(),
        }
        atomic_write(Path(job["error"]), json.dumps(error).encode())
        return 3
    return 0


def _die_with_parent() -> None:
    """A test run that is killed must not leave children training on; only Linux offers this."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _from_user_code(error: BaseException) -> bool:
    """Whether the innermost frame lies outside rectest: then the traceback is what the user needs."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "rectest" not in Path(frames[-1].filename).parts


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
