"""Base against head in one job: survey both, time pairs of fresh processes, decide after each look, stop when all is
decided.

This file owns the order of things and what becomes of a benchmark that cannot be compared. One pair of processes is
`pairs`, what its samples mean `compare`, the words for people `text`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from rectest.benchmarks.child import How
from rectest.benchmarks.compare import Decision, Rule, both, clock_of, decide, log_ratio, log_ratio_of_all
from rectest.benchmarks.figures import measurement
from rectest.benchmarks.memory import memory_state, seen_twice
from rectest.benchmarks.pairs import Block, Pace, Timed, timed_pair
from rectest.benchmarks.plan import Plan, Subject, planned
from rectest.benchmarks.results import Comparison, State
from rectest.benchmarks.settings import Settings
from rectest.benchmarks.trees import Tree

__all__ = ["Effort", "compared"]

_MOST_PROBLEMS = 2
"""Pairs that a benchmark may lose before it counts as not measured: once may be the machine's fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What a comparison may cost, and what it promises."""

    alpha: float = 1e-3
    beta: float = 1e-2
    max_pairs: int = 30
    budget: float = math.inf
    """Seconds; no pair is begun after them."""

    pace: Pace = field(default_factory=Pace)
    say: Callable[[str], None] = field(default=lambda _text: None)
    """Told what is going on."""

    def rule(self, num_benchmarks: int) -> Rule:
        """The promise, for so many benchmarks; looks beyond the last pair are not taken."""
        looks = [look for look in Rule(num_benchmarks=1).looks if look < self.max_pairs]
        return Rule(
            num_benchmarks=max(1, num_benchmarks),
            alpha=self.alpha,
            beta=self.beta,
            looks=(*looks, max(2, self.max_pairs)),
        )


@dataclass(slots=True)
class _Course:
    """One benchmark on its way to a decision."""

    subject: Subject
    pairs: list[tuple[Block, ...]] = field(default_factory=list)
    calls: int = 1
    problems: list[str] = field(default_factory=list)
    decision: Decision | None = None

    @property
    def over(self) -> bool:
        """Whether more pairs would change nothing."""
        decided = self.decision is not None and self.decision.state is not None
        return decided or len(self.problems) >= _MOST_PROBLEMS

    def add(self, timed: Timed) -> None:
        """Take what one pair gave."""
        if timed.blocks:
            self.pairs.append(timed.blocks)
            self.calls = timed.calls
        else:
            self.problems.append(f"{timed.side}: {timed.problem}")

    def look(self, rule: Rule) -> None:
        """Decide, where it is time to."""
        if len(self.pairs) in rule.looks:
            self.decision = self.judged(rule)

    def judged(self, rule: Rule) -> Decision | None:
        """What all pairs say, on the clock that all of them allow."""
        if len(self.pairs) < 2:
            return None
        clock = clock_of([block for pair in self.pairs for block in pair])
        limit = self.subject.limit
        usual = decide([log_ratio(pair, clock) for pair in self.pairs], rule, limit=limit)
        all_calls = decide([log_ratio_of_all(pair, clock) for pair in self.pairs], rule, limit=limit)
        return both(usual, all_calls, limit=limit)


