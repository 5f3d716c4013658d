"""The machine-readable report behind ``--rectest-json``: every result, the environment, and how the run ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rectest.baseline.evidence import Evidence
from rectest.checks.result import CheckResult, Verdict, worst_verdict
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
    gates: Sequence[Evidence] = (),
) -> Path:
    """Write `results` (with the test that found each) to `path` in one atomic step.

    Args:
        environment: what the training children computed in; None where nothing was trained.
        gates: what each gate rested on; ``rectest gate explain`` reads it from here.
        exit_status: pytest's; a run that was red for another reason than a result is not reported as PASS.
    """
    verdicts = Counter(str(result.verdict) for _, result in results)
    verdict = worst_verdict(result for _, result in results)
    if verdict is Verdict.PASS and exit_status:
        verdict = Verdict.FAIL
    content = {
        "schema": REPORT_SCHEMA,
        "verdict": str(verdict),
        "exit_status": exit_status,
        "counts": dict(sorted(verdicts.items())),
        "environment": environment,
        "notes": list(notes),
        "gates": [evidence.to_dict() for evidence in gates],
        "results": [{"test": test, **result.to_dict()} for test, result in results],
    }
    return atomic_write(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
