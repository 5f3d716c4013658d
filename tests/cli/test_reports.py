"""``rectest reports``: the tables, the choice of claims, JSON, and what is left out without training."""

from __future__ import annotations

import json

import pytest

from rectest.cli import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["reports", *args])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def test_claims_of_two_reports(run):
    code, out, err = run("000.4", "004.5", "004.6", "--no-training")
    words = " ".join(out.split())

    assert (code, err) == (0, "")
    assert "report 000: recall fluctuates early in training" in out.splitlines()
    assert "004.5 REFUTED" in words
    assert "203,456" in words
    assert "004.6 CONFIRMED" in words
    assert "004.5  the logger counts steps from 0: its last one is 203,455" in out.splitlines()
    assert "2 claims: 1 confirmed, 1 refuted" in out.splitlines()


def test_detail_names_the_measurement(run):
    _, out, _ = run("004.2", "--no-training", "--detail")

    assert "  by: rectest.metrics.coherence" in out.splitlines()
    assert "  again: rectest reports 004.2" in out.splitlines()


def test_without_training_the_rest_is_undecidable_and_says_why(run):
    code, out, _ = run("000.1", "003.20", "--no-training")

    assert code == 0
    assert "not measured: it needs" in " ".join(out.split())
    assert out.count("1 claims: 1 undecidable here") == 2


def test_json_holds_everything(run, tmp_path):
    path = tmp_path / "found.json"
    run("004.5", "--no-training", "--json", str(path))
    (found,) = json.loads(path.read_text())

    assert {"claim": "004.5", "report": "004", "verdict": "refuted"}.items() <= found.items()
    assert {"said", "figure", "truth", "where", "command"} <= set(found)


def test_trainings_are_launched_once_for_all_claims(run, monkeypatch):
    from rectest.errors import ChildFailed

    asked: list[str] = []

    def launch(spec, *, how):
        asked.append(spec.key)
        raise ChildFailed(spec.describe(), reason="raised", detail="planted")

    monkeypatch.setattr("rectest.training.launch.launch", launch)
    code, out, _ = run("000.1", "000.2", "--processes", "1")

    assert code == 0
    assert len(asked) == len(set(asked))
    assert "planted" in " ".join(out.split())


@pytest.mark.parametrize(("name", "problem"), [("009", "unknown report '009'"), ("004.99", "unknown claim '004.99'")])
def test_an_unknown_name_is_refused(run, name, problem):
    code, out, err = run(name)

    assert (code, out) == (2, "")
    assert problem in err


def test_markdown_holds_a_table_for_each_report(run, tmp_path):
    path = tmp_path / "claims.md"
    run("000.6", "004.5", "--no-training", "--markdown", str(path))
    text = path.read_text()

    assert text.count("<details>") == text.count("</details>") == 2
    assert "| 000.6 | " in text
    assert "(1 confirmed)" in text
