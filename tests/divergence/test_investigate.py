"""Which runs are made for a command: progress, failures, located orders, runs with sources held still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fixtures.findings import digest, write_tape
from rectest.divergence import investigate
from rectest.divergence.finding import DIVERGED, IDENTICAL, UNKNOWN
from rectest.divergence.inside.session import Config
from rectest.divergence.investigate import Investigation, Plan, compare_tapes, details_of, last_lines, roots_of
from rectest.divergence.runs import Recorded
from rectest.divergence.tapes import load_run
from rectest.errors import WatchError


class Script:
    """Stands for `record_many`: writes what a script leaves, and remembers how it was called."""

    def __init__(
        self,
        *,
        negatives: Callable[[int, Sequence[str]], object] = lambda *_: 0,
        status: Callable[[int, Sequence[str]], int] = lambda *_: 0,
        orders: Sequence[Sequence[str]] = ((), ()),
        steps: int = 3,
    ) -> None:
        self.negatives, self.status, self.orders, self.steps = negatives, status, orders, steps
        self.calls: list[dict[str, Any]] = []

    def __call__(self, command, *, out: Path, num_runs: int, config: Config, pins=(), on_run, **settings):
        self.calls.append({"out": out, "num_runs": num_runs, "config": config, "pins": tuple(pins), **settings})
        found = []
        for number in range(1, num_runs + 1):
            begun = []
            if config.locate_orders:
                names = self.orders[number - 1]
                begun = [[1, "setup", "order", "set(items)", digest(names), "vocabulary.py:3:build", None]]
            steps = min(self.steps, config.stop_after or self.steps)
            tape = out / f"run{number}.tape"
            write_tape(tape, steps=steps, negatives=self.negatives(number, pins), begun=begun)
            output, status = out / f"run{number}.txt", self.status(number, pins)
            output.write_text("".join(f"line {k}\n" for k in range(40)) + ("ValueError: no data\n" if status else ""))
            found.append(Recorded(tape=tape, output=output, status=status, seconds=12.3))
            on_run(number, found[-1])
        return found


def stray(number: int, pins: Sequence[str]) -> object:
    """Another generator in each run, unless it is held still."""
    return 0 if any(pin.startswith("site:") for pin in pins) else number


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """An investigation of a planted script, and what it says while it goes."""

    def make(script: Script, **settings: Any) -> tuple[Investigation, list[str]]:
        monkeypatch.setattr(investigate, "record_many", script)
        said: list[str] = []
        plan = Plan(command=("python", "train.py"), out=tmp_path / "out", **settings)
        return Investigation(plan, say=said.append), said

    return make


def test_two_runs_are_compared_with_a_line_for_each(asked):
    script = Script(negatives=stray)
    investigation, said = asked(script)
    compared = investigation.compare()

    assert said == ["run 1 of 2: 12 s, exit 0, 3 steps", "run 2 of 2: 12 s, exit 0, 3 steps"]
    assert compared.finding.verdict == DIVERGED
    assert compared.finding.causes[0].site == "sampler.py:2:__init__"
    assert len(script.calls) == 1


def test_identical_runs_are(asked):
    investigation, _ = asked(Script())

    assert investigation.compare().finding.verdict == IDENTICAL


def test_a_command_that_fails_before_a_step_is_not_run_twice(asked):
    script = Script(status=lambda *_: 1, steps=0)
    investigation, said = asked(script)

    with pytest.raises(WatchError, match=r"failed in run 1 .exit 1., before a first training step"):
        investigation.compare()
    assert said == ["run 1 of 2: 12 s, exit 1, 0 steps"]


def test_runs_that_fail_alike_are_not_called_identical(asked):
    investigation, _ = asked(Script(status=lambda *_: 3))
    finding = investigation.compare().finding

    assert finding.verdict == UNKNOWN
    assert finding.reason == (
        "the command failed in run 1 (exit 3): ValueError: no data; up to there, for 3 steps, the runs are identical"
    )


def test_runs_that_part_and_fail_are_told_to_part(asked):
    investigation, _ = asked(Script(negatives=stray, status=lambda *_: 3))
    compared = investigation.compare()

    assert compared.finding.verdict == DIVERGED
    assert len(compared.notes) == 2
    assert "note " in " ".join(details_of(compared, plan=investigation.plan).answer)


def test_confirmation_runs_again_with_pins_and_shows_it_once_more_for_a_few_steps(asked):
    script = Script(negatives=stray)
    investigation, said = asked(script)
    confirmed = investigation.confirm(investigation.compare())
    _, held, free = script.calls

    assert confirmed.identical
    assert held["pins"] == ("site:sampler.py:2:__init__",)
    assert held["config"].stop_after == 0
    assert free["pins"] == ()
    assert free["config"].stop_after == 1
    assert not held["out"].exists()
    assert "comparing with site:sampler.py:2:__init__ held still" in said


def test_a_pin_that_makes_the_script_fail_could_not_be_tried(asked):
    script = Script(negatives=stray, status=lambda _, pins: 1 if any(pin[:5] == "site:" for pin in pins) else 0)
    investigation, _ = asked(script)
    confirmed = investigation.confirm(investigation.compare())

    assert confirmed.trials[0].outcome == "could not be tried"
    assert confirmed.trials[0].problem == "the command failed in run 1 (exit 1): ValueError: no data"
    assert not confirmed.causes


def test_a_script_that_fails_anyway_can_be_confirmed(asked):
    investigation, _ = asked(Script(negatives=stray, status=lambda *_: 1))

    assert investigation.confirm(investigation.compare()).identical


def test_what_is_to_be_kept_is_kept(asked):
    script = Script(negatives=stray)
    investigation, _ = asked(script, keep=True)
    investigation.confirm(investigation.compare())

    assert all(call["out"].is_dir() for call in script.calls)


def hashed(number: int, pins: Sequence[str]) -> object:
    return 0 if "hash" in pins else number


def test_the_line_of_an_order_is_found_by_two_more_runs(asked, monkeypatch):
    from rectest.divergence.finding import Cause, Finding

    unsited = Cause(kind="hash_order", what="strings hash differently", pin="hash")
    found = Finding(verdict=DIVERGED, stage="id_map", step=2, causes=(unsited,))
    monkeypatch.setattr(investigate, "compare_many", lambda *_, **__: found)
    script = Script(orders=("ab", "ba"))
    investigation, said = asked(script, num_runs=3)
    (cause,) = investigation.compare().finding.causes

    assert cause.site == "vocabulary.py:3:build"
    assert script.calls[1]["num_runs"] == 2
    assert script.calls[1]["config"].locate_orders
    assert script.calls[1]["config"].stop_after == 2
    assert "running again to find its line" in said[3]


def test_an_order_that_only_confirmation_found_gets_its_line(asked, monkeypatch):
    script = Script(negatives=hashed, orders=("ab", "ba"))
    investigation, _ = asked(script)
    compared = investigation.compare()
    without = compared.finding.__class__(verdict=DIVERGED, stage="negatives", step=1, name="Model.neg")
    confirmed = investigation.confirm(investigate.Compared(finding=without, runs=compared.runs))

    assert confirmed.identical
    assert confirmed.causes[0].site == "vocabulary.py:3:build"
    assert confirmed.causes[0].confirmed


def test_in_place_no_order_is_located(asked):
    script = Script(negatives=hashed)
    investigation, _ = asked(script, in_place=True)
    compared = investigation.compare()
    without = compared.finding.__class__(verdict=DIVERGED, stage="id_map", step=1, name="x")
    confirmed = investigation.confirm(investigate.Compared(finding=without, runs=compared.runs))

    assert confirmed.causes[0].site == ""


def test_details_hold_everything(asked):
    investigation, _ = asked(Script(negatives=stray))
    compared = investigation.compare()
    details = details_of(compared, investigation.confirm(compared), plan=investigation.plan, places="why.json")

    assert details.answer[-1] == "details    why.json"
    assert details.confirmed
    assert details.finding.causes[0].confirmed
    assert [run.num_steps for run in details.runs] == [3, 3]
    assert details.runs[0].environment["env.OMP_NUM_THREADS"] == "1"
    assert details.draws[0].site == "sampler.py:5:sample"
    assert [trial["outcome"] for trial in details.trials] == ["gone", "shown again"]


def test_tapes_without_training_cannot_be_told_apart(tmp_path):
    tapes = [write_tape(tmp_path / f"{name}.tape", steps=0) for name in "ab"]

    assert compare_tapes(tapes).finding.verdict == UNKNOWN


def test_the_end_of_an_output_is_what_was_said_last(tmp_path):
    output = tmp_path / "run1.txt"
    output.write_bytes(b"x\n" * 100_000 + b"\xff\n\n" + b"".join(b"%d\n" % k for k in range(20)))

    assert last_lines(output) == [str(k) for k in range(5, 20)]
    assert last_lines(tmp_path / "no.txt") == []


def test_packages_of_the_watched_python_are_looked_through(tmp_path):
    info = {"python": "3.12.1", "prefix": "/venv"}
    run = load_run(write_tape(tmp_path / "a.tape", begun=[[1, "setup", "environment", "process", "", "", info]]))

    assert roots_of([run], [tmp_path]) == [tmp_path, Path("/venv/lib/python3.12")]
