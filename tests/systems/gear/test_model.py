"""The model against the counts of report 004, against torch's own layers, and against what it must not see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rectest.seeding import SeedPlan
from rectest.systems.gear.model import GEAR, Layer, interleaved, num_parameters

SEEDS = SeedPlan(root=0)


def make(
    *, items: int = 12, behaviours: int = 4, size: int = 16, heads: int = 2, layers: int = 2, dropout: float = 0.0
):
    model = GEAR(
        items,
        behaviours,
        embedding_size=size,
        num_heads=heads,
        num_layers=layers,
        dropout=dropout,
        seeds=SEEDS,
    )
    model.reset(SEEDS, embedding_std=0.5)
    return model


def sequences(*, width: int = 7, users: int = 3):
    rng = torch.Generator().manual_seed(1)
    items = torch.randint(1, 13, (users, width), generator=rng)
    behaviours = torch.randint(1, 5, (users, width), generator=rng)
    elapsed = torch.randint(0, 90, (users, width), generator=rng).cumsum(1)
    return items[:, :-1], behaviours, elapsed - elapsed[:, :1]


def test_counts_are_those_of_report_004():
    """99,037 items, 4 behaviours, 32 wide, 4 layers: 3,245,664 parameters of 4 bytes, 71 modules; no graph fits in."""
    with torch.device("meta"):
        model = GEAR(99_037, 4, embedding_size=32, num_heads=2, num_layers=4, dropout=0.2, seeds=SEEDS)
    total = sum(parameter.numel() for parameter in model.parameters())

    assert total == 99_038 * 32 + 5 * 32 + 6 * 12_704 + 64 == 3_245_664
    assert round(4 * total / 1e6, 2) == 12.98
    assert len(list(model.modules())) - 1 == 71
    assert sum(buffer.numel() for buffer in model.buffers()) == 0


@pytest.mark.parametrize(("items", "behaviours", "size", "layers"), [(12, 4, 16, 2), (40, 3, 8, 1)])
def test_num_parameters_counts_the_model(items, behaviours, size, layers):
    expected = num_parameters(num_items=items, num_behaviours=behaviours, embedding_size=size, num_layers=layers)
    model = make(items=items, behaviours=behaviours, size=size, layers=layers)

    assert expected == sum(parameter.numel() for parameter in model.parameters())


def test_a_layer_is_torchs_encoder_layer():
    layer = Layer(16, 2, 0.0, SEEDS)
    theirs = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)
    rename = {name: name for name, _ in layer.named_parameters()}
    layer.load_state_dict({rename[name]: value for name, value in theirs.state_dict().items()})
    x_BSD = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    causal_SS = torch.ones(5, 5, dtype=torch.bool).tril()
    expected = theirs(x_BSD, src_mask=~causal_SS)

    assert {name for name, _ in theirs.named_modules()} == {name for name, _ in layer.named_modules()}
    torch.testing.assert_close(expected, layer(x_BSD, causal_SS[None], None), rtol=1e-5, atol=1e-5)


def test_interleaving():
    odd, even = torch.arange(0, 10, 2).reshape(1, 5, 1), torch.arange(1, 9, 2).reshape(1, 4, 1)

    assert list(range(9)) == interleaved(odd, even).flatten().tolist()


def test_gap_bias_by_hand():
    bias = make(heads=2).gap_bias(torch.tensor([[0, 3, 10]]))
    gap = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [10.0, 7.0, 0.0]])

    torch.testing.assert_close(-torch.log1p(gap), bias[0, 0])
    torch.testing.assert_close(-(2.0**-4) * torch.log1p(gap), bias[0, 1])


@pytest.mark.parametrize("place", range(6))
def test_nobody_sees_the_future(place):
    """A change of item t moves no state before it; one of behaviour t or its time none before that."""
    model, (items, behaviours, elapsed) = make(), sequences()
    other_items, other_behaviours, later = items.clone(), behaviours.clone(), elapsed.clone()
    other_items[:, place] = 1 + items[:, place] % 12
    other_behaviours[:, place] = 1 + behaviours[:, place] % 4
    later[:, place:] += 50
    before_b, before_i = model(items, behaviours, elapsed)
    by_item = model(other_items, behaviours, elapsed)
    by_behaviour = model(items, other_behaviours, later)

    torch.testing.assert_close(before_b[:, : place + 1], by_item[0][:, : place + 1], rtol=0, atol=0)
    torch.testing.assert_close(before_i[:, :place], by_item[1][:, :place], rtol=0, atol=0)
    torch.testing.assert_close(before_b[:, :place], by_behaviour[0][:, :place], rtol=0, atol=0)
    torch.testing.assert_close(before_i[:, :place], by_behaviour[1][:, :place], rtol=0, atol=0)
    assert not torch.equal(before_i[:, place], by_item[1][:, place])
    assert not torch.equal(before_b[:, place], by_behaviour[0][:, place])


def test_padding_is_invisible():
    model, (items, behaviours, elapsed) = make(), sequences()
    pad = torch.nn.functional.pad
    expected = model(items, behaviours, elapsed)
    obtained = model(pad(items, (5, 0)), pad(behaviours, (5, 0)), pad(elapsed, (5, 0)))
    for plain, wider in zip(expected, obtained, strict=True):
        torch.testing.assert_close(plain, wider[:, 5:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_a_fully_padded_user_is_finite(training):
    model = make().train(training)
    empty = torch.zeros(2, 5, dtype=torch.int64)
    states = model(empty[:, 1:], empty, empty)

    assert all(bool(torch.isfinite(part).all()) for part in states)


def test_the_start_is_drawn_by_name_and_padding_is_zero():
    """Another number of layers moves the start of no other part."""
    short, long = make(layers=1), make(layers=3)
    shared = dict(short.named_parameters())

    assert (short.item_embedding.weight[0] == 0).all()
    assert (short.behaviour_embedding.weight[0] == 0).all()
    for name, value in long.named_parameters():
        if name in shared:
            assert torch.equal(value, shared[name]), name


def test_dropout_draws_from_its_own_generators():
    before = torch.get_rng_state()
    states = [make(dropout=0.4)(*sequences())[0] for _ in range(2)]
    model = make(dropout=0.4)
    first = model(*sequences())[0]

    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*states)
    assert not torch.equal(first, model(*sequences())[0])
    assert torch.equal(model.eval()(*sequences())[0], model(*sequences())[0])
