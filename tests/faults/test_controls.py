"""Controls change what they say and leave the training what it was."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch

from fixtures.worlds import tiny_world
from rectest.faults import controls
from rectest.faults.controls import HARMLESS, Control
from rectest.seeding import SeedPlan
from rectest.systems.registry import make_system, resolve

SMALL = {"batch_size": 16, "embedding_size": 8}
SYSTEMS = ("adaptive_sasrec", "comirec")


def losses_of(system, num_steps=4):
    seeds = SeedPlan(root=0)
    data = system.prepare(tiny_world(), seeds.child("data"))
    model = system.build(data, seeds.child("init"))
    optimizer = system.make_optimizer(model)
    batches = list(islice(system.batches(data, seeds), num_steps))
    return batches, [float(system.step(model, optimizer, batch)["total"].detach()) for batch in batches]


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("plant", HARMLESS, ids=lambda plant: plant.__name__)
def test_a_harmless_change_trains_to_the_same_losses_up_to_rounding(plant, name):
    clean = make_system(name, SMALL)
    changed = plant(clean)

    assert isinstance(changed, type(clean))
    assert losses_of(changed)[1] == pytest.approx(losses_of(clean)[1], rel=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_really_changes_something(name):
    clean = make_system(name, SMALL)
    batches, reversed_batches = losses_of(clean)[0], losses_of(controls.reversed_batches(clean))[0]
    optimizer = controls.other_adam_kernel(clean).make_optimizer(torch.nn.Linear(2, 1))
    state = random.getstate(), np.random.get_state()[2], torch.get_rng_state()  # noqa: NPY002
    losses_of(controls.foreign_draws(clean))

    assert clean.config.eval_block != controls.other_eval_block(clean).config.eval_block
    assert clean.config.eval_every * 2 == controls.other_eval_every(clean).config.eval_every
    assert optimizer.param_groups[0]["foreach"]
    assert random.getstate() != state[0]
    assert not torch.equal(torch.get_rng_state(), state[2])
    for before, after in zip(batches, reversed_batches, strict=True):
        assert all(torch.equal(before.inputs[key], after.inputs[key].flip(0)) for key in before.inputs)
    random.setstate(state[0])
    torch.set_rng_state(state[2])


def test_shared_negatives_are_not_reversed():
    """They have no row of the batch to belong to."""
    clean = make_system("comirec", SMALL)
    before, after = losses_of(clean, 1)[0][0], losses_of(controls.reversed_batches(clean), 1)[0][0]

    assert torch.equal(before.negatives["log_expected"], after.negatives["log_expected"])


@pytest.mark.parametrize("plant", HARMLESS, ids=lambda plant: plant.__name__)
def test_plants_can_be_named(plant):
    assert resolve(f"rectest.faults.controls:{plant.__name__}") is plant


def test_a_control_is_a_spec_without_anything_to_turn_red():
    control = Control(name="x", system="comirec", about="x", plant="a.b:c", changes={"seed": 7})

    assert (control.spec.system, control.spec.plant, control.spec.seed) == ("comirec", "a.b:c", 7)
    assert control.turns_red == ()


def test_a_control_that_says_nothing_is_refused():
    with pytest.raises(ValueError, match="about must not be empty"):
        Control(name="x", system="comirec", about="")
