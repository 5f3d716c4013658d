"""Plants that only the claims need: changes of a system that leave all else as it is, so that one thing is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rectest.systems.protocol import System

__all__ = ["last_weights_kept", "shared_stream_with_foreign_draws"]


def shared_stream_with_foreign_draws(system: System[Any]) -> System[Any]:
    """Batches come from the process's global stream, and something else draws from it at every step."""
    from rectest.faults.comirec import shared_global_rng
    from rectest.faults.controls import foreign_draws

    return foreign_draws(shared_global_rng(system))


def last_weights_kept(system: System[Any]) -> System[Any]:
    """Training as it is, and the last weights are tested instead of the best: no checkpoint watches a metric.

    The fault of that name for `gear` also makes the end of training worse; here only the choice of weights differs.
    """
    kind: Any = type(system)

    class LastWeights(kind):  # type: ignore[misc]
        def weights_to_test(self, best: Mapping[str, Any], last: Mapping[str, Any]) -> Mapping[str, Any]:
            del best  # that is the fault
            return last

    planted: System[Any] = LastWeights(system.config)
    return planted
