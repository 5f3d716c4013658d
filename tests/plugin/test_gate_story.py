"""A baseline as a user lives it: absent, recorded, green, rounded, changed, accepted, worse. And what goes wrong.

Training happens in this process instead of in children, so that the whole story takes seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import toy
from rectest.cli import baseline, main
from rectest.faults import controls, standing
from rectest.record import RunSpec
from rectest.training.program import run_spec

PRELOADED = (toy, baseline, controls, standing)
"""Beside what `fixtures.inner` has."""

MINE = """
QUALITY = 0.30
DRAWS = 0

def train(run):
    rng = run.seeds.rng("noise")
    for _ in range(30 + DRAWS):
        run.step(loss=1.0 + 0.01 * float(rng.random()), batch=rng.integers(0, 9, 4).tolist())
    run.metrics("test", {"recall@10": QUALITY * (1 + 0.01 * float(rng.normal()))})
"""
TESTS = """
import mine
import pytest

@pytest.mark.gate
def test_gate(rec_gate):
    rec_gate(mine.train)
"""
LANES = """
import mine
import pytest

@pytest.mark.gate
def test_exact(rec_gate):
    rec_gate.exact(mine.train)

@pytest.mark.gate
def test_ensemble(rec_gate):
    rec_gate.ensemble(mine.train)
"""
FILE = Path("baselines/cpu/mine+train.json")

SYSTEM = """
import dataclasses
import torch
from fixtures.toy import ToySystem

RATE = 1.0
BACKWARDS = False

class Mine(ToySystem):
    name = "mine"

    def make_optimizer(self, model):
        return torch.optim.Adam(model.parameters(), lr=RATE * self.config.learning_rate)

    def losses(self, model, batch):
        turned = {name: value.flip(0) for name, value in batch.inputs.items()}
        return super().losses(model, dataclasses.replace(batch, inputs=turned) if BACKWARDS else batch)
"""


@pytest.fixture(scope="module", autouse=True)
def _torch_whole():
    """What torch itself imports only when something is trained."""
    run_spec(RunSpec(system="fixtures.toy:ToySystem", steps=1))


@pytest.fixture
def project(pytester, monkeypatch):
    """A user's project, and a way to run its gate in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("rectest.training.launch.launch", lambda spec, **_: run_spec(spec))
    monkeypatch.syspath_prepend(pytester.path)
    pytester.makepyfile(mine=MINE, test_mine=TESTS)

    def run(*options):
        return pytester.runpytest_inprocess("-m", "gate", "--rectest-processes=1", "--rectest-seeds=8", *options)

    pytester.gate = run
    yield pytester
    sys.modules.pop("mine", None)


def change(project, text=MINE, **values):
    path = project.path / "mine.py"
    for name, value in values.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{name} ="))
        text = text.replace(old, f"{name} = {value}")
    path.write_text(text)


def test_the_whole_story_of_a_training_function(project, capsys):
    """It has no rounding twins: what differs in bits and is not worse waits for a person."""
    absent = project.gate()
    assert absent.ret == 1
    absent.stdout.fnmatch_lines(
        ["*UNCALIBRATED baseline/ensemble: mine:train: no baseline for environment class 'cpu'*"]
    )
    absent.stdout.fnmatch_lines(["*record one on this machine: *"])

    assert project.gate("--rectest-update=new", "--rectest-reason=first").ret == 0
    stored = json.loads((project.path / FILE).read_text())
    assert stored["provenance"]["reason"] == "first"
    assert len(stored["ensemble"]["seeds"]) == 8

    green = project.gate()
    assert green.ret == 0
    green.stdout.fnmatch_lines(["*PASS*baseline/gate*L1, 1 run*", "*PASS*baseline/exact*1 seed, all*"])

    change(project, QUALITY=0.27)
    red = project.gate("--rectest-candidates=candidates")
    assert red.ret == 1
    red.stdout.fnmatch_lines(["*FAIL baseline/gate: mine:train: test/recall@10 -*after 2 runs*"])
    assert json.loads((project.path / FILE).read_text()) == stored

    accept = ["baseline", "accept", "candidates", "--reason", "quality traded for speed"]
    with pytest.raises(SystemExit) as capped:
        main(accept)
    assert capped.value.code == 2
    assert "--new-anchor" in capsys.readouterr().err

    with pytest.raises(SystemExit) as left:
        main([*accept, "--new-anchor"])
    assert left.value.code == 0
    assert "test/recall@10" in capsys.readouterr().out
    assert project.gate().ret == 0


