"""Candidate files: every form, matched with the held-out events, and every way to be none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rectest.audits.candidates import matched, read_candidates
from rectest.audits.log_codes import codes_of
from rectest.checks.candidate_sets import ABSENT, UNKNOWN
from rectest.checks.event_log import Events
from rectest.errors import DataError

USERS = codes_of([np.array(["5", "6", "7"])])
ITEMS = codes_of([np.array(["10", "20", "30"])])
TEST = Events(name="test", user=np.array([2, 0]), item=np.array([0, 2]))


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def npy(path, array):
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"7": [20, 30], "5": ["10", "20"]})),
        ("a.json", json.dumps([{"user": "5", "negatives": [10, 20]}, {"user_id": 7, "candidates": [20, 30]}])),
        ("a.jsonl", '{"user": 7, "items": ["20", "30"]}\n{"user": 5, "items": [10, 20]}\n'),
        ("a.jsonl", "[20, 30]\n[10, 20]\n"),
        ("a.csv", "7,20,30\n5,10,20\n"),
        ("a.txt", "5 10 20\n7 20 30\n"),
    ],
)
def test_every_form_gives_the_same_sets(tmp_path, name, text):
    """With a user in each row, in any order, or in the order of the test file."""
    sets = matched(read_candidates(write(tmp_path / name, text)), TEST, USERS, ITEMS)
    found = {int(user): row for user, row in zip(sets.user, sets.items.tolist(), strict=True)}

    assert {2: [1, 2], 0: [0, 1]} == found
    assert {2: 0, 0: 2} == dict(zip(sets.user.tolist(), sets.target.tolist(), strict=True))


def test_an_array_follows_the_test_file(tmp_path):
    """Empty slots and strangers are told apart."""
    sets = matched(read_candidates(npy(tmp_path / "a.npy", np.array([[20, 0], [99, -1]]))), TEST, USERS, ITEMS)

    assert [[1, ABSENT], [UNKNOWN, ABSENT]] == sets.items.tolist()


def test_short_rows_have_empty_slots(tmp_path):
    """And null is one."""
    sets = matched(read_candidates(write(tmp_path / "a.jsonl", "[10]\n[20, null]\n")), TEST, USERS, ITEMS)

    assert [[0, ABSENT], [1, ABSENT]] == sets.items.tolist()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "cannot be read as an array"),
        ("a.npy", b"\x93NUMPY broken", "cannot be read as an array"),
        ("a.json", "[[1, 2]", "line 1: is no JSON"),
        ("a.json", "3", "holds a JSON int"),
        ("a.json", "{}", "holds no candidates"),
        ("a.json", '{"7": 3}', "needed a list of item ids"),
        ("a.jsonl", '[1]\n{"a": 1}\n', "line 2: has the keys a"),
        ("a.jsonl", "[1]\n[1.5]\n", "line 2: found"),
        ("a.jsonl", '{"user": 7, "items": [1]}\n[1]\n', "line 2: has rows with a user and rows without"),
        ("a.txt", "", "is empty"),
        ("a.txt", "7\n", "holds no candidates"),
        ("a.txt", b"\xff\xfe", "not UTF-8|NUL"),
    ],
)
def test_what_is_no_candidate_file_is_refused(tmp_path, name, content, message):
    """Empty, cut, of another shape, binary."""
    with pytest.raises(DataError, match=message):
        read_candidates(write(tmp_path / name, content))


@pytest.mark.parametrize("array", [np.zeros(3, int), np.zeros((2, 2)), np.zeros((0, 3), int), np.array(["a"])])
def test_arrays_of_another_kind_are_refused(tmp_path, array):
    """One dimension, floats, nothing, text."""
    with pytest.raises(DataError, match=r"needed whole numbers \[rows, candidates\]"):
        read_candidates(npy(tmp_path / "a.npy", array))


def test_a_pickle_is_not_opened(tmp_path):
    """An array of objects needs pickle, and is refused."""
    with pytest.raises(DataError, match="cannot be read as an array"):
        read_candidates(npy(tmp_path / "a.npy", np.array([{}, []], dtype=object)))


def test_rows_must_fit_the_held_out_events(tmp_path):
    """Another number of rows, a user without an event, a user with two."""
    three = read_candidates(npy(tmp_path / "a.npy", np.ones((3, 2), dtype=int)))
    stranger = read_candidates(write(tmp_path / "a.txt", "6 10\n"))
    twice = Events(name="test", user=np.array([2, 2]), item=np.array([0, 2]))
    with pytest.raises(DataError, match="has 3 rows where test has 2 events"):
        matched(three, TEST, USERS, ITEMS)
    with pytest.raises(DataError, match="user '6' has 0 events in test"):
        matched(stranger, TEST, USERS, ITEMS)
    with pytest.raises(DataError, match="user '7' has 2 events in test"):
        matched(read_candidates(write(tmp_path / "b.txt", "7 10\n")), twice, USERS, ITEMS)
