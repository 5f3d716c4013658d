"""The transformer: causal, blind to padding and to the rest of the batch, free of NaN, drawn from named streams."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.seeding import SeedPlan
from rectest.systems.adaptive_sasrec.model import SASRec
from rectest.systems.adaptive_sasrec.similarity import AdaptiveSimilarity, Similarity
from rectest.systems.layers import Dropout

VARIANTS = [
    {"norm_first": norm_first, "num_blocks": blocks, "num_heads": heads}
    for norm_first, (blocks, heads) in itertools.product((True, False), ((1, 1), (2, 4)))
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def made(*, similarity: Similarity | None = None, dropout: float = 0.0, seed: int = 0, **changes: object) -> SASRec:
    shape = {"embedding_size": 16, "num_blocks": 2, "num_heads": 2, "max_length": 8, "norm_first": True, **changes}
    model = SASRec(
        30,
        dropout=Dropout(dropout, 5),
        similarity=similarity or Similarity("dot", embedding_size=16),
        **shape,
    )
    model.reset(SeedPlan(root=seed), embedding_std=0.5, bilinear_init="xavier")
    return model


def histories(num_rows: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """Full rows; zero out from the left what should be padding."""
    return torch.randint(1, 31, (num_rows, width), generator=torch.Generator().manual_seed(seed))


def padded(items: torch.Tensor, num_zeros: int) -> torch.Tensor:
    return torch.cat([torch.zeros(len(items), num_zeros, dtype=torch.int64), items], dim=1)


@variants
def test_no_state_sees_a_later_item(variant):
    """A random projection is compared, since a sum after a LayerNorm is constant and would see nothing."""
    model = made(**variant)
    items = histories(4, 8)
    projection = torch.randn(16, generator=torch.Generator().manual_seed(1))
    before = model(items) @ projection
    for place in range(1, 8):
        changed = items.clone()
        changed[:, place:] = 1 + changed[:, place:] % 30
        after = model(changed) @ projection

        torch.testing.assert_close(before[:, :place], after[:, :place], rtol=0, atol=0)
        assert (before[:, place] != after[:, place]).all()


def test_gradient_to_the_future_is_zero():
    model = made()
    tokens = model.item_embedding(histories(2, 8)).detach().requires_grad_()
    model.item_embedding.forward = lambda _: tokens
    projection = torch.randn(16, generator=torch.Generator().manual_seed(1))
    (model(histories(2, 8))[:, 3] @ projection).sum().backward()

    assert (tokens.grad[:, 4:] == 0).all()
    assert (tokens.grad[:, :4] != 0).any(-1).all()


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 8), extra=st.integers(0, 12), variant=st.sampled_from(VARIANTS), seed=st.integers(0, 99))
def test_left_padding_changes_no_state(length, extra, variant, seed):
    model = made(**variant)
    items = histories(3, length, seed=seed)

    torch.testing.assert_close(model(items), model(padded(items, extra))[:, extra:], rtol=1e-5, atol=1e-5)


@variants
def test_other_rows_change_no_state(variant):
    model = made(**variant)
    items = torch.cat([padded(histories(2, 3), 5), histories(3, 8, seed=1)])
    together = model(items)
    for row in range(len(items)):
        torch.testing.assert_close(together[row], model(items[row : row + 1])[0], rtol=1e-5, atol=1e-5)


def test_order_matters():
    items = histories(1, 8)

    assert not torch.allclose(made()(items)[:, -1], made()(items.flip(1))[:, -1], atol=1e-3)


def test_items_beyond_max_length_do_not_count():
    model = made()
    items = histories(2, 12)

    torch.testing.assert_close(model(items[:, -8:]), model(items)[:, -8:], rtol=1e-5, atol=1e-5)
    assert (model(items)[:, :4] == 0).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@variants
def test_fully_padded_rows_are_finite(variant, training, grad):
    model = made(dropout=0.2, **variant).train(training)
    items = torch.cat([torch.zeros(2, 8, dtype=torch.int64), padded(histories(2, 3), 5)])
    with torch.set_grad_enabled(grad):
        states = model(items)

        assert torch.isfinite(states).all()
        assert (states[:2] == 0).all()
        if grad:
            states.square().sum().backward()

            assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_padding_rows_are_zero_and_get_no_gradient():
    model = made()
    model(padded(histories(3, 4), 4)).square().sum().backward()
    for table in (model.item_embedding, model.position_embedding):
        assert (table.weight[0] == 0).all()
        assert (table.weight[1:] != 0).any(-1).all()
        assert (table.weight.grad[0] == 0).all()


def test_optional_parts_do_not_move_the_start_of_the_others():
    plain = made().state_dict()
    blend = made(similarity=AdaptiveSimilarity("dot", "cosine", "bilinear", embedding_size=16)).state_dict()

    assert set(plain) < set(blend)
    assert all(torch.equal(plain[name], blend[name]) for name in plain)


def test_a_deeper_model_starts_with_the_same_first_block():
    shallow, deep = made(num_blocks=1).state_dict(), made(num_blocks=2).state_dict()

    assert all(torch.equal(shallow[name], deep[name]) for name in shallow)


def test_building_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    made(similarity=AdaptiveSimilarity("bilinear", "dot", embedding_size=16))

    assert torch.equal(before, torch.get_rng_state())


def test_seeds_give_different_models():
    assert not torch.equal(made(seed=0).item_embedding.weight, made(seed=1).item_embedding.weight)


def test_dropout_keeps_the_mean_and_its_share():
    values = torch.ones(200, 200)
    dropped = Dropout(0.2, 0).train()(values)

    assert float((dropped == 0).double().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert {0.0, 1.25} == set(dropped.unique().tolist())


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.3, False)])
def test_idle_dropout_draws_nothing(rate, training):
    dropout = Dropout(rate, 0).train(training)
    before = dropout.generator.get_state()
    values = torch.ones(3, 3)

    assert dropout(values) is values
    assert torch.equal(before, dropout.generator.get_state())
