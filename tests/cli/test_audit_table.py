"""``rectest audit table``: the command of the issue, its exit codes, its JSON, one line for what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures.catalogue import make_catalogue, rows_of
from rectest.cli import main


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["audit", "table", *map(str, arguments)])
    return int(leaving.value.code or 0)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    made = make_catalogue(1500, num_users=3000)
    made.write_map(tmp_path / "item_id_to_gcn_index.json")
    made.write_sequences(tmp_path / "user_sequence.txt")
    return made


COMMAND = "gcn_item_embeddings.pt --padding 0 --unit-norm --mapping item_id_to_gcn_index.json"
COMMAND += " --interactions user_sequence.txt"


@pytest.mark.parametrize(("signal", "expected"), [(0.0, 1), (2.0, 0)])
def test_the_command_of_the_issue(shop, capsys, signal: float, expected: int) -> None:
    import torch

    torch.save(torch.from_numpy(rows_of(shop.group, signal=signal)), "gcn_item_embeddings.pt")

    code = _run(*COMMAND.split())

    out = capsys.readouterr().out
    assert expected == code
    assert ("no collaborative signal" in " ".join(out.split())) == bool(expected)
    assert "rows 1501, columns 64, type float32" in out


def test_json_is_whole_and_names_rows(shop, capsys) -> None:
    table = rows_of(shop.group, signal=2.0)
    table[[5, 6, 9]] = 0
    np.save("t.npy", table)

    code = _run("t.npy", "--padding", 0, "--json")

    (audit,) = json.loads(capsys.readouterr().out)
    found = {result["check"]: result for result in audit["results"]}
    assert 1 == code == audit["exit_code"]
    assert audit["kind"] == "table"
    assert found["embeddings/zero_rows"]["severity"] == "error"
    assert "5" in found["embeddings/zero_rows"]["rows"]
    assert any("--interactions" in note for note in audit["notes"])


def test_verbose_prints_what_is_in_order_and_notes_a_zero_row(shop, capsys) -> None:
    np.save("t.npy", rows_of(shop.group, signal=2.0))

    assert _run("t.npy", "-v") == 1
    out = capsys.readouterr().out
    assert "ok           embeddings/finite" in out
    assert "--padding 0" in out


@pytest.mark.parametrize("name", ["empty.npy", "text.npy", "cut.npy", "absent.npy", "folder", "int.npy", "text.pt"])
def test_what_is_no_table_is_one_line(tmp_path: Path, capsys, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "cut.npy":
        np.save(path, np.ones((50, 8)))
        path.write_bytes(path.read_bytes()[:600])
    elif name == "int.npy":
        np.save(path, np.ones((5, 8), dtype=np.int64))
    elif name != "absent.npy":
        path.write_text("" if name.startswith("empty") else "no table\n")

    code = _run(path)

    err = capsys.readouterr().err
    assert code == 2
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "option"),
    [
        ("", "--mapping"),
        ("{", "--mapping"),
        ("\0\0", "--interactions"),
        ("", "--interactions"),
        ("u\n", "--interactions"),
    ],
)
def test_broken_companions_are_one_line(shop, capsys, content: str, option: str) -> None:
    np.save("t.npy", rows_of(shop.group))
    suffix = "json" if option == "--mapping" else "txt"
    Path(f"broken.{suffix}").write_text(content)

    assert _run("t.npy", option, f"broken.{suffix}") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_contradictions_are_refused(shop, capsys) -> None:
    np.save("t.npy", rows_of(shop.group))

    assert _run("t.npy", "--unit-norm", "--norm", "2") == 2
    assert "one of them" in capsys.readouterr().err
    assert _run("t.npy", "--padding", "5000") == 2
    assert "outside of the 1501 rows" in capsys.readouterr().err
