"""The system as a whole: loss, learning, scoring and the evaluation protocol."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fixtures.gear import SMALL, shop_world, start
from fixtures.worlds import tiny_world, world_with
from rectest.checks.effect import effects
from rectest.errors import ConfigError, WorldError
from rectest.record import RunSpec
from rectest.systems.gear.config import REPORTED, GEARConfig
from rectest.systems.gear.evaluation import figures
from rectest.systems.gear.system import GEAR
from rectest.systems.protocol import Batch
from rectest.systems.registry import make_system
from rectest.training.program import run_spec

WITHOUT_STEPS = {key: value for key, value in SMALL.items() if key not in ("steps", "eval_every")}


def test_it_is_registered():
    assert isinstance(make_system("gear"), GEAR)
    assert make_system("gear").measures[0] == "ndcg@10"


def test_report_004_s_settings_are_accepted():
    config = make_system("gear", REPORTED).config

    assert (config.max_length, config.num_layers, config.patience, config.alpha) == (50, 4, 30, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3}, "must divide embedding_size 32"),
        ({"max_length": 1}, "must be at least 2"),
        ({"min_rows": 2}, "at least 3"),
        ({"window_probability": 1.5}, r"must be in \[0, 1\]"),
        ({"dropout": 1.0}, r"must be in \[0, 1\)"),
        ({"alpha": -0.1}, "must not be negative"),
        ({"matmul_precision": "low"}, "highest"),
        ({"eval_candidates": 0}, "at least 1"),
        ({"embedding_std": 0.0}, "positive"),
    ],
    ids=str,
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_system("gear", settings)


def test_first_loss_is_that_of_guessing():
    """ln 40 + 0.1 ln 4: padding is no class."""
    expected = math.log(40) + 0.1 * math.log(4)

    assert expected == pytest.approx(start(embedding_std=0.01).steps(1).losses[0], rel=0.02)


def test_loss_by_hand():
    run = start(alpha=0.3)
    batch = next(run.stream)
    losses = run.system.losses(run.model, batch)
    items, behaviours, elapsed = (batch.inputs[name] for name in ("items", "behaviours", "elapsed"))
    before, after = run.model(items[:, :-1], behaviours, elapsed)
    item_terms, behaviour_terms = [], []
    for row in range(len(items)):
        for place in range(items.shape[1]):
            if items[row, place] == 0:
                continue
            logits = before[row, place] @ run.model.item_embedding.weight[1:].T
            item_terms.append(functional.cross_entropy(logits[None], items[row, place, None] - 1))
            if place + 1 < items.shape[1]:
                logits = after[row, place] @ run.model.behaviour_embedding.weight[1:].T
                behaviour_terms.append(functional.cross_entropy(logits[None], behaviours[row, place + 1, None] - 1))

    torch.testing.assert_close(torch.stack(item_terms).mean(), losses["items"])
    torch.testing.assert_close(torch.stack(behaviour_terms).mean(), losses["behaviours"])
    torch.testing.assert_close(losses["items"] + 0.3 * losses["behaviours"], losses["total"])


def test_padding_does_not_count_in_the_loss():
    run = start()
    batch = next(run.stream)
    wider = {name: functional.pad(value, (4, 0)) for name, value in batch.inputs.items() if value.ndim == 2}
    expected = run.system.losses(run.model, batch)["total"]
    obtained = run.system.losses(run.model, Batch(inputs={**batch.inputs, **wider}))["total"]

    torch.testing.assert_close(expected, obtained)


def test_only_the_target_s_items_count_when_asked():
    run, all_items = start(predict_only_target=True), start()
    batch = next(run.stream)
    targets = run.system.item_targets(batch.inputs)
    run.system.losses(run.model, batch)
    all_items.system.losses(all_items.model, batch)

    assert ((targets > 0) == batch.inputs["target_rows"]).all()
    assert run.system.scalars(run.model)["items/target_share"] == 1.0
    assert all_items.system.scalars(all_items.model)["items/target_share"] < 0.6


def test_a_batch_without_any_target_has_no_item_loss():
    run = start(predict_only_target=True)
    batch = next(run.stream)
    nobody = {**batch.inputs, "target_rows": torch.zeros_like(batch.inputs["target_rows"])}
    losses = run.system.step(run.model, run.optimizer, Batch(inputs=nobody))

    assert float(losses["items"].detach()) == 0.0
    assert math.isfinite(float(losses["total"].detach()))


def test_one_batch_can_be_learned_by_heart():
    run = start(learning_rate=1e-2, num_layers=2, embedding_size=32)
    batch = next(run.stream)
    first = float(run.system.step(run.model, run.optimizer, batch)["items"].detach())
    for _ in range(120):
        last = float(run.system.step(run.model, run.optimizer, batch)["items"].detach())

    assert last < 0.5 * first


def test_it_learns_more_than_popularity():
    run = start(world=world_with("tiny-behaviours", num_users=400), learning_rate=1e-2).steps(150)
    eval_set = run.system.eval_set(run.data, "test")
    asked = np.flatnonzero([len(items) for items in eval_set.relevant])
    counts = run.data.counts[eval_set.candidates[asked]]
    own = run.data.counts[np.concatenate(eval_set.relevant)]
    ranks = (counts > own[:, None]).sum(1) + ((counts == own[:, None]).sum(1) + 1) / 2
    popular = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0).mean()

    assert run.ndcg() > popular + 0.05


def test_padding_rows_stay_zero_and_other_rows_move():
    run = start()
    before = run.parameters()
    run.steps(10)
    for name in ("item_embedding.weight", "behaviour_embedding.weight"):
        after = run.parameters()[name]

        assert (after[0] == 0).all()
        assert (after[1:] != before[name][1:]).any(dim=1).all()


def test_blocks_and_padding_change_no_score():
    run = start().steps(3)
    eval_set = run.system.eval_set(run.data, "test")
    wider = run.system.left_padded(eval_set, 4)
    run.model.eval()
    with torch.no_grad():
        parts = [run.system.score(run.model, eval_set, slice(i, i + 1)) for i in range(len(eval_set))]
        padded = run.system.score(run.model, wider, slice(None))

    np.testing.assert_allclose(run.scores(), torch.cat(parts).numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run.scores(), padded.numpy(), rtol=1e-5, atol=1e-5)


def test_scoring_changes_nothing():
    run = start(dropout=0.3).steps(3)
    before, states = run.parameters(), (torch.get_rng_state(), run.model.dropout.generator.get_state())

    assert np.array_equal(run.scores(), run.scores())
    assert all(torch.equal(value, run.parameters()[name]) for name, value in before.items())
    assert torch.equal(states[0], torch.get_rng_state())
    assert torch.equal(states[1], run.model.dropout.generator.get_state())


def test_scores_of_candidates_are_those_of_the_catalogue():
    run, full = start().steps(3), start(eval_candidates=None).steps(3).scores()
    expected = np.take_along_axis(full, run.system.eval_set(run.data, "test").candidates, axis=1)

    assert (full[:, 0] == 0).all()
    np.testing.assert_allclose(expected, run.scores(), rtol=1e-4, atol=1e-5)


def test_evaluation_by_hand():
    run = start(world=shop_world(), eval_candidates=1, max_length=4)
    valid, test = (run.system.eval_set(run.data, split) for split in ("valid", "test"))

    assert [items.tolist() for items in valid.relevant] == [[], []]
    assert [items.tolist() for items in test.relevant] == [[4], []]
    assert [items.tolist() for items in test.histories] == [[1, 2, 3], [2, 3]]
    assert test.inputs["items"].tolist() == [[1, 2, 3], [0, 2, 3]]
    assert test.inputs["behaviours"].tolist() == [[1, 2, 1, 2], [0, 1, 1, 1]]
    assert test.inputs["elapsed"].tolist() == [[0, 3, 10, 17], [0, 0, 9, 10]]
    assert sorted(test.candidates[0].tolist()) == [4, 5]


def test_the_target_is_not_among_the_inputs_unless_it_was_seen():
    run = start()
    for split in ("valid", "test"):
        eval_set = run.system.eval_set(run.data, split)
        for row, history in enumerate(eval_set.histories):
            known = [item for item in eval_set.inputs["items"][row].tolist() if item]

            assert known == history.tolist()[-len(known) :]


def test_evaluation_is_what_the_log_says():
    run = start()
    for split, promised in run.data.promised.items():
        assert promised == figures(run.system.eval_set(run.data, split))
        assert 0 < promised.num_targets < promised.num_users == 120


def test_candidates_belong_to_the_protocol_not_to_the_run():
    first, second = (start(seed=seed) for seed in (0, 1))
    other = start(world=world_with("tiny-behaviours", seed=3))
    sets = [run.system.eval_set(run.data, "test") for run in (first, second)]
    again = first.system.eval_set(first.data, "test")
    digests = [run.system.input_facts(run.data)["candidates_test"] for run in (first, second, other)]

    assert np.array_equal(sets[0].candidates, sets[1].candidates)
    assert np.array_equal(sets[0].candidates, again.candidates)
    assert digests[0] == digests[1] != digests[2]
    assert (
        first.system.candidate_key(first.data, "test").digest != first.system.candidate_key(other.data, "test").digest
    )


def test_kept_candidates_are_used_by_the_next_run(tmp_path):
    first, second = (start(candidate_folder=str(tmp_path)) for _ in range(2))
    expected = first.system.eval_set(first.data, "test").candidates
    obtained = second.system.eval_set(second.data, "test").candidates

    assert len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(expected, obtained)
    assert np.array_equal(expected, start().system.eval_set(first.data, "test").candidates)


def test_too_many_candidates_are_refused():
    run = start(eval_candidates=39)
    with pytest.raises(WorldError, match="lower eval_candidates"):
        run.system.eval_set(run.data, "test")


def test_held_out_rows_are_each_user_s_last_two():
    run = start()
    held = run.system.held_out(run.world)
    log = run.world.interactions
    for user in range(run.world.num_users):
        rows = np.flatnonzero(log.user == user)
        newest = rows[np.argsort(log.time[rows], kind="stable")][-2:]

        assert sorted(newest.tolist()) == np.flatnonzero(held & (log.user == user)).tolist()


def test_training_does_not_depend_on_held_out_rows():
    run = start()
    log = run.world.interactions
    held = run.system.held_out(run.world)
    edited = dataclasses.replace(
        log,
        item=np.where(held, 1 + log.item % 40, log.item),
        behaviour=np.where(held, 1 + log.behaviour % 4, log.behaviour),
    )
    other = start(world=dataclasses.replace(run.world, interactions=edited, oracle=None))

    assert run.steps(8).losses == other.steps(8).losses
    assert run.data.counts.tolist() == other.data.counts.tolist()


def test_the_oracle_is_given_what_the_model_is_given():
    run = start()
    eval_set = run.system.eval_set(run.data, "test")
    scores = run.system.oracle_scores(run.world, eval_set)
    blind = run.world.oracle.scores(eval_set.histories)

    assert scores.shape == (120, 41)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)
    assert not np.allclose(scores, blind)
    assert run.system.oracle_scores(dataclasses.replace(run.world, oracle=None), eval_set) is None


def test_tables_maps_and_counts():
    run = start()
    tables, maps = run.system.tables(run.model), run.system.id_maps(run.data)
    counts = run.system.other_popularity(run.data)["behaviour"]

    assert tables["item"].weight.shape == (41, 16)
    assert tables["behaviour"].weight.shape == (5, 16)
    assert maps["behaviour"].raws == ("pv", "fav", "cart", "buy")
    assert counts.sum() == run.data.counts.sum() == (run.data.train_ends - run.data.train_starts).sum()


def test_branches_name_parameters():
    run = start()
    names = [name for name, _ in run.model.named_parameters()]
    for prefix, loss in run.system.branches(run.model).values():
        assert any(name.startswith(prefix) for name in names)
        assert loss in run.system.losses(run.model, next(run.stream))


@pytest.mark.parametrize(
    "features",
    [{}, {"predict_only_target": True, "dropout": 0.2}, {"eval_candidates": None, "matmul_precision": "medium"}],
    ids=str,
)
def test_the_loop_trains_and_records_it(features):
    spec = RunSpec(system="gear", world="tiny-behaviours", steps=12, eval_every=6, config={**WITHOUT_STEPS, **features})
    record = run_spec(spec)

    assert record.final("test/ndcg@1") == record.final("test/recall@1")
    assert record.facts["protocol"]["test"]["num_users"] == 120
    assert 0 < record.facts["protocol"]["test"]["num_scored"] < 120
    assert record.facts["evaluation"]["drew"] == []
    assert record.facts["globals_changed"] == {}
    assert (record["table/item"][0] == 0).all()
    assert record.facts["inputs"]["steps_per_epoch"] == 4
    assert [result.check for result in effects(record) if result.red] == []


def test_equal_times_and_short_users_are_no_trouble():
    world = world_with("tiny-behaviours", equal_time_fraction=0.5, cold_fraction=0.3)
    run = start(world=world).steps(4)
    short = (np.bincount(world.interactions.user, minlength=120) < 3).sum()

    assert len(run.data.users) == 120 - short < 120
    assert all(map(math.isfinite, run.losses))
    assert (run.system.eval_set(run.data, "test").inputs["elapsed"] >= 0).all()


def test_a_world_without_behaviours_says_what_is_missing():
    plain = world_with("tiny", behaviours=(), behaviour_shares=())
    with pytest.raises(WorldError, match="a behaviour column, or ratings, is needed"):
        start(world=plain)


def test_behaviours_that_say_nothing_will_do():
    assert len(start(world=tiny_world("tiny")).steps(2).losses) == 2


def test_defaults_are_small():
    assert GEARConfig().steps * GEARConfig().batch_size < 20_000
