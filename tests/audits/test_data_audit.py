"""The audit of files: healthy worlds of every split are green, and each planted fault is found through its file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fixtures.splits import NOW, SPLITS, events_of, parts_of, small_log, write_inter
from rectest.audits.data_audit import DataFiles, audit_data
from rectest.audits.logs import read_log
from rectest.audits.report import Severity, severity_of
from rectest.audits.theory import theory_of
from rectest.data.movielens import data_dir
from rectest.data.worlds import load_world
from rectest.errors import DataError


def files_of(folder, parts, **more):
    return DataFiles(parts=tuple(write_inter(folder / f"{part.name}.inter", part) for part in parts), **more)


def audit(folder, parts, **more):
    protocol = more.pop("protocol", "")
    return audit_data(files_of(folder, parts, **more), now=NOW, protocol=protocol)


def found(audit):
    return {result.check for result in audit.findings}


def last(folder, world="tiny", seed=0):
    return parts_of(small_log(world, seed), "leave-last-out", seed=seed)


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize("world", ["tiny", "tiny-equal-times", "tiny-behaviours"])
def test_healthy_worlds_are_green(tmp_path, kind, world):
    """Through files, with the whole world as the stage before; random splits are declared."""
    log = small_log(world, 3)
    whole = write_inter(tmp_path / "raw.inter", events_of(log))
    parts = parts_of(log, kind, seed=3)
    stages = () if kind == "temporal" else (whole,)

    got = audit(tmp_path, parts, stages=stages, protocol="random" if kind == "random" else "")

    assert [] == [(result.check, result.figure) for result in got.findings]
    assert got.exit_code == 0


@pytest.mark.slow
def test_thirty_seeds_of_worlds_are_green(tmp_path):
    """No false alarm through files, either."""
    for seed in range(30):
        assert found(audit(tmp_path, last(tmp_path, seed=seed))) == set(), seed


def test_every_code_has_a_theory(tmp_path):
    """All checks that a full audit emits can be explained."""
    parts = last(tmp_path)
    raw = write_inter(tmp_path / "raw.inter", events_of(small_log()))
    sets = [tmp_path / f"{name}.npy" for name in ("valid", "test")]
    for path, part in zip(sets, parts[1:], strict=True):
        np.save(path, np.hstack([part.item[:, None], np.tile(np.arange(1, 6), (len(part), 1))]))
    counts = tmp_path / "counts.csv"
    counts.write_text("item_id,count\n" + "".join(f"{i},{n}\n" for i, n in enumerate(np.bincount(parts[0].item)) if i))

    got = audit(tmp_path, parts, stages=(raw,), candidates=tuple(sets), counts=counts)

    codes = {result.check for result in got.results}
    families = {code.partition("/")[0] for code in codes}
    assert {"data", "splits", "stages", "candidates", "leak"} == families
    assert all(theory_of(code).claim for code in codes)


def test_a_leaked_event_is_found_with_its_line(tmp_path):
    """A test row in the training file, line 3 of the test file; it is later than the user's valid event, too."""
    train, valid, test = last(tmp_path)
    extra = test.select(np.array([1]))
    leaky = replace(
        train, **{name: np.append(getattr(train, name), getattr(extra, name)) for name in ("user", "item", "time")}
    )

    got = audit(tmp_path, [leaky, valid, test])

    rows = {result.check: result.rows for result in got.findings}
    assert {"splits/disjoint": "3", "splits/time_order": "3"} == rows


def test_a_random_split_is_a_warning(tmp_path):
    """Possible, and rarely meant; the audit is not green."""
    got = audit(tmp_path, parts_of(small_log(), "random"))

    assert {Severity.WARNING} == {severity_of(result) for result in got.findings}
    assert got.exit_code == 1


def test_milliseconds_in_one_part_are_found(tmp_path):
    """Each file has one unit, and the files have two."""
    train, valid, test = last(tmp_path)

    got = audit(tmp_path, [train, valid, replace(test, time=1000 * test.time)])

    assert "data/time_unit" in found(got)


def test_lost_users_are_named_by_their_raw_ids(tmp_path):
    """A user of the raw log is in no part."""
    raw = write_inter(tmp_path / "raw.inter", events_of(small_log()))
    parts = [part.select(part.user != 7) for part in last(tmp_path)]
    parts = [replace(part, name=name) for part, name in zip(parts, ("train", "valid", "test"), strict=True)]

    got = audit(tmp_path, parts, stages=(raw,))

    assert found(got) == {"stages/lost"}
    assert got.findings[0].outside == "users u7"


def test_a_core_between_stages_is_explained(tmp_path):
    """Raw to filtered to splits, in which everything is accounted for."""
    log = small_log("tiny-cold")
    whole = events_of(log)
    kept = (np.bincount(log.user) >= 5)[log.user]
    stages = (
        write_inter(tmp_path / "raw.inter", whole),
        write_inter(tmp_path / "five.inter", whole.select(kept)),
    )

    got = audit(tmp_path, parts_of(log.select(kept), "ordered"), stages=stages)

    assert found(got) == set()
    assert any("users with fewer than" in result.figure for result in got.results)


