"""The system as a whole: losses, stages, what learns, scoring, evaluation, resuming."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fixtures.ur4rec import SMALL, start
from fixtures.worlds import tiny_world
from rectest.data.held_out import relabel_held_out
from rectest.errors import ConfigError, WorldError
from rectest.record import RunSpec
from rectest.systems.registry import make_system
from rectest.systems.ur4rec.candidates import audit
from rectest.systems.ur4rec.presets import PRESETS, preset
from rectest.systems.ur4rec.system import UR4RecSystem
from rectest.training.evaluate import count_ranks
from rectest.training.program import run_spec

ENDLESS = {"stages": ["end_to_end"], "stage_shares": [1.0], "learning_rate": 1e-2, "retriever_learning_rate": 1e-2}


def test_it_is_registered():
    assert isinstance(make_system("ur4rec"), UR4RecSystem)


def test_losses_by_hand():
    run = start(**ENDLESS, sasrec_dropout=0.0, retriever_dropout=0.0).steps(3)
    run.model.train()
    batch = next(run.stream)
    losses = run.system.losses(run.model, batch)
    inputs, negatives = batch.inputs, batch.negatives
    states, items = run.model.sasrec(inputs["sequence"]), run.model.sasrec.item_embedding
    real = inputs["positives"] > 0
    gap = (states * items(inputs["positives"])).sum(-1)[..., None] - (
        states[:, :, None] * items(negatives["sasrec"])
    ).sum(-1)
    bpr = -functional.logsigmoid(gap[real]).mean()
    parts = []
    for column in range(inputs["picked"].shape[1]):
        candidates = torch.cat([inputs["picked"][:, column, None], negatives["retriever"][:, column]], dim=1)
        logits = run.model.retriever(inputs["users"], candidates)
        labels = torch.zeros_like(logits).index_fill_(1, torch.tensor([0]), 1.0)
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        parts.append(each[inputs["picked"][:, column] > 0])
    bce = torch.cat(parts).mean()

    torch.testing.assert_close(bpr, losses["sasrec"])
    torch.testing.assert_close(bce, losses["retriever"])
    torch.testing.assert_close(run.model.loss_weights({"sasrec": bpr, "retriever": bce}), losses["total"])


def test_each_stage_moves_what_it_trains_and_nothing_else():
    """10 steps each; the alternation moves one component at a time."""
    run = start(stage_shares=[0.25, 0.25, 0.25, 0.25])
    for moved in ({"sasrec"}, {"retriever"}, {"sasrec"}, {"sasrec", "retriever"}):
        before = run.parameters()
        run.steps(1)
        changed = {name.partition(".")[0] for name, value in run.parameters().items() if not value.equal(before[name])}

        assert changed - {"loss_weights"} == moved
        assert run.losses[-1]["total"] == pytest.approx(sum(run.losses[-1][name] for name in moved), rel=1e-2)
        run.steps(9)


def test_every_parameter_is_trainable_again_at_the_end():
    run = start(stages=["pretrain_sasrec", "joint_finetune"], stage_shares=[0.5, 0.5], adaptive_alternation=False)
    run.steps(20)
    frozen = {name.partition(".")[0] for name, p in run.model.named_parameters() if not p.requires_grad}
    run.steps(1)

    assert frozen == {"retriever"}
    assert all(parameter.requires_grad for parameter in run.model.parameters())


def test_every_parameter_moves():
    """In four steps of which the memory hears; key biases move by rounding only, which is what softmax leaves them."""
    run = start(**ENDLESS, memory_threshold=1)
    before = run.parameters()
    run.steps(8)
    still = [name for name, value in run.parameters().items() if value.equal(before[name])]

    assert still == []


def test_padding_rows_stay_zero():
    run = start().steps(40)

    assert not run.model.sasrec.item_embedding.weight[0].any()
    assert not run.model.retriever.item_table.weight[0].any()


@pytest.mark.slow
def test_both_components_learn_more_than_chance():
    run = start(**ENDLESS, steps=150, embedding_size=32).steps(150)
    eval_set = run.eval_set()
    parts = {**run.system.components(run.model.eval(), eval_set, slice(0, len(eval_set))), "fused": run.scores()}
    recall = {}
    for name, scores in parts.items():
        ranks = count_ranks(
            lambda rows, s=scores: s[rows], len(eval_set), eval_set.relevant, candidates=eval_set.candidates
        )
        recall[name] = (ranks.expected <= 5).mean()

    assert min(recall.values()) > 5 / 21 + 0.08


def test_components_add_up_to_the_score():
    run = start().steps(15)
    eval_set = run.eval_set()
    parts = run.system.components(run.model.eval(), eval_set, slice(0, 50))

    torch.testing.assert_close(sum(parts.values()), run.scores()[:50], rtol=1e-6, atol=1e-6)
    for name, weight in (("sasrec", 0.8), ("retriever", 0.2)):
        spread = parts[name].detach().std(-1, correction=0)
        torch.testing.assert_close(spread, torch.full_like(spread, weight), rtol=1e-3, atol=1e-3)


def test_left_padding_changes_nothing():
    run = start().steps(15)
    eval_set = run.eval_set()
    wider = run.system.left_padded(eval_set, 4)

    assert wider.inputs["items"].shape[1] == eval_set.inputs["items"].shape[1] + 4
    torch.testing.assert_close(run.scores(eval_set), run.scores(wider), rtol=1e-4, atol=1e-5)


def test_blocks_of_users_change_no_score():
    run = start().steps(25)
    eval_set = run.eval_set()
    run.model.eval()
    with torch.no_grad():
        parts = [run.system.score(run.model, eval_set, slice(i, i + 7)) for i in range(0, len(eval_set), 7)]

    torch.testing.assert_close(run.scores(), torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_scoring_changes_nothing():
    run = start().steps(25)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    states = [m.generator.get_state() for m in (run.model.sasrec.dropout, run.model.retriever.dropout)]
    first = run.scores()

    assert torch.equal(first, run.scores())
    assert all(torch.equal(value, run.model.state_dict()[name]) for name, value in before.items())
    assert all(
        torch.equal(state, m.generator.get_state())
        for state, m in zip(states, (run.model.sasrec.dropout, run.model.retriever.dropout), strict=True)
    )


@pytest.mark.parametrize("split", ["valid", "test"])
def test_candidates(split):
    """21 distinct ids, the target at any place among them, the same ones for every seed, nothing the user ever had."""
    run, other = start(), start(seed=9)
    eval_set = run.eval_set(split)
    targets = np.concatenate(eval_set.relevant)
    places = (eval_set.candidates == targets[:, None]).argmax(1)

    assert eval_set.candidates.shape == (len(eval_set), 21)
    assert all(len(set(row)) == 21 for row in eval_set.candidates.tolist())
    assert len(set(places.tolist())) > 10
    assert np.array_equal(eval_set.candidates, other.eval_set(split).candidates)
    assert audit(run.data, eval_set) == {"phantom": 0, "seen": 0}


def test_too_few_items_for_the_candidates():
    with pytest.raises(WorldError, match="lower num_candidates"):
        start(num_candidates=39).eval_set()


@pytest.mark.parametrize("split", ["leave_two_out", "ratio"])
def test_training_does_not_depend_on_what_is_held_out(split):
    world = tiny_world("tiny-words")
    system = start(split=split).system
    rows = system.held_out(world)
    edited = relabel_held_out(world, rows, np.random.default_rng(0))
    first, second = (start(split=split, world=w).steps(6) for w in (world, edited))

    assert first.losses == second.losses
    assert all(value.equal(second.model.state_dict()[name]) for name, value in first.model.state_dict().items())
    assert rows.sum() == (first.data.held_out.sequences.lengths - first.data.held_out.num_train).sum()
    assert not np.array_equal(np.concatenate(first.eval_set().relevant), np.concatenate(second.eval_set().relevant))


def test_promises_are_kept():
    """Counters that settings and data alone determine, over the whole run."""
    run = start().steps(40)
    for name, promised in run.system.input_facts(run.data)["expected_scalars"].items():
        assert promised == pytest.approx(np.mean([scalars[name] for scalars in run.scalars]), rel=1e-12), name
    for obtained, expected in run.system.input_facts(run.data)["invariants"].values():
        assert expected == obtained


def test_memory_and_stage_curves():
    run = start().steps(40)
    counts = [scalars["memory/interactions"] for scalars in run.scalars]

    assert counts[13] == 0 < counts[14]
    assert counts == sorted(counts)
    assert [scalars["stage"] for scalars in run.scalars][::13] == [0, 0, 2, 3]


def test_a_run_goes_on_where_it_was():
    """From the model, the optimizer, the dropout generators and the number of steps alone."""
    whole = start().steps(40)
    first = start().steps(27)
    second = start()
    second.model.load_state_dict(copy.deepcopy(first.model.state_dict()))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    for part in ("sasrec", "retriever"):
        state = getattr(first.model, part).dropout.generator.get_state()
        getattr(second.model, part).dropout.generator.set_state(state)
    for _ in range(27):
        next(second.stream)
    second.steps(13)

    assert whole.losses[27:] == second.losses
    assert all(value.equal(second.model.state_dict()[name]) for name, value in whole.model.state_dict().items())


def test_worlds_without_words_take_the_raw_ids():
    run = start(world=tiny_world()).steps(2)

    assert run.data.words[1] == (str(run.data.items.raw(1)),)
    assert math.isfinite(run.losses[-1]["total"])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"stages": ["pretrain"], "stage_shares": [1.0]}, "needs at least one of pretrain_sasrec"),
        ({"stages": ["end_to_end"]}, "needs 1 positive shares"),
        ({"num_heads": 3}, "must divide embedding_size"),
        ({"memory_decay": 0.0}, "must be in"),
        ({"targets": "first"}, "needs"),
        ({"sasrec_weight": 0.0, "retriever_weight": 0.0}, "must be > 0"),
    ],
)
def test_bad_settings(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        UR4RecSystem.from_settings(settings)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_settings_that_train(name):
    small = {"num_candidates": 20, "memory_history": 4}
    run = start(system=UR4RecSystem.from_settings({**preset(name, num_epochs=1, num_users=120), **small}))
    run.steps(3)

    assert all(math.isfinite(loss["total"]) for loss in run.losses)
    assert RunSpec(system="ur4rec", config=preset(name)).config["targets"] == "last"


def test_presets_have_the_report_s_steps():
    """ceil(938 / 16) is 59 batches per epoch, not 60."""
    assert [preset(n, num_epochs=1, num_users=938)["steps"] for n in PRESETS] == [30, 59, 118]
    with pytest.raises(ValueError, match="no preset 'bold'"):
        preset("bold")


@pytest.mark.slow
def test_the_loop_records_it():
    record = run_spec(RunSpec(system="ur4rec", world="tiny-words", config=SMALL))

    assert record.facts["inputs"]["num_train_users"] == 120
    assert record.facts["settings_read"]["never_read"] == []
    assert record.facts["probes"]["padding"]["max_difference"] < 1e-4
    assert not any(record.facts["probes"]["modes"][mode] for mode in ("train/grad", "eval/no_grad"))
