"""The log-uniform sampler: its law, distinctness, the expected counts, and what goes wrong with unsorted ids."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import tiny_world
from rectest.data.log_uniform import LogUniformNegatives, inclusion_probability, log_uniform_law
from rectest.errors import DataError


def enumerated_inclusion(law, num):
    """Sum over all ordered ways to meet `num` distinct classes first."""
    included = np.zeros(len(law))
    for path in itertools.permutations(range(len(law)), num):
        probability, left = 1.0, 1.0
        for c in path:
            probability *= law[c] / left
            left -= law[c]
        included[list(path)] += probability
    return included


def test_law_by_hand():
    assert log_uniform_law(3) == pytest.approx(np.log([2, 3 / 2, 4 / 3]) / np.log(4))
    assert log_uniform_law(500).sum() == pytest.approx(1.0, abs=1e-12)
    book = log_uniform_law(367_983)
    assert [book[0], book[10], book[100_000]] == pytest.approx([0.0541, 0.0068, 7.8e-7], rel=0.01)


@pytest.mark.parametrize(("num_classes", "num"), [(1, 1), (2, 1), (3, 2), (5, 3), (6, 5), (6, 1)])
def test_inclusion_equals_enumeration(num_classes, num):
    law = log_uniform_law(num_classes)

    assert enumerated_inclusion(law, num) == pytest.approx(inclusion_probability(law, num), abs=1e-11)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12), st.data())
def test_inclusion_sums_to_the_number_drawn_and_follows_the_law(weights, data):
    num = data.draw(st.integers(1, len(weights)))
    law = np.array(weights) / sum(weights)
    obtained = inclusion_probability(law, num)

    assert obtained.sum() == pytest.approx(num, abs=1e-9)
    assert ((obtained > 0) & (obtained <= 1 + 1e-12)).all()
    assert (np.diff(obtained[np.argsort(law, kind="stable")]) >= -1e-9).all()


def test_draws_are_included_as_often_as_computed():
    sampler = LogUniformNegatives.by_raw_id(10)
    rng = np.random.default_rng(0)
    trials = 6000
    included, estimated = np.zeros(11), np.zeros(11)
    for _ in range(trials):
        sampled = sampler.draw(rng, 4)
        included[sampled.ids] += 1 / trials
        estimated += sampled.expected_count / trials
    exact = inclusion_probability(log_uniform_law(10), 4)

    error = np.sqrt(exact * (1 - exact) / trials)
    assert (np.abs(included[1:] - exact) < 4.5 * error).all()
    # TensorFlow's expected count treats the number of tries as fixed in advance: right within a few percent.
    assert estimated[1:] == pytest.approx(exact, rel=0.06)


def test_tries_count_every_raw_draw():
    sampler = LogUniformNegatives.by_raw_id(50)
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    sampled = sampler.draw(rng, 5)
    raw = np.floor(np.exp(twin.random(10) * np.log(51.0))).astype(int)
    distinct = list(dict.fromkeys(raw.tolist()))[:5]

    assert sampled.ids.tolist() == distinct
    assert len(set(raw[: sampled.num_tries].tolist())) == 5
    assert len(set(raw[: sampled.num_tries - 1].tolist())) == 4


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.data())
def test_drawn_ids_are_distinct_and_known(num_items, data):
    num = data.draw(st.integers(1, num_items))
    sampled = LogUniformNegatives.by_raw_id(num_items).draw(np.random.default_rng(num), num)

    assert len(set(sampled.ids.tolist())) == num
    assert set(sampled.ids.tolist()) <= set(range(1, num_items + 1))
    assert sampled.num_tries >= num
    assert sampled.expected_count[0] == 0
    assert np.isfinite(sampled.log_q(sampled.ids)).all()


def test_all_classes_need_no_correction():
    sampled = LogUniformNegatives.by_raw_id(20).draw(np.random.default_rng(0), 20)

    assert sorted(sampled.ids.tolist()) == list(range(1, 21))
    assert sampled.log_q(np.arange(1, 21)).tolist() == [0.0] * 20


def test_expected_count_by_hand():
    sampled = LogUniformNegatives.by_raw_id(3).draw(np.random.default_rng(0), 1)

    assert sampled.num_tries == 1
    assert sampled.expected_count[1:] == pytest.approx(log_uniform_law(3))


def test_popularity_order_undoes_shuffled_ids():
    counts = tiny_world("taste-small").popularity()
    healthy = LogUniformNegatives.by_popularity(counts)
    raw = LogUniformNegatives.by_raw_id(len(counts) - 1)

    assert (np.diff(healthy.probability()[1:][np.argsort(-counts[1:], kind="stable")]) < 0).all()
    assert np.corrcoef(healthy.probability()[1:], counts[1:])[0, 1] > 0.8
    assert np.corrcoef(raw.probability()[1:], counts[1:])[0, 1] < 0.2


def test_ties_in_popularity_go_to_the_smaller_id():
    assert LogUniformNegatives.by_popularity([0, 2, 5, 2]).order.tolist() == [2, 1, 3]


def test_the_historical_fault_draws_padding_most():
    faulty = LogUniformNegatives.by_raw_id(40, with_padding=True)

    assert int(faulty.probability().argmax()) == 0
    assert faulty.probability().sum() == pytest.approx(1.0)
    assert LogUniformNegatives.by_raw_id(40).probability()[0] == 0


def test_bad_arguments_are_refused():
    sampler = LogUniformNegatives.by_raw_id(5)

    with pytest.raises(ValueError, match=r"num must be in 1\.\.5, got 6"):
        sampler.draw(np.random.default_rng(0), 6)
    with pytest.raises(ValueError, match="distinct ids"):
        LogUniformNegatives(order=np.array([1, 1]), num_items=2)
    with pytest.raises(ValueError, match="non-empty integer array"):
        LogUniformNegatives(order=np.array([1.0]), num_items=2)
    with pytest.raises(DataError, match="can never draw"):
        sampler.draw(np.random.default_rng(0), 2).log_q([0])
    with pytest.raises(ValueError, match="1 to 64 positive probabilities"):
        inclusion_probability([0.5, 0.6], 1)
    with pytest.raises(ValueError, match=r"num must be in 1\.\.2"):
        inclusion_probability([0.5, 0.5], 3)
