"""``rectest audit mapping``: its exit codes, its JSON, and one line for what cannot be read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rectest.cli import main


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["audit", "mapping", *map(str, arguments)])
    return int(leaving.value.code or 0)


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({f"B{i:09d}": i for i in range(1, 21)}))
    return path


def test_a_sound_map_leaves_with_zero(sound, tmp_path, capsys) -> None:
    table = np.ones((21, 4), dtype=np.float32)
    table[0] = 0
    np.save(tmp_path / "table.npy", table)
    (tmp_path / "log.csv").write_text("user_id,item_id\nu1,B000000001\nu2,B000000002\n")

    code = _run(
        sound,
        "--interactions",
        tmp_path / "log.csv",
        "--key-pattern",
        "asin",
        "--padding",
        0,
        "-v",
        "--table",
        tmp_path / "table.npy",
    )

    out = capsys.readouterr().out
    assert 0 == code
    assert "0 found, 12 of 12 properties in order" in out
    assert "'B000000001' 1 events, index 1, norm 2" in out


def test_a_fault_leaves_with_one_and_its_rows(tmp_path, capsys) -> None:
    (tmp_path / "map.json").write_text('{"B000000001": 1, "B000000002": 2, "B000000001": 4}')

    code = _run(tmp_path / "map.json", "--json")

    (audit,) = json.loads(capsys.readouterr().out)
    found = {result["check"]: result for result in audit["results"] if result["severity"] == "error"}
    assert 1 == code == audit["exit_code"]
    assert {"mapping/bijection", "mapping/gaps"} == set(found)
    assert "entries 0, 2" == found["mapping/bijection"]["rows"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.json", b""), ("cut.json", b'{"a": 1,'), ("binary.json", b"\x93NUMPY\x01"), ("x.parquet", b"PAR1")],
)
def test_what_cannot_be_read_leaves_with_two_and_one_line(tmp_path, capsys, name, content) -> None:
    (tmp_path / name).write_bytes(content)

    assert 2 == _run(tmp_path / name)
    assert 1 == len(capsys.readouterr().err.strip().splitlines())


def test_a_pattern_that_is_none_leaves_with_two(sound, capsys) -> None:
    assert 2 == _run(sound, "--key-pattern", "[")
    assert "no regular expression" in capsys.readouterr().err


def test_another_vocabulary_is_named(sound, tmp_path, capsys) -> None:
    (tmp_path / "other.csv").write_text("asin,index\nB000000001,2\nB000000002,1\n")

    assert 1 == _run(sound, "--same-as", tmp_path / "other.csv")
    assert "mapping/one_vocabulary" in capsys.readouterr().out
