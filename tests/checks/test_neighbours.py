"""Neighbours: ties by rule, hubs and near repeats planted and found, none in sound and random tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.factorised import sound_tables
from rectest.checks.cooccurrence import directions
from rectest.checks.neighbours import (
    MAX_HUB_SHARE,
    MAX_TOP_SHARE,
    NEAR,
    accidental_neighbours,
    close_pairs,
    hubness,
    near_duplicates,
    nearest,
    occurrences,
)
from rectest.checks.result import Verdict
from rectest.checks.row_sample import sample_rows

PASS, SUSPICIOUS = Verdict.PASS, Verdict.SUSPICIOUS


def _noise(seed: int = 0, *, num: int = 1500, dim: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)


def test_ties_go_to_the_smaller_number() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]], dtype=np.float32)

    found, cosines = nearest(rows, 3)

    assert [[2, 4, 1], [3, 0, 2], [0, 4, 1], [1, 0, 2], [0, 2, 1]] == found.tolist()
    assert [1, 1, 0] == cosines[0].tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 5))
def test_neighbours_are_those_of_a_plain_sort(seed: int, num: int, k: int) -> None:
    k = min(k, num - 1)
    rows = np.random.default_rng(seed).integers(-1, 2, (num, 3)).astype(np.float32)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)

    expected = [sorted(range(num), key=lambda j, i=i: (-scores[i, j], j))[:k] for i in range(num)]

    assert expected == nearest(rows, k, block=7)[0].tolist()


@pytest.mark.parametrize("k", [0, 3])
def test_more_neighbours_than_rows_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the number of other rows"):
        nearest(np.eye(3, dtype=np.float32), k)


def test_occurrences_sum_to_the_length_of_all_lists() -> None:
    assert occurrences(directions(_noise(num=300)), 10).sum() == 3000


def test_hubs_are_red_and_named() -> None:
    rng = np.random.default_rng(11)
    centred = _noise(dim=64) + rng.normal(size=64).astype(np.float32)
    one = centred.copy()
    one[17] = one.mean(axis=0)
    many = centred.copy()
    many[100:130] = many.mean(axis=0) + 0.05 * _noise(1, num=30, dim=64)

    assert hubness(sample_rows(centred), "t").verdict is PASS
    assert hubness(sample_rows(one), "t").verdict is SUSPICIOUS
    assert "row 17" in hubness(sample_rows(one), "t").worst
    assert hubness(sample_rows(many), "t").verdict is SUSPICIOUS


def test_random_directions_have_no_hubs_and_few_rows_are_not_judged() -> None:
    for dim in (4, 64, 256):
        assert hubness(sample_rows(_noise(dim=dim)), "t").verdict is PASS
    assert "too few" in hubness(sample_rows(_noise(num=50)), "t").figure


def test_accidents_are_bounded_from_above() -> None:
    rng, near = np.random.default_rng(0), 0.02
    rows = directions(rng.normal(size=(2000, 3)))

    counted = len(close_pairs(rows, near)[0])

    assert counted <= 1.3 * accidental_neighbours(2000, 3, near)
    assert counted > 0.5 * accidental_neighbours(2000, 3, near)


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 64])
def test_close_pairs_are_those_of_all_pairs(dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = directions(rng.normal(size=(300, dim)))
    rows[50:60] = directions(rows[:10] + 1e-4 * rng.normal(size=(10, dim)))
    distance = ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=2)

    expected = np.argwhere(np.triu(distance <= 2 * NEAR, 1))

    assert expected.tolist() == close_pairs(rows)[0].tolist()


@pytest.mark.parametrize("kind", ["half", "bfloat16", "scaled", "noisy"])
def test_a_row_stored_twice_is_found_however_it_was_rounded(kind: str) -> None:
    rows = _noise()
    copy = {
        "half": rows[3].astype(np.float16).astype(np.float32),
        "bfloat16": (rows[3].view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
        "scaled": rows[3] * np.float32(0.3),
        "noisy": rows[3] * np.float32(1 + 1e-6),
    }[kind]
    rows[900] = copy

    result = near_duplicates(sample_rows(rows), "t")

    assert result.verdict is SUSPICIOUS
    assert result.rows == "3, 900"


def test_equal_rows_are_another_checks_and_like_rows_are_nobodys() -> None:
    rows = _noise()
    rows[900] = rows[3]
    rows[800] = rows[4] * np.float32(1) + np.float32(0.02) * rows[5]

    assert near_duplicates(sample_rows(rows), "t").verdict is PASS


def test_items_of_few_events_may_share_a_direction() -> None:
    rows = _noise()
    rows[900] = rows[3] * np.float32(0.5)
    counts = np.full(len(rows), 10)

    assert near_duplicates(sample_rows(rows), "t", popularity=counts).verdict is SUSPICIOUS
    counts[[3, 900]] = 1
    assert near_duplicates(sample_rows(rows), "t", popularity=counts).verdict is PASS


def test_short_rows_are_near_by_chance() -> None:
    result = near_duplicates(sample_rows(_noise(dim=2)), "t")

    assert result.verdict is PASS
    assert "by chance" in result.figure


def test_a_collapsed_table_ends() -> None:
    rows = np.ones((3000, 8), dtype=np.float32) + 1e-7 * _noise(num=3000, dim=8)

    assert near_duplicates(sample_rows(rows), "t").verdict in (PASS, SUSPICIOUS)


@pytest.mark.parametrize("trained", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_the_limits_are_far_from_sound_tables(trained: int | None) -> None:
    for words, _, table in sound_tables("words-small", trained=1) if trained else sound_tables():
        drawn = sample_rows(table, padding_row=0)
        counts = occurrences(drawn.unit)

        assert counts.max() / len(counts) < 0.8 * MAX_HUB_SHARE, words
        assert np.sort(counts)[-5:].sum() / counts.sum() < 0.6 * MAX_TOP_SHARE, words
        assert near_duplicates(drawn, "t").verdict is PASS, words
