"""What a report says about a gate follows from its own values, or is refused; the rule behind it is found again."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fixtures.baselines import make_records, make_whole_baseline
from fixtures.evidence import evidence
from rectest.baseline.evidence import evidence_of
from rectest.baseline.levels import judge_gate
from rectest.baseline.looks import ALPHA_DROP, Noise
from rectest.errors import RecordError
from rectest.report.arithmetic import arithmetic_of
from rectest.report.explain import explain


def changed_feature(case: str, place: int, **values):
    known = evidence(case)
    features = list(known.features)
    features[place] = replace(features[place], **values)
    return replace(known, features=tuple(features))


@pytest.mark.parametrize("max_runs", [2, 3, 4, 5])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_rule_is_found_again(max_runs, scale):
    baseline, sidecar = make_whole_baseline()
    records = make_records((100, 101), recall=0.195)
    outcome = judge_gate(records, baseline, sidecar, max_runs=max_runs, alpha_scale=scale)
    found = arithmetic_of(evidence_of(outcome, records, baseline, sidecar))

    assert found.rule.max_runs == max_runs
    assert found.rule.alpha_drop == scale * ALPHA_DROP
    assert found.decision == outcome.decision


def test_noise_that_other_systems_lend_is_no_contradiction():
    """With more degrees of freedom than stored seeds the limits are nearer."""
    baseline, sidecar = make_whole_baseline()
    names = list(baseline.ensemble.features)
    noise = Noise(sd=dict.fromkeys(names, 0.02), df_extra=dict.fromkeys(names, 20.0), num_systems=8)
    records = make_records((100, 101), recall=0.18)
    outcome = judge_gate(records, baseline, sidecar, noise=noise)
    text = explain(evidence_of(outcome, records, baseline, sidecar), width=200)

    df = re.search(r"-t\(q, ([\d.]+) df\)", text)

    assert float(df[1]) == pytest.approx(35, abs=1e-3)
    assert "of several systems together" in text


class TestContradictions:
    @pytest.mark.parametrize(
        "values",
        [
            {"change": -0.01},
            {"lowest": -0.5},
            {"highest": 0.01},
            {"p": 0.5},
            {"level": 1e-3},
            {"mdd": 0.01},
            {"alarm": False},
            {"run_sd": 0.1},
            {"new": (0.2, 0.2)},
        ],
    )
    def test_a_planted_number_is_noticed(self, values):
        with pytest.raises(RecordError, match="what it says about test/recall@10 does not follow from the values"):
            explain(changed_feature("drop", 0, **values))

    @pytest.mark.parametrize("verdict", ["PASS", "CHANGED", "SUSPICIOUS"])
    def test_a_planted_verdict_is_noticed(self, verdict):
        with pytest.raises(RecordError, match="what it says about the verdict does not follow"):
            explain(replace(evidence("drop"), verdict=verdict))

    def test_a_planted_stored_value_is_noticed(self):
        stored = evidence("drop").features[0].stored

        with pytest.raises(RecordError, match=r"test/recall@10 does not follow"):
            explain(changed_feature("drop", 0, stored=(0.3, *stored[1:])))

    @pytest.mark.parametrize(
        "values", [{"stored": ("a",) * 16}, {"stored": (0.0,) * 16}, {"weight": 2.0}, {"new": (0.1,)}]
    )
    def test_values_that_are_none_are_one_message(self, values):
        with pytest.raises(RecordError, match="toy"):
            explain(changed_feature("drop", 0, **values))
