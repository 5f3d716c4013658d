"""``rectest compare``: equal conditions give a table, unequal ones the reasons, damaged files one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.records import make_record
from rectest.cli import main


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["compare", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def saved(tmp_path):
    def saved(name, record):
        return record.save(tmp_path / f"{name}.safetensors")

    return saved


def test_a_better_model_is_better_by_so_much(run, saved):
    worse, better = make_record(skill=1.0), make_record(skill=3.0)
    code, out, _ = run(saved("worse", worse), saved("better", better))
    gain = better.final("test/hit@10") - worse.final("test/hit@10")

    assert code == 0
    assert f"{gain:+.4f}" in out


def test_a_run_against_itself_differs_by_nothing(run, saved):
    path = saved("one", make_record())

    assert "+0.0000" in run(path, path)[1]


def test_another_protocol_is_refused(run, saved):
    first = make_record()
    protocol = {**first.facts["protocol"], "test": {**first.facts["protocol"]["test"], "kind": "sampled"}}
    second = replace(first, facts={**first.facts, "protocol": protocol})
    code, out, _ = run(saved("full", first), saved("sampled", second))

    assert code == 1
    assert "FAIL" in out
    assert "sampled" in out


def test_a_file_that_is_no_record_is_one_line(run, saved, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"no record")
    code, _, err = run(saved("one", make_record()), broken)

    assert code == 2
    assert "not a readable record" in err
