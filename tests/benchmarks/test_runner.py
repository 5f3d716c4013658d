"""The course of a comparison, with pairs whose results are numbers: when it stops, and what it says in the end."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from rectest.benchmarks import runner
from rectest.benchmarks.child import How
from rectest.benchmarks.memory import memory_state
from rectest.benchmarks.pairs import Block, Sample, Timed
from rectest.benchmarks.plan import Plan, Subject
from rectest.benchmarks.results import Comparison, Report, State
from rectest.benchmarks.runner import Effort, compared
from rectest.benchmarks.settings import Settings
from rectest.benchmarks.survey import Seen
from rectest.benchmarks.text import COLUMNS, markdown, row, summary, told

MIB = 1 << 20
NAMES = ("t.py::a", "t.py::b")


def blocks_of(ratio: float) -> Timed:
    base, head = (Sample(wall=seconds, cpu=seconds, thread=seconds, waits=0) for seconds in (0.001, 0.001 * ratio))
    return Timed(blocks=(Block(base=(base, base), head=(head, head)),), calls=8)


@pytest.fixture
def compare(monkeypatch):
    """A function that compares two benchmarks whose ratio in the n-th pair is given by a function, or a problem."""

    def run(results, *, effort=None, memory=(0, 0)):
        taken = dict.fromkeys(NAMES, 0)
        seen = [Seen(peak_bytes=size) for size in memory]
        subjects = {name: Subject(name=name, limit=0.05, base=seen[0], head=seen[1]) for name in NAMES}

        def timed_pair(_trees, _how, *, names, **_given):
            for name in names:
                taken[name] += 1
                found = results.get(name, lambda number: 1 + 0.002 * (-1) ** number)(taken[name])
                yield name, blocks_of(found) if isinstance(found, float) else Timed(problem=found, side="head")

        monkeypatch.setattr(runner, "planned", lambda *_, **__: Plan(subjects=subjects, settled=()))
        monkeypatch.setattr(runner, "seen_twice", lambda subjects, *_, **__: subjects)
        monkeypatch.setattr(runner, "timed_pair", timed_pair)
        tree = SimpleNamespace()
        found, _, rule = compared(
            tree,
            tree,
            How(folder=Path()),
            settings=Settings(),
            paths=[],
            effort=effort or Effort(),
            rng=Random(0),
        )
        assert 2 == rule.num_benchmarks
        return {comparison.name[-1]: comparison for comparison in found}, taken

    return run


def test_calm_pairs_are_few(compare):
    found, taken = compare({})

    assert {State.PASS} == {comparison.time for comparison in found.values()}
    assert dict.fromkeys(NAMES, 4) == taken


def test_only_the_slow_one_is_called_slower(compare):
    found, _ = compare({NAMES[1]: lambda number: 1.1 + 0.005 * (-1) ** number})

    assert State.PASS == found["a"].time
    assert State.SLOWER == found["b"].time
    assert math.isclose(1.1, found["b"].ratio, rel_tol=0.01)
    assert math.isclose(0.0011, found["b"].head.seconds, rel_tol=0.01)


def test_every_fifth_call_slower_is_slower(monkeypatch, compare):
    """The median over blocks is the same; the sum is not."""
    calm, heavy = (blocks_of(ratio).blocks[0] for ratio in (1.0, 5.0))
    monkeypatch.setitem(globals(), "blocks_of", lambda _ratio: Timed(blocks=(calm, calm, heavy, calm, calm), calls=8))
    found, taken = compare({})

    assert {State.SLOWER} == {comparison.time for comparison in found.values()}
    assert math.isclose(1.8, found["a"].ratio)
    assert dict.fromkeys(NAMES, 9) == taken


def test_what_is_decided_is_timed_no_more(compare):
    _, taken = compare({NAMES[1]: lambda number: math.exp(0.03 * (-1) ** number)})

    assert 4 == taken[NAMES[0]]
    assert taken[NAMES[1]] > 4


def test_noise_to_the_end_is_not_measured_and_says_what_would_have_been_seen(compare):
    found, taken = compare({NAMES[1]: lambda number: math.exp(0.5 * (-1) ** number)})

    assert 30 == taken[NAMES[1]]
    assert State.NOT_MEASURED == found["b"].time
    assert "undecided after 30 pairs" in found["b"].detail
    assert found["b"].detectable > 0.3


def test_the_budget_ends_it_and_what_is_open_is_red(compare):
    found, taken = compare({}, effort=Effort(budget=-1))

    assert dict.fromkeys(NAMES, 0) == taken
    assert all(comparison.red for comparison in found.values())
    assert "budget" in found["a"].detail


def test_one_lost_pair_is_forgiven(compare):
    found, taken = compare({NAMES[0]: lambda number: "died" if number == 2 else 1.0})

    assert State.PASS == found["a"].time
    assert 5 == taken[NAMES[0]]


def test_a_benchmark_that_is_lost_again_is_not_measured(compare):
    found, taken = compare({NAMES[0]: lambda number: "died" if number >= 2 else 1.0})

    assert State.NOT_MEASURED == found["a"].time
    assert "head: died" == found["a"].detail
    assert 3 == taken[NAMES[0]]
    assert State.PASS == found["b"].time


def test_more_memory_is_red_though_time_is_not(compare):
    found, _ = compare({}, memory=(64 * MIB, 70 * MIB))

    assert State.PASS == found["a"].time
    assert State.FATTER == found["a"].memory
    assert found["a"].red


def test_a_small_certain_slowdown_passes_and_is_told(compare):
    found, _ = compare({NAMES[0]: lambda number: 1.035 + 0.0001 * (-1) ** number})

    assert State.PASS == found["a"].time
    assert "slower by 3.5 %, which its limit allows" == found["a"].detail


def test_pairs_can_be_limited(compare):
    _, taken = compare({}, effort=Effort(max_pairs=2))

    assert dict.fromkeys(NAMES, 2) == taken


def test_the_text_has_a_cell_for_each_column_and_names_what_is_red(compare):
    found, _ = compare({NAMES[1]: lambda number: 1.1 + 0.005 * (-1) ** number}, memory=(64 * MIB, 70 * MIB))
    gone = Comparison(name="t.py::c|d", time=State.VANISHED, detail="was there")
    report = Report(base="a" * 40, head="b", comparisons=(*found.values(), gone), alpha=1e-3, beta=1e-2)
    lines = list(told(report))

    assert all(len(COLUMNS) == len(row(comparison)) for comparison in report.comparisons)
    assert "SLOWER, FATTER" in row(found["b"])
    assert "64.0 to 70.0 MiB" in row(found["b"])
    assert any("t.py::b: slower by" in line for line in lines)
    assert "t.py::c|d: was there" in lines
    assert summary(report).startswith("RED: 2 compared with aaaaaaaaaaaa, 3 red, 0 new")
    assert "t.py::c\\|d" in markdown(report)


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [(None, 8 * MIB, State.FATTER), (8 * MIB, None, State.LEANER), (8 * MIB, 8 * MIB, State.PASS), (None, None, None)],
)
def test_a_device_that_only_one_side_uses(base, head, expected):
    sides = {"base": Seen(device_peak_bytes=base), "head": Seen(device_peak_bytes=head)}

    assert expected == memory_state(Subject(name="t.py::a", limit=0.05, **sides), Settings())
