"""Encoder, fusion, prefix and decoder: what may see what, and what padding must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fixtures.gram_c import start
from rectest.systems.gram_c.model import Prefix
from rectest.systems.gram_c.scoring import prefix_effect
from rectest.systems.gram_c.text import START
from rectest.systems.layers import Dropout


@pytest.fixture
def run():
    return start()


@pytest.fixture
def inputs(run):
    """Eight samples with full histories."""
    batch = run.data.collator(run.data.parts["test"].samples, run.data.parts["test"].newest, slice(0, 8))
    run.model.eval()
    return batch


def test_blocks_and_sizes(run):
    assert (len(run.model.encoder.blocks), len(run.model.decoder.blocks)) == (2, 2)
    assert run.model.encoder.passage_embedding.shape == (3, 16)
    assert not run.model.prefix.table.requires_grad
    assert "prefix.table" in run.model.state_dict()


def test_padding_token_is_zero_and_stays_zero(run):
    run.steps(5)

    assert (run.model.token_embedding.weight[0] == 0).all()
    assert (run.model.token_embedding.weight[1:] != 0).any(1).all()


def test_no_recent_items_give_exactly_no_prefix_at_the_start(run):
    run.model.eval()
    prefix = run.model.prefix(torch.zeros(3, 5, dtype=torch.int64))

    assert torch.equal(prefix, torch.zeros(3, 1, 16))
    assert (run.model.prefix(torch.ones(1, 5, dtype=torch.int64)) != 0).any()


def test_the_prefix_is_the_mean_of_the_items_that_are_there(run):
    run.model.eval()
    one, padded, both = (run.model.prefix(torch.tensor([[0, 0, 0, *ids]])) for ids in ((0, 3), (3, 3), (3, 4)))

    torch.testing.assert_close(one, padded)
    assert not torch.allclose(one, both)


def test_the_whole_prefix_is_dropped_for_some_users():
    table = torch.nn.functional.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    prefix = Prefix(table, size=8, scale=0.1, dropout=Dropout(0.0, 0), drop_whole=Dropout(0.25, 1))
    for parameter in prefix.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    recent = torch.ones(4000, 5, dtype=torch.int64)
    kept = prefix.train()(recent)[:, 0]
    dropped = (kept == 0).all(1)

    assert float(dropped.double().mean()) == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(kept[~dropped][:5], prefix.eval()(recent)[:5, 0] / 0.75)


def test_passages_are_read_one_by_one(run, inputs):
    """Another text in one passage moves no other passage."""
    changed = inputs["item_text_ids"].clone()
    changed[:, 1] = changed[:, 1].flip(0)
    mask = changed > 0
    with torch.no_grad():
        first, second = (
            run.model.encoder(run.model.token_embedding(text), real).unflatten(1, (3, 6))
            for text, real in ((inputs["item_text_ids"], inputs["item_text_mask"]), (changed, mask))
        )

    assert torch.equal(first[:, [0, 2]], second[:, [0, 2]])
    assert not torch.equal(first[:, 1], second[:, 1])


def test_the_place_of_a_passage_matters(run, inputs):
    swapped = {**inputs}
    for name in ("item_text_ids", "item_text_mask"):
        swapped[name] = inputs[name][:, [0, 2, 1]]
    with torch.no_grad():
        first, second = (run.model(given) for given in (inputs, swapped))

    assert not torch.allclose(first, second, atol=1e-4)


def test_padding_is_looked_at_by_nobody(run, inputs):
    """Another vector for the padding, and more padding behind the passages, change no logit."""
    with torch.no_grad():
        expected = run.model(inputs)
        run.model.token_embedding.weight[0] = 7.0
        obtained = run.model(inputs)

    torch.testing.assert_close(expected, obtained)


def test_empty_passages_are_no_nan(run, inputs):
    inputs["item_text_ids"][:], inputs["item_text_mask"][:] = 0, False
    with torch.no_grad():
        assert torch.isfinite(run.model(inputs)).all()


def test_the_decoder_sees_what_was_written_and_no_more(run, inputs):
    """Each logit depends on the true tokens before it, and on none at or after it."""
    targets = inputs["target_ids"]
    with torch.no_grad():
        expected = run.model(inputs)
        for place in range(targets.shape[1]):
            changed = targets.clone()
            changed[:, place] = torch.where(changed[:, place] == START + 4, START + 5, START + 4)
            obtained = run.model({**inputs, "target_ids": changed})

            assert torch.equal(expected[:, : place + 1], obtained[:, : place + 1])
            if place + 1 < targets.shape[1]:
                assert not torch.equal(expected[:, place + 1 :], obtained[:, place + 1 :])


def test_decoder_inputs_by_hand(run):
    assert run.model.decoder_inputs(torch.tensor([[5, 9, 3], [2, -100, 3]])).tolist() == [[START, 5, 9], [START, 2, 0]]


def test_an_optional_part_moves_the_start_of_no_other(run):
    other = start(num_passages=1).model
    same = {name: value for name, value in run.model.named_parameters() if "passage" not in name}

    assert len(same) > 40
    assert all(torch.equal(value, dict(other.named_parameters())[name]) for name, value in same.items())


def test_every_parameter_gets_a_gradient_in_a_few_steps(run):
    moved = dict.fromkeys(run.parameters(), False)
    for _ in range(3):
        run.steps(1)
        for name, parameter in run.model.named_parameters():
            moved[name] |= bool((parameter.grad != 0).any())

    assert [name for name, got in moved.items() if not got] == []


def test_one_by_one_or_together_gives_the_same_scores(run):
    run.steps(3)
    whole = run.scores()
    eval_set = run.system.eval_set(run.data, "test")
    with torch.no_grad():
        alone = [run.system.score(run.model, eval_set, slice(i, i + 1)).numpy() for i in range(20)]

    np.testing.assert_allclose(whole[:20], np.concatenate(alone), rtol=1e-4, atol=1e-5)


def test_recent_items_that_do_not_arrive_make_no_difference_at_all(run):
    """Not at the start, when no recent item gives no prefix, and not later, when its biases have been trained."""
    with pytest.raises(ValueError, match="no training batch has been seen yet"):
        prefix_effect(run.model)
    run.steps(4)
    memory, real, recent = run.model.seen

    assert prefix_effect(run.model) > 0
    assert run.model.training
    run.model.seen = (memory, real, torch.zeros_like(recent))

    assert prefix_effect(run.model) == 0.0
    assert (run.model.prefix.eval()(torch.zeros(1, 5, dtype=torch.int64)) != 0).any()
