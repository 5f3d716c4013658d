"""`Environment`: bits are compared between equal fingerprints, distributions inside one class."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from rectest.environment import Environment, cpu_model
from rectest.errors import RecordError

CPU = Environment(
    device="cpu",
    device_name="GenuineIntel-6-143",
    arch="x86_64",
    isa="AVX512",
    threads=1,
    python="3.11",
    numpy="2.4.6",
    torch="2.13.0+cpu",
    flags={"deterministic": "True"},
)


def test_classes():
    gpu = replace(CPU, device="cuda", compute_capability="9.0", device_name="NVIDIA H100")

    assert CPU.env_class == "cpu"
    assert gpu.env_class == "cuda-sm90"


@pytest.mark.parametrize("name", [f.name for f in fields(Environment)])
def test_every_field_is_in_the_fingerprint(name):
    changed = {"threads": 2, "flags": {"deterministic": "False"}}.get(name, "other")

    other = replace(CPU, **{name: changed})

    assert other.fingerprint != CPU.fingerprint
    assert list(CPU.differences(other)) == [name]


def test_equal_environments_have_equal_fingerprints():
    assert Environment.from_dict(CPU.to_dict()) == CPU
    assert Environment.from_dict(CPU.to_dict()).fingerprint == CPU.fingerprint
    assert CPU.differences(Environment.from_dict(CPU.to_dict())) == {}


def test_unknown_fields_are_refused():
    with pytest.raises(RecordError, match="does not understand"):
        Environment.from_dict({**CPU.to_dict(), "planet": "mars"})


def test_description_says_what_matters():
    text = CPU.describe()

    assert "cpu" in text
    assert "1 thread," in text
    assert "torch 2.13.0+cpu" in text


def test_the_processor_has_a_model():
    assert cpu_model()