def test_the_whole_story_of_a_system(project, capsys):
    """Its rounding twins say what rounding is, so that an order of additions is nobody's business."""
    change(project, SYSTEM)
    project.makepyfile(test_mine=TESTS.replace("train", "Mine"))
    assert project.gate("--rectest-update=new").ret == 0

    change(project, SYSTEM, BACKWARDS=True)
    rounded = project.gate()
    assert rounded.ret == 0
    rounded.stdout.fnmatch_lines(["*PASS*baseline/gate*L2, 1 run*"])

    change(project, SYSTEM, RATE=1.01)
    changed = project.gate("--rectest-candidates=candidates")
    assert changed.ret == 1
    changed.stdout.fnmatch_lines(["CHANGED baseline/gate: mine:Mine: *beyond rounding (*"])

    with pytest.raises(SystemExit) as left:
        main(["baseline", "accept", "candidates", "--reason", "a rounder rate"])
    assert left.value.code == 0
    capsys.readouterr()
    assert project.gate().ret == 0
    history = json.loads((project.path / "baselines/cpu/mine+Mine.json").read_text())["history"]
    assert [entry["reason"] for entry in history][1:] == ["a rounder rate"]

    change(project, SYSTEM, RATE=0.25)
    worse = project.gate()
    assert worse.ret == 1
    worse.stdout.fnmatch_lines(["FAIL baseline/gate: mine:Mine: *after 2 runs"])


def test_equal_quality_with_other_bits_waits_for_a_person(project):
    project.makepyfile(test_mine=LANES)
    project.gate("--rectest-update=new")
    change(project, DRAWS=1)

    result = project.gate()

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*CHANGED baseline/exact: mine:train: seed 0: batches is the first to differ*"])
    result.stdout.fnmatch_lines(["*CHANGED baseline/gate: mine:train: numbers differ from the same seed *"])


def test_uncommitted_changes_are_not_recorded_without_a_reason(project, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *args], cwd=project.path, check=True, capture_output=True)
    change(project, QUALITY=0.31)

    refused = project.gate("--rectest-update=new")
    blank = project.gate("--rectest-update=new", "--rectest-allow-dirty")

    assert refused.ret == blank.ret == 1
    refused.stdout.fnmatch_lines(["*uncommitted changes*--rectest-allow-dirty --rectest-reason=TEXT*"])
    blank.stdout.fnmatch_lines(["*--rectest-allow-dirty needs --rectest-reason=TEXT*"])
    assert not (project.path / FILE).exists()

    assert project.gate("--rectest-update=new", "--rectest-allow-dirty", "--rectest-reason=tried by hand").ret == 0
    assert json.loads((project.path / FILE).read_text())["provenance"]["dirty"] is True


def test_a_standing_fault_that_survives_refuses_the_update_and_the_candidate(project, monkeypatch):
    """A harmless control registered as a fault: nothing can see it, so that no baseline is fit."""
    change(project, SYSTEM)
    project.makepyfile(test_mine=TESTS.replace("train", "Mine"))
    blind = standing.named_fault("mine:Mine", "rectest.faults.controls:foreign_draws")
    monkeypatch.setitem(standing.STANDING, "mine:Mine", (blind,))

    refused = project.gate("--rectest-update=new")
    proposed = project.gate("--rectest-candidates=candidates")

    assert refused.ret == proposed.ret == 1
    refused.stdout.fnmatch_lines(["*the standing fault foreign_draws survives*"])
    proposed.stdout.fnmatch_lines(["*UNCALIBRATED baseline/ensemble: mine:Mine: no baseline*"])
    proposed.stdout.fnmatch_lines(["*NOT MEASURED baseline/candidate: mine:Mine: no candidate: the standing fault*"])
    assert not (project.path / "baselines/cpu").exists()
    assert not (project.path / "candidates").exists()


