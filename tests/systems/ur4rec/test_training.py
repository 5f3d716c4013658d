"""Stages, rates, the weights of the losses and the alternation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.systems.ur4rec.config import STAGES
from rectest.systems.ur4rec.training import Alternation, LossWeights, StagePlan, rate_factor


def switches_at(losses: list[tuple[float, float]], **changes: float) -> list[int]:
    alternation = Alternation(**{"threshold": 0.01, "min_steps": 5, **changes})
    found = []
    for step, (sasrec, retriever) in enumerate(losses, start=1):
        before = int(alternation.switches)
        alternation.observe({"sasrec": sasrec, "retriever": retriever})
        if int(alternation.switches) > before:
            found.append(step)
    return found


def test_losses_that_do_not_exist_switch_every_five_steps():
    """Report 001's alternation read names that no loss had, and got 0.0."""
    assert switches_at([(0.0, 0.0)] * 30) == [10, 15, 20, 25, 30]


def test_a_loss_that_falls_quickly_keeps_its_turn():
    assert switches_at([(0.9**step, 1.0) for step in range(40)]) == []


def test_a_stalled_loss_gives_its_turn_away_and_the_other_keeps_it():
    assert switches_at([(1.0, 0.9**step) for step in range(40)]) == [10]


def test_a_higher_threshold_switches_sooner_not_later():
    """Report 001 says that 0.01 is too high to ever switch."""
    falling = [(1.2 * (0.37 / 1.2) ** (step / 240), 1.0) for step in range(240)]

    assert switches_at(falling, threshold=0.01) == []
    assert switches_at(falling, threshold=0.05)[0] == 10


def test_change_by_hand():
    alternation = Alternation(threshold=0.01, min_steps=5)
    for loss in range(1, 11):
        before = alternation.change()
        alternation.observe({"sasrec": float(loss), "retriever": 0.0})

    assert before == math.inf
    assert alternation.change() == pytest.approx((10 - 6) / 6)
    assert alternation.newest() == {"sasrec": 10.0, "retriever": 0.0}


def test_the_alternation_is_resumed_from_its_buffers():
    first, second = (Alternation(threshold=0.01, min_steps=5) for _ in range(2))
    for _ in range(12):
        first.observe({"sasrec": 1.0, "retriever": 2.0})
    second.load_state_dict(first.state_dict())
    for alternation in (first, second):
        for _ in range(9):
            alternation.observe({"sasrec": 1.0, "retriever": 2.0})

    assert int(first.switches) == int(second.switches) == 3
    assert first.component == second.component


def test_a_missing_loss_is_an_error_not_zero():
    with pytest.raises(KeyError, match="sasrec"):
        Alternation(threshold=0.01, min_steps=5).observe({"sasrec_loss": 1.0})


def test_stages():
    plan = StagePlan.of(STAGES, (0.4, 0.3, 0.1, 0.2), num_steps=10)

    assert [plan.at(step) for step in (1, 4, 5, 7, 8, 9, 10, 50)] == [
        "pretrain_sasrec",
        "pretrain_sasrec",
        "pretrain_retriever",
        "pretrain_retriever",
        "joint_finetune",
        "end_to_end",
        "end_to_end",
        "end_to_end",
    ]
    assert plan.trained(1) == ("sasrec",)
    assert plan.trained(5) == ("retriever",)
    assert plan.trained(8) == plan.trained(9) == ("sasrec", "retriever")
    assert [plan.remembers(step) for step in (1, 5, 8, 9)] == [False, True, True, True]


@settings(max_examples=40, deadline=None)
@given(num_steps=st.integers(1, 500), cut=st.floats(0.05, 0.95))
def test_stages_come_in_order_and_cover_every_step(num_steps, cut):
    plan = StagePlan.of(STAGES[:2], (cut, 1 - cut), num_steps=num_steps)
    places = [plan.index(step) for step in range(1, num_steps + 1)]

    assert places == sorted(places)
    assert places.count(0) == round(num_steps * cut)


def test_the_report_s_cosine_rises_again():
    """Half a period of 1000 steps in a longer run; tied to the run it never does."""
    factors = [rate_factor(step, warmup_steps=100, half_period=1000) for step in range(1, 1501)]

    assert factors[29] == pytest.approx(0.3, rel=0.01)
    assert min(factors) == factors[999] == pytest.approx(0.0, abs=1e-9)
    assert factors[1499] == pytest.approx(0.5, rel=0.01)


def test_loss_weights_by_hand():
    weights = LossWeights()
    with torch.no_grad():
        weights.log_variance["retriever"].fill_(math.log(4.0))
    total = weights({"sasrec": torch.tensor(3.0), "retriever": torch.tensor(8.0)}).detach()

    assert float(total) == pytest.approx(3.0 + 8.0 / 4 + math.log(4.0))
    assert weights.scalars() == pytest.approx({"loss_weight/sasrec": 1.0, "loss_weight/retriever": 0.25})


def test_untrained_loss_weights_show_in_the_log():
    """The first total of report 001's log is the plain sum: 1.2841 + 22.2282."""
    total = LossWeights()({"sasrec": torch.tensor(1.2841), "retriever": torch.tensor(22.2282)}).detach()

    assert float(total) == pytest.approx(23.5123)
