"""Gradient parity of a user's own code: one call that says whether many ranks compute what one process computes.

The case is measured by `rectest.training.case_run` and judged by `rectest.checks`; this file joins the two. What was
asked for and is not there, such as a GPU, is NOT MEASURED and never green.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rectest.checks.parity import gradient_parity
from rectest.checks.replicas import replicas_equal
from rectest.checks.result import CheckResult, not_measured, render
from rectest.checks.shares import shares_make_the_batch

if TYPE_CHECKING:
    from rectest.environment import Environment
    from rectest.record import RunRecord
    from rectest.training.case import ParityCase
    from rectest.training.launch import Launch

__all__ = [
    "WORLD_SIZES",
    "assert_gradient_parity",
    "gradient_parity_results",
    "judge_ranks",
    "judged_case",
    "launch_with",
    "make_case",
]

WORLD_SIZES = (1, 2, 4)
"""Numbers of ranks that are measured if nothing else is asked for."""

_FEWER_GPUS = "run it where these GPUs are, or let ranks share one (gpus='any')"


def assert_gradient_parity(
    build: Callable[[], Any] | ParityCase,
    loss: Callable[[Any, Any], Any] | None = None,
    batch: Any = None,
    *,
    world_sizes: Sequence[int] = WORLD_SIZES,
    deadline: float | None = None,
    **fields: Any,
) -> list[CheckResult]:
    """Fail unless every number of ranks has the gradient of one process on the whole batch.

    The message of a failure names the parameter (or row of a table) that is farthest off, and the cause.

    Args:
        build: makes the model, or a `ParityCase` which has everything.
        loss: ``loss(model, batch)``, the mean over the rows of the batch.
        batch: the whole batch, or a function that makes it.
        world_sizes: numbers of ranks; 1 measures the strategy in one process.
        deadline: seconds for each number of ranks; 120 by default.
        fields: the other fields of `ParityCase`, such as ``strategy="ddp"`` and ``accumulation=2``.

    Returns:
        The results, all green.

    Raises:
        AssertionError: a result is red: wrong, or not measured.
        ValueError: a batch, field or number of ranks that cannot be.
        TypeError: a function that other processes cannot import, or a field of another kind.
        ChildFailed: a rank raised, died or did not come to its end; the message names it.
    """
    __tracebackhide__ = True
    results = gradient_parity_results(
        make_case(build, loss, batch, **fields), world_sizes=world_sizes, how=launch_with(deadline)
    )
    red = [result for result in results if result.red]
    if red:
        raise AssertionError(_message(red))
    return results


def _message(results: Sequence[CheckResult]) -> str:
    """All results; what several say about one number of ranks is said once."""
    from dataclasses import replace

    said: set[tuple[str, str]] = set()
    texts = []
    for result in results:
        key = (result.subject, result.detail)
        texts.append(render(replace(result, detail="") if key in said else result))
        said.add(key)
    return "\n\n".join(texts)


def make_case(build: Any, loss: Any = None, batch: Any = None, **fields: Any) -> ParityCase:
    """A case of its fields; a `ParityCase` in place of `build` is taken as it is, with `fields` over its own."""
    from dataclasses import replace

    from rectest.training.case import ParityCase

    if not isinstance(build, ParityCase):
        return ParityCase(build=build, loss=loss, batch=batch, **fields)
    given = {name: value for name, value in (("loss", loss), ("batch", batch)) if value is not None}
    return replace(build, **given, **fields)


def launch_with(deadline: float | None) -> Launch:
    """How ranks are launched: they can import what this process can."""
    from rectest.training.case_run import DEADLINE
    from rectest.training.launch import Launch

    return Launch(deadline=DEADLINE if deadline is None else deadline, sys_path=sys.path)


def gradient_parity_results(
    case: ParityCase | str,
    world_sizes: Sequence[int] = WORLD_SIZES,
    *,
    changes: Mapping[str, Any] | None = None,
    how: Launch | None = None,
) -> list[CheckResult]:
    """Measure a case and judge it; numbers of ranks for which GPUs are missing are NOT MEASURED.

    Args:
        case: a `ParityCase`, or its name ``module:name`` by which each rank makes its own.
        changes: fields to set over those of a case that is given by name.
        how: deadline, import path and environment of the ranks.
    """
    return judged_case(case, world_sizes, changes=changes, how=how)[0]


def judged_case(
    case: ParityCase | str,
    world_sizes: Sequence[int] = WORLD_SIZES,
    *,
    changes: Mapping[str, Any] | None = None,
    how: Launch | None = None,
) -> tuple[list[CheckResult], Environment | None]:
    """`gradient_parity_results`, and what the ranks computed in; None where nothing was measured."""
    from rectest.training.case import case_of
    from rectest.training.case_run import measure, missing_gpus

    if isinstance(world_sizes, int):
        msg = f"world_sizes must be several numbers, got {world_sizes}; write ({world_sizes},)"
        raise TypeError(msg)
    known = case_of(case, changes) if isinstance(case, str) else case
    missing = {size: missing_gpus(known, size) for size in world_sizes}
    there = [size for size in world_sizes if not missing[size]]
    absent = [
        not_measured("parity/gradient", f"{known.subject} on {size} ranks", problem, advice=_FEWER_GPUS)
        for size, problem in missing.items()
        if problem
    ]
    if absent and not there:
        return absent, None
    outcome = measure(case, there, changes=changes, how=how)
    results = [result for size in there for result in judge_ranks(outcome.single, outcome.ranks[size])]
    return [*results, *absent], outcome.single.environment


def judge_ranks(single: RunRecord, ranks: Sequence[RunRecord]) -> list[CheckResult]:
    """The gradient, the rows and (of two ranks or more) the replicas of one number of ranks."""
    replicas = replicas_equal(ranks) if len(ranks) > 1 else []
    return [*gradient_parity(single, ranks), *shares_make_the_batch(single, ranks), *replicas]
