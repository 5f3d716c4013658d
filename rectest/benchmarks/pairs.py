"""One pair of fresh processes, base and head, asked in turn: the samples behind one figure of the comparison.

Both stop at the same benchmark; then each block has four samples, base-head-head-base or the other way round by
chance, so that what drifts slowly falls on both alike. Both sides make the same calls, as many and in as many pieces: a
training step is not the same at its hundredth call. What the samples mean is for `compare`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from rectest.benchmarks.child import Child, How, Lost, started
from rectest.benchmarks.survey import problem_of
from rectest.benchmarks.trees import Tree

__all__ = ["Block", "Pace", "Sample", "Timed", "timed_pair"]


_OTHER_THREADS = 0.02
"""Share of the CPU time in other threads up to which a function is one of one thread, and may be moved."""


_MOST_CALLS = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Some calls in a row, per call."""

    wall: float
    cpu: float
    thread: float
    """CPU time of the thread that called; less than `cpu` where others worked, too."""

    waits: float
    """Times the thread gave up the processor by itself, in the whole sample."""

    device: bool = False
    """Whether CUDA was in use."""

    @classmethod
    def of(cls, message: Mapping[str, Any], calls: int) -> Sample:
        """From a message ``sample``."""
        per_call = {name: message[name] / calls for name in ("wall", "cpu", "thread")}
        return cls(**per_call, waits=message["waits"], device=bool(message["device"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Two samples of each side, taken in turn."""

    base: tuple[Sample, ...]
    head: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """One benchmark in one pair of processes."""

    blocks: tuple[Block, ...] = ()
    calls: int = 1
    problem: str = ""
    """Why there are no blocks."""

    side: str = ""
    """The side with the problem."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How much is timed."""

    sample_seconds: float = 0.008
    """Long enough for the clocks, short enough that neighbouring samples see the same machine."""

    block_seconds: float = 4.0
    """Of one benchmark in one pair; at least `min_blocks` are taken, unless a call is slow (`longest`)."""

    min_blocks: int = 2
    max_blocks: int = 25
    longest: float = 2.0
    """Seconds above which a single call is slow: one block of it will do."""

    most_elapsed: float = 0.5
    """Seconds of a sample with the setup of its calls."""

    def calls(self, sample: Mapping[str, Any], calls: int) -> int:
        """Calls of a sample, when so many took what `sample` says."""
        by_time = self.sample_seconds * calls / max(sample["wall"], 1e-9)
        by_setup = self.most_elapsed * calls / max(sample["elapsed"], 1e-9)
        return max(1, int(min(by_time, by_setup, _MOST_CALLS)))

    def blocks(self, elapsed: float) -> int:
        """Blocks, when a sample lasts so long."""
        if elapsed > self.longest:
            return 1
        return min(self.max_blocks, max(self.min_blocks, int(self.block_seconds / (4 * max(elapsed, 1e-9)))))


class _Ended(Exception):
    """A benchmark ended before it was told to."""

    def __init__(self, side: str, problem: str) -> None:
        super().__init__(problem)
        self.side = side
        self.problem = problem


def timed_pair(
    trees: Sequence[Tree],
    how: How,
    *,
    paths: Sequence[str],
    names: Sequence[str],
    rng: Random,
    pace: Pace | None = None,
) -> Iterator[tuple[str, Timed]]:
    """Time benchmarks in a fresh process of each tree (base, head), in the order of their names.

    Yields what was found about each. A process that is lost has its benchmark named; what would come after it is not
    in the result, and can be had from another pair.
    """
    with ExitStack() as stack:
        # By chance, too, which is there first, and has its choice of memory.
        places = rng.sample(range(len(trees)), len(trees))
        begun = {
            place: stack.enter_context(started(trees[place], how, paths=paths, names=names, rng=rng))
            for place in places
        }
        children = [begun[place] for place in sorted(begun)]
        try:
            shared = [set(child.receive()["names"]) for child in children]
        except Lost as e:
            yield names[0], Timed(problem=str(e), side=e.side)
            return
        for name in names:
            absent = [child.side for child, known in zip(children, shared, strict=True) if name not in known]
            if absent:
                yield name, Timed(problem=f"the {absent[0]} has it no more", side=absent[0])
                continue
            try:
                yield name, _timed(children, pace or Pace(), rng)
            except Lost as e:
                yield name, Timed(problem=str(e), side=e.side)
                return


def _timed(children: Sequence[Child], pace: Pace, rng: Random) -> Timed:
    """One benchmark, to its end in both processes."""
    over: dict[str, dict[str, Any]] = {}
    for child in children:
        message = child.receive()
        if message["kind"] == "done":
            over[child.side] = message
    found = Timed()
    if not over:
        try:
            found = _sampled(children, pace, rng)
        except _Ended as e:
            over[e.side] = {"outcome": "failed", "text": e.problem}
    for child in children:
        if child.side not in over:
            over[child.side] = child.ask("next")
    problems = {side: problem_of(message) for side, message in over.items()}
    wrong = next((side for side, problem in problems.items() if problem), "")
    if wrong:
        return Timed(problem=problems[wrong], side=wrong)
    return found if found.blocks else Timed(problem="it never called its benchmark", side=next(iter(over)))


def _sampled(children: Sequence[Child], pace: Pace, rng: Random) -> Timed:
    calls, latest = 1, [_ask(child, 1) for child in children]
    if max(message["elapsed"] for message in latest) < pace.longest:
        # The first call is no measure of the others: it fills caches and loads what is loaded lazily.
        latest = [_ask(child, calls) for child in children]
    while max(message["elapsed"] for message in latest) < pace.sample_seconds / 2 and calls < _MOST_CALLS:
        calls *= 2
        latest = [_ask(child, calls) for child in children]
    slow = max(latest, key=lambda message: message["wall"])
    calls, before = pace.calls(slow, calls), calls
    blocks = []
    alone = all(_is_alone(message) for message in latest)
    with _placed(children, alone=alone) as place:
        for _ in range(pace.blocks(slow["elapsed"] * calls / before)):
            place(rng)
            first, second = children if rng.random() < 0.5 else tuple(reversed(children))
            taken: dict[str, list[Sample]] = {child.side: [] for child in children}
            for child in (first, second, second, first):
                taken[child.side].append(Sample.of(_ask(child, calls), calls))
            base, head = (tuple(taken[child.side]) for child in children)
            blocks.append(Block(base=base, head=head))
    return Timed(blocks=tuple(blocks), calls=calls)


def _is_alone(message: Mapping[str, Any]) -> bool:
    """Whether nobody but the calling thread works: no other thread, and no process that a call starts and waits for."""
    others = message["cpu"] - message["thread"]
    return bool(others <= _OTHER_THREADS * message["cpu"] and message["waits"] < message["calls"])


@contextmanager
def _placed(children: Sequence[Child], *, alone: bool) -> Iterator[Callable[[Random], None]]:
    """A function that puts the main threads of both processes on one processor, chosen by chance.

    Otherwise each process stays where it is, and one of them beside a busy neighbour on the same core, where it is
    slower by half for as long as it lives. A function that is not `alone` is left where it is: what it starts would
    have to share the one processor.
    """
    if not alone or not hasattr(os, "sched_setaffinity"):
        yield lambda _rng: None
        return
    allowed = {child.process.pid: os.sched_getaffinity(child.process.pid) for child in children}
    shared = sorted(set.intersection(*allowed.values()))

    def place(rng: Random) -> None:
        cpu = rng.choice(shared)
        for pid in allowed:
            _move(pid, {cpu})

    try:
        yield place
    finally:
        for pid, cpus in allowed.items():
            _move(pid, cpus)


def _move(pid: int, cpus: set[int]) -> None:
    # A process that has just died is told of elsewhere.
    with suppress(OSError):
        os.sched_setaffinity(pid, cpus)


def _ask(child: Child, calls: int) -> dict[str, Any]:
    message = child.ask("run", calls=calls)
    if message["kind"] == "done":
        raise _Ended(child.side, message["text"])
    return {**message, "calls": calls}
