"""Recording from the command line. Trainings are hand-made records, but for one real one and one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.baselines import make_environment, make_record
from rectest.baseline.schema import MIN_SEEDS
from rectest.baseline.store import BaselineStore
from rectest.cli import baseline_record, main
from rectest.errors import ChildFailed
from rectest.faults import standing
from rectest.record import RunRecord, RunSpec
from rectest.training.program import run_spec

TOY = "fixtures.toy:ToySystem"
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


class Trainings:
    """Stands for `launch`: hand-made records by spec, and whatever a test breaks."""

    def __init__(self):
        self.seen = Counter()
        self.recall = 0.2
        self.crashing: set[int] = set()
        self.interrupt_after = 10**9
        self.shaken: dict[int, float] = {}
        self.environment = make_environment()
        self.facts = {"settings": {}}

    def __call__(self, spec: RunSpec, **_: object) -> RunRecord:
        if self.seen.total() >= self.interrupt_after:
            raise KeyboardInterrupt
        self.seen[spec.seed, spec.plant] += 1
        if spec.seed in self.crashing and not spec.plant:
            raise ChildFailed(spec.describe(), reason="killed", detail="was killed by SIGKILL")
        harm = 0.5 if spec.plant.endswith(":harmful") else self.shaken.get(spec.seed, 1.0)
        record = make_record(spec.seed, recall=self.recall * harm, environment=self.environment)
        return replace(record, spec=spec, facts={**record.facts, **self.facts})


@pytest.fixture
def trainings(monkeypatch):
    fake = Trainings()
    monkeypatch.setattr("rectest.training.launch.launch", fake)
    return fake


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder outside version control, in which the command is called."""
    for name in ("CI", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def record(place, capsys):
    def record(*args: str, reason: str = "first", seeds: int = 8) -> tuple[int, str, str]:
        options = ("--seeds", str(seeds), "--keep", "kept", "--processes", "1", "--reason", reason)
        with pytest.raises(SystemExit) as leaving:
            main(["baseline", "record", *args, *options])
        return leaving.value.code or 0, *capsys.readouterr()

    return record


def stored(place: Path):
    return BaselineStore(place / "baselines").load(TOY, "cpu")


def kept(place: Path) -> list[Path]:
    return sorted(place.glob("kept/*.safetensors"))


class TestRecorded:
    def test_seeds_twins_bulk_and_a_table(self, record, place, trainings):
        code, out, err = record(TOY)

        assert (code, err) == (0, "")
        found = stored(place)
        assert found.ensemble.seeds == tuple(range(8))
        assert found.ensemble.twins
        assert BaselineStore(place / "baselines").sidecar(found) is not None
        assert (found.provenance.reason, found.provenance.dirty) == ("first", None)
        assert [word for word in ("mean", "run sd", "rounding sd", "smallest drop caught") if word not in out] == []
        assert "no standing fault is registered for fixtures.toy:ToySystem" in out
        assert "8 seeds and their rounding twins in" in out
        assert max(len(line) for line in out.splitlines() if "baselines" not in line) <= 80
        assert kept(place) == []

    def test_a_file_where_a_folder_is_needed_is_told_before_anything_is_trained(self, record, place, trainings):
        (place / "file").write_text("x")
        code, _, err = record(TOY, "--baselines", "file")

        assert (code, err) == (2, "rectest: error: file is a file, needed a folder\n")
        assert kept(place) == []

    def test_the_history_goes_on_and_drift_is_capped(self, record, place, trainings):
        record(TOY)
        trainings.recall = 0.2 * 0.97
        record(TOY, reason="a little worse")
        trainings.recall = 0.2 * 0.6
        code, _, err = record(TOY, reason="much worse")
        assert [entry.reason for entry in stored(place).history] == ["first", "a little worse"]
        assert code == 2
        assert "--new-anchor" in err

        assert record(TOY, "--new-anchor", reason="another world of quality")[0] == 0

        assert [entry.reason for entry in stored(place).history] == ["another world of quality"]

    def test_settings_are_those_of_what_is_replaced(self, record, place, trainings):
        record(TOY, "--steps", "30", "--set", "learning_rate=0.02")
        _, _, err = record(TOY, reason="again")

        assert "with the settings of the baseline that is replaced" in err
        assert (stored(place).spec.steps, stored(place).spec.config) == (30, {"learning_rate": 0.02})

    def test_a_training_function_has_no_twins(self, record, place, trainings):
        trainings.facts = {}
        name = "fixtures.toy:plain_training"

        code, out, _ = record(name, seeds=5)

        assert code == 0
        assert not BaselineStore(place / "baselines").load(name, "cpu").ensemble.twins
        assert f"no standing fault is registered for {name}" in out
        assert "5 seeds in " in out

    def test_candidates_are_written_in_ci_and_baselines_are_not(self, record, place, trainings, monkeypatch):
        monkeypatch.setenv("CI", "true")

        refused = record(TOY)
        assert record(TOY, "--candidates", "proposed")[0] == 0

        assert refused[0] == 2
        assert "baselines are not written in CI" in refused[2]
        assert (place / "proposed/cpu/fixtures.toy+ToySystem.json").exists()
        assert not (place / "baselines").exists()


class TestNothingIsLost:
    def test_a_crashed_seed_is_named_and_only_it_is_trained_again(self, record, place, trainings):
        record(TOY)
        before = {path: path.read_bytes() for path in place.glob("baselines/cpu/*")}
        trainings.crashing = {3}
        trainings.recall = 0.21
        code, _, err = record(TOY, reason="second")
        assert code == 2
        assert f"1 of 8 trainings failed ({TOY}, seed 3); the first one: was killed by SIGKILL" in err
        assert "the other 7 are kept in kept" in err
        assert before == {path: path.read_bytes() for path in place.glob("baselines/cpu/*")}
        assert len(kept(place)) == 7

        trainings.crashing = set()
        trainings.seen.clear()
        code, _, err = record(TOY, reason="second")

        assert code == 0
        assert "6 kept runs are used; seed 0 was trained again, equal to the last bit" in err
        assert sorted(seed for seed, plant in trainings.seen if not plant) == [0, 3]
        assert stored(place).provenance.reason == "second"
        assert kept(place) == []

    def test_an_interrupt_keeps_what_is_finished(self, record, place, trainings):
        trainings.interrupt_after = 5
        code, _, _ = record(TOY)
        assert code != 0
        assert not (place / "baselines").exists()
        assert len(kept(place)) == 5

        trainings.interrupt_after = 10**9
        trainings.seen.clear()

        assert record(TOY)[0] == 0
        assert sum(count for (_, plant), count in trainings.seen.items() if not plant) == 4

    def test_kept_runs_of_other_code_are_never_used(self, record, place, trainings):
        trainings.crashing = {7}
        record(TOY)
        trainings.crashing, trainings.recall = set(), 0.25

        code, _, err = record(TOY)

        assert code == 0
        assert "7 kept runs are not what is trained now (seed 0 differs): trained anew" in err
        assert 0.24 < np.mean(stored(place).ensemble.features["test/recall@10"]) < 0.26

    def test_a_fact_that_changed_is_other_code_too(self, record, place, trainings):
        trainings.crashing = {7}
        record(TOY)
        trainings.crashing, trainings.facts = set(), {"settings": {}, "floors": {"test/recall@10": 0.1}}

        assert "trained anew" in record(TOY)[2]

    def test_kept_runs_of_another_environment_are_never_used(self, record, place, trainings):
        trainings.crashing = {7}
        record(TOY)
        trainings.crashing, trainings.environment = set(), make_environment(torch="2.99.0")
        trainings.seen.clear()

        assert record(TOY)[0] == 0
        assert sum(count for (_, plant), count in trainings.seen.items() if not plant) == 8

    def test_a_damaged_kept_run_is_none(self, record, place, trainings):
        trainings.crashing = {7}
        record(TOY)
        for path in kept(place):
            path.write_bytes(path.read_bytes()[:100])
        trainings.crashing = set()

        assert record(TOY)[0] == 0

    def test_of_several_systems_the_others_are_recorded(self, record, place, trainings, monkeypatch):
        def launch(spec, **rest):
            if "plain_training" in spec.system:
                raise ChildFailed(spec.describe(), reason="raised", detail="raised ValueError: no")
            return trainings(spec, **rest)

        monkeypatch.setattr("rectest.training.launch.launch", launch)

        code, _, err = record("fixtures.toy:plain_training", TOY)

        assert code == 2
        assert "1 of 2 systems have no new baseline" in err
        assert stored(place).ensemble.seeds == tuple(range(8))

    @pytest.mark.slow
    def test_a_killed_command_goes_on_where_it_was(self, place):
        """Real children, and SIGKILL: nothing can be tidied up, and nothing of the baseline is there."""
        root = str(Path(__file__).parents[2])
        command = [sys.executable, "-m", "rectest", "baseline", "record", TOY, "--reason", "first", "--seeds", "5"]
        command += ["--keep", str(place / "kept"), "--processes", "1", "--steps", "20"]
        environ = {**os.environ, "PYTHONPATH": root}
        with subprocess.Popen(command, cwd=place, env=environ, stdout=subprocess.DEVNULL) as child:
            deadline = time.monotonic() + 120
            while len(kept(place)) < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
        assert not (place / "baselines").exists()
        assert len(kept(place)) >= 3

        done = subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr
        assert "equal to the last bit" in done.stderr
        assert kept(place) == []


class TestRefused:
    @pytest.mark.parametrize(
        ("args", "reason", "problem"),
        [
            ((TOY,), " ", "needs --reason=TEXT"),
            ((), "why", "name the systems to record, or --all for adaptive_sasrec, comirec, gram_c, gear, ur4rec"),
            ((TOY, "--all"), "why", "give one of the two"),
            (("gaer",), "why", "unknown system 'gaer' (did you mean 'gear'?)"),
            ((TOY, "--world", "lines:a.txt"), "why", "is a file: a baseline needs a world that everybody has"),
            ((TOY, "--set", "learnig_rate=1"), "why", "did you mean 'learning_rate'?"),
            (("/somewhere/mine.py:train",), "why", "cannot name a baseline file"),
        ],
    )
    def test_before_anything_is_trained(self, record, trainings, args, reason, problem):
        code, _, err = record(*args, reason=reason)

        assert code == 2
        assert problem in err
        assert trainings.seen.total() == 0

    def test_four_seeds(self, record, trainings):
        assert record(TOY, seeds=MIN_SEEDS - 1)[0] == 2
        assert trainings.seen.total() == 0
        assert baseline_record.FEWEST == MIN_SEEDS

    def test_uncommitted_changes(self, record, place, trainings):
        (place / "mine.py").write_text("x = 1\n")
        for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
            subprocess.run([*GIT, *args], cwd=place, check=True, capture_output=True)
        record(TOY)
        subprocess.run([*GIT, "add", "baselines"], cwd=place, check=True, capture_output=True)
        subprocess.run([*GIT, "commit", "-qm", "baselines"], cwd=place, check=True, capture_output=True)
        trainings.recall = 0.201
        assert record(TOY)[0] == record(TOY)[0] == 0, "changes of baselines are not changes of code"
        assert stored(place).provenance.dirty is False

        (place / "mine.py").write_text("x = 2\n")
        trainings.seen.clear()
        code, _, err = record(TOY)

        assert code == 2
        assert "uncommitted changes" in err
        assert "--allow-dirty --reason=TEXT" in err
        assert trainings.seen.total() == 0
        assert record(TOY, "--allow-dirty")[0] == 0
        assert stored(place).provenance.dirty is True

    def test_unstable_seeds_and_one_only_warns(self, record, place, trainings):
        trainings.shaken = {3: 0.5}
        code, out, _ = record(TOY)
        assert code == 0
        assert "warning: unstable seeds: seed 3: " in out

        trainings.shaken = {3: 0.5, 6: 0.4}
        before = stored(place)
        code, _, err = record(TOY, seeds=16)
        assert code == 2
        assert "unstable seeds, 2 of 16: seed 6: " in err
        assert before == stored(place)

    def test_a_fault_that_survives(self, record, place, trainings):
        code, _, err = record(TOY, "--fault", "mine:harmless")
        assert code == 2
        assert "the standing fault harmless survives" in err
        assert not (place / "baselines").exists()
        assert len(kept(place)) == 16, "the runs are fine, and another command may still use them"

    def test_a_fault_that_is_seen(self, record, place, trainings, monkeypatch):
        monkeypatch.setitem(standing.STANDING, TOY, (standing.named_fault(TOY, "mine:harmful"),))
        code, out, _ = record(TOY)

        assert code == 0
        assert "seen by this gate when planted: harmful" in out
        assert trainings.seen[0, "mine:harmful"] == 1


def test_a_real_training_and_a_fault_that_stands_in_its_way(record, place, monkeypatch):
    """Five seeds of a few steps, in this process; the standing fault is a quarter of the configured rate."""
    monkeypatch.setattr("rectest.training.launch.launch", lambda spec, **_: run_spec(spec))
    fault = ("--fault", "rectest.faults.standing:slow_learning_rate")

    code, out, err = record(TOY, "--steps", "20", *fault, seeds=5)

    assert code == 0, err
    assert "seen by this gate when planted: slow_learning_rate" in out
    assert len(stored(place).exact) == 1
