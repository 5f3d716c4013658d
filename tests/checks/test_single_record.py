"""The list of checks that one record can answer: it is the gate's, and each says when it has nothing to look at."""

from __future__ import annotations

import ast
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path

import pytest

from fixtures.records import edit_array, edit_facts
from fixtures.whole_records import watched_record
from rectest import checks
from rectest.checks.result import Verdict
from rectest.checks.single_record import SINGLE, TWO_RUNS, judge_alone

GATE = Path(__file__).parents[1] / "gate" / "test_gate.py"


def dropped(record, key):
    return replace(record, arrays={name: value for name, value in record.arrays.items() if name != key})


def asked_by_the_gate():
    """Names of all checks that the gate's own tests call, or name to be called."""
    tree = ast.parse(GATE.read_text())
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "checks"}


def takes_one_record(check):
    """Whether a record is all that a check needs."""
    needed = [each for each in signature(check).parameters.values() if each.default is Parameter.empty]
    return [each.annotation for each in needed] == ["RunRecord"]


def test_no_check_of_one_record_is_left_out():
    """Whatever `rectest.checks` offers that needs one record and nothing else is in the list, and nothing twice."""
    expected = {name for name in checks.__all__ if takes_one_record(getattr(checks, name))}
    names = [single.name for single in SINGLE]

    assert expected == set(names)
    assert len(expected) == len(names)


def test_the_list_is_that_of_the_gate():
    """Every check of the gate is in one of the two lists, and no other."""
    assert asked_by_the_gate() == {single.name for single in SINGLE} | set(TWO_RUNS)


def test_every_name_is_a_check():
    """And can be imported by it."""
    assert all(callable(getattr(checks, name)) for name in [*TWO_RUNS, *(single.name for single in SINGLE)])


def test_a_healthy_record_is_green():
    """Thirty seeds; what a record without monitoring cannot answer is said."""
    for seed in range(30):
        results, idle = judge_alone(watched_record(seed=seed))

        assert [] == [(result.check, result.figure) for result in results if result.red], seed
        assert {"best_checkpoint", "early_stop", "purity"} == set(idle)


@pytest.mark.parametrize(
    ("prefix", "name"), [("table", "embeddings"), ("idmap/", "mapping"), ("metric/test/", "above_chance")]
)
def test_what_has_no_arrays_is_not_asked(prefix, name):
    """A record without tables, maps or test metrics."""
    record = watched_record()
    for key in [key for key in record.arrays if key.startswith(prefix)]:
        record = dropped(record, key)

    _, idle = judge_alone(record)

    assert name in idle


def test_half_of_what_is_needed_is_not_green():
    """Ranks are gone while metrics are there: chance was asked, and could not be looked at."""
    record = watched_record()
    for key in [key for key in record.arrays if key.startswith("ranks/test/")]:
        record = dropped(record, key)

    results, idle = judge_alone(record)

    assert Verdict.NOT_MEASURED in {result.verdict for result in results if result.check.startswith("chance")}
    assert "above_chance" not in idle


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("embeddings/finite", lambda r: edit_array(r, "table/item", lambda a: a.__setitem__((3, 0), float("nan")))),
        ("embeddings/padding_row", lambda r: edit_array(r, "table/item", lambda a: a.__setitem__(0, 1.0))),
        ("mapping/bijection", lambda r: edit_array(r, "idmap/item", lambda a: a.__setitem__(3, a[4]))),
        ("ranges/metric", lambda r: edit_array(r, "metric/test/hit@10", lambda a: a + 1)),
        ("coherence/recomputed", lambda r: edit_array(r, "metric/test/ndcg@10", lambda a: a * 0.99)),
        ("ranges/loss", lambda r: edit_array(r, "loss/total", lambda a: a.__setitem__(2, float("inf")))),
        ("learning/moved", lambda r: edit_facts(r, "parameters", "named", "tower.bias", "moved", value=0.0)),
        ("fusion/scale", lambda r: edit_facts(r, "probes", "components", "tower", "spread", value=1e6)),
        ("invariance/modes", lambda r: edit_facts(r, "probes", "modes", "eval/grad", value=5)),
        ("configuration/read", lambda r: edit_facts(r, "settings_read", "unread", value=["dropuot"])),
    ],
)
def test_each_family_is_really_asked(check, fault):
    """One planted fault of each family turns its check red."""
    results, _ = judge_alone(fault(watched_record()))

    assert check in {result.check for result in results if result.red}
