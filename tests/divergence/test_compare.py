"""The verdict on two runs: identical with all that is harmless, diverged, or why nothing can be told."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.tapes import SITES, Script, changed, draw, event, inserted, of, rewritten, run_of, written
from rectest.divergence.compare import compare_many, compare_runs
from rectest.divergence.finding import DIVERGED, IDENTICAL, UNKNOWN
from rectest.divergence.tapes import Event


def test_two_equal_runs() -> None:
    finding = compare_runs(run_of(written()), run_of(written(Script(hash_seed="2"))))

    assert (IDENTICAL, 0, "", (), ()) == (
        finding.verdict, finding.exit_code, finding.reason, finding.causes, finding.harmless)  # fmt: skip
    assert (4, 4) == finding.num_steps
    assert {True, None} >= {row["equal"] for row in finding.timeline}


def noisy(run: int) -> list[Event]:
    """All that clean runs differ in: a run name, a clock, an unseeded generator of the log, a listing, a leftover."""
    events = written(Script(seeded=("numpy", "torch"), hash_seed=str(run), evaluate_every=2), run=run)
    new = [
        draw(1, "setup", "random.random", run, "train.py:3:name", "random", state=run, count=1),
        event(1, "setup", "entropy", "uuid.uuid4", run, "train.py:4:name", count=1),
        event(1, "setup", "entropy", "time.time", run, "train.py:5:name", count=1),
        event(1, "setup", "listing", "data", run, "data.py:7:load"),
        event(1, "setup", "hash", "hash", run, "data.py:9:load", count=3),
    ]
    if run:
        new.append(event(1, "setup", "file", "runs.json", "old", "train.py:6:main", mode="r", size=3))
    else:
        events.append(event(5, "train", "file", "runs.json", "", "train.py:99:main", mode="w"))
    return inserted(events, 8, *new)


def test_harmless_sources_are_kept_apart() -> None:
    finding = compare_runs(run_of(noisy(0)), run_of(noisy(1)))

    assert (IDENTICAL, ()) == (finding.verdict, finding.causes)
    assert {
        ("generator", "train.py:3:name"),
        ("entropy", "train.py:4:name"),
        ("entropy", "train.py:5:name"),
        ("listing", "data.py:7:load"),
        ("file", "train.py:6:main"),
    } == {(cause.kind, cause.site) for cause in finding.harmless}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_sources_before_training_does_not_change_the_first_cause(seed: int) -> None:
    """Harmless sources around the one that matters, in any order."""
    runs = []
    for run in (0, 1):
        events = noisy(run)
        place = of(events, "draw", "random.random")
        few = events[place : place + 5]
        random.Random(seed).shuffle(few)
        runs.append([*events[:place], *few, *events[place + 5 :]])
    site = SITES["negatives"]
    second = rewritten(runs[1], lambda e: e.kind == "draw" and e.site == site, state="")
    second = rewritten(second, lambda e: e.kind in ("batch", "input") and e.name.endswith("neg"))
    made = [event(1, "setup", "seed", "numpy", run, "train.py:13:main", value=None, how="entropy") for run in (0, 1)]
    first, second = (
        inserted(events, of(events, "seed", "torch"), new) for events, new in zip((runs[0], second), made, strict=True)
    )

    finding = compare_runs(run_of(first), run_of(second))

    assert ("negatives", "train.py:13:main", site) == (
        finding.stage, finding.causes[0].site, finding.causes[0].drawn_at)  # fmt: skip


def test_a_finding_is_plain_values() -> None:
    second = changed(written(), of(written(), "loss", step=2))

    values = compare_runs(run_of(written()), run_of(second), outputs=("loss 1\n", "loss 2\n")).to_dict()

    assert values["metric"] == "loss 1 and 2"
    assert values["evidence"] == tuple(json.loads(json.dumps(values))["evidence"])
    assert {False} == {r["equal"] for r in values["timeline"] if (r["step"], r["stage"]) == (2, "loss")}
    assert {True} == {r["equal"] for r in values["timeline"] if r["step"] == 1}
    assert 2 == values["growth"][0]["step"]


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ({}, {"header": {"digest": "blake2b"}}, "another digest: xxh3_128 and blake2b"),
        ({"header": {"sample": 64}}, {}, "another sample: 64 and 0"),
    ],
)
def test_recordings_that_cannot_be_compared(first: dict[str, object], second: dict[str, object], match: str) -> None:
    finding = compare_runs(run_of(written(), **first), run_of(written(), **second))  # type: ignore[arg-type]

    assert (UNKNOWN, 2) == (finding.verdict, finding.exit_code)
    assert match in finding.reason


def test_runs_without_training() -> None:
    files = [event(1, "setup", "file", "data.csv", 1, mode="r")]
    draws = [*files, draw(1, "setup", "random.random", 1, "a.py:1:f", "random", state=1)]

    for events in (files, draws):
        assert UNKNOWN == compare_runs(run_of(events), run_of(events)).verdict
    assert "second run" in compare_runs(run_of(written()), run_of(files)).reason
    assert "ValueError" in compare_runs(run_of(files, end="exception: ValueError: x"), run_of(written())).reason


def test_processes_that_do_not_meet() -> None:
    finding = compare_runs(run_of({"rank0": written()}), run_of({"main": written()}))

    assert (UNKNOWN, "the runs have no training process in common") == (finding.verdict, finding.reason)


@pytest.mark.parametrize("end", ["cut", "exception: RuntimeError: out of memory"])
def test_a_run_that_broke_off_before_any_difference(end: str) -> None:
    finding = compare_runs(run_of(written(Script(steps=5))), run_of(written(Script(steps=3)), end=end))

    assert UNKNOWN == finding.verdict
    assert finding.reason.startswith("identical up to step 3, where the second run ended")
    assert ("killed" if end == "cut" else "out of memory") in finding.reason


def test_a_difference_before_the_break_is_told() -> None:
    second = changed(written(), of(written(), "loss", step=2))

    assert DIVERGED == compare_runs(run_of(written()), run_of(second, end="cut")).verdict


def test_both_runs_end_by_the_same_exception() -> None:
    end = "exception: ValueError: bad item"
    before = written(Script(steps=1))[: of(written(), "loss")]

    early = compare_runs(run_of(before, end=end), run_of(before, end=end))
    late = compare_runs(run_of(written(), end=end), run_of(written(), end=end))

    assert (UNKNOWN, True) == (early.verdict, "before the first step" in early.reason)
    assert (IDENTICAL, True) == (late.verdict, "bad item" in late.reason)


def test_a_recording_that_was_stopped_or_sampled_says_so() -> None:
    header = {"sample": 4096}

    finding = compare_runs(
        run_of(written(), end="stopped", header=header), run_of(written(), end="stopped", header=header)
    )

    assert IDENTICAL == finding.verdict
    assert "stopped after 4 steps" in finding.reason
    assert "4096" in finding.reason


def test_many_runs_tell_the_earliest_divergence() -> None:
    late = changed(written(), of(written(), "loss", step=4))
    early = changed(written(), of(written(), "gradient", step=2))

    finding = compare_many([run_of(events) for events in (written(), late, written(), early)])

    assert ("backward", 2) == (finding.stage, finding.step)
    assert "2 of the 3 other runs part from the first" in finding.evidence
    assert IDENTICAL == compare_many([run_of(written()) for _ in range(3)]).verdict
    assert UNKNOWN == compare_many([run_of(written()), run_of(written()), run_of([])]).verdict


def test_a_comparison_needs_two_runs() -> None:
    with pytest.raises(ValueError, match="at least two runs, found 1"):
        compare_many([run_of(written())])


def test_the_timeline_of_a_long_run_is_the_part_around_the_divergence() -> None:
    script = Script(steps=420)
    second = changed(written(script), of(written(script), "loss", step=300))

    steps = [row["step"] for row in compare_runs(run_of(written(script)), run_of(second)).timeline]

    assert (150, 349, 200) == (steps[0], steps[-1], len(set(steps)))


def test_it_is_fast() -> None:
    """1000 steps of 30 events in a fraction of a second: nothing is quadratic."""
    events = written(Script(steps=1000))
    second = changed(events, of(events, "parameter", step=990))
    first, other = run_of(events), run_of(second)

    start = time.perf_counter()
    finding = compare_runs(first, other)

    assert ("optimizer", 990) == (finding.stage, finding.step)
    assert time.perf_counter() - start < 2