def test_other_environment_skips_the_exact_lane_visibly(project, monkeypatch):
    project.makepyfile(test_mine=LANES)
    project.gate("--rectest-update=new")
    monkeypatch.setattr("rectest.training.determinism.cpu_model", lambda: "another-processor")

    result = project.gate()

    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*UNCALIBRATED*baseline/exact*no bits are stored for this environment*"])

    project.gate("--rectest-candidates=candidates")
    assert not (project.path / "candidates").exists(), "the ensemble is content, so there is nothing to propose"

    assert project.gate("--rectest-update=new").ret == 0
    stored = json.loads((project.path / FILE).read_text())
    assert len(stored["exact"]) == 2


def test_a_seed_that_is_not_stored_is_judged_by_the_others(project):
    """Its bits say nothing, so the exact lane is skipped visibly, and the ensemble lane decides."""
    project.makepyfile(test_mine=LANES)
    project.gate("--rectest-update=new")
    stored = json.loads((project.path / FILE).read_text())
    for entry in stored["exact"].values():
        del entry["seeds"]["0"]
    (project.path / FILE).write_text(json.dumps(stored))

    result = project.gate()

    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*seed 0 is not stored for this environment, only 1, 2, 3, 4*"])


def test_a_gate_of_one_or_six_seeds_is_refused(project):
    for number in (1, 6):
        assert project.gate(f"--rectest-gate-seeds={number}").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    "damage",
    ["{", *(pytest.param(text, marks=pytest.mark.slow) for text in ("", '{"schema": 99}', '{"ensemble": NaN}'))],
)
def test_a_damaged_baseline_is_red_and_never_repaired_by_itself(project, damage):
    project.gate("--rectest-update=new")
    (project.path / FILE).write_text(damage)

    result = project.gate()
    new = project.gate("--rectest-update=new")

    assert result.ret == new.ret == 1
    result.stdout.fnmatch_lines(["*NOT MEASURED baseline/ensemble: mine:train: the baseline cannot be read*"])
    assert (project.path / FILE).read_text() == damage
    assert project.gate("--rectest-update=failed").ret == 0


def test_update_failed_keeps_what_is_green(project):
    project.gate("--rectest-update=new")
    before = (project.path / FILE).read_bytes()

    project.gate("--rectest-update=failed")

    assert (project.path / FILE).read_bytes() == before


def test_too_few_seeds_are_refused(project):
    result = project.gate("--rectest-update=new", "--rectest-seeds=4")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*4 seeds cannot carry a gate, at least 5 are needed*"])
    assert not (project.path / FILE).exists()


def test_a_file_is_no_world_for_a_baseline(project):
    path = project.path / "mine.txt"
    path.write_text("u1 a b c\n")

    result = project.gate(f"--rectest-world=lines:{path}", "--rectest-json=report.json")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["NOT MEASURED: lines:*is a file: a baseline needs a world that everybody has*"])
    assert json.loads((project.path / "report.json").read_text())["verdict"] == "NOT MEASURED"


def test_a_metric_that_vanished_is_not_green(project):
    project.gate("--rectest-update=new")
    (project.path / "mine.py").write_text(MINE.replace("recall@10", "recall@20"))

    result = project.gate()

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*NOT MEASURED baseline/test/recall@10*"])


def test_a_nightly_run_trains_seeds_that_are_not_stored(project):
    """A clean one is green without bits to compare with, and nothing is recorded from the seeds of a night."""
    project.gate("--rectest-update=new")

    night = project.gate("--rectest-nightly", "-rA")
    refused = project.gate("--rectest-nightly", "--rectest-update=all")

    assert night.ret == 0
    night.stdout.fnmatch_lines(["*PASS*baseline/gate*L3, *", "*UNCALIBRATED*baseline/exact*is not stored*"])
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["*neither an update nor a candidate is made of them*"])