def compared(
    base: Tree,
    head: Tree,
    how: How,
    *,
    settings: Settings,
    paths: Sequence[str],
    effort: Effort,
    own: bool = False,
    rng: Random,
) -> tuple[list[Comparison], list[str], Rule]:
    """Compare all benchmarks of two trees.

    Args:
        base: written over with the head's benchmark files, unless `own`.
        head: what may have become slower.
        how: what is the same for all processes.
        settings: the head's.
        paths: relative to the project; none: the settings' or pytest's own.
        effort: cost and promise.
        own: whether each side keeps its own benchmark files.
        rng: chooses turns, hash seeds and what else must not follow a pattern.

    Returns:
        A comparison for each benchmark, notes for people, and the promise as it was kept.

    Raises:
        Lost: pytest could not collect in the head.
    """
    plan = planned(base, head, how, settings=settings, paths=paths, own=own, say=effort.say, rng=rng)
    subjects = seen_twice(plan.subjects, (base, head), how, settings=settings, rng=rng)
    courses = {name: _Course(subject) for name, subject in subjects.items()}
    rule = effort.rule(len(courses))
    _timed((base, head), how, courses=courses, rule=rule, effort=effort, rng=rng)
    blind = [name for name, subject in subjects.items() if memory_state(subject, settings) is None]
    found = [*plan.settled, *(_conclusion(course, rule, settings) for course in courses.values())]
    return sorted(found, key=lambda comparison: comparison.name), list(_notes(plan, how, blind)), rule


def _timed(
    trees: tuple[Tree, Tree], how: How, *, courses: Mapping[str, _Course], rule: Rule, effort: Effort, rng: Random
) -> None:
    until = time.monotonic() + effort.budget
    for number in range(1, rule.looks[-1] + _MOST_PROBLEMS + 1):
        open_ = [name for name, course in courses.items() if not course.over and len(course.pairs) < rule.looks[-1]]
        if not open_ or time.monotonic() > until:
            return
        effort.say(f"pair {number}: {len(open_)} of {len(courses)} undecided")
        files = list(dict.fromkeys(name.partition("::")[0] for name in open_))
        for name, timed in timed_pair(trees, how, paths=files, names=open_, rng=rng, pace=effort.pace):
            courses[name].add(timed)
            courses[name].look(rule)


def _conclusion(course: _Course, rule: Rule, settings: Settings) -> Comparison:
    """What is said about a benchmark in the end."""
    subject = course.subject
    memory = memory_state(subject, settings)
    if not course.pairs:
        detail = course.problems[-1] if course.problems else "the budget ended before it was timed"
        return Comparison(name=subject.name, time=State.NOT_MEASURED, memory=memory, limit=subject.limit, detail=detail)
    decision = course.decision if course.over and course.decision else course.judged(rule)
    blocks = [block for pair in course.pairs for block in pair]
    clock = clock_of(blocks)
    sides = {
        side: measurement(subject, side, pairs=course.pairs, clock=clock, calls=course.calls)
        for side in ("base", "head")
    }
    state = decision.state if decision is not None and not _broken(course) else None
    return Comparison(
        name=subject.name,
        time=state or State.NOT_MEASURED,
        memory=memory,
        **sides,
        ratio=decision.ratio if decision else None,
        low=decision.low if decision else None,
        high=decision.high if decision else None,
        surely_above=decision.surely_above if decision else None,
        surely_below=decision.surely_below if decision else None,
        detectable=decision.detectable if decision else None,
        limit=subject.limit,
        num_pairs=len(course.pairs),
        clock=clock,
        detail=_detail(course, decision, state),
    )


def _broken(course: _Course) -> bool:
    return len(course.problems) >= _MOST_PROBLEMS


def _detail(course: _Course, decision: Decision | None, state: State | None) -> str:
    if state is None:
        if course.problems:
            return course.problems[-1]
        told = f"; a slowdown of {100 * decision.detectable:.2g} % would have been seen" if decision else ""
        num = len(course.pairs)
        return f"undecided after {num} pairs of processes: too much noise, or a slowdown close to the limit{told}"
    if state is State.PASS and decision is not None and decision.surely_above > 1:
        return f"slower by {100 * (decision.ratio - 1):.2g} %, which its limit allows"
    return course.subject.note


def _notes(plan: Plan, how: How, blind: Sequence[str]) -> Sequence[str]:
    threads = "1 thread" if how.threads == 1 else f"{how.threads} threads"
    memory = [f"memory was not compared, as the system does not tell it: {', '.join(blind)}"] if blind else []
    return (*plan.notes, *memory, f"OpenMP and BLAS libraries have {threads} unless the environment says otherwise")
