"""``rectest gate selftest``: its tables and its exit code, with the judge of the gate and with a broken one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

import rectest.baseline.selftest
import rectest.cli.gate_selftest as selftest
from fixtures.baselines import make_baseline, make_record
from rectest.baseline.build import build_baseline
from rectest.baseline.judge import judge_sequential
from rectest.baseline.selftest import self_test
from rectest.baseline.sidecar import build_sidecar
from rectest.baseline.store import BaselineStore
from rectest.cli import main
from rectest.errors import ChildFailed
from rectest.faults.training import PLANTS


@pytest.fixture
def store(tmp_path):
    found = BaselineStore(tmp_path / "baselines")
    found.save(make_baseline())
    return found


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def run(store, *args):
    with pytest.raises(SystemExit) as leaving:
        main(["gate", "selftest", "--resamples", "20", "--baselines", str(store.root), *args])
    return leaving.value.code or 0


def test_a_gate_that_keeps_its_numbers(store, capsys):
    assert run(store) == 0
    out = capsys.readouterr().out

    assert "1 gates keep what they declare" in out
    assert "PASS" in next(line for line in out.splitlines() if line.startswith("toy"))
    assert {"test/recall@10", "loss/late"} <= set(out.split())


def test_tables_for_documents(store, capsys):
    assert run(store, "toy", "--markdown") == 0
    lines = capsys.readouterr().out.splitlines()

    assert lines[0] == "| system | clean gates | drops | rises | runs | divided | one bad run | uniform | verdict |"
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    assert lines[2].startswith("| toy | 20 | 0 | 0 | 1.")


def test_a_gate_that_alarms_whatever_happens(store, capsys, monkeypatch):
    def blind(records, baseline):
        outcome = judge_sequential(records, baseline)
        return replace(outcome, undecided=False, decision=replace(outcome.decision, state="FAIL"))

    monkeypatch.setattr(rectest.baseline.selftest, "self_test", partial(self_test, judge=blind))

    assert run(store) == 1
    out = capsys.readouterr().out
    assert "FAIL selftest/false_alarms: toy: 20 drops and 0 rises in 20 clean gates; limit below" in out
    assert "FAIL selftest/one_run: toy" in out


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["toi"], "unknown baseline 'toi' (did you mean 'toy'?)"),
        (["--env", "cuda"], "no baselines in"),
    ],
)
def test_what_is_not_stored(store, capsys, args, match):
    assert run(store, *args) == 2
    assert match in capsys.readouterr().err


class TestTrainedFaults:
    """The table of planted trainings, with a trainer that makes records up."""

    @pytest.fixture
    def baseline_store(self, tmp_path):
        records = [make_record(seed, system="comirec") for seed in range(16)]
        twins = [make_record(seed, system="comirec", plant="rectest.faults.controls:rounding") for seed in range(16)]
        found = BaselineStore(tmp_path / "trained")
        found.save(build_baseline(records, twins=twins, reason="x"), sidecar=build_sidecar(records, twins))
        return found

    def table(self, store, recall):
        """Rows and complaints, where `recall` gives the quality under each plant, or None for a failed training."""

        def train(specs):
            return [one(spec) for spec in specs]

        def one(spec):
            value = recall(spec.plant.rpartition(":")[2])
            if value is None:
                return ChildFailed(spec.describe(), reason="raised", detail="a score is not finite")
            return make_record(spec.seed, recall=value, system="comirec", plant=spec.plant)

        return selftest._trained(store, [store.load("comirec", "cpu")], train)

    def test_each_fault_and_each_harmless_change_has_a_row(self, baseline_store):
        rows, wrong = self.table(baseline_store, lambda name: 0.2 if name in selftest._HARMLESS else 0.1)
        by_name = {row[1]: row for row in rows}

        assert {fault.name for fault in PLANTS if fault.fits("comirec")} | set(selftest._HARMLESS) == by_name.keys()
        assert ["comirec", "labels_shifted", "FAIL", "L3", "2"] == by_name["labels_shifted"][:5]
        assert ["comirec", "foreign_draws", "PASS", "L1", "1"] == by_name["foreign_draws"][:5]
        assert [] == wrong

    def test_a_change_without_loss_of_quality_is_seen_and_called_so(self, baseline_store):
        rows, wrong = self.table(baseline_store, lambda name: 0.2 if name in selftest._HARMLESS else 0.198)

        assert {"CHANGED"} == {row[2] for row in rows if row[1] not in selftest._HARMLESS}
        assert [] == wrong

    def test_what_nobody_sees_and_what_cries_wolf(self, baseline_store):
        _, wrong = self.table(baseline_store, lambda name: 0.1 if name in selftest._HARMLESS else 0.2)

        assert any(line.startswith("UNSEEN: labels_shifted in comirec: PASS L1") for line in wrong)
        assert any(line.startswith("FALSE ALARM: foreign_draws in comirec: FAIL") for line in wrong)

    def test_a_training_that_fails_is_noticed(self, baseline_store):
        rows, wrong = self.table(baseline_store, lambda name: 0.2 if name in selftest._HARMLESS else None)

        assert [] == wrong
        assert any("the training fails" in row[5] and "not finite" in row[5] for row in rows)
