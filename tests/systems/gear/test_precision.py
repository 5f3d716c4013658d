"""TF32 rounding bit by bit, against exact arithmetic; and what it costs, measured."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gear import start
from rectest.systems.gear.precision import accuracy_lost, logit_errors, product, round_to_tf32, tf32_kernels


def nearest(value: float) -> float:
    """The nearest number of 11 significant bits, ties to even, in exact arithmetic; for normal numbers."""
    mantissa, exponent = math.frexp(value)
    scaled = mantissa * 2**11
    low = math.floor(scaled)
    above = scaled - low
    rounded = low + (above > 0.5 or (above == 0.5 and low % 2 == 1))
    return math.ldexp(rounded, exponent - 11)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F800000, 0x3F800000),
        (0x3F800FFF, 0x3F800000),
        (0x3F801000, 0x3F800000),
        (0x3F801001, 0x3F802000),
        (0x3F803000, 0x3F804000),
        (0x3F802FFF, 0x3F802000),
        (0xBF801001, 0xBF802000),
        (0x3FFFFFFF, 0x40000000),
        (0x7F7FEFFF, 0x7F7FE000),
        (0x7F7FFFFF, 0x7F800000),
        (0x7F800000, 0x7F800000),
        (0xFF800000, 0xFF800000),
        (0x00000000, 0x00000000),
        (0x80000000, 0x80000000),
        (0x00000FFF, 0x00000000),
        (0x00003000, 0x00004000),
    ],
    ids=hex,
)
def test_rounding_bit_by_bit(bits, expected):
    (value,) = struct.unpack("<f", struct.pack("<I", bits))
    (obtained,) = struct.unpack("<I", struct.pack("<f", round_to_tf32(torch.tensor([value])).item()))

    assert expected == obtained


@given(st.floats(width=32, min_value=2.0**-100, max_value=2.0**100), st.booleans())
@settings(max_examples=50, deadline=None)
def test_rounding_against_exact_arithmetic(value, negative):
    signed = -value if negative else value

    assert nearest(signed) == round_to_tf32(torch.tensor([signed])).item()


def test_rounding_keeps_nan_and_is_idempotent():
    values = torch.randn(200, generator=torch.Generator().manual_seed(0))
    once = round_to_tf32(values)

    assert math.isnan(round_to_tf32(torch.tensor([math.nan])).item())
    assert torch.equal(once, round_to_tf32(once))
    assert ((once - values).abs() <= values.abs() * 2.0**-11).all()
    assert not torch.equal(once, values)


def test_only_float32_is_rounded():
    with pytest.raises(TypeError, match=r"rounding of float32, got torch\.float64"):
        round_to_tf32(torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_products_and_their_gradients_are_of_rounded_operands(precision):
    rng = torch.Generator().manual_seed(0)
    left = torch.randn(5, 8, generator=rng, requires_grad=True)
    right = torch.randn(8, 3, generator=rng, requires_grad=True)
    upstream = torch.randn(5, 3, generator=rng)
    obtained = product(left, right, precision)
    obtained.backward(upstream)
    rounded = [round_to_tf32(value) for value in (left, right, upstream)]

    assert torch.equal(rounded[0] @ rounded[1], obtained)
    assert torch.equal(rounded[2] @ rounded[1].mT, left.grad)
    assert torch.equal(rounded[0].mT @ rounded[2], right.grad)
    assert torch.equal(left @ right, product(left, right))


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_switch_is_given_back(precision):
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32

    def fail():
        with tf32_kernels(precision):
            assert torch.backends.cuda.matmul.allow_tf32 == (precision != "highest")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert before == (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)


def test_logit_errors_by_hand():
    found = logit_errors(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 5.0]]), k=1)

    assert found == {"relative": pytest.approx(0.2), "relative_max": pytest.approx(0.25), "overlap": 1.0}
    with pytest.raises(ValueError, match="two equal shapes"):
        logit_errors(torch.zeros(1, 3), torch.zeros(1, 2))


def test_accuracy_lost_by_hand():
    """The first target falls from rank 1 to 2, the second stays at rank 1.5 of two equal scores."""
    exact = torch.tensor([[3.0, 2.0], [1.0, 1.0]])
    reduced = torch.tensor([[2.0, 3.0], [1.0, 1.0]])
    found = accuracy_lost(exact, reduced, torch.tensor([0, 1]), k=2)
    second = 1 / math.log2(2.5)

    assert found["ndcg"] == pytest.approx((1 + second) / 2)
    assert found["ndcg_reduced"] == pytest.approx((1 / math.log2(3) + second) / 2)
    assert found["ranks_moved"] == 0.5


def test_what_scoring_a_trained_model_in_tf32_costs():
    run = start(learning_rate=1e-2).steps(40)
    eval_set = run.system.eval_set(run.data, "test")
    found = run.system.accuracy_lost(run.model, eval_set, "medium")
    none = run.system.accuracy_lost(run.model, eval_set, "highest")

    assert 1e-5 < found["relative"] < 1e-3
    assert found["ndcg"] == pytest.approx(run.ndcg())
    assert none["relative"] == none["ranks_moved"] == 0.0
    assert run.model.head.precision == "highest"


def test_the_setting_changes_the_gradient_and_little_else():
    exact, reduced = start().steps(8), start(matmul_precision="medium").steps(8)

    assert exact.losses != reduced.losses
    assert exact.losses == pytest.approx(reduced.losses, rel=1e-3)


def test_accuracy_needs_candidates():
    run = start(eval_candidates=None)
    with pytest.raises(ValueError, match="set eval_candidates"):
        run.system.accuracy_lost(run.model, run.system.eval_set(run.data, "test"))
