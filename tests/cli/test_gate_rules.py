from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.baselines import make_baseline, make_records
from rectest.baseline.sidecar import build_sidecar
from rectest.baseline.store import BaselineStore
from rectest.cli import main

FEW = ("--resamples", 40)


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    store = BaselineStore(tmp_path_factory.mktemp("baselines"))
    store.save(make_baseline(), sidecar=build_sidecar(make_records(range(16))))
    store.save(make_baseline(system="other", sd=0.03))
    return store.root


@pytest.fixture
def run(capsys, stored):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["gate", "rules", *map(str, args), "--baselines", str(stored)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def test_every_system_and_all_together(run):
    code, out, _ = run(*FEW)

    assert code == 0
    assert "toy (cpu, 16 seeds): declared drop" in out
    assert "other (cpu, 16 seeds): declared drop" in out
    assert "all together" in out
    assert 3 == out.count("this gate  ")
    assert 3 == out.count("Welch t, 3 runs  ")
    assert "Red in either direction counts." in out


def test_what_a_baseline_cannot_be_asked_is_said(run):
    _, out, _ = run(*FEW)

    assert 2 == out.count("report 000 normal  "), "of the one with curves, and of all"
    words = "1 of 2 baselines have no curves, which these look at: report 000 normal, report 000 problem."
    assert words in " ".join(out.split())


def test_a_pipe_gets_plain_text_of_eighty_columns(run):
    _, out, _ = run(*FEW)

    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_one_system_alone_is_not_pooled(run):
    code, out, _ = run("toy", *FEW)

    assert code == 0
    assert "other" not in out
    assert "all together" not in out
    assert "have no curves" not in out


def test_markdown_has_a_cell_for_every_number(run):
    code, out, _ = run("toy", *FEW, "--markdown")
    rows = [line for line in out.splitlines() if line.startswith("|")]

    assert code == 0
    assert "| rule | runs | false alarms | caught: declared | caught: 5 % | caught: 10 % | caught: 20 % |" == rows[0]
    assert {8} == {row.count("|") for row in rows}
    assert 2 + 8 == len(rows)
    assert "- this gate: 1 to 5 runs, each asked for only while in doubt" in out


def test_equal_seeds_print_equal_tables(run):
    first, second, other = run("toy", *FEW), run("toy", *FEW), run("toy", *FEW, "--seed", 1)

    assert first == second
    assert first != other


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["taste"], "baseline 'taste'"),
        (["--resamples", "3"], "--resamples"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_bad_arguments(run, args, words):
    code, _, err = run(*args)

    assert code == 2
    assert words in err


def test_an_empty_folder_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["gate", "rules", "--baselines", str(tmp_path)])

    assert leaving.value.code == 2
    assert "no baselines in" in capsys.readouterr().err


def test_a_damaged_baseline_is_an_error(stored, tmp_path, capsys):
    path = tmp_path / "cpu" / "toy.json"
    path.parent.mkdir()
    path.write_bytes((stored / "cpu" / "toy.json").read_bytes()[:-40])
    with pytest.raises(SystemExit) as leaving:
        main(["gate", "rules", "--baselines", str(tmp_path)])

    assert leaving.value.code == 2
    assert "toy.json" in capsys.readouterr().err
