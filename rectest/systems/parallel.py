"""Settings under which a first training step says most about how several ranks share it.

Gradients of ranks are compared at the first steps, where a stage plan may train one component only, and without
dropout, because masks are drawn for the rows that a rank has. Everything else is as in any other run.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["PARALLEL_CONFIG"]

PARALLEL_CONFIG: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "comirec": {},
        "adaptive_sasrec": {"dropout": 0.0},
        "gram_c": {"dropout": 0.0, "prefix_dropout": 0.0, "prefix_drop_whole": 0.0},
        "gear": {"dropout": 0.0},
        "ur4rec": {
            "stages": ["end_to_end"],
            "stage_shares": [1.0],
            "sasrec_dropout": 0.0,
            "retriever_dropout": 0.0,
        },
    }
)
"""By registered system, what to set over its defaults so that each component trains from the first step on.

One part of `ur4rec` cannot: its memory is empty until a user has come back.
"""
