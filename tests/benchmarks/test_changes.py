"""Steps in histories: a planted one is found and its commit named, and where nothing changed there is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.bench_runs import commit_of, make_history, make_run, make_timing, noisy_times
from fixtures.records import make_environment
from rectest.benchmarks.changes import (
    CHANGE_ALPHA,
    SMALLEST_CHANGE,
    changes_in,
    latest_by_benchmark,
    runs_needed,
    series_of,
)
from rectest.benchmarks.history import BenchHistory
from rectest.checks.tolerance import binomial_limit

NUM_HISTORIES = int(os.environ.get("RECTEST_SIMULATED_HISTORIES", "80"))
NUM_BENCHMARKS = 6
NUM_RUNS = 24
ENTERS = 0.02
"""The largest level at which both looks of a series can agree."""


def steps(times, **options):
    """Benchmark, place and change of every step in a history."""
    found = changes_in(series_of(make_history(times)), **options)
    return [(c.series.benchmark, c.place, c.change) for changes in found.values() for c in changes]


def test_a_step_by_hand():
    times = [1.0, 1.001, 0.999, 1.0, 1.001, 0.999, 1.1, 1.101, 1.099, 1.1, 1.101, 1.099]
    ((change,),) = changes_in(series_of(make_history({"a": times}))).values()

    assert (change.place, change.since, change.before) == (6, commit_of(6)[:12], commit_of(5)[:12])
    assert change.change == pytest.approx(0.1, abs=0.001)
    assert not change.same_code


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_step_of_a_tenth_is_found_and_its_commit_named(seed):
    """Among others that did not change, on noise of 1.5 % with one busy run in ten."""
    rng = np.random.default_rng(seed)
    times = {f"b{k}": noisy_times(NUM_RUNS, rng=rng, noise=0.015) for k in range(NUM_BENCHMARKS)}
    times["slower"] = noisy_times(NUM_RUNS, rng=rng, noise=0.015, step_at=14)
    ((change,),) = changes_in(series_of(make_history(times))).values()

    assert change.series.benchmark == "slower"
    assert abs(change.place - 14) <= 2
    assert change.since in change.range
    assert 0.05 < change.change < 0.2


def test_the_named_commit_is_mostly_the_one_and_else_in_the_range():
    rng = np.random.default_rng(0)
    changes = []
    for _ in range(60):
        times = noisy_times(NUM_RUNS, rng=rng, noise=0.02, step_at=14)
        changes += [each for found in changes_in(series_of(make_history({"a": times}))).values() for each in found]
    outside = sum(not change.first <= 14 <= change.last for change in changes)

    assert len(changes) >= 55
    assert sum(change.place == 14 for change in changes) >= 0.75 * len(changes)
    assert outside < binomial_limit(len(changes), 0.03)
    assert sum(change.last - change.first for change in changes) < 2.5 * len(changes)


def test_histories_in_which_nothing_changed_show_no_more_steps_than_declared():
    """More, for a closer look: RECTEST_SIMULATED_HISTORIES=3000."""
    rng = np.random.default_rng(0)
    alarms = sum(
        bool(steps({f"b{k}": noisy_times(NUM_RUNS, rng=rng) for k in range(NUM_BENCHMARKS)}, seed=number))
        for number in range(NUM_HISTORIES)
    )

    assert alarms < binomial_limit(NUM_HISTORIES, CHANGE_ALPHA), f"{alarms} of {NUM_HISTORIES}"


def test_the_level_is_used_up():
    """At 2 % alarms do come: the rate is declared, not merely kept by never speaking."""
    rng = np.random.default_rng(1)
    histories = [{"a": noisy_times(NUM_RUNS, rng=rng, noise=0.2)} for _ in range(300)]
    alarms = sum(bool(changes_in(series_of(make_history(times)), alpha=ENTERS)) for times in histories)

    assert alarms < binomial_limit(300, ENTERS)
    assert alarms > 0


def test_two_steps_are_two():
    rng = np.random.default_rng(0)
    levels = np.repeat([1.0, 1.3, 1.0], 14) * np.exp(0.01 * rng.standard_normal(42))
    found = steps({"a": list(levels)})

    assert [14, 28] == [place for _, place, _ in found]
    assert [0.3, -0.23] == pytest.approx([change for _, _, change in found], abs=0.02)


def test_a_step_too_small_to_matter_is_not_shown():
    times = [1.0, 1.0001] * 10 + [1.0 + SMALLEST_CHANGE / 2, 1.0001 + SMALLEST_CHANGE / 2] * 10

    assert steps({"a": times}) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=30), st.floats(1e-9, 1e9))
def test_the_unit_changes_nothing(values, unit):
    plain = steps({"a": values})
    scaled = steps({"a": [value * unit for value in values]})

    assert [(name, place) for name, place, _ in plain] == [(name, place) for name, place, _ in scaled]


class TestSeries:
    def history(self, *runs):
        return BenchHistory(path=Path("cpu.jsonl"), runs=tuple(runs))

    def test_times_of_two_environments_or_machines_are_never_one_series(self):
        other = make_environment(isa="AVX512")
        faster = {"cpu": "Faster", "cores": "2"}
        found = series_of(
            self.history(
                make_run({"a": 1.0}, day=1),
                make_run({"a": 2.0}, day=2, environment=other),
                make_run({"a": 3.0}, day=3, machine=faster),
                make_run({"a": 4.0}, day=4),
            )
        )

        assert [(1.0, 4.0), (2.0,), (3.0,)] == sorted(each.values for each in found)
        assert len({each.where for each in found}) == 3

    def test_a_faster_machine_is_no_step(self):
        rng = np.random.default_rng(0)
        runs = [make_run({"a": value}, day=day) for day, value in enumerate(noisy_times(12, rng=rng))]
        fast = {"cpu": "Faster", "cores": "2"}
        runs += [make_run({"a": v / 2}, day=12 + k, machine=fast) for k, v in enumerate(noisy_times(12, rng=rng))]

        assert changes_in(series_of(self.history(*runs))) == {}

    def test_ratios_are_one_series_on_all_machines(self):
        ratio = [make_timing("a", 1.0 + day, ratios={"count": 2.0 + day}) for day in range(2)]
        found = series_of(
            self.history(make_run({"a": ratio[0]}, day=1), make_run({"a": ratio[1]}, day=2, machine={"cpu": "Faster"}))
        )

        assert [("ratio count", (2.0, 3.0), "")] == [
            (each.measure, each.values, each.where) for each in found if each.measure.startswith("ratio")
        ]

    def test_every_measure_has_its_series(self):
        timing = make_timing("a", 1.0, cpu_seconds=0.5, memory={"host_peak": 9, "host_growth": 4}, ratios={"x": 2.0})
        found = series_of(self.history(make_run({"a": timing})))

        assert ["bytes host_growth", "cpu seconds", "ratio x", "seconds"] == [each.measure for each in found]

    def test_memory_that_grew_once_is_found(self):
        sizes = [1_000_000] * 10 + [1_200_000] * 10
        runs = [make_run({"a": make_timing("a", 1.0, memory={"host_growth": s})}, day=d) for d, s in enumerate(sizes)]
        ((change,),) = changes_in(series_of(self.history(*runs))).values()

        assert ("bytes host_growth", 10) == (change.series.measure, change.place)
        assert change.change == pytest.approx(0.2)

    def test_growth_of_nothing_is_not_judged(self):
        runs = [make_run({"a": make_timing("a", 1.0, memory={"host_growth": 0})}, day=day) for day in range(12)]
        memory, seconds = series_of(self.history(*runs))

        assert (False, True) == (memory.judged, seconds.judged)

    def test_runs_of_one_commit_on_both_sides_say_so(self):
        rng = np.random.default_rng(0)
        times = noisy_times(24, rng=rng, noise=0.01, step_at=12, step=0.5)
        runs = [make_run({"a": value}, day=day, commit=commit_of(1)) for day, value in enumerate(times)]
        ((change,),) = changes_in(series_of(self.history(*runs))).values()

        assert change.same_code

    def test_a_benchmark_that_is_gone_is_not_among_the_latest(self):
        history = make_history({"a": [1.0, 1.0, 1.0], "gone": [1.0, 1.0]})

        assert ["a"] == [each.benchmark for each in latest_by_benchmark(series_of(history), history.runs[-1])]


@pytest.mark.parametrize("num_series", [1, 7, 60, 150])
def test_a_perfect_step_shows_in_as_many_runs_as_promised(num_series):
    """And not in one fewer, where many other series share the level."""
    num = runs_needed(num_series)
    others = {f"b{k}": [1.0] * num for k in range(num_series - 1)}
    perfect = [1.0 + 0.001 * k for k in range(num // 2)] + [2.0 + 0.001 * k for k in range(num - num // 2)]
    found = changes_in(series_of(make_history({**others, "a": perfect})))

    assert ["a"] == [key[0] for key in found]
