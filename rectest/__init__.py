"""rectest: a pytest-based training regression test suite for recommender models.

Public names are resolved on first use, so that `import rectest` (and with it the pytest plugin) never imports torch
or NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult as CheckResult
    from rectest.checks.result import Verdict as Verdict
    from rectest.divergence.recording import capture as capture
    from rectest.divergence.recording import why as why
    from rectest.environment import Environment as Environment
    from rectest.errors import RectestError as RectestError
    from rectest.metrics.measure import Measure as Measure
    from rectest.parity import assert_gradient_parity as assert_gradient_parity
    from rectest.record import RunRecord as RunRecord
    from rectest.record import RunSpec as RunSpec
    from rectest.seeding import SeedPlan as SeedPlan
    from rectest.systems.protocol import System as System
    from rectest.training.case import ParityCase as ParityCase
    from rectest.training.determinism import deterministic as deterministic
    from rectest.training.recorder import Recorder as Recorder

__version__ = "0.1.0"

_HOMES = {
    "CheckResult": "rectest.checks.result",
    "Environment": "rectest.environment",
    "Measure": "rectest.metrics.measure",
    "ParityCase": "rectest.training.case",
    "Recorder": "rectest.training.recorder",
    "RectestError": "rectest.errors",
    "RunRecord": "rectest.record",
    "RunSpec": "rectest.record",
    "SeedPlan": "rectest.seeding",
    "System": "rectest.systems.protocol",
    "Verdict": "rectest.checks.result",
    "assert_gradient_parity": "rectest.parity",
    "capture": "rectest.divergence.recording",
    "deterministic": "rectest.training.determinism",
    "why": "rectest.divergence.recording",
}

__all__ = [
    "CheckResult",
    "Environment",
    "Measure",
    "ParityCase",
    "Recorder",
    "RectestError",
    "RunRecord",
    "RunSpec",
    "SeedPlan",
    "System",
    "Verdict",
    "__version__",
    "assert_gradient_parity",
    "capture",
    "deterministic",
    "why",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'rectest' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
