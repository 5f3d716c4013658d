"""Auditing a saved record: healthy ones, each pair of runs, and files that are no record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures.records import edit_array, make_environment
from fixtures.whole_records import watched_record
from rectest.audits.record_audit import audit_record
from rectest.audits.theory import theory_of
from rectest.errors import RecordError


@pytest.fixture
def saved(tmp_path):
    def saved(record, name="run"):
        return record.save(tmp_path / f"{name}.npz")

    return saved


def found(audit):
    return {result.check for result in audit.findings}


def test_a_healthy_record_is_green(saved):
    """And says what it is, and what was not asked."""
    audit = audit_record(saved(watched_record()))

    assert (set(), 0) == (found(audit), audit.exit_code)
    assert "toy" in audit.facts["system"]
    assert audit.facts["steps"] == 8
    assert any("purity was not asked: the record does not say" in note for note in audit.notes)
    assert any("--against" in note for note in audit.notes)


def test_every_code_has_a_theory(saved):
    """All checks that a record, or two, can emit here."""
    pairs = [watched_record(), watched_record(seed=1), watched_record(replica=1)]
    paths = [saved(record, str(place)) for place, record in enumerate(pairs)]
    audits = [audit_record(paths[0], against=path) for path in paths[1:]]

    assert all(theory_of(result.check).claim for audit in audits for result in audit.results)


def test_a_fault_is_found_in_the_file(saved):
    """A metric that its ranks do not give."""
    spoiled = edit_array(watched_record(), "metric/test/hit@5", lambda values: values - 0.05)

    assert "coherence/recomputed" in found(audit_record(saved(spoiled)))


def test_the_same_spec_must_give_the_same_bits(saved):
    """Equal to the bit is green; one bit of one array is an error."""
    first = saved(watched_record())
    equal, spoiled = watched_record(replica=1), edit_array(watched_record(replica=1), "table/item", lambda a: a + 1e-7)

    assert found(audit_record(first, against=saved(equal, "equal"))) == set()
    assert {"reproducible"} == {
        name.partition("/")[0] for name in found(audit_record(first, against=saved(spoiled, "s")))
    }


def test_another_seed_must_draw_something_else(saved):
    """And a seed that reaches nothing is an error."""
    first, other = watched_record(), watched_record(seed=1)
    dead = replace(first, spec=other.spec)

    assert found(audit_record(saved(first), against=saved(other, "other"))) == set()
    assert {"seed_liveness"} == {
        name.partition("/")[0] for name in found(audit_record(saved(first), against=saved(dead, "dead")))
    }


def test_other_runs_must_be_about_one_task(saved):
    """Another environment may be compared in quality; another world may not."""
    first = watched_record()
    elsewhere = watched_record(environment=make_environment(threads=4))
    other_world = replace(first, facts={**first.facts, "inputs": {"world": "blake2b:other"}})
    other_world = replace(other_world, spec=first.spec.with_(world="other"))

    assert found(audit_record(saved(first), against=saved(elsewhere, "b"))) == set()
    assert found(audit_record(saved(first), against=saved(other_world, "c"))) == {"inputs/comparable"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x00" * 64, "é".encode() * 40])
def test_a_file_that_is_no_record_is_refused(tmp_path, content):
    """Empty, an archive, zeros, text."""
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"run\.npz"):
        audit_record(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_record_is_refused(saved, share):
    """At any place."""
    path = saved(watched_record())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecordError, match="not a readable record"):
        audit_record(path)


def test_a_folder_and_nothing_are_refused(tmp_path):
    """One line each."""
    with pytest.raises(RecordError, match="is a directory"):
        audit_record(tmp_path)
    with pytest.raises(RecordError, match="no such record"):
        audit_record(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ranks/test/user", np.zeros(3, dtype=np.int64)),
        ("table/item", np.zeros(3, dtype=np.float32)),
        ("idmap/item", np.zeros((2, 2))),
        ("eval/steps", np.zeros((2, 2), dtype=np.int64)),
        ("rows/item", np.zeros(2, dtype=np.int64)),
    ],
)
def test_a_record_that_does_not_fit_together_is_never_green(saved, key, value):
    """An array of another shape is a finding, or one line."""
    broken = saved(replace(watched_record(), arrays={**watched_record().arrays, key: value}))
    try:
        code = audit_record(broken).exit_code
    except RecordError as error:
        code = 2 if "damaged record" in str(error) else 0

    assert code in (1, 2)
