"""Purity: each way of disturbing training by looking at it turns one result red, and only that one."""

from __future__ import annotations

import pytest

from fixtures.records import edit_facts, find, make_record, red_checks
from rectest.checks.purity import purity
from rectest.checks.result import Verdict

CLEAN = {"drew": [], "changed_model": False, "count": 5, "repeatable": True}


def with_evaluation(**changes):
    return edit_facts(make_record(), "evaluation", value={**CLEAN, **changes})


def test_a_pure_evaluation_is_green():
    results = purity(with_evaluation())

    assert red_checks(results) == set()
    assert len(results) == 4


@pytest.mark.parametrize(
    ("changes", "check", "word"),
    [
        ({"drew": ["torch", "numpy"]}, "purity/random", "torch, numpy"),
        ({"changed_model": True}, "purity/model", "moved"),
        ({"repeatable": False}, "purity/repeatable", "different"),
    ],
)
def test_each_disturbance_is_red(changes, check, word):
    results = purity(with_evaluation(**changes))

    assert red_checks(results) == {check}
    assert word in find(results, check).figure


def test_settings_left_by_an_import_are_red():
    record = edit_facts(with_evaluation(), "globals_changed", value={"anomaly_detection": "True"})

    results = purity(record)

    assert red_checks(results) == {"purity/imports"}
    assert "anomaly_detection is now True" in find(results, "purity/imports").figure


@pytest.mark.parametrize("facts", [{}, {"count": 0}, {"count": 3}])
def test_silence_is_not_purity(facts):
    (result,) = purity(edit_facts(make_record(), "evaluation", value=facts))

    assert result.verdict is Verdict.NOT_MEASURED
