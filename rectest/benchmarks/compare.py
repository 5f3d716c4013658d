"""The statistics of the comparison: which clock judges, the ratio of one pair of processes, the decision over pairs.

Symbols: r_p is the log ratio (head by base) of process pair p, the median over its blocks of the mean difference of
the logs of adjacent samples. Two processes of the same code differ by where their memory lies and how their hashes
fall, and no number of samples in one pair shows that; so the unit is the pair, and r_1 .. r_n are taken as independent,
normal, with unknown spread. (They are symmetric where nothing changed, as the sides could be exchanged.)
With mean m, sd s (never below `Rule.least_sd`), ``se = s / sqrt(n)``, t(q) the upper q quantile of
Student's t with n - 1 degrees of freedom, J tests (looks, and those with trimming), F benchmarks and two statistics:

    PASS    m + t(beta / J) se < log(1 + limit)               a slowdown by the limit passes with probability beta
    SLOWER  m - t(alpha / (2 J F)) se > log(1 + tolerated)    one without effect is called slower with alpha over all F
    FASTER  as SLOWER, downwards; told, never red
    None    otherwise: more pairs, up to the last look

Slowdowns between ``tolerated = margin * limit`` and the limit may go either way. Sharing the rates among looks and
benchmarks (Bonferroni) needs no independence between either.

One pair in thirty may be off by a half, where the machine changed under it, and then m and s say little. From
`Rule.trim_from` pairs on, what is open is judged again without the g = n // 10 pairs at either end (Yuen 1974, The
two-sample trimmed t for unequal population variances): m is the mean of the h = n - 2 g pairs in between, s the
standard deviation of all with the outer ones drawn in to those, ``se = s sqrt((n - 1) / (h (h - 1)))``, and there are
h - 1 degrees of freedom. The price: what is slow in no more than a tenth of the processes can pass then.

Nothing is called slower by fewer than `Rule.least_alarm` pairs: processes come in kinds (where their memory lies), and
four pairs that all fell alike look calm. And a median is blind to what only some calls do: the second statistic is the
ratio of the times of all calls of a pair, which says SLOWER by the same rule, and PASS waits until it is below the
limit, too (`both`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rectest.baseline.power import t_quantile
from rectest.benchmarks.pairs import Block
from rectest.benchmarks.results import Clock, State

__all__ = ["Decision", "Rule", "both", "clock_of", "decide", "fatter", "log_ratio", "log_ratio_of_all"]

_OTHER_THREADS = 0.05
"""Share of the CPU time in other threads from which on a function is not one of one thread."""

_WAITING = 0.98
"""A function whose least disturbed sample, of those in which it gave up the processor by itself, has less CPU time by
wall time than this waits for something."""

_OFTEN = 0.1
"""Share of samples that must wait for the function to be one that waits."""

_STATISTICS = 2
"""That may call a benchmark slower: the usual call, and all calls together."""

_CI = 0.95
_POWER = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What a comparison promises."""

    num_benchmarks: int
    """Benchmarks that share the false-alarm rate."""

    alpha: float = 1e-3
    """Probability that any benchmark is called slower when none is by more than `margin` of its limit."""

    beta: float = 1e-2
    """Probability that a benchmark slower by its limit passes."""

    margin: float = 0.4
    """Share of the limit that is tolerated, whatever is certain: another place in memory is no regression."""

    looks: tuple[int, ...] = (4, 6, 9, 14, 20, 30)
    """Numbers of pairs after which it is decided."""

    least_alarm: int = 9
    """Pairs without which nothing is called slower, unless the last look comes before."""

    trim_from: int = 14
    """Pairs from which on a tenth of them at either end may be left out."""

    least_sd: float = 0.002
    """Between pairs: less than this is luck, not calm."""

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not 0 < getattr(self, name) < 0.5:
                msg = f"{name} must be between 0 and 0.5, got {getattr(self, name)!r}"
                raise ValueError(msg)
        if self.num_benchmarks < 1 or not 0 <= self.margin < 1:
            msg = f"needed a benchmark and a margin in [0, 1), got {self.num_benchmarks} and {self.margin}"
            raise ValueError(msg)
        if list(self.looks) != sorted(set(self.looks)) or not self.looks or self.looks[0] < 2:
            msg = f"looks must be rising numbers of at least 2 pairs, got {self.looks}"
            raise ValueError(msg)

    @property
    def num_tests(self) -> int:
        """Of one statistic of one benchmark, all looks together."""
        return len(self.looks) + sum(look >= self.trim_from for look in self.looks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the pairs so far say; all figures are ratios, head by base."""

    state: State | None
    """PASS, FASTER or SLOWER; None: more pairs are needed."""

    ratio: float
    low: float
    """Lower end of the 95 % confidence interval."""

    high: float
    surely_above: float
    surely_below: float
    detectable: float
    """Relative slowdown that would be called SLOWER with 90 % probability by as many pairs of this noise."""


def decide(log_ratios: Sequence[float], rule: Rule, *, limit: float) -> Decision:
    """Judge one benchmark by its pairs.

    Args:
        log_ratios: one value for each process pair.
        rule: the promise.
        limit: the relative slowdown that must not pass.

    Raises:
        ValueError: fewer than two pairs, a value that is not finite, or a limit that is not above zero.
    """
    if len(log_ratios) < 2 or not all(map(math.isfinite, log_ratios)) or not limit > 0:
        msg = f"needed two finite log ratios or more and a limit above zero, got {list(log_ratios)} and {limit}"
        raise ValueError(msg)
    found = _decided(log_ratios, rule, limit=limit, num_cut=0)
    if found.state is None and len(log_ratios) >= rule.trim_from:
        trimmed = _decided(log_ratios, rule, limit=limit, num_cut=len(log_ratios) // 10)
        return trimmed if trimmed.state is not None else found
    return found


def _decided(log_ratios: Sequence[float], rule: Rule, *, limit: float, num_cut: int) -> Decision:
    """By all pairs but the `num_cut` lowest and highest."""
    mean, error, freedom = _trimmed(log_ratios, num_cut, least_sd=rule.least_sd)
    num = len(log_ratios)
    t_alarm = t_quantile(rule.alpha / (_STATISTICS * rule.num_benchmarks * rule.num_tests), freedom)
    above, below = mean - t_alarm * error, mean + t_quantile(rule.beta / rule.num_tests, freedom) * error
    tolerated = math.log1p(rule.margin * limit)
    state = None
    if num >= rule.looks[0]:
        state = _state(mean + t_alarm * error, above, below, tolerated=tolerated, limit=math.log1p(limit))
    if state is State.SLOWER and num < min(rule.least_alarm, rule.looks[-1]):
        state = None
    half = t_quantile((1 - _CI) / 2, freedom) * error
    return Decision(
        state=state,
        ratio=math.exp(mean),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        surely_above=math.exp(above),
        surely_below=math.exp(below),
        detectable=math.expm1(tolerated + (t_alarm + t_quantile(1 - _POWER, freedom)) * error),
    )


def _trimmed(log_ratios: Sequence[float], num_cut: int, *, least_sd: float) -> tuple[float, float, int]:
    """Mean, its standard error and their degrees of freedom; with `num_cut` 0 those of Student's t."""
    num, kept = len(log_ratios), sorted(log_ratios)[num_cut : len(log_ratios) - num_cut]
    drawn_in = [min(max(value, kept[0]), kept[-1]) for value in log_ratios]
    spread = max(statistics.stdev(drawn_in), least_sd)
    left = len(kept)
    return statistics.fmean(kept), spread * math.sqrt((num - 1) / (left * (left - 1))), left - 1


def _state(top: float, above: float, below: float, *, tolerated: float, limit: float) -> State | None:
    if top < -tolerated:
        return State.FASTER
    if below < limit:
        return State.PASS
    return State.SLOWER if above > tolerated else None


def both(usual: Decision, all_calls: Decision, *, limit: float) -> Decision:
    """One decision of two: by the usual call (`log_ratio`), and by all calls (`log_ratio_of_all`).

    The usual call may be as fast as ever while every tenth takes ten times as long.
    """
    if usual.state is not State.SLOWER and all_calls.state is State.SLOWER:
        return all_calls
    if usual.state in (State.PASS, State.FASTER) and all_calls.ratio >= 1 + limit:
        return replace(usual, state=None)
    return usual


def log_ratio_of_all(blocks: Sequence[Block], clock: Clock) -> float:
    """Head by base in one pair of processes: of the sums over all samples."""
    sums = {
        side: math.fsum(getattr(sample, clock) for block in blocks for sample in getattr(block, side))
        for side in ("base", "head")
    }
    return math.log(max(sums["head"], 1e-12)) - math.log(max(sums["base"], 1e-12))


def log_ratio(blocks: Sequence[Block], clock: Clock) -> float:
    """Head by base in one pair of processes: the median over blocks, which a burst of load in a few does not move.

    A block of base-head-head-base cancels what drifts evenly.
    """
    return statistics.median(_log(block.head, clock) - _log(block.base, clock) for block in blocks)


def _log(samples: Sequence[object], clock: Clock) -> float:
    return statistics.fmean(math.log(max(getattr(sample, clock), 1e-12)) for sample in samples)


def clock_of(blocks: Sequence[Block]) -> Clock:
    """CPU time where one thread works and never waits, on both sides; else the wall.

    A busy neighbour costs wall time and hardly CPU time. But CPU time is blind to waits, and tells of more threads more
    than they take; and a thread that waits for CUDA spins. A clock that stands still through a whole sample is none.
    """
    for side in ("base", "head"):
        samples = [sample for block in blocks for sample in getattr(block, side)]
        cpu = math.fsum(sample.cpu for sample in samples)
        others = cpu - math.fsum(sample.thread for sample in samples)
        waited = [sample.cpu / max(sample.wall, 1e-12) for sample in samples if sample.waits >= 1]
        waits = len(waited) >= _OFTEN * len(samples) and max(waited, default=1.0) < _WAITING
        stands = any(sample.cpu <= 0 for sample in samples)
        if waits or stands or others > _OTHER_THREADS * cpu or any(sample.device for sample in samples):
            return "wall"
    return "cpu"


def fatter(base: int | None, head: int | None, *, limit: float, least_bytes: int) -> State | None:
    """FATTER or LEANER where memory differs by more than `limit` and by more than `least_bytes`; None where unknown.

    >>> fatter(64 << 20, 66 << 20, limit=0.02, least_bytes=1 << 20)
    <State.FATTER: 'FATTER'>
    """
    if base is None or head is None:
        return None
    room = max(limit * base, least_bytes)
    if head - base > room:
        return State.FATTER
    return State.LEANER if base - head > max(limit * head, least_bytes) else State.PASS
