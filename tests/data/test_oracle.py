"""The oracle against brute force: all tastes and all futures of a law with five items, written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.worlds import tiny_world
from rectest.data.generate import draw_behaviours, draw_histories
from rectest.data.law import plant_law
from rectest.data.oracle import Oracle
from rectest.errors import DataError
from rectest.seeding import SeedPlan

KINDS = [(0.0, False), (0.3, False), (0.0, True), (0.3, True)]
SHARES = np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]])


def small_law(repeat_probability=0.0, revisits=False, num_items=5, kind_shares=None):
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
        kind_shares=kind_shares,
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


def kind_law(law, taste):
    """P(kind | item, taste) of every item, [V+1, n], straight from the definition."""
    return np.array([law.kind_shares[int(cluster == taste + 1)] for cluster in law.cluster])


def joint_law(law, history, kinds):
    """P(next item, next kind | history, its kinds), [V+1, n], by summing over tastes."""
    joint, total = 0.0, 0.0
    for taste in range(law.num_tastes):
        weight = law.prior[taste]
        for position, (item, kind) in enumerate(zip(history, kinds, strict=True)):
            weight *= next_law(law, taste, history[:position])[item] * kind_law(law, taste)[item, kind - 1]
        total += weight
        joint = joint + weight * next_law(law, taste, history)[:, None] * kind_law(law, taste)
    return joint / total


def with_kinds(law):
    """Histories with every kind in them; the first is empty."""
    rng = np.random.default_rng(0)
    histories = [np.array(history, dtype=np.int64) for history in histories_of(law)]
    return histories, [rng.integers(1, 4, size=len(history)) for history in histories]


@pytest.mark.parametrize(("repeat_probability", "revisits"), KINDS)
def test_kinds_of_events_are_used_exactly(repeat_probability, revisits):
    law = small_law(repeat_probability, revisits, kind_shares=SHARES)
    histories, kinds = with_kinds(law)
    joint = np.array([joint_law(law, h.tolist(), k.tolist()) for h, k in zip(histories, kinds, strict=True)])
    oracle = Oracle(law=law)

    assert joint.sum(axis=(1, 2)) == pytest.approx(1.0)
    assert joint.sum(axis=2) == pytest.approx(oracle.scores(histories, behaviours=kinds), abs=1e-12)
    for kind in (1, 2, 3):
        after = np.full(len(histories), kind)
        obtained = oracle.scores(histories, behaviours=kinds, next_behaviour=after)
        expected = joint[:, :, kind - 1] / joint[:, :, kind - 1].sum(axis=1, keepdims=True)
        assert expected == pytest.approx(obtained, abs=1e-12)


@pytest.mark.parametrize("horizon", [2, 3])
def test_kinds_of_the_past_carry_over_longer_horizons(horizon):
    law = small_law(0.3, revisits=True, kind_shares=SHARES)
    histories, kinds = with_kinds(law)
    oracle = Oracle(law=law)
    posterior = oracle.posterior(histories, behaviours=kinds)
    expected = [
        sum(weight * expected_counts(law, taste, history.tolist(), horizon) for taste, weight in enumerate(row))
        for history, row in zip(histories[1:], posterior[1:], strict=True)
    ]

    assert np.array(expected) == pytest.approx(oracle.scores(histories[1:], horizon, behaviours=kinds[1:]), abs=1e-12)


def test_kinds_that_nobody_gives_change_no_bit():
    histories = with_kinds(small_law())[0]
    expected = Oracle(law=small_law()).scores(histories)

    assert np.array_equal(expected, Oracle(law=small_law(kind_shares=SHARES)).scores(histories))


def test_kinds_that_say_nothing_change_no_bit():
    histories, kinds = with_kinds(small_law())
    oracle = Oracle(law=small_law())
    obtained = oracle.scores(histories, behaviours=kinds, next_behaviour=np.ones(len(histories), dtype=np.int64))

    assert np.array_equal(oracle.scores(histories), obtained)


@pytest.mark.parametrize("repeat_probability", [0.0, 0.3])
@pytest.mark.parametrize("revisits", [False, True])
def test_drawn_events_follow_the_oracle_that_knows_the_kinds(repeat_probability, revisits):
    law = small_law(repeat_probability, revisits, num_items=12, kind_shares=SHARES)
    items, taste = draw_histories(SeedPlan(root=5), law, np.full(12_000, 4))
    own = law.cluster[items] == taste[:, None] + 1
    drawn = draw_behaviours(SeedPlan(root=5), items.size, shares=SHARES[0], own_shares=SHARES[1], own=own.ravel())
    kinds = drawn.reshape(items.shape)
    for kind in (1, 3):
        chosen = kinds[:, 3] == kind
        past, after = list(items[chosen, :3]), np.full(int(chosen.sum()), kind)
        law_of_each = Oracle(law=law).scores(past, behaviours=list(kinds[chosen, :3]), next_behaviour=after)
        obtained = np.bincount(items[chosen, 3], minlength=13) / chosen.sum()
        expected = law_of_each.mean(axis=0)
        error = np.sqrt(expected[1:] * (1 - expected[1:]) / chosen.sum())
        assert (np.abs(obtained - expected)[1:] < 4.5 * error).all()


def test_each_kind_that_is_known_helps():
    world = tiny_world("tiny-behaviours")
    items, kinds = list(world.interactions.sequences()), kinds_in_order(world)
    past, after = [own[:3] for own in items], np.array([own[3] for own in kinds])
    last = np.array([own[3] for own in items])

    def mean_log(**known):
        return np.log(world.oracle.scores(past, **known)[np.arange(len(last)), last]).mean()

    nothing = mean_log()
    some = mean_log(behaviours=[own[:3] for own in kinds])
    everything = mean_log(behaviours=[own[:3] for own in kinds], next_behaviour=after)
    wrong = mean_log(behaviours=[5 - own[:3] for own in kinds], next_behaviour=5 - after)

    assert wrong < nothing < some < everything


def kinds_in_order(world):
    """Kinds of every user's events in time order."""
    log = world.interactions
    order = np.lexsort((log.time, log.user))
    return np.split(log.behaviour[order], log.sequences().offsets[1:-1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4)), max_size=6), min_size=1, max_size=4))
