"""The law of popularity: exact against brute force, and the floor that it sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rectest.audits.metric_floor import beats_popularity, popularity_law
from rectest.checks.result import Verdict
from rectest.data.rawlog import RawLog
from rectest.errors import DataError


def log_of(*lists: str) -> RawLog:
    pairs = [(f"u{number}", item) for number, items in enumerate(lists) for item in items]
    users, items = zip(*pairs, strict=True)
    return RawLog(path=Path("log.inter"), user=np.array(users), item=np.array(items))


def random_log(seed: int = 0) -> RawLog:
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 41)
    lists = [rng.choice(40, size=rng.integers(2, 9), p=shares / shares.sum()) for _ in range(60)]
    return log_of(*("".join(chr(65 + int(item)) for item in items) for items in lists))


def test_a_full_ranking_by_hand() -> None:
    """Histories a, ab, ac; targets b, c, d: counts a 3, b 1, c 1, d 0."""
    law = popularity_law(log_of("ab", "abc", "acd"), num_candidates=None)

    # User 0 ranks b, c, d for b: tied with c, places 1 and 2. User 1 ranks c, d for c: place 1. User 2: b, d: place 2.
    assert law.law.tolist() == pytest.approx([0.5, 0.5, 0.0, 0.0])
    assert law.value("hit@1") == pytest.approx(0.5)
    assert law.value("mean_rank") == pytest.approx(1.5)
    assert law.value("precision@2") == pytest.approx(0.5)


@pytest.mark.parametrize("num_candidates", [None, 10])
def test_the_law_is_that_of_drawn_candidates(num_candidates: int | None) -> None:
    raw = random_log()
    law = popularity_law(raw, num_candidates=num_candidates)
    rng, found = np.random.default_rng(1), []
    order = np.argsort(raw.user, kind="stable")
    names, item = np.unique(raw.item, return_inverse=True)
    lists = np.split(item[order], np.flatnonzero(np.diff(np.unique(raw.user, return_inverse=True)[1][order])) + 1)
    counts = np.bincount(np.concatenate([one[:-1] for one in lists]), minlength=len(names))
    for one in lists:
        unseen = np.setdiff1d(np.arange(len(names)), one)
        for _ in range(200):
            drawn = unseen if num_candidates is None else rng.permutation(unseen)[: num_candidates - 1]
            noise = rng.random(len(names)) * 0.5
            found.append(1 + int((counts[drawn] + noise[drawn] > counts[one[-1]] + noise[one[-1]]).sum()))

    assert law.law.sum() == pytest.approx(1)
    assert law.value("mean_rank") == pytest.approx(np.mean(found), abs=4 * np.std(found) / np.sqrt(len(found)))
    assert law.value("hit@3") == pytest.approx(np.mean(np.array(found) <= 3), abs=0.015)


def test_time_decides_who_is_last() -> None:
    raw = log_of("ab", "abc", "acd")
    timed = RawLog(path=raw.path, user=raw.user, item=raw.item, time=-np.arange(len(raw)))

    assert (
        popularity_law(timed, num_candidates=None).law.tolist() != popularity_law(raw, num_candidates=None).law.tolist()
    )


def test_a_model_below_popularity_is_red_and_one_above_is_not() -> None:
    law = popularity_law(random_log(), num_candidates=10)
    floor = {name: law.value(name) for name in ("hit@3", "mean_rank")}
    above = {"hit@3": floor["hit@3"] + 0.05, "mean_rank": floor["mean_rank"] - 0.5}
    below = {"hit@3": floor["hit@3"] - 0.05, "mean_rank": floor["mean_rank"] + 0.5}

    assert {Verdict.PASS} == {result.verdict for result in beats_popularity(above, law, halves={}, subject="")}
    assert {Verdict.FAIL} == {result.verdict for result in beats_popularity(below, law, halves={}, subject="")}
    (unknown,) = beats_popularity({"hit@11": 0.5}, law, halves={}, subject="")
    assert unknown.verdict is Verdict.NOT_MEASURED


def test_a_log_of_single_events_is_refused() -> None:
    with pytest.raises(DataError, match="no user has two events"):
        popularity_law(log_of("a", "b"), num_candidates=None)
