"""The machine-readable report behind ``--rectest-json``: every result, the environment, and how the run ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rectest.checks.result import CheckResult, worst_verdict
from rectest.record import atomic_write

__all__ = ["REPORT_SCHEMA", "write_report"]

REPORT_SCHEMA = 1


def write_report(
    path: Path,
    results: Sequence[tuple[str, CheckResult]],
    *,
    environment: Mapping[str, Any] | None,
    exit_status: int,
    notes: Sequence[str] = (),
) -> Path:
    """Write `results` (with the test that found each) to `path` in one atomic step.

    Args:
        environment: what the training children computed in; None where nothing was trained.
        exit_status: pytest's, so that a reader need not guess whether the run was green.
    """
    verdicts = Counter(str(result.verdict) for _, result in results)
    content = {
        "schema": REPORT_SCHEMA,
        "verdict": str(worst_verdict(result for _, result in results)),
        "exit_status": exit_status,
        "counts": dict(sorted(verdicts.items())),
        "environment": environment,
        "notes": list(notes),
        "results": [{"test": test, **result.to_dict()} for test, result in results],
    }
    return atomic_write(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
