"""Digests: equal where kind, shape and every bit are equal, and nowhere else; nothing of the script is touched."""

from __future__ import annotations

import math
import struct
import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rectest.divergence.inside.digests import EMPTY, digest_value, join, parts_of
from rectest.divergence.inside.hashing import digest_bytes, new_hasher

NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000002))[0]

DTYPES = [np.float32, np.float64, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_, np.complex64]

ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_and_an_array_of_the_same_numbers_are_equal(dtype: type) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)

    assert digest_value(array) == digest_value(torch.from_numpy(array.copy()))
    assert digest_value(array.transpose(2, 0, 1)) == digest_value(torch.from_numpy(array.copy()).permute(2, 0, 1))
    assert 32 == len(digest_value(array))


@settings(max_examples=50, deadline=None)
@given(one=ARRAYS, other=ARRAYS)
def test_digests_are_equal_just_where_kind_shape_and_bytes_are(one: np.ndarray, other: np.ndarray) -> None:
    same = (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())

    assert same == (digest_value(one) == digest_value(other))
    assert digest_value(one) == digest_value(torch.from_numpy(one.copy()))
    assert digest_value(one) == digest_value(one.astype(one.dtype.newbyteorder(">")))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), array=ARRAYS.filter(lambda array: array.size > 0))
def test_one_flipped_bit_is_seen(data: st.DataObject, array: np.ndarray) -> None:
    place = data.draw(st.integers(0, array.nbytes * 8 - 1))
    changed = np.frombuffer(array.tobytes(), dtype=np.uint8).copy()
    changed[place // 8] ^= 1 << place % 8
    other = torch.from_numpy(array.copy())
    before = digest_value(other)
    other.view(-1)[:] = torch.from_numpy(changed.view(array.dtype))
    if array.dtype != np.bool_:
        assert before != digest_value(changed.view(array.dtype).reshape(array.shape))


def test_signs_of_zero_and_bits_of_nan_count() -> None:
    for one, other in (
        (0.0, -0.0),
        (NAN, OTHER_NAN),
        (math.nan, -math.nan),
        (1, 1.0),
        (1, True),
        ("1", 1),
        (b"a", "a"),
    ):
        assert digest_value(one) != digest_value(other)
        assert digest_value([one, 2]) != digest_value([other, 2])
    numbers = np.array([NAN, 0.0])
    assert digest_value(numbers) == digest_value(numbers.copy())
    assert digest_value(numbers) != digest_value(np.array([OTHER_NAN, 0.0]))
    assert digest_value(numbers) != digest_value(np.array([NAN, -0.0]))


def odd_tensors() -> dict[str, torch.Tensor]:
    """Tensors that are read by another way than their memory, each with the number that is changed in its twin."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = torch.arange(1.0, 7.0).reshape(2, 3)
        return {
            "expanded": base[:1].expand(4, 3),
            "strided": base.T,
            "gradient": base.clone().requires_grad_(),
            "bfloat16": base.bfloat16(),
            "float8": base.to(torch.float8_e4m3fn),
            "conjugate": torch.complex(base, base).conj(),
            "negative": torch.complex(base, base).conj().imag,
            "sparse": base.to_sparse(),
            "csr": base.to_sparse_csr(),
            "csc": base.to_sparse_csc(),
            "quantised": torch.quantize_per_tensor(base, 0.1, 0, torch.qint8),
            "per channel": torch.quantize_per_channel(base, torch.ones(2), torch.zeros(2), 0, torch.qint8),
            "nested": torch.nested.nested_tensor([base, base]),
            "jagged": torch.nested.nested_tensor([base, base], layout=torch.jagged),
            "parameter": torch.nn.Parameter(base),
            "meta": base.to("meta"),
            "zero size": base[:0],
            "scalar": base.sum(),
            "uninitialised": torch.nn.UninitializedParameter(),
        }


def test_tensors_of_every_kind_have_digests_of_their_own() -> None:
    one = {name: digest_value(tensor) for name, tensor in odd_tensors().items()}
    again = {name: digest_value(tensor) for name, tensor in odd_tensors().items()}

    assert one == again
    assert {32} == {len(digest) for digest in one.values()}
    assert one.pop("gradient") == one.pop("parameter")
    assert len(one) == len(set(one.values()))


def test_a_view_has_the_digest_of_its_copy() -> None:
    tensors = odd_tensors()
    for name in ("expanded", "strided", "conjugate", "negative"):
        assert digest_value(tensors[name].resolve_conj().resolve_neg().contiguous()) == digest_value(tensors[name])


def test_values_that_hold_no_numbers_have_no_digest() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    seen: list[str] = []

    def look(value: torch.Tensor) -> torch.Tensor:
        seen.append(digest_value(value))
        return value.sum()

    value = torch.ones(2, 3)
    for transform in (torch.func.vmap, torch.func.grad, torch.func.functionalize):
        transform(look)(value)
    with FakeTensorMode() as mode:
        look(mode.from_tensor(value))
    freed = torch.ones(2, 3)
    freed.untyped_storage().resize_(0)
    seen.append(digest_value(freed))

    assert [EMPTY] * 5 == seen
    assert EMPTY != digest_value({"loss": freed})


def test_reading_leaves_a_tensor_as_it_was() -> None:
    tensor = torch.ones(3, requires_grad=True)
    leaf = torch.ones(3)
    version, state = leaf._version, torch.get_rng_state()
    digest_value([tensor, tensor * 2, leaf])

    assert version == leaf._version
    assert (100,) == leaf.resize_(100).shape
    assert tensor.grad is None
    assert torch.equal(state, torch.get_rng_state())


Pair = namedtuple("Pair", ["a", "b"])


@dataclass
class Batch:
    users: torch.Tensor
    name: str = "train"


def test_containers() -> None:
    values: list[Any] = [
        [],
        (),
        {},
        None,
        [1, 2],
        (1, 2),
        [12],
        [[1], [2]],
        ["a", "b"],
        ["ab"],
        ["a', 'b"],
        {"a": 1},
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        {1, 2},
        [True, False],
        [1, 0],
        [1.0, 0.0],
        [2**70],
        [torch.ones(1)],
        torch.ones(1),
        Batch(torch.ones(1)),
        Batch(torch.zeros(1)),
        Batch(torch.ones(1), "valid"),
        np.array(["a", "b"]),
        np.array(["a", None], dtype=object),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        Path("a"),
        Path("b"),
        torch.float32,
        torch.device("cpu"),
        range(3),
    ]
    digests = [digest_value(value) for value in values]

    assert len(digests) == len(set(digests))
    assert digest_value(OrderedDict(a=1)) == digest_value({"a": 1})
    assert digest_value(Pair(1, 2)) == digest_value((1, 2))
    assert digest_value({1, 2}) == digest_value({2, 1})


def test_an_object_counts_as_its_class_and_a_cycle_ends() -> None:
    class Thing:
        pass

    cycle: list[Any] = [0.5, "a"]
    cycle.append(cycle)

    assert digest_value(Thing()) == digest_value(Thing())
    assert digest_value(Thing()) != digest_value(object())
    assert digest_value(cycle) == digest_value(cycle)


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray], ids=["tensor", "array"])
def test_a_sample_sees_every_column_and_says_so(kind: Any) -> None:
    array = np.zeros((1000, 64), dtype=np.float32)
    full, sampled = digest_value(kind(array)), digest_value(kind(array), sample=500)
    seen = 0
    for column in range(64):
        changed = array.copy()
        changed[:, column] = 1.0
        seen += digest_value(kind(changed), sample=500) != sampled

    assert full != sampled
    assert 64 == seen
    assert sampled == digest_value(array, sample=500)
    assert digest_value(array[:5], sample=500) == digest_value(array[:5])


def test_parts_joined_are_the_digest() -> None:
    value = {"a": torch.ones(3), "b": [1, 2]}

    assert digest_value(value) == digest_bytes(join(parts_of(value))).hex()


def test_a_hasher_takes_blocks() -> None:
    hasher = new_hasher()
    hasher.update(b"a")
    hasher.update(b"b")

    assert new_hasher(b"ab").hexdigest() == hasher.hexdigest()
