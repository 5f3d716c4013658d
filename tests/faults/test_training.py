"""Faults for any system: each changes what it says on a small training, and nothing that it does not say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rectest.errors import TrainingError
from rectest.faults.training import PLANTS, _mixed, positives_among_negatives
from rectest.record import RunSpec
from rectest.systems.registry import SYSTEMS, make_system
from rectest.training.program import run_spec

SMALL = {"world": "tiny", "steps": 6, "eval_every": 3}


def trained(plant=""):
    return run_spec(RunSpec(system="adaptive_sasrec", plant=plant, **SMALL))


@pytest.fixture(scope="module")
def clean():
    return trained()


@pytest.fixture(scope="module")
def planted():
    return {fault.name: trained(fault.place) for fault in PLANTS if fault.fits("adaptive_sasrec")}


def test_every_plant_changes_the_training_or_its_evaluation(clean, planted):
    known = clean.digest("metric/", "loss/")
    same = [name for name, record in planted.items() if record.digest("metric/", "loss/") == known]

    assert [] == same


def test_the_first_loss_shows_what_looks_at_other_labels_or_rows(clean, planted):
    """Only the optimizer differs in the others, and it has not moved yet."""
    moved = {name for name, record in planted.items() if record["loss/total"][0] != clean["loss/total"][0]}

    assert {"half_batches", "labels_shifted", "positives_among_negatives"} == moved


def test_twice_the_gradient_is_divided_out_by_adam(clean, planted):
    expected = clean["loss/total"]

    np.testing.assert_allclose(planted["gradient_doubled"]["loss/total"], expected, rtol=1e-5)
    assert not np.allclose(planted["learning_rate_halved"]["loss/total"], expected, rtol=1e-4)


def test_a_skipped_step_leaves_the_parameters_where_they_were(clean, planted):
    """The fourth step is not taken, so that the losses are those of the clean run up to the fourth."""
    equal = clean["loss/total"] == planted["steps_skipped"]["loss/total"]

    assert equal[:4].all()
    assert not equal[4]


def test_skipped_users_are_not_scored_and_the_training_is_the_same(clean, planted):
    record = planted["users_skipped"]

    assert np.array_equal(clean["loss/total"], record["loss/total"])
    assert clean.facts["protocol"]["test"]["num_scored"] > record.facts["protocol"]["test"]["num_scored"] > 0


def test_negatives_with_a_positive_in_every_fourth_place():
    one = _mixed(torch.zeros(6, dtype=torch.int64), torch.tensor([7, 8]))
    wide = _mixed(torch.zeros(2, 1, 4, dtype=torch.int64), torch.tensor([[7], [8]]))

    assert [7, 0, 0, 0, 7, 0] == one.tolist()
    assert [[[7, 0, 0, 0]], [[8, 0, 0, 0]]] == wide.tolist()


def test_every_fault_names_its_place_and_says_what_is_wrong():
    assert all(fault.place == f"rectest.faults.training:{fault.name}" and fault.about.endswith(".") for fault in PLANTS)
    assert all(sum(fault.fits(system) for fault in PLANTS) >= 6 for system in SYSTEMS)


def test_a_system_without_negatives_refuses():
    with pytest.raises(TrainingError, match="gear has nothing to plant this in; it is for adaptive_sasrec"):
        positives_among_negatives(make_system("gear"))
