"""What comparing returns: which outcomes are red, and that JSON brings all of it back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.benchmarks.results import Comparison, Measurement, Report, State
from rectest.errors import RectestError

SIDE = Measurement(
    name="tests/test_x.py::test_y[1]",
    seconds=0.5,
    cpu_seconds=0.25,
    clock="cpu",
    process_seconds=(0.25, 0.26),
    num_samples=8,
    calls_per_sample=3,
    peak_bytes=64 << 20,
)
FOUND = Comparison(
    name=SIDE.name,
    time=State.PASS,
    memory=State.PASS,
    base=SIDE,
    head=SIDE,
    ratio=1.0,
    low=0.99,
    high=1.01,
    num_pairs=4,
)


def report(*found: Comparison) -> Report:
    return Report(base="a" * 40, head="b" * 40, comparisons=found, alpha=1e-3, beta=1e-2, notes=("said",))


def test_json_brings_everything_back():
    before = report(FOUND, Comparison(name="gone", time=State.VANISHED, detail="was there"))

    assert before == Report.from_json(before.to_json())


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.lists(st.floats(0, 1e6)))
@settings(max_examples=50, deadline=None)
def test_measurements_come_back_bit_by_bit(seconds, cpu_seconds, process_seconds):
    before = Measurement(
        name="x", seconds=seconds, cpu_seconds=cpu_seconds, clock="wall", process_seconds=tuple(process_seconds)
    )

    assert before == Measurement.from_dict(json.loads(json.dumps(before.to_dict())))
    assert seconds == before.judged_seconds


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match="finite and not negative"):
        Measurement(name="x", seconds=seconds, cpu_seconds=0, clock="cpu")


@pytest.mark.parametrize("state", list(State))
def test_red_is_what_must_not_pass(state):
    found = report(FOUND, Comparison(name="other", time=state))
    red = state in (State.SLOWER, State.FATTER, State.VANISHED, State.NOT_MEASURED)

    assert red == found.red
    assert red == json.loads(found.to_json())["red"]


def test_memory_alone_is_enough():
    found = Comparison(name="x", time=State.PASS, memory=State.FATTER)

    assert found.red
    assert "FATTER" == found.verdict


def test_a_comparison_of_nothing_is_red():
    assert report().red


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is JSON; this is not"),
        ("[]", "schema 1 was needed"),
        ('{"schema": 2}', "schema 1 was needed"),
        ('{"schema": 1}', "does not understand"),
        ('{"schema": 1, "comparisons": [{"name": "x", "time": "QUICK"}]}', "does not understand"),
        ('{"schema": 1, "comparisons": [{"name": "x", "time": "PASS", "base": {"name": "x"}}]}', "measurement of"),
    ],
)
def test_what_is_no_comparison_is_refused(text, match):
    with pytest.raises(RectestError, match=match):
        Report.from_json(text)
