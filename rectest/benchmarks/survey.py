"""What benchmarks a tree has, which of them run, and the memory that a call of each needs.

One process a tree, whose allocator keeps nothing back, so that memory is exact to some pages; it is no process to take
times in. A benchmark that takes the process with it is named, and the others are looked at in another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from rectest.benchmarks.child import Child, How, Lost, started
from rectest.benchmarks.trees import Tree

__all__ = ["Listing", "Seen", "listed", "problem_of", "surveyed"]

_MEMORY_CALLS = 3
"""The least of so many: what a call allocates once and for all (a cache, a pool) is no part of what it needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One benchmark of one tree, looked at before anything is compared."""

    problem: str = ""
    """Why it cannot be measured; empty where it can."""

    peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    foreign: bool = False
    """Whether what it ran was not the code of its tree."""

    own: bool = True
    """Whether any module of the tree, beside tests, had been imported when it ended."""

    limit: float | None = None
    """``benchmark.extra_info["rectest_limit"]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What pytest collects in a tree."""

    names: tuple[str, ...]
    """Node ids of benchmarks."""

    deselected: tuple[str, ...] = ()
    """Benchmarks that were asked for and that a marker, an option or a conftest leaves out."""

    errors: dict[str, str] = field(default_factory=dict)
    """Files with benchmarks that could not be collected, and why."""

    @classmethod
    def of(cls, message: dict[str, Any]) -> Listing:
        """From a message ``collected``."""
        return cls(
            names=tuple(message["names"]), deselected=tuple(message["deselected"]), errors=dict(message["errors"])
        )


def listed(tree: Tree, how: How, *, paths: Sequence[str], rng: Random) -> Listing:
    """What the tree has, without running any of it.

    Raises:
        Lost: pytest could not be started, or died while it collected.
    """
    with started(tree, how, paths=paths, names=(), rng=rng) as child:
        return Listing.of(child.receive())


def surveyed(
    tree: Tree, how: How, *, paths: Sequence[str], names: Sequence[str] | None = None, rng: Random
) -> tuple[Listing, dict[str, Seen]]:
    """Run each benchmark a few times, and take its memory.

    Raises:
        Lost: pytest could not be started, or died while it collected.
    """
    seen: dict[str, Seen] = {}
    listing: Listing | None = None
    left = names
    while left is None or left:
        with started(tree, how, paths=paths, names=left, lean=True, rng=rng) as child:
            found = Listing.of(child.receive())
            listing = listing or found
            left = [name for name in (found.names if left is None else left) if name in found.names]
            seen |= _run_all(child, left)
        left = [name for name in left if name not in seen]
    return listing or Listing(names=()), seen


def _run_all(child: Child, names: Sequence[str]) -> dict[str, Seen]:
    """What becomes of benchmarks, until the process is lost with one of them."""
    seen: dict[str, Seen] = {}
    for name in names:
        try:
            seen[name] = _run(child)
        except Lost as e:
            return {**seen, name: Seen(problem=str(e))}
    return seen


def _run(child: Child) -> Seen:
    message = child.receive()
    limit = message.get("limit")
    if message["kind"] == "done":
        return Seen(problem=problem_of(message) or "it never called its benchmark", foreign=_foreign(message))
    host: list[int] = []
    device: list[int] = []
    for do in ["run", *["memory"] * _MEMORY_CALLS]:
        message = child.ask(do, calls=1)
        if message["kind"] == "done":
            return Seen(problem=problem_of(message), foreign=_foreign(message))
        host += [message["host"]] if message.get("host") is not None else []
        device += [message["device"]] if message["kind"] == "memory" and message["device"] is not None else []
    message = child.ask("next")
    return Seen(
        problem=problem_of(message),
        peak_bytes=min(host, default=None),
        device_peak_bytes=min(device, default=None),
        foreign=_foreign(message),
        own=bool(message.get("own", True)),
        limit=limit,
    )


def _foreign(done: dict[str, Any]) -> bool:
    return bool(done.get("foreign", False))


def problem_of(done: dict[str, Any]) -> str:
    """Why a benchmark is not measured, from its message ``done``; empty where it passed."""
    if done["outcome"] == "passed":
        return ""
    return f"{done['outcome']} {done['text'].removeprefix('Skipped: ')}".strip()
