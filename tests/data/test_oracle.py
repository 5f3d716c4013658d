"""The oracle against brute force: all tastes and all futures of a law with five items, written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import tiny_world
from rectest.data.law import plant_law
from rectest.data.oracle import Oracle
from rectest.errors import DataError
from rectest.seeding import SeedPlan

KINDS = [(0.0, False), (0.3, False), (0.0, True), (0.3, True)]


def small_law(repeat_probability=0.0, revisits=False, num_items=5):
    return plant_law(
        SeedPlan(root=7),
        num_items=num_items,
        num_tastes=2,
        num_successors=2,
        successor_weight=0.4,
        taste_weight=0.35,
        zipf_exponent=1.0,
        repeat_probability=repeat_probability,
        revisits=revisits,
        shuffled_ids=True,
    )


def next_law(law, taste, history):
    """P(next | taste, history), straight from the definition."""
    if history:
        base = law.taste_weight * law.cluster_law[taste] + law.global_weight * law.global_law
        for weight, item in zip(law.successor_law, law.successors[history[-1]], strict=True):
            base[item] += law.successor_weight * weight
    else:
        like, anything = law.weights_first
        base = like * law.cluster_law[taste] + anything * law.global_law
    if not law.revisits:
        base[history] = 0.0
        base /= base.sum()
    if not history:
        return base
    counts = np.bincount(history, minlength=len(base)) / len(history)
    return law.repeat_probability * counts + (1 - law.repeat_probability) * base


def posterior(law, history):
    weight = law.prior.copy()
    for taste, position in itertools.product(range(law.num_tastes), range(len(history))):
        weight[taste] *= next_law(law, taste, history[:position])[history[position]]
    return weight / weight.sum()


def expected_counts(law, taste, history, horizon):
    """Expected counts over all futures of `horizon` items."""
    now = next_law(law, taste, history)
    total = now.copy()
    if horizon > 1:
        for item in np.flatnonzero(now):
            total += now[item] * expected_counts(law, taste, [*history, int(item)], horizon - 1)
    return total


def reference(law, history, horizon):
    weights = posterior(law, history)
    return sum(w * expected_counts(law, z, history, horizon) for z, w in enumerate(weights))


def histories_of(law):
    return [[], [1], [2, 4], [5, 1, 3], *([[3, 3, 1], [2, 2, 2]] if law.revisits or law.repeat_probability else [])]


@pytest.mark.parametrize(("repeat_probability", "revisits"), KINDS)
def test_the_next_item_is_exact_in_every_kind_of_world(repeat_probability, revisits):
    law = small_law(repeat_probability, revisits)
    histories = histories_of(law)
    obtained = Oracle(law=law).scores([np.array(history, dtype=np.int64) for history in histories])
    expected = np.array([reference(law, history, 1) for history in histories])

    assert expected == pytest.approx(obtained, abs=1e-12)
    assert obtained[:, 0].tolist() == [0.0] * len(histories)
    assert obtained.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize(("repeat_probability", "revisits"), KINDS)
def test_the_posterior_is_exact(repeat_probability, revisits):
    law = small_law(repeat_probability, revisits)
    histories = histories_of(law)
    obtained = Oracle(law=law).posterior([np.array(history, dtype=np.int64) for history in histories])

    assert np.array([posterior(law, history) for history in histories]) == pytest.approx(obtained, abs=1e-12)


@pytest.mark.parametrize("repeat_probability", [0.0, 0.3])
@pytest.mark.parametrize("horizon", [2, 3])
def test_longer_horizons_are_exact_with_revisits(repeat_probability, horizon):
    law = small_law(repeat_probability, revisits=True)
    histories = [[1], [2, 4], [3, 3, 1]]
    obtained = Oracle(law=law).scores([np.array(history) for history in histories], horizon)

    assert np.array([reference(law, history, horizon) for history in histories]) == pytest.approx(obtained, abs=1e-12)


@pytest.mark.parametrize("repeat_probability", [0.0, 0.3])
def test_longer_horizons_are_close_without_revisits(repeat_probability):
    law = small_law(repeat_probability, num_items=20)
    histories = [[1], [2, 4], [5, 1, 3]]
    obtained = Oracle(law=law).scores([np.array(history) for history in histories], 3)
    expected = np.array([reference(law, history, 3) for history in histories])

    assert obtained.sum(axis=1) == pytest.approx(3.0)
    assert np.abs(expected - obtained).max() < 0.05
    for row, history in enumerate(histories):
        rest = np.setdiff1d(np.arange(1, 21), history)
        assert np.corrcoef(expected[row, rest], obtained[row, rest])[0, 1] > 0.98


@settings(max_examples=30, deadline=None)
@given(st.lists(st.permutations(range(1, 41)), min_size=1, max_size=4), st.integers(0, 15))
def test_a_batch_is_its_rows(orders, length):
    histories = [np.array(order[: max(0, length - row)]) for row, order in enumerate(orders)]
    histories = [history.astype(np.int64) for history in histories]
    oracle = tiny_world().oracle
    together = oracle.scores(histories)
    alone = np.concatenate([oracle.scores([history]) for history in histories])

    assert alone == pytest.approx(together, abs=1e-12)
    for history, row in zip(histories, together, strict=True):
        assert row[history].sum() == 0.0


def test_the_oracle_is_calibrated_on_the_world_it_belongs_to():
    world = tiny_world("tiny-repeats")
    sequences = list(world.interactions.sequences())
    scores = world.oracle.scores([items[:-1] for items in sequences])
    top = np.argsort(-scores, axis=1)[:, :5]
    promised = np.take_along_axis(scores, top, axis=1).sum(axis=1)
    hits = np.array([items[-1] in row for items, row in zip(sequences, top.tolist(), strict=True)])

    error = np.sqrt((promised * (1 - promised)).sum()) / len(hits)
    assert abs(hits.mean() - promised.mean()) < 4 * error


def test_forgetting_the_order_of_a_history_costs_something():
    sequences = list(tiny_world().interactions.sequences())
    oracle = tiny_world().oracle
    last = np.array([items[-1] for items in sequences])
    rows = np.arange(len(last))
    right = np.log(oracle.scores([items[:-1] for items in sequences])[rows, last]).mean()
    wrong = np.log(oracle.scores([items[-2::-1] for items in sequences])[rows, last]).mean()

    assert right > wrong + 0.1


@pytest.mark.parametrize(
    ("history", "horizon", "error", "problem"),
    [
        ([1, 0], 1, ValueError, r"outside 1\.\.5 \(padding must be cut off\)"),
        ([6], 1, ValueError, r"outside 1\.\.5"),
        ([1], 0, ValueError, "horizon must be at least 1"),
        ([1, 2, 1], 1, DataError, "history 0 repeats an item"),
        ([1, 2, 3, 4], 2, DataError, "leaves fewer than 2 items"),
    ],
)
def test_impossible_histories_are_refused(history, horizon, error, problem):
    with pytest.raises(error, match=problem):
        Oracle(law=small_law()).scores([np.array(history)], horizon)


def test_no_history_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one history"):
        Oracle(law=small_law()).scores([])
