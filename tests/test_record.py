"""`RunSpec` and `RunRecord`: saving is bit-exact, atomic, and never pickle."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rectest.environment import Environment
from rectest.errors import RecordError
from rectest.record import RunRecord, RunSpec, array_digest, atomic_write

ENVIRONMENT = Environment(
    device="cpu", device_name="x", arch="x86_64", isa="AVX2", threads=1, python="3.11", numpy="2", torch="2"
)
DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint64, np.bool_])


def make(arrays=None, **facts):
    arrays = {"loss/total": np.array([0.1, 0.2])} if arrays is None else arrays
    return RunRecord(spec=RunSpec(system="s"), environment=ENVIRONMENT, arrays=arrays, facts=facts)


@settings(max_examples=50, deadline=None)
@given(
    value=DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
    fact=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_save_and_load_keep_every_bit(tmp_path_factory, value, fact):
    path = tmp_path_factory.mktemp("record") / "r.safetensors"
    record = make({"x/y": value, "idmap/item": np.array(["", "a", "ü"])}, fact=fact)

    loaded = RunRecord.load(record.save(path))

    assert loaded["x/y"].dtype == value.dtype
    assert loaded["x/y"].shape == value.shape
    assert loaded["x/y"].tobytes() == value.tobytes()
    assert loaded["idmap/item"].tolist() == ["", "a", "ü"]
    assert json.dumps(loaded.facts["fact"], sort_keys=True) == json.dumps(fact, sort_keys=True)
    assert loaded.digest() == record.digest()


def test_digest_sees_names_kinds_shapes_and_places():
    base = {"a": np.array([[1.0, 2.0], [3.0, 4.0]])}
    variants = [
        {"b": base["a"]},
        {"a": base["a"].astype(np.float32)},
        {"a": base["a"].reshape(4)},
        {"a": base["a"][::-1]},
    ]

    digests = {array_digest(v) for v in [base, *variants]}

    assert len(digests) == 5


def test_digest_of_nothing_is_refused():
    with pytest.raises(RecordError, match="nothing to digest"):
        make().digest("table/")


def test_missing_array_names_its_neighbours():
    with pytest.raises(RecordError, match=r"has no 'loss/other'; it has loss/total"):
        make()["loss/other"]


def test_empty_metric_is_not_a_value():
    record = make({"metric/test/recall@10": np.array([])})

    with pytest.raises(RecordError, match="has no evaluation"):
        record.final("test/recall@10")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "no such record"), (b"", "not a readable record"), (b"\x00" * 64, "not a readable record")],
)
def test_unreadable_files(tmp_path, content, problem):
    path = tmp_path / "r.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(RecordError, match=problem):
        RunRecord.load(path)


def test_truncated_file(tmp_path):
    path = make().save(tmp_path / "r.safetensors")
    path.write_bytes(path.read_bytes()[:-5])

    with pytest.raises(RecordError, match="not a readable record"):
        RunRecord.load(path)


def test_foreign_safetensors_and_schema(tmp_path):
    from safetensors.numpy import save_file

    foreign, old = tmp_path / "foreign.safetensors", tmp_path / "old.safetensors"
    save_file({"x": np.zeros(2)}, foreign)
    save_file({"x": np.zeros(2)}, old, metadata={"rectest": json.dumps({"schema": 99})})

    with pytest.raises(RecordError, match="not a rectest record"):
        RunRecord.load(foreign)
    with pytest.raises(RecordError, match="schema 99, this version reads 1"):
        RunRecord.load(old)


@pytest.mark.parametrize("header", [[], {"schema": 1}, {"schema": 1, "text": 3}, {"schema": 1, "text": {}, "spec": {}}])
def test_a_damaged_header_is_named(tmp_path, header):
    from safetensors.numpy import save_file

    path = tmp_path / "r.safetensors"
    save_file({"x": np.zeros(2)}, path, metadata={"rectest": json.dumps(header)})

    with pytest.raises(RecordError, match=r"train again|does not understand"):
        RunRecord.load(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = atomic_write(tmp_path / "f", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, b"new")

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_spec_round_trip_and_key():
    spec = RunSpec(system="comirec", seed=3, config={"embedding_size": 8, "order": "fixed"})

    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.key == RunSpec.from_dict(spec.to_dict()).key
    assert spec.key != spec.with_(replica=1).key
    assert "seed 3" in spec.describe()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"system": ""}, "needs the name of a system"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 1.0}, "seed must be an integer"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"threads": 0}, "threads must be"),
        ({"device": "tpu"}, "device must be cpu, cuda"),
        ({"device": "cuda:x"}, "device must be cpu, cuda"),
        ({"config": {"x": float("nan")}}, "plain JSON values"),
        ({"config": {"x": object()}}, "plain JSON values"),
    ],
)
def test_bad_specs(fields, problem):
    with pytest.raises(ValueError, match=problem):
        RunSpec(**{"system": "s", **fields})


def test_unknown_spec_field():
    with pytest.raises(RecordError, match="does not understand"):
        RunSpec.from_dict({"system": "s", "colour": "red"})
