"""Comparisons: a planted difference is measured, noise is called noise, and unequal conditions are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures.records import edit_array, make_record
from rectest.checks.comparison import difference, paired_interval
from rectest.checks.result import Verdict

METRIC = "test/hit@10"


def scaled(record, factor):
    return edit_array(record, f"metric/{METRIC}", lambda values: values * factor)


@pytest.fixture(scope="module")
def base():
    return [make_record(seed=seed) for seed in range(4)]


def test_interval_by_hand():
    mean, reach = paired_interval(np.array([1.0, 1.0]), np.array([1.0, 3.0]))

    assert mean == 1.0
    assert reach == pytest.approx(12.7062, rel=1e-4)


def test_a_planted_difference_is_measured(base):
    (found,) = difference(base, [scaled(record, 0.8) for record in base], METRIC, name="worse", claimed="+5 %")

    assert found.verdict is Verdict.PASS
    assert "-20.00%" in found.figure
    assert found.expected == "claimed: +5 %"
    assert found.detail.startswith("it lowers")


def test_noise_is_called_noise(base):
    wobble = [scaled(record, factor) for record, factor in zip(base, (1.1, 0.9, 1.1, 0.9), strict=True)]
    (found,) = difference(base, wobble, METRIC, name="noise")

    assert found.detail == "nothing that these seeds could tell from chance"


def other_data(record):
    return replace(record, facts={**record.facts, "inputs": {**record.facts["inputs"], "world": "other"}})


def other_protocol(record):
    protocol = {**record.facts["protocol"], "test": {**record.facts["protocol"]["test"], "kind": "sampled"}}
    return replace(record, facts={**record.facts, "protocol": protocol})


@pytest.mark.parametrize(
    ("change", "reason"), [(other_data, "other data"), (other_protocol, "other protocol"), (None, "seeds")]
)
def test_unequal_conditions_are_refused(base, change, reason):
    other = base[:2] if change is None else [change(record) for record in base]
    (found,) = difference(base, other, METRIC, name="other")

    assert found.verdict is Verdict.NOT_MEASURED
    assert reason in found.figure


def test_a_missing_metric_is_not_measured(base):
    (found,) = difference(base, base, "test/recall@999", name="none")

    assert found.verdict is Verdict.NOT_MEASURED


@pytest.mark.parametrize("sizes", [(1, 1), (2, 3)])
def test_too_few_or_unpaired_values_are_a_mistake(sizes):
    with pytest.raises(ValueError, match="same two or more seeds"):
        paired_interval(np.zeros(sizes[0]), np.zeros(sizes[1]))
