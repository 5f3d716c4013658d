"""Reading tapes from disk: what was written comes back, kills lose a block, damage is named by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.tapes import NAMES, Script, event, save, table, written
from rectest.divergence.tapes import Tape, load_run
from rectest.errors import TapeError


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    events = written(Script(steps=3, dropout=True, evaluate_every=2))
    save(tmp_path, events)

    run = load_run(tmp_path)

    assert ["main"] == list(run.tapes)
    assert tuple(events) == run.tapes["main"].events
    assert ("exit", 3, 3) == (run.tapes["main"].end, run.tapes["main"].num_steps, run.num_steps)


def test_tables_keep_their_names_where_they_are_left_out(tmp_path: Path) -> None:
    path = save(tmp_path, written(Script(steps=2)))

    gradients = list(load_run(tmp_path).tapes["main"].of("gradient"))

    assert path.read_text().count('"gradient","optimizer0"') == 2
    assert [list(NAMES), list(NAMES)] == [list(event.tensors) for event in gradients]
    assert all(len(digest) == 16 for event in gradients for digest in event.tensors.values())


def test_tensors_by_hand() -> None:
    one = table(1, "train", "init", "Net", {"a": 1, "b": 2})

    assert {"a": one.info["each"][:16], "b": one.info["each"][16:]} == one.tensors
    assert {} == event(1, "train", "loss", "loss", 1).tensors


def test_processes_are_files_and_trainers_are_those_that_step(tmp_path: Path) -> None:
    save(tmp_path, written(Script(steps=1)), process="rank1")
    save(tmp_path, written(Script(steps=2)), process="rank0")
    save(tmp_path, [event(1, "setup", "file", "x", 1, mode="r")], process="rank0.1")

    run = load_run(tmp_path)

    assert ["rank0", "rank1"] == [tape.process for tape in run.trainers]
    assert run.num_steps == 2


def test_a_killed_process_loses_its_last_block_only(tmp_path: Path) -> None:
    path = save(tmp_path, written(Script(steps=3)), end=None)
    path.write_bytes(path.read_bytes()[:-40])

    tape = load_run(tmp_path).tapes["main"]

    assert ("cut", 2) == (tape.end, tape.num_steps)


def test_an_empty_file_is_a_process_that_was_killed_at_once(tmp_path: Path) -> None:
    (tmp_path / "main.jsonl").write_bytes(b"")

    assert Tape(process="main", header={}, events=(), end="cut") == load_run(tmp_path).tapes["main"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"tape":1}\n[[1,"train"\n', "line 2 is damaged"),
        ('{"tape":99}\n', "no tape of version 1"),
        ("[1]\n", "no tape of version 1"),
        ('{"tape":1}\n[[1,"train","loss"]]\n', "another shape"),
        ('{"tape":1}\n[[1,"train","magic","x","","",null]]\n', "unknown event"),
        ('{"tape":1}\n[[1,"sleep","loss","x","","",null]]\n', "unknown event"),
        ('{"tape":1}\n\xff\n', "line 2 is damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "main.jsonl").write_bytes(text.encode("latin-1"))

    with pytest.raises(TapeError, match=match):
        load_run(tmp_path)


def test_a_folder_that_is_missing_or_empty_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()

    with pytest.raises(TapeError, match="does not exist"):
        load_run(tmp_path / "absent")
    with pytest.raises(TapeError, match="a tape is a folder"):
        load_run(tmp_path / "file")
    with pytest.raises(TapeError, match="holds no tape"):
        load_run(tmp_path / "empty")
