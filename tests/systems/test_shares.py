"""Shares of a batch add up to the whole: of all five systems, whoever has which rows, whatever the shares hold."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.shares import (
    COMPONENTS,
    NAMES,
    SMALL,
    UNEVEN,
    WORLDS,
    apart,
    changed,
    cut,
    distance,
    fresh,
    gradient,
    own,
    shared_out,
    started,
    taken,
    whole,
)
from fixtures.toy import ToySystem
from fixtures.worlds import tiny_world
from rectest.faults.adaptive_sasrec import positives_as_negatives
from rectest.faults.controls import reversed_batches
from rectest.seeding import SeedPlan
from rectest.systems.comirec.model import MODELS
from rectest.systems.comirec.system import ComiRec
from rectest.systems.gram_c.samples import IGNORED
from rectest.systems.parallel import PARALLEL_CONFIG
from rectest.systems.protocol import Batch, System
from rectest.systems.registry import SYSTEMS, make_system

EXACT = 1e-12
"""Of the largest gradient, in float64; what goes wrong is 1e-3 and more."""


def test_terms_by_hand():
    toy = Batch(inputs={"step": torch.tensor(3), "last": torch.arange(5)})
    sasrec = Batch(inputs={"positives": torch.tensor([[0, 4, 7], [0, 0, 0]])})
    rows = torch.tensor([[0, 1, 2], [3, 4, 5]])
    events = {"items": rows, "behaviours": rows, "target_rows": rows == 5}
    picked = {"positives": rows, "picked": torch.tensor([[0, 2], [0, 0]]), "step": torch.tensor([4])}

    assert {"total": 5.0} == ToySystem().loss_terms(toy)
    assert {"positive": 2.0, "negative": 2.0} == make_system("adaptive_sasrec").loss_terms(sasrec)
    tokens = Batch(inputs={"target_ids": torch.tensor([[5, 2, IGNORED]])})

    assert {"total": 2.0} == make_system("gram_c").loss_terms(tokens)
    assert {"items": 5.0, "behaviours": 3.0} == make_system("gear").loss_terms(Batch(inputs=events))
    only_target = make_system("gear", {"predict_only_target": True})

    assert {"items": 1.0, "behaviours": 3.0} == only_target.loss_terms(Batch(inputs=events))
    both = make_system("ur4rec", PARALLEL_CONFIG["ur4rec"])

    assert {"sasrec": 5.0, "retriever": 1.0} == both.loss_terms(Batch(inputs=picked))
    assert {"sasrec": 5.0} == make_system("ur4rec").loss_terms(Batch(inputs=picked))


@pytest.mark.parametrize("name", NAMES)
def test_every_component_trains_from_the_first_step(name):
    system, model, stream = fresh(name)
    batch = next(stream)
    still = {key for key, value in whole(system, model, batch).items() if not value.any()}

    assert set(PARALLEL_CONFIG) == set(SYSTEMS)
    assert COMPONENTS[name] == set(system.loss_terms(batch))
    assert min(system.loss_terms(batch).values()) > 0
    assert set() == {key for key in still if not key.startswith("retriever.memory.")}
    assert distance(whole(system, model.train(), batch), whole(system, model.eval(), batch)) == 0.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [20, 24])
def test_what_is_not_shared_has_a_row_for_each_sample(name, batch_size):
    """Two sizes: a first dimension that happened to be the number of rows would not be so twice."""
    _, _, batch = started(name, batch_size=batch_size)
    parts = cut(batch, UNEVEN[4])

    assert {len(value) for value in own(batch).values()} == {batch.num_rows}
    assert batch.shared <= {*batch.inputs, *batch.negatives}
    for key, value in own(batch).items():
        sides = [{**share.inputs, **share.negatives}[key] for rank in parts for share in rank]
        assert torch.equal(value, torch.cat(sides))
    for key in batch.shared:
        for share in itertools.chain(*parts):
            assert torch.equal({**batch.inputs, **batch.negatives}[key], {**share.inputs, **share.negatives}[key])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("num_micro", [1, 3])
def test_shares_add_up_to_the_whole(name, world_size, num_micro):
    system, model, batch = started(name)
    sums = {}
    for share in itertools.chain(*cut(batch, UNEVEN[world_size], num_micro)):
        for component, n in system.loss_terms(share).items():
            sums[component] = sums.get(component, 0.0) + n

    assert system.loss_terms(batch) == sums
    assert apart(system, model, batch, (1,) * world_size, num_micro) < EXACT
    assert apart(system, model, batch, UNEVEN[world_size], num_micro) < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_float32_differs_by_rounding_only(name):
    system, model, batch = started(name)
    model.float()
    try:
        assert apart(system, model, batch, UNEVEN[4]) < 2e-5
    finally:
        model.double()


@pytest.mark.parametrize("kind", MODELS)
def test_every_user_model_can_be_shared(kind):
    system, model, batch = started("comirec", model=kind)

    assert apart(system, model, batch, (2, 1)) < EXACT


@pytest.mark.parametrize("stage", ["pretrain_sasrec", "pretrain_retriever", "joint_finetune", "end_to_end"])
@pytest.mark.parametrize("weighted", [True, False])
def test_every_stage_can_be_shared(stage, weighted):
    """Where components alternate both have terms, and the one that trains is all that is differentiated."""
    system, model, batch = started("ur4rec", stages=(stage,), uncertainty_weighting=weighted)

    assert apart(system, model, batch, (2, 1)) < EXACT
    if stage == "joint_finetune":
        still = {key.partition(".")[0] for key, value in whole(system, model, batch).items() if not value.any()}
        assert still >= {"retriever", "loss_weights"}
        assert model.trained == ("sasrec",)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_cut_and_any_order_give_the_same_gradient(data, name):
    system, model, batch = started(name)
    size = batch.num_rows
    order = torch.tensor(data.draw(st.permutations(range(size))))
    ends = sorted({0, size, *data.draw(st.lists(st.integers(1, size - 1), max_size=5))})
    mixed = taken(batch, order)
    ranks = [[mixed.rows(*pair)] for pair in itertools.pairwise(ends)]

    assert distance(whole(system, model, batch), shared_out(system, model, ranks)) < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_equal_samples_within_and_across_shares(name):
    system, model, batch = started(name)
    rows = torch.tensor([0, 0, 1, 2, 2, 2, 3, 0, 4, 4, 2, 1])
    twice = taken(batch, rows)
    first, second = (share for rank in cut(twice, (1, 1)) for share in rank)
    for table, ids in system.used_rows(first).items():
        assert len(ids.unique()) < len(ids), table
        assert np.intersect1d(ids, system.used_rows(second)[table]).size > 0

    assert apart(system, model, twice, (1, 1)) < EXACT
    assert apart(system, model, twice, (2, 1, 1), 2) < EXACT


def without(name: str, batch: Batch, num_rows: int) -> tuple[str, Batch]:
    """A component, and the batch in which the first rows have no term of it."""
    component, key, nothing = {
        "adaptive_sasrec": ("positive", "positives", 0),
        "gram_c": ("total", "target_ids", IGNORED),
        "gear": ("items", "target_rows", False),
        "ur4rec": ("retriever", "picked", 0),
    }[name]
    emptied = batch.inputs[key].clone()
    emptied[:num_rows] = nothing
    return component, changed(batch, **{key: emptied})


@pytest.mark.parametrize("name", [name for name in NAMES if name != "comirec"])
def test_a_share_without_any_term_has_no_loss_and_harms_nothing(name):
    """In comirec every row is a term."""
    system, model, batch = started(name, **({"predict_only_target": True} if name == "gear" else {}))
    component, batch = without(name, batch, batch.num_rows // 2)
    silent = cut(batch, (1, 1))[0][0]
    losses = system.losses(model, silent)

    assert system.loss_terms(silent)[component] == 0.0
    assert float(losses[component].detach()) == 0.0
    assert all(value.isfinite().all() for value in gradient(model, losses["total"]).values())
    assert all(not value.any() for value in gradient(model, losses[component]).values())
    assert apart(system, model, batch, (1, 1)) < EXACT
    assert apart(system, model, batch, (1, 3), 2) < EXACT


@pytest.mark.parametrize("name", [name for name in NAMES if name != "comirec"])
def test_a_wrong_count_shows(name, monkeypatch):
    """Rows instead of positions or tokens: the mean of means, whose error no test of equal shares sees."""
    system, model, batch = started(name)
    named = COMPONENTS[name]
    monkeypatch.setattr(system, "loss_terms", lambda share: dict.fromkeys(named, float(share.num_rows)), raising=False)

    assert apart(system, model, batch, (1, 1)) > 1e-3
    assert apart(system, model, batch, UNEVEN[4]) > 1e-3


def test_a_wrong_total_shows(monkeypatch):
    """Of the shares alone: `losses` and the shares have one formula."""
    system, model, batch = started("gear")
    expected = whole(system, model, batch)
    monkeypatch.setattr(system, "total", lambda _, losses: losses["items"] + losses["behaviours"])

    assert distance(expected, shared_out(system, model, cut(batch, (1, 1)))) > 1e-3
    assert distance(expected, whole(system, model, batch)) > 1e-3


def test_negatives_that_are_cut_show():
    """As many negatives as rows, so that their shape says nothing: each rank would have half of them."""
    system, model, batch = started("comirec", neg_num=1)
    forgotten = dataclasses.replace(batch, shared=frozenset({"log_expected"}))

    assert len(batch.negatives["item"]) == batch.num_rows == 24
    assert apart(system, model, batch, (1, 1)) < EXACT
    assert apart(system, model, forgotten, (1, 1)) > 1e-2


def test_a_step_number_that_is_cut_shows():
    system, model, batch = started("ur4rec")
    forgotten = dataclasses.replace(batch, shared=frozenset())

    assert apart(system, model, batch, (1, 1)) < EXACT
    with pytest.raises((ValueError, RuntimeError)):
        apart(system, model, forgotten, (1, 1))


def drawn(system: System, world: str, steps: int = 3) -> list[dict[str, torch.Tensor]]:
    seeds = SeedPlan(root=5)
    data = system.prepare(tiny_world(world), seeds.child("data"))
    return [{**b.inputs, **b.negatives} for b in itertools.islice(system.batches(data, seeds), steps)]


def same(expected, obtained) -> bool:
    pairs = zip(expected, obtained, strict=True)
    return all(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_batches_know_nothing_of_ranks(name, monkeypatch):
    """Every rank draws the whole batch with all its negatives from one stream, and takes its rows of it."""
    world, system = WORLDS.get(name, "tiny"), make_system(name, SMALL[name])
    alone = drawn(system, world)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")

    assert ["self", "data", "seeds"] == list(inspect.signature(type(system).batches).parameters)
    assert same(alone, drawn(system, world))


class DrawsByRank(ComiRec):
    def negatives(self, data, seeds):
        return super().negatives(data, seeds.for_rank(int(os.environ.get("RANK", "0"))))


def test_negatives_drawn_by_rank_show(monkeypatch):
    system = DrawsByRank.from_settings(SMALL["comirec"])
    alone = drawn(system, "tiny")
    monkeypatch.setenv("RANK", "1")

    assert not same(alone, drawn(system, "tiny"))


@pytest.mark.parametrize(
    ("plant", "name"), [(reversed_batches, "comirec"), (positives_as_negatives, "adaptive_sasrec")]
)
def test_planted_batches_keep_what_is_shared(plant, name):
    clean = make_system(name, SMALL[name])
    seeds = SeedPlan(root=5)
    data = clean.prepare(tiny_world(), seeds.child("data"))
    expected, obtained = (next(system.batches(data, seeds)) for system in (clean, plant(clean)))

    assert expected.shared == obtained.shared
    for key in expected.shared:
        assert torch.equal(
            {**expected.inputs, **expected.negatives}[key], {**obtained.inputs, **obtained.negatives}[key]
        )


def test_a_component_that_is_missing_is_named():
    system, model, _ = started("gear")

    with pytest.raises(KeyError, match="behaviours"):
        system.total(model, {"items": torch.zeros(())})
