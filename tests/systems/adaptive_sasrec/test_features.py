"""The optional features: off is bit for bit the baseline, on has its effect, and what is trained is what is served."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixtures.adaptive_sasrec import start
from rectest.systems.adaptive_sasrec.negatives import expected_popularity

FULL = ("dot", "cosine", "scaled", "bilinear")
OFF = {
    "similarity": {"similarity": ["dot"]},
    "adaptive": {"adaptive": False},
    "bilinear": {"bilinear_init": "identity"},
    "serving": {"serve_with": "dot"},
    "smart": {"smart_negatives": False, "popular_ratio": 0.8, "popularity_power": 2.0},
    "curriculum": {"curriculum": False},
    "dropout": {"dropout": 0.0},
    "evaluation": {"eval_candidates": 5, "exclude_seen": False, "eval_every": 3},
}
ON = {
    "cosine": {"similarity": ["cosine"]},
    "bilinear": {"similarity": ["bilinear"]},
    "adaptive": {"adaptive": True, "similarity": ["dot", "cosine", "scaled"]},
    "smart": {"smart_negatives": True},
    "curriculum": {"smart_negatives": True, "curriculum": True},
    "dropout": {"dropout": 0.2},
    "norm_first": {"norm_first": True},
}


@pytest.fixture(scope="module")
def baseline():
    return start().steps(6)


@pytest.mark.parametrize("setting", OFF)
def test_features_set_to_off_are_bitwise_the_baseline(setting, baseline):
    run = start(**OFF[setting]).steps(6)

    assert baseline.losses == run.losses
    assert all(torch.equal(value, run.parameters()[name]) for name, value in baseline.parameters().items())
    assert baseline.parameters().keys() == run.parameters().keys()
    for expected, obtained in zip(baseline.batches, run.batches, strict=True):
        assert expected.negatives["items"].equal(obtained.negatives["items"])


@pytest.mark.parametrize("feature", ON)
def test_features_set_to_on_change_training(feature, baseline):
    assert baseline.losses != start(**ON[feature]).steps(6).losses


@pytest.mark.parametrize("feature", ON)
def test_features_do_not_move_the_start(feature):
    plain, run = start().parameters(), start(**ON[feature]).parameters()

    assert all(torch.equal(value, run[name]) for name, value in plain.items())


@pytest.mark.parametrize("features", [{}, *ON.values()], ids=["baseline", *ON])
def test_equal_seeds_give_equal_bits(features):
    first, second = (start(**features).steps(3) for _ in range(2))

    assert first.losses == second.losses
    assert all(torch.equal(value, second.parameters()[name]) for name, value in first.parameters().items())
    assert first.losses != start(seed=1, **features).steps(3).losses


@pytest.mark.parametrize("features", [{}, {"adaptive": True, "similarity": FULL}, {"similarity": ["cosine"]}], ids=str)
def test_served_score_is_the_trained_score(features):
    """The loss at the last position is recomputed from the served scores."""
    run = start(**features).steps(5)
    eval_set = run.system.eval_set(run.data, "valid")
    scores = torch.from_numpy(run.scores("valid"))
    items = torch.arange(1, run.data.num_items + 1)
    with torch.no_grad():
        states = run.model(eval_set.inputs["items"])[:, -1:].expand(-1, len(items), -1)
        trained = run.model.similarity(states, run.model.item_embedding(items).expand(len(states), -1, -1))

    torch.testing.assert_close(trained, scores[:, 1:], rtol=1e-4, atol=1e-5)
    assert run.system.serving_overlap(run.model, eval_set) == 1.0


def test_serving_with_dot_ranks_differently_from_what_was_trained():
    run = start(adaptive=True, similarity=FULL, serve_with="dot").steps(20)
    run.model.similarity.weight["bilinear"].data.fill_(2.0)

    assert run.system.serving_overlap(run.model, run.system.eval_set(run.data, "test")) < 0.9


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_smart_negatives_are_more_popular_by_the_expected_amount(ratio):
    """Effect, not flag: without exclusions the recorded curve has the expected mean."""
    run = start(smart_negatives=True, popular_ratio=ratio, popularity_power=2.0, negatives_exclude_own=False)
    expected = expected_popularity(run.system.schedule(run.data).sampler(1).probability(), run.data.counts)
    curve = [run.steps(1).system.scalars(run.model)["negatives/relative_popularity"] for _ in range(40)]

    assert expected > 1.1
    assert expected == pytest.approx(np.mean(curve), abs=4 * np.std(curve) / len(curve) ** 0.5)


def test_curriculum_shows_in_the_curve():
    run = start(smart_negatives=True, curriculum=True, popularity_power=3.0, steps=30)
    curve = [run.steps(1).system.scalars(run.model)["negatives/relative_popularity"] for _ in range(30)]
    thirds = [np.mean(curve[i : i + 10]) for i in (0, 10, 20)]

    assert thirds[0] + 0.1 < thirds[1]
    assert thirds[1] + 0.1 < thirds[2]


def test_scalars_follow_the_similarity_weights():
    run = start(adaptive=True, similarity=FULL)
    run.steps(1)
    before = run.system.scalars(run.model)
    after = run.steps(5).system.scalars(run.model)

    assert {f"similarity/{name}" for name in (*FULL, "temperature", "effective_dot", "effective_cosine")} < set(before)
    assert all(before[name] != after[name] for name in before if name.startswith("similarity/"))


def test_the_baseline_has_one_curve():
    run = start().steps(1)

    assert {"negatives/relative_popularity"} == set(run.system.scalars(run.model))


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("features", [{}, {"smart_negatives": True, "curriculum": True}], ids=str)
def test_negatives_are_as_popular_as_the_settings_promise(features, exclude):
    """Two epochs per third of training, and an exact expectation that knows nothing of the sampler."""
    run = start(steps=24, popularity_power=3.0, negatives_exclude_own=exclude, **features)
    promised = run.system.input_facts(run.data)["expected_scalars"]["negatives/relative_popularity"]
    curve = [run.steps(1).system.scalars(run.model)["negatives/relative_popularity"] for _ in range(24)]

    assert promised == pytest.approx(np.mean(curve), rel=0.015)


@pytest.mark.parametrize(("features", "overlap"), [({}, None), ({"adaptive": True}, 1.0)], ids=str)
def test_serving_overlap_is_recorded_where_it_could_differ(features, overlap):
    run = start(**features).steps(1)

    assert overlap == run.system.scalars(run.model).get("serving/overlap@10")
