"""``rectest audit data``: files in, findings out, and one line for whatever is no data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fixtures.splits import events_of, parts_of, small_log, write_inter
from rectest.cli import main


@pytest.fixture
def run(capsys):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["audit", "data", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def split(tmp_path):
    def split(kind="leave-last-out", **more):
        parts = parts_of(small_log(), kind, **more)
        return [write_inter(tmp_path / f"{part.name}.inter", part) for part in parts]

    return split


def test_a_healthy_split_is_green(run, split, tmp_path):
    """With the raw log before it."""
    raw = write_inter(tmp_path / "raw.inter", events_of(small_log()))

    code, out, err = run(*split(), "--stage", raw)

    assert (0, "") == (code, err)
    assert "users 120, items 40" in out
    assert "0 found" in out


def test_a_random_split_is_a_warning_unless_it_is_meant(run, split):
    """Exit code 1, then 0."""
    paths = split("random")

    assert [1, 0, 1] == [run(*paths, *more)[0] for more in ((), ("--protocol", "random"), ("--protocol", "temporal"))]


def test_json_names_the_rows(run, split):
    """Every held-out row that comes too early."""
    train, _, test = split()
    lines = test.read_text().splitlines()
    lines[3] = lines[3].rpartition("\t")[0] + "\t5"
    test.write_text("\n".join(lines) + "\n")

    code, out, _ = run(train, test, "--json")
    found = {one["check"]: one for one in json.loads(out)[0]["results"] if one["severity"] != "ok"}

    assert code == 1
    assert {"data/time_range", "splits/time_order"} == set(found)
    assert {"4"} == {one["rows"] for one in found.values()}


def test_columns_candidates_and_counts_are_taken(run, split, tmp_path):
    """All options at once."""
    train, _, test = parts_of(small_log(), "leave-last-out")
    paths = []
    for part in (train, test):
        paths.append(tmp_path / f"{part.name}.csv")
        rows = zip(part.user, part.item, part.time, strict=True)
        paths[-1].write_text("who,what,when\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    sets = tmp_path / "candidates.npy"
    np.save(sets, np.tile(test.item[:, None], (1, 3)))
    counts = tmp_path / "counts.csv"
    counts.write_text("what,count\n" + "".join(f"{i},{n}\n" for i, n in enumerate(np.bincount(train.item)) if n))
    names = ("--user", "who", "--item", "what", "--time", "when")

    code, out, err = run(*paths, *names, "--candidates", sets, "--counts", counts, "--verbose")

    assert (1, "") == (code, err)
    assert "error        candidates/target" in out
    assert "leak/counts [counts.csv]: counts of train.csv" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x80\x02}q\x00.", "line 1"),
        (b"user_id:token\titem_id:token\n", "holds a header but no row"),
        (b"user_id:token\titem_id:token\n1\n", "line 2: found 1 cells"),
        (b"user_id:token\titem_id:token\ttimestamp:float\n1\t2\tnan\n", "line 2: timestamp is 'nan'"),
        ("user_id:token\titem_id:token\né\t\n".encode(), "line 2: item_id is empty"),
    ],
)
def test_a_file_that_is_no_log_is_one_line(run, tmp_path, content, message):
    """Exit code 2, and never a traceback."""
    path = tmp_path / "a.inter"
    path.write_bytes(content)

    code, out, err = run(path)

    assert (2, "") == (code, out)
    assert message in err
    assert err.startswith("rectest: error: ")
    assert err.count("\n") == 1


def test_folders_unknown_protocols_and_too_many_files_are_one_line(run, split, tmp_path):
    """Wrong usage."""
    paths = split()
    for args, message in (
        ([tmp_path], "cannot be read"),
        ([tmp_path / "none"], "No such file"),
        ([*paths, "--protocol", "ordred"], "did you mean 'ordered'"),
        ([*paths, paths[0]], "one to three parts"),
        ([*paths, "--candidates", paths[0]], "needed"),
    ):
        code, out, err = run(*args)

        assert (2, "") == (code, out)
        assert message in err
        assert err.count("\n") == 1
