"""The system as a whole: loss, learning, scoring and the evaluation protocol; features are in `test_features`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fixtures.adaptive_sasrec import SMALL, evaluate_recall, start
from fixtures.worlds import tiny_world
from rectest.errors import WorldError
from rectest.record import RunSpec
from rectest.systems.adaptive_sasrec.system import AdaptiveSASRec
from rectest.systems.protocol import Batch
from rectest.systems.registry import make_system
from rectest.training.program import run_spec

FULL = ("dot", "cosine", "scaled", "bilinear")


def test_it_is_registered():
    assert isinstance(make_system("adaptive_sasrec"), AdaptiveSASRec)


@pytest.mark.parametrize("features", [{}, {"adaptive": True, "similarity": FULL}, {"smart_negatives": True}], ids=str)
def test_first_loss_is_twice_ln_2(features):
    assert 2 * math.log(2) == pytest.approx(start(**features).steps(1).losses[0], rel=0.02)


def test_loss_by_hand():
    run = start()
    batch = next(run.stream)
    losses = run.system.losses(run.model, batch)
    states = run.model(batch.inputs["sequence"])
    real = batch.inputs["positives"] > 0
    expected = []
    for items, label in ((batch.inputs["positives"], 1.0), (batch.negatives["items"], 0.0)):
        logits = (states * run.model.item_embedding(items)).sum(-1)[real]
        expected.append(torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label)))

    torch.testing.assert_close(expected[0], losses["positive"])
    torch.testing.assert_close(expected[1], losses["negative"])
    torch.testing.assert_close(expected[0] + expected[1], losses["total"])


def test_padding_does_not_count_in_the_loss():
    run = start().steps(5)
    batch = next(run.stream)
    wider = {
        name: torch.nn.functional.pad(value, (4, 0))
        for name, value in (*batch.inputs.items(), *batch.negatives.items())
    }
    inputs, negatives = {k: wider[k] for k in ("sequence", "positives")}, {"items": wider["items"]}
    expected = run.system.losses(run.model, batch)["total"]

    torch.testing.assert_close(
        expected, run.system.losses(run.model, Batch(inputs=inputs, negatives=negatives))["total"]
    )


def test_one_batch_can_be_learned_by_heart():
    run = start(learning_rate=1e-2)
    batch = next(run.stream)
    for _ in range(150):
        last = run.system.step(run.model, run.optimizer, batch)["total"]

    assert float(last.detach()) < 0.2


def test_it_learns_more_than_popularity():
    run = start(embedding_size=32, learning_rate=5e-3).steps(150)
    eval_set = run.system.eval_set(run.data, "test")
    counts = run.data.counts.astype(float)
    popular = []
    for history, (target,) in zip(eval_set.histories, eval_set.relevant, strict=True):
        scores = np.where(np.isin(np.arange(len(counts)), [0, *history]), -1.0, counts)
        popular.append((scores > scores[target]).sum() < 5)

    assert evaluate_recall(run, k=5) > np.mean(popular) + 0.08


def test_padding_row_stays_zero():
    run = start(adaptive=True, similarity=FULL, smart_negatives=True).steps(20)

    assert (run.model.item_embedding.weight[0] == 0).all()
    assert (run.model.position_embedding.weight[0] == 0).all()


def test_blocks_of_users_change_no_score():
    run = start().steps(3)
    eval_set = run.system.eval_set(run.data, "test")
    run.model.eval()
    with torch.no_grad():
        parts = [run.system.score(run.model, eval_set, slice(i, i + 7)) for i in range(0, len(eval_set), 7)]

    torch.testing.assert_close(torch.from_numpy(run.scores()), torch.cat(parts), rtol=1e-5, atol=1e-5)


def test_scoring_changes_nothing():
    run = start(dropout=0.3, adaptive=True, similarity=FULL).steps(3)
    before, states = run.parameters(), (torch.get_rng_state(), run.model.dropout.generator.get_state())
    first, second = run.scores(), run.scores()

    assert np.array_equal(first, second)
    assert all(torch.equal(value, run.parameters()[name]) for name, value in before.items())
    assert torch.equal(states[0], torch.get_rng_state())
    assert torch.equal(states[1], run.model.dropout.generator.get_state())


def test_held_out_items_do_not_reach_the_score():
    run = start().steps(2)
    valid, test = (run.system.eval_set(run.data, split) for split in ("valid", "test"))
    for row in range(len(test)):
        history, (target,) = test.histories[row].tolist(), test.relevant[row].tolist()

        assert history == [*valid.histories[row].tolist(), *valid.relevant[row].tolist()]
        assert target not in history
        assert history[-10:] == [item for item in test.inputs["items"][row].tolist() if item]


def test_seen_items_are_excluded_unless_users_repeat():
    plain, repeats = start(), start(world=tiny_world("tiny-repeats"))
    eval_set = plain.system.eval_set(plain.data, "test")

    assert [h.tolist() for h in eval_set.histories] == [e.tolist() for e in eval_set.excluded]
    assert repeats.system.eval_set(repeats.data, "test").excluded is None
    assert start(exclude_seen=False).system.eval_set(plain.data, "test").excluded is None


def test_excluding_what_may_be_relevant_is_refused():
    with pytest.raises(WorldError, match="set exclude_seen to false"):
        start(world=tiny_world("tiny-repeats"), exclude_seen=True)


def test_an_unknown_split_is_refused():
    run = start()
    with pytest.raises(ValueError, match="split must be"):
        run.system.eval_set(run.data, "train")


def test_sampled_candidates():
    runs = [start(eval_candidates=20, seed=seed) for seed in (0, 1)]
    first, second = (run.system.eval_set(run.data, "test") for run in runs)
    split = runs[0].data.split

    assert np.array_equal(first.candidates, second.candidates), "every seed is judged on the same candidates"
    assert not np.array_equal(first.candidates, runs[0].system.eval_set(runs[0].data, "valid").candidates)
    for row, user in enumerate(first.users.tolist()):
        ids, (target,) = first.candidates[row].tolist(), first.relevant[row].tolist()
        own = {*split.train[user].tolist(), int(split.valid[user])}

        assert len(ids) == len(set(ids)) == 21
        assert ids.count(target) == 1
        assert not own & set(ids)
        assert 0 not in ids
    slots = (first.candidates == np.array([r[0] for r in first.relevant])[:, None]).argmax(1)

    assert len(set(slots.tolist())) > 10, "the target's place says nothing"


def test_scores_of_candidates_are_those_of_the_catalogue():
    run = start(eval_candidates=20, adaptive=True, similarity=FULL).steps(3)
    full = start(adaptive=True, similarity=FULL).steps(3).scores()
    expected = np.take_along_axis(full, run.system.eval_set(run.data, "test").candidates, axis=1)

    np.testing.assert_allclose(expected, run.scores(), rtol=1e-4, atol=1e-5)


def test_too_many_candidates_are_refused():
    run = start(eval_candidates=36)
    with pytest.raises(WorldError, match="36 evaluation candidates"):
        run.system.eval_set(run.data, "test")


def test_rows_in_use_are_what_moved():
    run = start().steps(1)
    (batch,) = run.batches
    used = set(run.system.used_rows(batch)["item"].tolist())
    start_table = start().model.item_embedding.weight
    moved = (run.model.item_embedding.weight != start_table).any(1).nonzero().flatten().tolist()

    assert used == set(moved)
    assert 0 not in used


def test_table_and_id_map():
    run = start()
    table = run.system.tables(run.model)["item"]

    assert table.weight.shape == (41, 16)
    assert (table.space, table.padding_row) == ("item", 0)
    assert tiny_world().items == run.system.id_maps(run.data)["item"]
    assert run.data.counts.tolist() == run.system.popularity(run.data).tolist()


def test_input_facts_name_the_data():
    run, other = start(), start(world=tiny_world("tiny-cold"))
    facts = run.system.input_facts(run.data)

    assert facts["num_train_events"] == int(run.data.counts.sum())
    assert facts["train"] != other.system.input_facts(other.data)["train"]


def test_wider_evaluation_input_is_cut_to_the_model():
    run = start(max_length=4)
    eval_set = run.system.eval_set(run.data, "test")

    assert eval_set.inputs["items"].shape[1] == 4


def test_dropout_leaves_no_trace_in_the_global_generator():
    run = start(dropout=0.5)
    before = torch.get_rng_state()
    run.steps(2)

    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("features", [{}, {"adaptive": True, "similarity": list(FULL), "eval_candidates": 12}], ids=str)
def test_the_loop_trains_and_records_it(features):
    spec = RunSpec(system="adaptive_sasrec", world="tiny", steps=6, eval_every=3, config=_without_steps(features))
    record = run_spec(spec)

    assert {"recall@10", "hit@10", "ndcg@10", "mrr"} == set(record.metrics("test"))
    assert record.final("test/recall@10") == record.final("test/hit@10")
    assert record.facts["protocol"]["test"]["num_scored"] == 120
    assert record.facts["evaluation"]["drew"] == []
    assert (record["table/item"][0] == 0).all()
    assert len(record["counter/negatives/relative_popularity"]) == 6
    assert record["rows/item"][0] == 0


def _without_steps(features):
    return {key: value for key, value in {**SMALL, **features}.items() if key not in ("steps", "eval_every")}
