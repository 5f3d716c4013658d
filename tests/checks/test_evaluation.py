"""Evaluation bookkeeping: best weights, user means, candidate caches and hash seeds, each broken in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fixtures.records import edit_array, edit_facts, find, make_record, red_checks
from rectest.checks.chance import ranks_of
from rectest.checks.evaluation import batch_means, best_checkpoint, cache_key, hash_sweep, last_batch_weight
from rectest.checks.result import Verdict
from rectest.metrics.ranking import per_user
from rectest.record import RunRecord


def with_best(record: RunRecord, *, best: int, tested: int) -> RunRecord:
    """A record whose best evaluation is number `best`, and whose weights under test are those of number `tested`."""
    again = {name: float(curve[tested]) for name, curve in record.metrics("valid").items()}
    best_step = int(record["eval/steps"][best])
    return edit_facts(edit_facts(record, "best_again", value=again), "best_step", value=best_step)


def test_the_best_weights_repeat_what_was_logged():
    assert not best_checkpoint(with_best(make_record(), best=1, tested=1))[0].red


def test_the_last_weights_under_the_name_of_the_best_are_red():
    (last,) = best_checkpoint(with_best(make_record(), best=1, tested=3))
    (other,) = best_checkpoint(with_best(make_record(), best=1, tested=0))

    assert last.red
    assert "weights of the last evaluation" in last.detail
    assert other.red
    assert "other weights than the best" in other.detail


def test_weights_that_were_not_evaluated_again_are_not_green():
    assert best_checkpoint(make_record())[0].verdict == Verdict.NOT_MEASURED


def test_a_user_of_the_last_batch_weighs_more():
    assert last_batch_weight(147_894, 128) == pytest.approx(2.369, abs=5e-4)
    assert last_batch_weight(128 * 3, 128) == 1
    with pytest.raises(ValueError, match="at least 1"):
        last_batch_weight(0, 5)


def in_batches(record: RunRecord, size: int) -> RunRecord:
    """The record with its test metrics reported as means of batch means."""
    ranks = ranks_of(record, "test")
    for name in record.metrics("test"):
        values = per_user(ranks, name)
        means = [values[start : start + size].mean() for start in range(0, len(values), size)]
        record = edit_array(record, f"metric/test/{name}", lambda _, m=means: np.array([np.mean(m)]))
    return record


def test_user_means_are_green_and_batch_means_are_red_and_named():
    record = make_record(num_users=61)
    (healthy,) = batch_means(record, batch_size=16)
    (faulty,) = batch_means(in_batches(record, 16), batch_size=16)

    assert healthy.verdict == Verdict.PASS
    assert faulty.red
    assert "means over batches of 16" in faulty.detail
    assert "weighs 1.17 times as much" in faulty.detail


def test_batches_of_one_size_cannot_show_it():
    assert batch_means(make_record(num_users=64), batch_size=16)[0].verdict == Verdict.NOT_MEASURED
    assert batch_means(make_record(num_users=64))[0].verdict == Verdict.PASS


def test_a_metric_of_no_users_mean_is_red_without_a_name():
    record = edit_array(make_record(), "metric/test/ndcg@10", lambda value: value + 0.01)

    (result,) = batch_means(record)

    assert result.red
    assert result.detail == "no mean over users of the stored ranks gives this"


def test_metrics_without_ranks_are_not_green():
    record = make_record()
    bare = record.with_arrays(**{key.replace("/", "__"): None for key in record.arrays if key.startswith("ranks/")})

    assert batch_means(bare)[0].verdict == Verdict.NOT_MEASURED


def on(world: str, **candidates: str) -> RunRecord:
    return edit_facts(make_record(), "inputs", value={"world": world, **candidates})


def test_candidates_of_other_data_are_red():
    first = on("a", candidates_valid="1", candidates_test="2")
    (own,) = cache_key(first, on("b", candidates_valid="3", candidates_test="4"))
    (stale,) = cache_key(first, on("b", candidates_valid="1", candidates_test="4"))

    assert own.verdict == Verdict.PASS
    assert stale.red
    assert stale.worst == "candidates_valid"


@pytest.mark.parametrize("other", [on("a", candidates_valid="1"), on("b"), make_record()])
def test_caches_that_cannot_be_compared_are_not_green(other):
    assert cache_key(on("a", candidates_valid="1"), other)[0].verdict == Verdict.NOT_MEASURED


def with_map(replica: int, *raws: str) -> RunRecord:
    return make_record(replica=replica).with_arrays(idmap__behaviour=np.array(["", *raws]))


def test_runs_that_ignore_the_hash_seed_are_green():
    assert red_checks(hash_sweep([with_map(r, "buy", "cart") for r in range(3)])) == set()


def test_the_map_that_moved_is_named():
    results = hash_sweep([with_map(0, "buy", "cart"), with_map(1, "buy", "cart"), with_map(2, "cart", "buy")])

    assert red_checks(results) == {"hash_sweep/id_maps"}
    assert find(results, "hash_sweep/id_maps").worst == "idmap/behaviour[1]: buy and cart"


@pytest.mark.parametrize(
    ("key", "check"), [("tape/batch", "hash_sweep/batches"), ("metric/test/ndcg@10", "hash_sweep/metrics")]
)
def test_batches_and_metrics_that_moved_are_red(key, check):
    moved = edit_array(with_map(1, "buy"), key, lambda value: value + value.dtype.type(1))

    assert red_checks(hash_sweep([with_map(0, "buy"), moved])) == {check}


def test_a_map_of_another_length_or_absent_is_red():
    for other in (with_map(1, "buy", "cart"), make_record(replica=1)):
        results = hash_sweep([with_map(0, "buy"), other])

        assert find(results, "hash_sweep/id_maps").worst == "idmap/behaviour: its length differs"


def test_runs_of_two_specs_are_not_a_sweep():
    records: list[Any] = [make_record(seed=0), make_record(seed=1)]

    assert {result.verdict for result in hash_sweep(records)} == {Verdict.NOT_MEASURED}
    assert hash_sweep([])[0].verdict == Verdict.NOT_MEASURED
