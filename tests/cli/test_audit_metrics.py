"""`rectest audit metrics` as it is typed: exit codes, the repaired table, JSON, and a sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.metric_files import REPORT_001, REPORT_003, REPORT_004
from rectest.cli import main


def run(*args: object) -> int:
    """Exit code of the command."""
    with pytest.raises(SystemExit) as leaving:
        main(["audit", "metrics", *map(str, args)])
    return int(leaving.value.code or 0)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """A folder with the tables of three reports."""
    for name, text in (("001.csv", REPORT_001), ("003.md", REPORT_003), ("004.md", REPORT_004)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_report_001_is_called_chance(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(reports / "001.csv", "--candidates", 100, "--users", 938)
    printed = " ".join(capsys.readouterr().out.split())

    assert status == 1
    assert "the whole table is what random ranking gives (chi2(4) = 3.9" in printed


def test_report_003_is_in_order(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(reports / "003.md", "--relevant", 1, "-v") == 0
    assert "ok           coherence/table" in capsys.readouterr().out


def test_report_004_is_printed_repaired(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ("--samples", 147894, "--batch-size", 128, "--epochs", 176, "--steps", "203,455")
    status = run(reports / "004.md", "--relevant", 1, "--users", 147894, *steps)
    printed = capsys.readouterr().out

    assert status == 1
    assert "recall@10  [0.8308, 0.8417]  <" in printed
    assert "recall@20  0.8915  <" in printed
    assert "accounting/steps" in printed


def test_json_is_json_with_the_repair(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(reports / "004.md", "--relevant", 1, "--json") == 1
    (audit,) = json.loads(capsys.readouterr().out)

    assert audit["results"][0]["severity"] == "error"
    assert "recall@20 0.8915" in audit["results"][0]["rows"]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--steps", "5"), "--samples, --batch-size, --epochs not given"),
        (("--unit", "permille"), "unit must be auto"),
        (("--relevant", 1, "--multi-positive"), "both declared"),
        (("--split", "test"), "no metrics of split"),
        (("--users", 0), "num_users must be at least 1"),
        (("--decimals", -1), "decimals must be at least 0"),
        (("--interactions", "absent.inter"), "absent.inter"),
        (("--samples", 1, "--batch-size", 0, "--epochs", 1, "--steps", 1), "batch_size must be at least 1"),
        (("--samples", 1, "--batch-size", 1, "--epochs", 1, "--steps", "many"), "'many' is no number"),
    ],
)
def test_mistakes_are_one_line(
    reports: Path, capsys: pytest.CaptureFixture[str], args: tuple[object, ...], problem: str
) -> None:
    assert run(reports / "001.csv", *args) == 2
    printed = capsys.readouterr().err

    assert problem in " ".join(printed.split())
    assert "Traceback" not in printed


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"epoch,loss\n1,2\n", b"{", b"\x00" * 64])
def test_odd_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)

    status = run(path)
    printed = capsys.readouterr().err

    assert status == 2
    assert "t.csv" in "".join(printed.split())
    assert "Traceback" not in printed


def test_the_theory_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["audit", "--explain", "chance/joint"])

    assert not leaving.value.code
    assert "uniform on 1..C" in " ".join(capsys.readouterr().out.split())
