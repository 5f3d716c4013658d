"""Fusion: a part that drowns another, one at chance, and a sum worse than its best part turn red."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_facts, find, make_ranks, make_record, red_checks
from rectest.checks.fusion import FUSED, MAX_RATIO, diluted_hit, fusion, pairs_decided
from rectest.checks.result import Verdict
from rectest.metrics.ranking import evaluate

CHECKS = {"fusion/scale", "fusion/best_part"}


def fused(*, spreads=(1.0, 2.0), quality=(0.33, 0.25), total=0.36, num_users=938, measure="hit@10"):
    """A run whose score is the sum of two parts, ranked among 100 candidates."""
    ranks = make_ranks(num_users=num_users, num_candidates=100, skill=1.2)
    record = edit_facts(make_record(num_users=num_users), "protocol", "test", "num_users", value=num_users)
    record = replace(record, arrays={**record.arrays, **ranks.to_arrays("ranks/test")})
    parts = {
        name: {"spread": spread, measure: value}
        for name, spread, value in zip(("sasrec", "retriever"), spreads, quality, strict=True)
    }
    parts[FUSED] = {"spread": float(np.hypot(*spreads)), measure: total}
    return edit_facts(record, "probes", "components", value=parts)


def test_a_healthy_fusion_is_green():
    results = fusion(fused())

    assert red_checks(results) == set()
    assert CHECKS == {result.check for result in results}


def test_report_001_is_red_for_scale_and_for_quality():
    """An untrained retriever of 25 times the spread: the sum ranks at chance, the other part alone at 0.33."""
    results = fusion(fused(spreads=(2.0, 50.0), quality=(0.33, 0.1), total=0.106))

    assert CHECKS == red_checks(results)
    assert "'retriever' is 25 times that of 'sasrec'" in find(results, "fusion/scale").figure
    assert "'sasrec' decides 1.27 % of the pairs" in find(results, "fusion/scale").detail
    assert find(results, "fusion/best_part").figure.startswith("'retriever' ranks at chance; the sum is")
    assert "DROWNS 'sasrec'" in find(results, "fusion/best_part").detail


@pytest.mark.parametrize("spreads", [(0.0, 1.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_a_dead_part_has_no_scale(spreads):
    assert red_checks(fusion(fused(spreads=spreads))) == {"fusion/scale"}


@settings(max_examples=30, deadline=None)
@given(ratio=st.floats(1, 100), unit=st.sampled_from([1e-6, 1.0, 1e6]))
def test_only_the_ratio_counts(ratio, unit):
    for spreads in ((unit, unit * ratio), (unit * ratio, unit)):
        result = find(fusion(fused(spreads=spreads, num_users=60)), "fusion/scale")

        assert result.red == (ratio > MAX_RATIO * (1 + 1e-12)) or ratio == pytest.approx(MAX_RATIO)


def test_a_part_at_chance_is_named_even_where_it_does_no_harm():
    result = find(fusion(fused(quality=(0.33, 0.1), total=0.33)), "fusion/best_part")

    assert result.verdict is Verdict.FAIL
    assert result.figure == "'retriever' ranks at chance"


def test_a_sum_that_is_worse_than_its_best_part_is_red():
    """0.33 to 0.24 of 938 users: the error of a difference is at most sqrt(2) * 0.016, the limit three times that."""
    result = find(fusion(fused(total=0.24)), "fusion/best_part")

    assert result.verdict is Verdict.FAIL
    assert "fusing costs quality" in result.detail
    assert not find(fusion(fused(total=0.30)), "fusion/best_part").red


def test_a_lower_mean_rank_is_better():
    worse = fused(quality=(28.0, 35.0), total=45.0, measure="mean_rank")
    better = fused(quality=(28.0, 35.0), total=26.0, measure="mean_rank")

    assert red_checks(fusion(worse)) == {"fusion/best_part"}
    assert red_checks(fusion(better)) == set()


def test_the_monitored_measure_is_judged_where_there_are_several():
    record = fused()
    components = {name: {**facts, "ndcg@10": 0.0} for name, facts in record.facts["probes"]["components"].items()}
    record = edit_facts(record, "probes", "components", value=components)

    assert not red_checks(fusion(edit_facts(record, "early_stopping", value={"measure": "hit@10"})))
    assert red_checks(fusion(edit_facts(record, "early_stopping", value={"measure": "ndcg@10"})))


def test_a_score_of_one_part_has_nothing_to_fuse():
    record = make_record()
    probes = {key: value for key, value in record.facts["probes"].items() if key != "components"}

    assert fusion(edit_facts(record, "probes", value=probes)) == []


@pytest.mark.parametrize(
    "components",
    [
        {"sasrec": {"spread": 1.0, "hit@10": 0.3}, FUSED: {"spread": 1.0, "hit@10": 0.3}},
        {"sasrec": {"spread": 1.0, "hit@10": 0.3}, "retriever": {"spread": 1.0, "hit@10": 0.3}},
    ],
)
def test_half_a_probe_is_not_green(components):
    results = fusion(edit_facts(fused(), "probes", "components", value=components))

    assert {Verdict.NOT_MEASURED} == {result.verdict for result in results}


def test_silence_is_not_green():
    without_quality = edit_facts(fused(), "probes", "components", "sasrec", value={"spread": 1.0})
    without_ranks = fused().with_arrays(**{"ranks/test/user": None})

    assert CHECKS == red_checks(fusion(edit_facts(fused(), "probes", value=None)))
    assert red_checks(fusion(without_quality)) == {"fusion/best_part"}
    assert red_checks(fusion(without_ranks)) == {"fusion/best_part"}


@pytest.mark.parametrize(
    ("ratio", "hit", "pairs"),
    [(1, 0.246, 0.25), (2, 0.183, 0.148), (3, 0.155, 0.102), (5, 0.132, 0.063), (10, 0.115, 0.032), (25, 0.106, 0.013)],
)
def test_the_table_behind_the_limit(ratio, hit, pairs):
    assert hit == pytest.approx(diluted_hit(0.33, ratio), abs=6e-4)
    assert pairs == pytest.approx(pairs_decided(ratio), abs=6e-4)


def test_the_formulas_are_what_a_simulation_gives():
    """20000 users among 100 candidates, a scorer of hit@10 0.33 and noise of three times its spread."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(20_000, 100))
    scores[:, 0] += 0.854
    noise = rng.normal(scale=3, size=scores.shape)
    mixed = scores + noise
    flipped = ((mixed[:, 1] > mixed[:, 2]) != (noise[:, 1] > noise[:, 2])).mean()

    assert ((scores > scores[:, :1]).sum(1) < 10).mean() == pytest.approx(0.33, abs=0.01)
    assert ((mixed > mixed[:, :1]).sum(1) < 10).mean() == pytest.approx(diluted_hit(0.33, 3), abs=0.01)
    assert flipped == pytest.approx(pairs_decided(3), abs=0.01)


@pytest.mark.parametrize("hit", [0.1, 0.05, 1.0])
def test_a_scorer_at_chance_has_nothing_to_dilute(hit):
    with pytest.raises(ValueError, match=r"need a hit@10 between chance \(0.1\) and 1"):
        diluted_hit(hit, 1.0)


def test_the_fixture_ranks_as_the_parts_claim():
    assert evaluate(make_ranks(num_users=938, num_candidates=100, skill=1.2), ["hit@10"])["hit@10"] > 0.33
