"""``rectest faults`` with a fake trainer: what is listed, and what the exit code says."""

from __future__ import annotations

import pytest

import rectest.faults.matrix
import rectest.faults.parallel
import rectest.training.launch
from rectest.checks.cause import Cause
from rectest.checks.result import CheckResult, Verdict
from rectest.cli import main
from rectest.errors import ChildFailed
from rectest.faults.controls import Control
from rectest.faults.fault import Fault
from rectest.faults.matrix import Row, all_faults
from rectest.faults.parallel import ParallelRow
from rectest.faults.variants import Variant
from rectest.training.ranks import RanksJob

FAULT = Fault(name="broken", plant="a.b:c", system="comirec", turns_red=("purity",), about="it is wrong")
CONTROL = Control(name="clean", system="comirec", about="nothing is wrong")


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["faults", *args])
    return leaving.value.code or 0


@pytest.fixture
def matrix_with(monkeypatch):
    """Replace training and judging: `red` says which of the two rows is red as ``purity/model``."""

    def fake(*red):
        def judge(case, train, *, judge_seeds):
            with pytest.raises(ChildFailed):
                train(case.spec)
            verdict = Verdict.FAIL if case.name in red else Verdict.PASS
            return Row(case=case, results=(CheckResult(check="purity/model", subject="x", verdict=verdict, figure=""),))

        def launch_many(specs, *, how, processes, done):
            assert len({spec.key for spec in specs}) == len(specs)
            assert {0, 20_011} == {how(spec).hash_seed for spec in specs}
            return [ChildFailed(spec.describe(), reason="raised", detail="fake") for spec in specs]

        monkeypatch.setattr(rectest.training.launch, "launch_many", launch_many)
        monkeypatch.setattr(rectest.faults.matrix, "judge_case", judge)
        monkeypatch.setattr(rectest.faults.matrix, "all_faults", lambda: [FAULT])
        monkeypatch.setattr(rectest.faults.matrix, "controls", lambda: [CONTROL])

    return fake


def test_the_list_names_every_fault(capsys):
    assert run("list") == 0
    out = capsys.readouterr().out

    for fault in all_faults():
        assert f"  {fault.name}: turns red {', '.join(fault.turns_red)}" in out.splitlines()


def test_the_list_of_one_system(capsys):
    assert run("list", "--system", "comirec") == 0
    out = capsys.readouterr().out

    assert "comirec" in out.splitlines()
    assert "adaptive_sasrec" not in out.splitlines()


def test_an_unknown_system_is_refused(capsys):
    assert run("list", "--system", "comirek") == 2
    assert "unknown system 'comirek' (did you mean 'comirec'?)" in capsys.readouterr().err


def test_a_matrix_without_holes_or_alarms(matrix_with, capsys):
    matrix_with("broken")

    assert run("matrix", "--detail") == 0
    out = capsys.readouterr().out
    assert "comirec broken: purity/model" in out
    assert "comirec clean: nothing is red" in out
    assert "1 faults, 0 with a hole; 1 controls, 0 with a false alarm" in out


def test_a_hole_is_exit_code_one(matrix_with, capsys):
    matrix_with()

    assert run("matrix") == 1
    assert "HOLE: comirec broken: purity must turn red and did not" in capsys.readouterr().out


def test_a_false_alarm_is_exit_code_one(matrix_with, capsys):
    matrix_with("broken", "clean")

    assert run("matrix") == 1
    assert "FALSE ALARM: comirec clean: purity/model is red on a harmless change" in capsys.readouterr().out


class TestParallel:
    """The table of data-parallel variants, with measured rows replaced by hand-made ones."""

    @pytest.fixture
    def table_of(self, monkeypatch):
        def fake(*rows):
            def table(spec, *_):
                return [row_of(spec, verdict) for verdict in rows]

            monkeypatch.setattr(rectest.faults.parallel, "parallel_table", table)

        return fake

    def test_green_rows_are_green(self, table_of, capsys):
        table_of("green", "caught")

        assert run("parallel", "--system", "comirec") == 0
        assert "variant_caught: because never_reduced" in capsys.readouterr().out

    @pytest.mark.parametrize("verdict", ["HOLE", "ALARM", "CAUSE"])
    def test_a_hole_an_alarm_and_a_wrong_cause_are_an_exit_code(self, table_of, capsys, verdict):
        table_of("green", verdict)

        assert run("parallel", "--system", "comirec", "--ranks", "2") == 1
        assert f"variant_{verdict} of comirec on 2 ranks: {verdict}" in capsys.readouterr().out

    def test_the_table_for_documents_counts_systems(self, table_of, capsys):
        table_of("caught")

        assert run("parallel", "--system", "comirec", "--system", "gear", "--markdown") == 0
        assert "| `variant_caught` | 2, 1.000 | `never_reduced` | 2 of 2 systems |" in capsys.readouterr().out


def row_of(spec, verdict):
    """A row with this verdict."""
    red = verdict in ("caught", "ALARM", "CAUSE")
    fault = verdict not in ("green", "ALARM")
    turns_red = ("parity/scale",) if fault else ()
    result = CheckResult(check="parity/scale", subject="x", verdict=Verdict.FAIL if red else Verdict.PASS, figure="")
    expected = {"green": "right", "CAUSE": "unknown"}.get(verdict, "never_reduced")
    named = "right" if verdict == "green" else "never_reduced"
    row = ParallelRow(
        variant=Variant(name=f"variant_{verdict}", about="it", job=RanksJob(), turns_red=turns_red, cause=expected),
        system=spec.system,
        world_size=2,
        scale=2.0,
        cosine=1.0,
        error=1.0,
        replicas_agree=True,
        cause=Cause(name=named, sentence=f"because {named}"),
        results=(result,),
    )
    assert row.verdict == verdict
    return row
