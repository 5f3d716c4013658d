"""Tests for the five user models: shapes, invariance to padding and batch, label-aware readout, seeded parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rectest.seeding import SeedPlan
from rectest.systems.comirec.model import (
    MODELS,
    MULTI_INTEREST,
    LastGruState,
    MeanPooling,
    SelfAttention,
    UserModel,
    item_scores,
    label_aware,
    make_model,
)

LENGTH, NUM_ITEMS = 6, 20


def model_of(kind: str, *, seed: int = 0, relu_layer: bool = False) -> UserModel:
    return make_model(
        kind,
        num_items=NUM_ITEMS,
        embedding_size=8,
        history_length=LENGTH,
        num_interests=3,
        routing_rounds=3,
        relu_layer=relu_layer,
        seeds=SeedPlan(root=seed),
    )


def padded(histories: list[list[int]], width: int) -> tuple[Tensor, Tensor]:
    rows = torch.zeros(len(histories), width, dtype=torch.int64)
    for row, history in enumerate(histories):
        rows[row, : len(history)] = torch.tensor(history)
    return rows, (rows > 0).float()


histories = st.lists(st.lists(st.integers(1, NUM_ITEMS), min_size=1, max_size=LENGTH), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", MODELS)
def test_gives_one_vector_per_interest(kind: str) -> None:
    interests = model_of(kind)(*padded([[1, 2, 3], [4]], LENGTH))

    assert (2, 3 if kind in MULTI_INTEREST else 1, 8) == tuple(interests.shape)
    assert interests.isfinite().all()


@pytest.mark.parametrize("kind", MODELS)
@given(rows=histories, data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_user_scores_the_same_alone_in_any_batch_and_at_any_padding(
    kind: str, rows: list[list[int]], data: st.DataObject
) -> None:
    model = model_of(kind).eval()
    chosen = data.draw(st.integers(0, len(rows) - 1))
    width = data.draw(st.integers(len(rows[chosen]), LENGTH))
    together = item_scores(model(*padded(rows, LENGTH)), model.item.weight)[chosen]
    alone = item_scores(model(*padded([rows[chosen]], width)), model.item.weight)[0]

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_what_stands_at_a_masked_position_has_no_influence(kind: str) -> None:
    model = model_of(kind).eval()
    history, mask = padded([[3, 4]], LENGTH)
    expected = model(history, mask)
    history[:, 2:] = 7

    torch.testing.assert_close(expected, model(history, mask))


@pytest.mark.parametrize("kind", MODELS)
def test_parameters_depend_on_the_seed_and_on_no_global_generator(kind: str) -> None:
    before = torch.get_rng_state()
    first = model_of(kind).state_dict()
    torch.manual_seed(99)
    again, other = model_of(kind).state_dict(), model_of(kind, seed=1).state_dict()
    torch.set_rng_state(before)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["item.weight"], other["item.weight"])
    assert not first["item.weight"][0].any()


@pytest.mark.parametrize("kind", MODELS)
def test_building_consumes_no_global_randomness(kind: str) -> None:
    before = torch.get_rng_state()
    model_of(kind)

    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", MODELS)
def test_every_parameter_gets_a_gradient_and_padding_none(kind: str) -> None:
    model = model_of(kind, relu_layer=True)
    generator = torch.Generator().manual_seed(0)
    interests = model(*padded([[1, 2, 3, 4, 5, 6], [7, 8]], LENGTH))
    (interests * torch.randn(interests.shape, generator=generator)).sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert not model.item.weight.grad[0].any()  # type: ignore[index]


def test_mean_pooling_by_hand() -> None:
    extractor = MeanPooling(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        extractor.weight_DD.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        extractor.bias_D.copy_(torch.tensor([0.0, 10.0]))
    embedded = torch.tensor([[[1.0, 1.0], [3.0, 5.0], [9.0, 9.0]]])

    assert [[[2.0, 16.0]]] == extractor(embedded, torch.tensor([[1.0, 1.0, 0.0]])).tolist()


def test_the_gru_reads_up_to_the_last_item() -> None:
    extractor = LastGruState(4, torch.Generator().manual_seed(0))
    embedded = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(1))
    _, last = extractor.gru(embedded[:, :3])

    torch.testing.assert_close(last[0], extractor(embedded, torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]]))[:, 0])


def test_attention_steers_by_position_but_keeps_positions_out_of_the_value() -> None:
    extractor = SelfAttention(4, history_length=3, num_interests=2, generator=torch.Generator().manual_seed(0))
    same_item = torch.ones(1, 3, 4)
    items = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(torch.ones(1, 2, 4), extractor(same_item, torch.ones(1, 3)))
    assert not torch.allclose(extractor(items, torch.ones(1, 3)), extractor(items.flip(1), torch.ones(1, 3)))


def test_the_readout_takes_the_interest_that_fits_the_label() -> None:
    interests = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
    obtained = label_aware(interests, torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    obtained.sum().backward()

    assert [[1.0, 0.0], [0.0, 1.0]] == obtained.tolist()
    assert [[1.0, 0.0], [0.0, 1.0]] == interests.grad.sum(dim=2).ne(0).float().tolist()  # type: ignore[union-attr]


def test_scores_are_the_best_interest_and_padding_is_last() -> None:
    interests = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    scores = item_scores(interests, torch.tensor([[9.0, 9.0], [0.5, -1.0], [-1.0, 0.25], [-3.0, -2.0]]))

    assert [0.5, 0.25, -2.0] == scores[0, 1:].tolist()
    assert scores[0, 0] < -1e30
    assert scores.isfinite().all()


@given(st.integers(0, 1000), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_ranking_by_the_best_interest_is_the_merge_of_the_lists_per_interest(seed: int, depth: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    interests, table = torch.randn(1, 3, 4, generator=generator), torch.randn(13, 4, generator=generator)
    lists = interests[0] @ table[1:].T
    entries = sorted(((float(s), item + 1) for row in lists for item, s in enumerate(row)), reverse=True)
    merged = list(dict.fromkeys(item for _, item in entries))[:depth]

    assert merged == item_scores(interests, table)[0].topk(depth).indices.tolist()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of dnn, gru4rec"):
        model_of("bert4rec")
