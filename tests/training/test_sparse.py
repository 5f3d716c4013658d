"""Which tables can have sparse gradients, and that switching them changes no number."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fixtures.shares import NAMES, fresh, gradient
from rectest.training.sparse import make_sparse, sparse_tables

TABLES = {
    "comirec": ("item.weight",),
    "adaptive_sasrec": ("item_embedding.weight", "position_embedding.weight"),
    "gram_c": (),
    "gear": (),
    "ur4rec": ("sasrec.item_embedding.weight", "sasrec.position_embedding.weight", "retriever.item_table.weight"),
}
"""Of the five systems; the tables of gram_c and gear are tied to their output layers."""


class Tables(nn.Module):
    """A table of each kind, every one read by `looked_up`."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Embedding(7, 3, padding_idx=0)
        self.tied = nn.Embedding(7, 3)
        self.bag = nn.EmbeddingBag(7, 3, mode="mean")
        self.largest = nn.EmbeddingBag(7, 3, mode="max")
        self.by_frequency = nn.Embedding(7, 3, scale_grad_by_freq=True)
        self.frozen = nn.Embedding(7, 3).requires_grad_(False)
        self.unused = nn.Embedding(7, 3)
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def looked_up(self, ids_BL: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen += 1
        rows = [table(ids_BL).sum(1) for table in (self.plain, self.tied, self.by_frequency, self.frozen)]
        states_BD = torch.stack([*rows, self.bag(ids_BL), self.largest(ids_BL)]).sum(0)
        return (states_BD @ self.tied.weight.T).square().mean()


IDS = torch.tensor([[1, 2, 2], [0, 4, 1]])


def test_tables_by_hand():
    model = Tables()

    assert ("plain.weight", "bag.weight") == sparse_tables(model, lambda m: m.looked_up(IDS))
    assert (0, 0.0, False) == (model.calls, float(model.seen), model.plain.sparse)
    assert ("plain.weight", "bag.weight") == make_sparse(model, lambda m: m.looked_up(IDS))
    assert (0, 0.0) == (model.calls, float(model.seen))
    switched = {name for name, module in model.named_modules() if getattr(module, "sparse", False)}
    assert {"plain", "bag"} == switched
    assert all(parameter.grad is None for parameter in model.parameters())


@settings(max_examples=25, deadline=None)
@given(ids=st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=4))
def test_sparse_and_dense_gradients_are_equal(ids):
    model, ids_BL = Tables().double(), torch.tensor(ids)
    expected = gradient(model, model.looked_up(ids_BL))
    names = make_sparse(model, lambda m: m.looked_up(ids_BL))
    obtained = gradient(model, model.looked_up(ids_BL))

    assert {name for name, value in obtained.items() if value.is_sparse} == set(names)
    for name, value in expected.items():
        torch.testing.assert_close(value, obtained[name].to_dense() if name in names else obtained[name])


@pytest.mark.parametrize("name", NAMES)
def test_every_system_trains_as_before_with_its_sparse_tables(name):
    system, dense, stream = fresh(name)
    batch, sparse = next(stream), copy.deepcopy(dense)
    names = make_sparse(sparse, lambda model: system.losses(model, batch)["total"])
    for model in (dense, sparse):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            system.losses(model, batch)["total"].backward()
            optimizer.step()

    assert set(TABLES[name]) == set(names)
    assert {key for key, value in sparse.named_parameters() if value.grad.is_sparse} == set(names)
    for key, value in dense.named_parameters():
        torch.testing.assert_close(value, sparse.get_parameter(key), rtol=1e-5, atol=1e-7)


def test_a_copy_of_the_same_table_stays_dense():
    """Two modules with one parameter: the other one would still add a dense gradient."""
    model = nn.ModuleDict({"first": nn.Embedding(5, 2), "second": nn.Embedding(5, 2)})
    model["second"].weight = model["first"].weight

    assert () == make_sparse(model, lambda m: (m["first"](IDS) * m["second"](IDS)).sum())


def test_a_loss_that_is_none_is_refused():
    model = Tables()

    with pytest.raises(ValueError, match=r"a scalar with a gradient, got shape \(2,\)"):
        make_sparse(model, lambda m: m.plain(IDS).sum((1, 2)))
    with pytest.raises(ValueError, match="a scalar with a gradient, got shape"):
        make_sparse(model, lambda m: m.frozen(IDS).sum())
    assert not model.plain.sparse


def test_a_model_without_tables_has_none():
    assert () == make_sparse(nn.Linear(2, 1), lambda m: m(torch.ones(2)).sum())
