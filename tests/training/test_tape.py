"""The tape: digests see every bit, its place and its kind."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.training.tape import Tape, digest_random_states, digest_tensor, digest_tensors

FLOATS = st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=12)


@settings(max_examples=50, deadline=None)
@given(values=FLOATS, where=st.integers(0, 11))
def test_one_bit_anywhere_changes_the_digest(values, where):
    tensor = torch.tensor(values)
    other = tensor.clone()
    where %= len(values)
    other.view(torch.int32)[where] ^= 1

    assert digest_tensor(tensor) == digest_tensor(tensor.clone())
    assert digest_tensor(tensor) != digest_tensor(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.flip(0),
        lambda t: t.double(),
        lambda t: t.reshape(-1),
        lambda t: t.T,
        lambda t: -t,
        lambda t: t.bfloat16(),
        lambda t: torch.cat([t, t]),
    ],
)
def test_place_shape_and_kind_count(change):
    tensor = torch.arange(6.0).reshape(2, 3) + 1

    assert digest_tensor(change(tensor)) != digest_tensor(tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0),
        torch.tensor(1.5),
        torch.tensor([True, False]),
        torch.ones(2, dtype=torch.bfloat16),
        torch.eye(3).to_sparse(),
        torch.arange(6).reshape(2, 3).T,
    ],
)
def test_every_kind_of_tensor_has_a_digest(tensor):
    assert digest_tensor(tensor) == digest_tensor(tensor.clone())


def test_layout_in_memory_does_not_count():
    tensor = torch.arange(6.0).reshape(2, 3)

    assert digest_tensor(tensor.T) == digest_tensor(tensor.T.contiguous())


def test_names_count_and_their_order_does_not():
    one, two = torch.ones(2), torch.zeros(2)

    assert digest_tensors({"a": one, "b": two}) == digest_tensors({"b": two, "a": one})
    assert digest_tensors({"a": one, "b": two}) != digest_tensors({"a": two, "b": one})
    assert digest_tensors({"a": np.ones(2, np.float32)}) == digest_tensors({"a": one})
    assert digest_tensors({"a": ["x"]}) != digest_tensors({"a": ["y"]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([torch.arange(5000), 1], [torch.arange(5000) + (torch.arange(5000) == 2500), 1]),
        (np.arange(5000), np.arange(5000) + (np.arange(5000) == 2500)),
        ({"deep": {"ids": [np.arange(3)]}}, {"deep": {"ids": [np.arange(3)[::-1]]}}),
        ([[1, 2], [3]], [[1], [2, 3]]),
        (np.array(["a"] * 2000), np.array(["a"] * 1000 + ["b"] + ["a"] * 999)),
        (np.array([{"id": 1}, None]), np.array([{"id": 2}, None])),
        (np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-02"], "M8[D]")),
        ({1: "a", "b": 2}, {1: "b", "a": 2}),
    ],
)
def test_what_is_inside_lists_and_arrays_counts_however_long_they_are(one, other):
    assert digest_tensors({"x": one}) == digest_tensors({"x": one})
    assert digest_tensors({"x": one}) != digest_tensors({"x": other})


@settings(max_examples=50, deadline=None)
@given(dtype=st.sampled_from(["bool", "int64", "int8", "float16", "float32", "float64", "complex64", ">i4"]), flip=...)
def test_an_array_has_the_digest_of_its_tensor(dtype: str, flip: bool):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    array = array.T if flip else array
    tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    array.flags.writeable = False

    assert digest_tensors({"x": array}) == digest_tensors({"x": tensor})


@pytest.mark.parametrize("value", [object(), {"ids": {1, 2}}, [torch.ones(1), iter(())], np.array([{1}])])
def test_what_has_no_digest_is_refused(value):
    with pytest.raises(TypeError, match=r"is a (object|set|tuple_iterator); give tensors, arrays, plain values"):
        digest_tensors({"batch": value})


def test_tensors_that_change_between_steps_share_no_columns():
    tape = Tape()
    tape.mark_tensors("parameters", [("a", torch.ones(1)), ("b", torch.ones(1))])
    tape.mark_tensors("parameters", [("b", torch.ones(1)), ("a", torch.ones(1))])

    assert set(tape.arrays()) == {"tape/parameters"}


@pytest.mark.parametrize("draw", [random.random, np.random.random, lambda: torch.rand(1)])
def test_every_global_generator_is_watched(draw):
    before = digest_random_states()
    assert digest_random_states() == before

    draw()

    assert digest_random_states() != before


def test_arrays_of_a_tape():
    tape = Tape()
    tape.mark("batch", (1, 2))
    tape.mark("batch", (3, 4))
    tape.mark_tensors("gradients", [("w", torch.ones(2)), ("frozen", None)])

    arrays = tape.arrays()

    assert arrays["tape/batch"].tolist() == [[1, 2], [3, 4]]
    assert arrays["tape/gradients/tensors"].shape == (1, 2, 2)
    assert arrays["tape/gradients/tensors"][0, 1].tolist() == [0, 0]
    assert tape.names == {"gradients": ["w", "frozen"], "parameters": []}
    assert "tape/loss" not in arrays


def test_unknown_stage():
    with pytest.raises(ValueError, match="unknown stage 'logits'"):
        Tape().mark("logits", (0, 0))