def test_a_batch_with_kinds_is_its_rows(rows):
    histories = [np.array([item for item, _ in row], dtype=np.int64) for row in rows]
    kinds = [np.array([kind for _, kind in row], dtype=np.int64) for row in rows]
    after = np.array([1 + len(row) % 4 for row in rows])
    oracle = tiny_world("tiny-behaviours").oracle
    together = oracle.scores(histories, behaviours=kinds, next_behaviour=after)
    alone = [
        oracle.scores([history], behaviours=[own], next_behaviour=after[row : row + 1])
        for row, (history, own) in enumerate(zip(histories, kinds, strict=True))
    ]

    assert together.sum(axis=1) == pytest.approx(1.0)
    assert np.concatenate(alone) == pytest.approx(together, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"behaviours": [np.array([1])]}, "kinds of 1 events in 1 histories, needed as many kinds as items"),
        ({"behaviours": []}, "kinds of 0 events in 0 histories"),
        ({"behaviours": [np.array([1, 4])]}, r"2 integers in 1\.\.3"),
        ({"behaviours": [np.array([1, 0])]}, r"2 integers in 1\.\.3"),
        ({"next_behaviour": np.array([1, 1])}, r"1 integers in 1\.\.3"),
        ({"next_behaviour": np.array([1]), "horizon": 2}, "says nothing of a horizon of 2 events"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        Oracle(law=small_law(kind_shares=SHARES)).scores([np.array([1, 2])], **arguments)


def test_no_history_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one history"):
        Oracle(law=small_law()).scores([])
