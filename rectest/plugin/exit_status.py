"""How a run ends that is red for want of a machine and not for what it found, and why red tests are not run again.

A training child that was killed, ran out of time or memory, or never started says nothing about the code. A run whose
only red results are of this kind exits with `TEMPORARY_FAILURE`: the one case in which running it again is right.
Everything else that is red stays red until something changes, so that no option re-runs a gate test here, and those
of other plugins are refused in gate tests.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.errors import ChildFailed
    from rectest.plugin.collect import Collector

__all__ = [
    "INFRASTRUCTURE",
    "TEMPORARY_FAILURE",
    "ended",
    "exit_status",
    "infrastructure_notes",
    "is_infrastructure",
    "only_infrastructure",
    "refuse_reruns",
]

INFRASTRUCTURE = "infrastructure"
"""The check of a result that is red because a machine failed."""

TEMPORARY_FAILURE = getattr(os, "EX_TEMPFAIL", 75)
"""75, the code that sysexits.h keeps for "try again later"."""

_REASONS = ("killed", "deadline", "memory", "start")
_OWN_FAULTS = ("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP")
"""Signals that a program brings on itself: running it again brings them again."""

_RERUNNERS = ("rerunfailures", "flaky", "pytest-retry", "pytest_retry")
_RERUN_OPTIONS = ("reruns", "retries", "force_flaky")


def is_infrastructure(failure: ChildFailed) -> bool:
    """Whether a child failed without its code being to blame, as far as can be seen from outside."""
    return failure.reason in _REASONS and not any(f" {name}" in failure.detail for name in _OWN_FAULTS)


def only_infrastructure(found: Iterable[tuple[str, CheckResult]], failed: Collection[str]) -> bool:
    """Whether tests failed, and each of them for an infrastructure failure and nothing else.

    Args:
        found: test and result, of all tests.
        failed: tests that failed; one without an infrastructure result failed for another reason.
    """
    red = [(test, result.check == INFRASTRUCTURE) for test, result in found if result.red]
    return bool(failed) and all(excused for _, excused in red) and set(failed) <= {test for test, _ in red}


def exit_status(
    status: int, found: Iterable[tuple[str, CheckResult]], failed: Collection[str], *, num_failures: int
) -> int:
    """The exit status of a run that pytest ends with `status`.

    Args:
        num_failures: what pytest counted, collection errors among them; one more than `failed` explains stays red.
    """
    if status != pytest.ExitCode.TESTS_FAILED or num_failures > len(failed):
        return status
    return TEMPORARY_FAILURE if only_infrastructure(found, failed) else status


def ended(session: pytest.Session, collector: Collector) -> int:
    """The exit status of this run; nothing is imported where nothing was measured."""
    status = int(session.exitstatus)
    if not collector.results:
        return status
    return exit_status(status, collector.found(), collector.failed, num_failures=session.testsfailed)


def infrastructure_notes(config: pytest.Config, collector: Collector) -> list[str]:
    """What the summary says of infrastructure failures."""
    count = sum(result.check == INFRASTRUCTURE for _, result in collector.found())
    if not count:
        return []
    session: Any = config.pluginmanager.getplugin("session")
    if session is not None and session.exitstatus == TEMPORARY_FAILURE:
        return [
            f"infrastructure: every red test is a training that was stopped, and none is red for what it computed; "
            f"exit code {TEMPORARY_FAILURE}, for which running again is right"
        ]
    return [f"infrastructure: {count} of the red results; the others stay red when this is run again"]


def refuse_reruns(item: pytest.Item) -> None:
    """Fail a gate test that a plugin would run again when it is red.

    It fails rather than being ignored: within one run a gate remembers its verdict, so that a repetition would show
    the same one, and the report would still say that red is a matter of luck. A usage error would take the rest of
    the suite with it, and would not reach the controller from a worker.
    """
    __tracebackhide__ = True
    asked = _rerun_by(item)
    if not asked:
        return
    from rectest.checks.result import not_measured
    from rectest.plugin.collect import attach

    problem = f"gate tests are never run again, and {asked} asks for it"
    advice = "leave it out for gate tests, e.g. pytest -m gate -p no:rerunfailures"
    attach(item, not_measured("reruns", item.name.replace("/", "."), problem, advice=advice))
    pytest.fail(f"NOT MEASURED: {problem}; {advice}", pytrace=False)


def _rerun_by(item: pytest.Item) -> str:
    """What would have this test run again, in words; empty where nothing would."""
    config = item.config
    active = [name for name in _RERUNNERS if config.pluginmanager.hasplugin(name)]
    if not active:
        return ""
    if item.get_closest_marker("flaky") is not None:
        return f"its marker flaky ({active[0]})"
    for option in _RERUN_OPTIONS:
        if config.getoption(option, None) or _ini(config, option):
            return f"{option} ({active[0]})"
    return ""


def _ini(config: pytest.Config, name: str) -> bool:
    try:
        value: Any = config.getini(name)
    except (KeyError, ValueError):
        return False
    return bool(value) and str(value) != "0"
