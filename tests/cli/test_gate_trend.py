from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.baselines import make_record
from fixtures.evidence import judged
from rectest.baseline.evidence import Evidence, FeatureEvidence
from rectest.cli import main
from rectest.report.machine import Origin, RunReport, write_report

EVIDENCE = judged([make_record(0)])
NOISE = 0.2 * np.exp(np.random.default_rng(4).normal(0, 0.02, 24))
STEP = np.where(np.arange(24) < 14, 1.0, 0.9)


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["gate", "trend", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def gate(value: float | None, **changes: object) -> Evidence:
    nothing = dict.fromkeys(("change", "lowest", "highest", "run_sd", "p", "level", "mdd"))
    feature = FeatureEvidence(name="test/recall@10", weight=1.0, stored=(0.2,), new=(value,), **nothing)
    return replace(EVIDENCE, features=(feature,), curves=(), **{"seeds": (0,), **changes})


def write(folder: Path, values, *, dates=False, commits=False, others=()) -> list[Path]:
    """One report for each value; `others` are systems that every report gates as well."""
    found = []
    for place, value in enumerate(values):
        origin = Origin(
            date=f"2026-08-{place + 1:02}T03:00:00Z" if dates else None,
            commit=f"{place:040x}"[::-1] if commits else None,
            dirty=place == 0,
        )
        gates = (gate(value), *(gate(value, name=other) for other in others))
        report = RunReport(results=(), exit_status=0, gates=gates, origin=origin)
        found.append(write_report(folder / f"night-{place:02}.json", report))
    return found


def test_a_step_is_printed_with_its_report_and_size(run, tmp_path):
    code, out, _ = run(*write(tmp_path, NOISE * STEP))

    assert code == 0
    assert "toy (cpu): 24 points" in out
    assert "STEP test/recall@10 -" in out
    assert "(for the worse) before night-14.json: |t| = " in " ".join(out.split())
    assert "24 reports in the order given." in out
    assert "█" in out


def test_noise_has_no_step(run, tmp_path):
    code, out, _ = run(*write(tmp_path, NOISE))

    assert code == 0
    assert "STEP" not in out
    assert "no step\n" in out
    assert "Information only." in out


def test_a_step_upwards_is_for_the_better(run, tmp_path):
    assert "(for the better)" in " ".join(run(*write(tmp_path, NOISE / STEP))[1].split())


def test_dates_give_the_order_and_commits_the_names(run, tmp_path):
    files = write(tmp_path, NOISE * STEP, dates=True, commits=True)
    code, out, _ = run(*reversed(files))

    assert code == 0
    assert "24 reports in the order of their dates." in out
    assert "before e00000000000:" in " ".join(out.split()), "commit 14"


def test_a_date_is_a_name_where_there_is_no_commit(run, tmp_path):
    assert "before 2026-08-15T03:00:00Z:" in " ".join(run(*write(tmp_path, NOISE * STEP, dates=True))[1].split())


def test_lines_of_a_history(run, tmp_path):
    files = write(tmp_path, NOISE * STEP)
    lines = [json.dumps(json.loads(file.read_bytes())) for file in files]
    history = tmp_path / "nights.jsonl"
    history.write_text("\n".join(lines) + "\n\n")
    code, out, _ = run(history)

    assert code == 0
    assert "before nights.jsonl:15:" in " ".join(out.split())


def test_each_system_is_a_series(run, tmp_path):
    files = write(tmp_path, NOISE * STEP, others=("other",))
    _, both, _ = run(*files)
    _, one, _ = run(*files, "--system", "other")

    assert 2 == both.count("STEP ")
    assert ("toy (cpu)" in both, "toy (cpu)" in one, "other (cpu)" in one) == (True, False, True)


def test_seven_nights_are_too_few_and_no_error(run, tmp_path):
    code, out, _ = run(*write(tmp_path, NOISE[:7]))

    assert code == 0
    assert "fewer than 8 points, not looked at: test/recall@10 (7)" in out


def test_so_few_that_no_step_could_be_seen(run, tmp_path):
    assert "no step; fewer than 10 points cannot show any" in run(*write(tmp_path, NOISE[:9]))[1]
    assert "cannot show any" not in run(*write(tmp_path, NOISE[:10]))[1]


def test_unchanged_nights_are_counted_once(run, tmp_path):
    _, out, _ = run(*write(tmp_path, np.repeat(NOISE[:12], 2)))

    assert "toy (cpu): 12 points, 12 more repeat the one before" in out


@pytest.mark.parametrize("hole", [None, math.nan, 0.0])
def test_a_night_without_a_value_is_left_out(run, tmp_path, hole):
    values = [*(NOISE * STEP)]
    values[3] = hole
    code, out, _ = run(*write(tmp_path, values))

    assert code == 0
    assert "STEP test/recall@10" in out


def test_a_night_without_gates_is_named(run, tmp_path):
    files = write(tmp_path, NOISE * STEP)
    write_report(files[5], RunReport(results=(), exit_status=1))
    code, out, _ = run(*files)

    assert code == 0
    assert "Without gates: night-05.json." in out
    assert "toy (cpu): 23 points" in out


def test_another_environment_and_other_seeds_are_named(run, tmp_path):
    files = write(tmp_path, NOISE)
    write_report(
        files[9],
        RunReport(results=(), exit_status=0, gates=(gate(0.2, seeds=(9,), fingerprint="0" * 16),)),
    )
    _, out, _ = run(*files)
    text = " ".join(out.split())

    assert "another environment than before, which may be a cause: night-09.json, night-10.json" in text
    assert "no seed is in every report" in text


def test_a_pipe_gets_plain_text_of_eighty_columns(run, tmp_path):
    _, out, _ = run(*write(tmp_path, NOISE * STEP, dates=True, commits=True))

    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_equal_seeds_print_equal_text(run, tmp_path):
    files = write(tmp_path, NOISE * STEP)

    assert run(*files) == run(*files)


class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "not JSON, or cut off"),
            (b'{"schema": 1, "gates": [', "not JSON, or cut off"),
            (b"\xff\xfe\x00", "not JSON, or cut off"),
            (b"[]", "report"),
            (b'{"schema": 99, "results": []}', "schema 99"),
            (b'{"some": "json"}', "not a report"),
        ],
    )
    def test_not_a_report(self, run, tmp_path, content, words):
        files = write(tmp_path, NOISE)
        files[4].write_bytes(content)
        code, out, err = run(*files)

        assert (2, "") == (code, out)
        assert "night-04.json" in err
        assert words in err

    def test_a_missing_file(self, run, tmp_path):
        code, _, err = run(tmp_path / "gone.json")

        assert code == 2
        assert "gone.json" in err

    def test_no_file_at_all(self, run):
        assert run()[0] == 2

    @pytest.mark.parametrize(("line", "words"), [("{", "line 2 is not JSON"), ('{"schema": 9}', "line 2: ")])
    def test_a_damaged_line(self, run, tmp_path, line, words):
        (file,) = write(tmp_path, NOISE[:1])
        history = tmp_path / "nights.jsonl"
        history.write_text(f"{json.dumps(json.loads(file.read_bytes()))}\n{line}\n")
        code, _, err = run(history)

        assert code == 2
        assert f"nights.jsonl: {words}" in err

    def test_no_gates_anywhere(self, run, tmp_path):
        file = write_report(tmp_path / "a.json", RunReport(results=(), exit_status=0))
        code, _, err = run(file, file)

        assert code == 2
        assert "no gates in 2 reports" in err

    def test_an_empty_history(self, run, tmp_path):
        (tmp_path / "nights.jsonl").write_text("\n")
        code, _, err = run(tmp_path / "nights.jsonl")

        assert code == 2
        assert "no gates in 0 reports" in err

    def test_evidence_of_another_schema(self, run, tmp_path):
        files = write(tmp_path, NOISE)
        values = json.loads(files[0].read_bytes())
        values["gates"][0]["schema"] = 7
        files[0].write_text(json.dumps(values))
        code, _, err = run(*files)

        assert code == 2
        assert "schema 7" in err

    def test_two_gates_of_one_system(self, run, tmp_path):
        code, _, err = run(*write(tmp_path, NOISE, others=("toy",)))

        assert code == 2
        assert "several gates of toy in one report" in err

    def test_an_unknown_system(self, run, tmp_path):
        code, _, err = run(*write(tmp_path, NOISE), "--system", "toyy")

        assert code == 2
        assert "toyy" in err

    def test_values_that_are_no_numbers(self, run, tmp_path):
        files = write(tmp_path, NOISE)
        values = json.loads(files[2].read_bytes())
        values["gates"][0]["features"][0]["new"] = ["0.2"]
        files[2].write_text(json.dumps(values))
        code, _, err = run(*files)

        assert code == 2
        assert "night-02.json: test/recall@10 of toy has the value '0.2'" in err
