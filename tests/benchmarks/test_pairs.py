"""The turns of a pair, with processes whose clock is a number: who is asked when, and what becomes of the answers."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from rectest.benchmarks import pairs
from rectest.benchmarks.child import How, Lost
from rectest.benchmarks.compare import log_ratio
from rectest.benchmarks.pairs import Pace, timed_pair

HOW = How(folder=Path())
TREES = (SimpleNamespace(side="base"), SimpleNamespace(side="head"))


class Machine:
    """A clock that every call moves on, and that becomes slower as it goes."""

    def __init__(self) -> None:
        self.drift = 1.0
        self.turns: list[tuple[str, int]] = []


class FakeChild:
    """Answers as a measured process does; a call takes `seconds`, times the machine's drift."""

    def __init__(
        self, side: str, machine: Machine, *, names: list[str], seconds: float, script: dict[str, str]
    ) -> None:
        self.side = side
        self.process = SimpleNamespace(pid=0)
        self.machine = machine
        self.names = list(names)
        self.seconds = seconds
        self.script = script
        self.pending = [{"kind": "collected", "names": names, "deselected": [], "errors": {}}]

    def receive(self):
        if not self.pending:
            name = self.names.pop(0)
            early = self.script.get(name) == "fails early"
            done = {"kind": "done", "name": name, "outcome": "failed", "text": "in setup: no"}
            self.pending.append(done if early else {"kind": "at", "name": name, "limit": None})
            self.name = name
        return self.pending.pop(0)

    def ask(self, do, *, calls=1):
        if do == "next":
            return {"kind": "done", "name": self.name, "outcome": "passed", "text": ""}
        if self.script.get(self.name) == "dies":
            raise Lost(self.side, "was killed by SIGKILL")
        if self.script.get(self.name) == "fails":
            return {"kind": "done", "name": self.name, "outcome": "failed", "text": "in call: E boom"}
        self.machine.drift *= 1.01
        self.machine.turns.append((self.side, calls))
        took = calls * self.seconds * self.machine.drift
        return {"kind": "sample", "wall": took, "cpu": took, "thread": took, "waits": 0, "elapsed": took, "device": 0}


@pytest.fixture
def pair(monkeypatch):
    """A function that runs a pair of fake processes: results by name, and the turns that were taken."""

    def run(*, base=0.001, head=0.001, names=("a", "b"), scripts=None, pace=None):
        machine = Machine()

        @contextmanager
        def started(tree, _how, **_given):
            seconds = {"base": base, "head": head}[tree.side]
            script = (scripts or {}).get(tree.side, {})
            yield FakeChild(tree.side, machine, names=list(names), seconds=seconds, script=script)

        monkeypatch.setattr(pairs, "started", started)
        monkeypatch.setattr(pairs, "_move", lambda *_: None)
        monkeypatch.setattr(pairs.os, "sched_getaffinity", lambda _pid: {0, 1}, raising=False)
        found = timed_pair(TREES, HOW, paths=["t.py"], names=list(names), rng=Random(0), pace=pace or Pace())
        return dict(found), machine.turns

    return run


def test_a_slowdown_is_found_on_a_machine_that_drifts(pair):
    found, _ = pair(head=0.0011)

    assert ["a", "b"] == list(found)
    for timed in found.values():
        assert abs(log_ratio(timed.blocks, "cpu") - 0.0953) < 1e-3


def test_samples_come_in_turns_of_base_head_head_base_or_the_other_way_round(pair):
    found, turns = pair(names=("a",))
    timed = found["a"]
    sampled = [side for side, _ in turns][-4 * len(timed.blocks) :]
    quartets = {tuple(sampled[place : place + 4]) for place in range(0, len(sampled), 4)}

    assert {("base", "head", "head", "base"), ("head", "base", "base", "head")} == quartets


def test_both_sides_make_the_same_calls(pair):
    """A training step at its hundredth call is another step than at its first."""
    _, turns = pair(base=0.0003, head=0.0006)
    calls = {side: [calls for who, calls in turns if who == side] for side in ("base", "head")}

    assert calls["base"] == calls["head"]
    assert max(calls["base"]) > 1


def test_which_side_is_started_first_is_chance(monkeypatch):
    """The first process has its choice of memory; were it always the base's, unchanged code would differ."""
    begun = []

    @contextmanager
    def started(tree, _how, **_given):
        begun.append(tree.side)
        yield FakeChild(tree.side, Machine(), names=[], seconds=1.0, script={})

    monkeypatch.setattr(pairs, "started", started)
    for seed in range(20):
        (found,) = timed_pair(TREES, HOW, paths=["t.py"], names=["a"], rng=Random(seed))

        assert "the base has it no more" == found[1].problem

    assert {("base", "head"), ("head", "base")} == {tuple(begun[place : place + 2]) for place in range(0, 40, 2)}


def test_a_slow_call_is_asked_for_less_often(pair):
    _, quick = pair(names=("a",))
    _, slow = pair(names=("a",), base=0.3, head=0.3)
    _, slowest = pair(names=("a",), base=5.0, head=5.0)

    assert len(quick) > 4 * 20
    assert 2 + 2 + 12 == len(slow)
    assert 2 + 4 == len(slowest)


def test_setup_counts_in_what_a_sample_may_last():
    """A call of a microsecond after a setup of 0.1 s: five of them, not eight thousand."""
    assert 5 == Pace().calls({"wall": 1e-6, "elapsed": 0.1}, 1)


@pytest.mark.parametrize("how", ["fails", "fails early"])
@pytest.mark.parametrize("side", ["base", "head"])
def test_a_failure_is_told_and_the_next_benchmark_goes_on(pair, side, how):
    found, _ = pair(scripts={side: {"a": how}})

    assert side == found["a"].side
    assert "failed" in found["a"].problem
    assert not found["a"].blocks
    assert found["b"].blocks


@pytest.mark.parametrize("side", ["base", "head"])
def test_a_dead_process_ends_the_pair_and_is_blamed_on_its_benchmark(pair, side):
    found, _ = pair(names=("a", "b", "c"), scripts={side: {"b": "dies"}})

    assert ["a", "b"] == list(found)
    assert f"process of the {side} was killed by SIGKILL" in found["b"].problem
    assert side == found["b"].side


def test_both_are_put_on_one_processor_and_back(monkeypatch):
    moved = []
    monkeypatch.setattr(pairs, "_move", lambda _pid, cpus: moved.append(cpus))
    children = [SimpleNamespace(process=SimpleNamespace(pid=pid)) for pid in (1, 2)]
    monkeypatch.setattr(pairs.os, "sched_getaffinity", lambda pid: {0, pid}, raising=False)
    with pairs._placed(children, alone=True) as place:
        place(Random(0))

    assert [{0}, {0}, {0, 1}, {0, 2}] == moved


def test_who_has_more_threads_is_left_where_it_is(monkeypatch):
    monkeypatch.setattr(pairs, "_move", lambda *_: pytest.fail("moved"))
    with pairs._placed([], alone=False) as place:
        place(Random(0))


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, True), ({"wall": 3.0}, True), ({"cpu": 1.5}, False), ({"waits": 2}, False)],
    ids=["one-thread", "pushed-aside", "threads", "waits-for-a-process"],
)
def test_who_works_alone(change, expected):
    message = {"wall": 1.0, "cpu": 1.0, "thread": 1.0, "waits": 0, "calls": 2, **change}

    assert expected == pairs._is_alone(message)
