"""The five steps of a baseline, as a user lives them: absent, recorded, green, changed, accepted. And what goes wrong.

Training happens in this process instead of in children, so that the whole story takes seconds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy.fft
import pytest
import scipy.stats

from rectest.baseline import judge, store, update
from rectest.cli import baseline, main
from rectest.report import terminal
from rectest.training import launch
from rectest.training.program import run_spec

PRELOADED = (numpy.fft, scipy.stats, judge, store, update, baseline, terminal, launch)
"""pytester forgets modules that an inner run imported first, and extension modules cannot be imported twice."""

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


def change(project, **values):
    path = project.path / "mine.py"
    text = MINE
    for name, value in values.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{name} ="))
        text = text.replace(old, f"{name} = {value}")
    path.write_text(text)


def test_the_five_steps(project, capsys):
    absent = project.gate()
    assert absent.ret == 1
    absent.stdout.fnmatch_lines(
        ["*UNCALIBRATED baseline/ensemble: mine:train: no baseline for environment class 'cpu'*"]
    )
    absent.stdout.fnmatch_lines(["*record one on this machine: pytest -m gate --rectest-update=new*"])

    assert project.gate("--rectest-update=new", "--rectest-reason=first").ret == 0
    stored = json.loads((project.path / FILE).read_text())
    assert stored["provenance"]["reason"] == "first"
    assert len(stored["ensemble"]["seeds"]) == 8

    green = project.gate()
    assert green.ret == 0
    green.stdout.fnmatch_lines(["*PASS*baseline/exact*1 seed, all*", "*PASS*baseline/test/recall@10*"])

    change(project, QUALITY=0.27)
    red = project.gate("--rectest-candidates=candidates")
    assert red.ret == 1
    red.stdout.fnmatch_lines(["*FAIL baseline/test/recall@10: mine:train*"])
    assert json.loads((project.path / FILE).read_text()) == stored

    with pytest.raises(SystemExit) as left:
        main(["baseline", "accept", "candidates", "--reason", "quality traded for speed"])
    assert left.value.code == 0
    assert "test/recall@10" in capsys.readouterr().out
    assert project.gate().ret == 0


def test_equal_quality_with_other_bits_is_red_in_the_exact_lane_only(project):
    project.makepyfile(test_mine=LANES)
    project.gate("--rectest-update=new")
    change(project, DRAWS=1)

    result = project.gate()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*FAIL baseline/exact: mine:train: seed 0: batches is the first to differ*"])


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
    result.stderr.fnmatch_lines(["*4 seeds cannot carry a gate, at least 8 are needed*"])
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