def test_counts_of_everything_are_a_leak(tmp_path):
    """The popularity file knows the test part."""
    parts = last(tmp_path)
    path = tmp_path / "pop.csv"
    for chosen, expected in ((parts[:1], set()), (parts, {"leak/counts"})):
        counts = np.bincount(np.concatenate([part.item for part in chosen]))
        path.write_text("item_id,popularity\n" + "".join(f"{i},{n}\n" for i, n in enumerate(counts) if n))

        assert expected == found(audit(tmp_path, parts, counts=path))


@pytest.mark.parametrize("late", [0, 1])
def test_lists_of_recbole_are_looked_through(tmp_path, late):
    """Rows of user, past items and target, in all three files."""
    rows = {"train": [], "valid": [], "test": []}
    for user, own in enumerate(small_log().sequences()):
        for place in range(len(own) - 4, len(own)):
            part = ("train", "train", "valid", "test")[place - len(own) + 4]
            history = " ".join(map(str, own[: place + late]))
            rows[part].append(f"u{user}\t{history}\t{own[place]}\n")
    paths = []
    for name, lines in rows.items():
        paths.append(tmp_path / f"{name}.inter")
        paths[-1].write_text("user_id:token\titem_id_list:token_seq\titem_id:token\n" + "".join(lines))

    got = audit_data(DataFiles(parts=tuple(paths)), now=NOW)

    assert found(got) == ({"leak/list_target"} if late else set())


def test_held_out_items_in_training_lists_are_found(tmp_path):
    """The lists of training end with the test target, their own targets do not."""
    train, test = tmp_path / "train.inter", tmp_path / "test.inter"
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    lines = {train: [], test: []}
    for user, own in enumerate(small_log().sequences()):
        lines[train].append(f"u{user}\t{' '.join(map(str, [*own[:-2], own[-1]]))}\t{own[-2]}\n")
        lines[test].append(f"u{user}\t{' '.join(map(str, own[:-1]))}\t{own[-1]}\n")
    for path, rows in lines.items():
        path.write_text(header + "".join(rows))

    got = audit_data(DataFiles(parts=(train, test)), now=NOW)

    assert found(got) == {"splits/disjoint"}
    assert got.findings[0].subject == "lists of train.inter and test.inter"


def test_candidates_are_those_of_the_last_part(tmp_path):
    """The target is always first, which a stable sort makes perfect."""
    parts = last(tmp_path)
    test = parts[2]
    rng = np.random.default_rng(0)
    rows = {}
    seen = {user: set(parts[0].item[parts[0].user == user].tolist()) for user in test.user.tolist()}
    for user, item in zip(test.user.tolist(), test.item.tolist(), strict=True):
        free = sorted(set(range(1, 41)) - seen[user] - {item})
        rows[f"u{user}"] = [item, *rng.choice(free, size=9, replace=False).tolist()]
    path = tmp_path / "candidates.json"
    path.write_text(json.dumps(rows))

    assert found(audit(tmp_path, parts, candidates=(path,))) == {"candidates/target_place"}


def test_what_was_not_asked_is_a_note(tmp_path):
    """One file, without times."""
    path = tmp_path / "a.txt"
    path.write_text("u1 A B C\nu2 B C\n")

    got = audit_data(DataFiles(parts=(path,)), now=NOW)

    assert found(got) == set()
    starts = ("no column of times", "one file", "earlier stages")
    assert [True] * 3 == [note.startswith(start) for note, start in zip(got.notes, starts, strict=True)]


def test_files_of_one_name_are_told_apart(tmp_path):
    """Subjects are paths then."""
    train, _, test = last(tmp_path)
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    paths = [write_inter(folder / "x.inter", part) for folder, part in zip(folders, (train, test), strict=True)]

    got = audit_data(DataFiles(parts=tuple(paths)), now=NOW)

    assert {str(path) for path in paths} <= {result.subject for result in got.results}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": ()}, "one to three parts .* got 0"),
        ({"parts": ("a",) * 4}, "got 4"),
        ({"parts": ("a",), "candidates": ("c",)}, "name training and test files"),
        ({"parts": ("a", "b"), "candidates": ("c", "d")}, "2 candidate files for 1 held-out"),
    ],
)
def test_an_audit_that_cannot_be_is_refused(settings, message):
    """The numbers of files do not fit."""
    with pytest.raises(ValueError, match=message):
        DataFiles(**settings)


def test_counts_without_a_count_are_refused(tmp_path):
    """No such column, and cells that are no numbers."""
    parts = last(tmp_path)
    path = tmp_path / "counts.csv"
    path.write_text("item_id,title\n1,x\n")
    with pytest.raises(DataError, match="needed 'item_id' and one of count"):
        audit(tmp_path, parts, counts=path)
    path.write_text("item_id,count\n1,x\n")
    with pytest.raises(DataError, match="column 'count' is not numeric"):
        audit(tmp_path, parts, counts=path)


@pytest.mark.skipif(not (data_dir() / "ml-100k.inter").is_file(), reason="MovieLens-100K is not in the cache")
def test_movielens_is_what_it_is_known_to_be(tmp_path):
    """Real data: no copies, ties that no id orders, and a quarter of last events that a tie decides."""
    log = load_world("ml-100k").interactions
    raw = data_dir() / "ml-100k.inter"

    got = audit(tmp_path, parts_of(log, "leave-last-out"))
    whole = audit_data(DataFiles(parts=(raw,)), now=NOW)

    assert len(read_log(raw)) == 100_000
    assert found(got) == found(whole) == set()
    assert any("25.2 % of test.inter have the time" in note for note in got.notes)
