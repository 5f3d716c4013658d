"""Steps in a series of gates: the permutation test on known noise, and what makes a series out of reports."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_record, make_records
from fixtures.evidence import judged
from rectest.baseline.evidence import FeatureEvidence
from rectest.baseline.trend import (
    DELAY,
    MEASURED,
    MIN_SEGMENT,
    TREND_ALPHA,
    Point,
    change_point,
    points_needed,
    sparkline,
    trend_of,
)
from rectest.checks.tolerance import binomial_tail
from rectest.errors import RecordError

EVIDENCE = judged([make_record(0)])
RECALL, LOSS = "test/recall@10", "loss/late"
NOISE = 0.2 * np.exp(np.random.default_rng(4).normal(0, 0.02, 30))


def feature(name: str, *values: object) -> FeatureEvidence:
    nothing = dict.fromkeys(("change", "lowest", "highest", "run_sd", "p", "level", "mdd"))
    return FeatureEvidence(name=name, weight=1.0, stored=(0.2,), new=values, **nothing)


def points(*series: object, seeds: tuple[int, ...] = (0,), name: str = RECALL) -> list[Point]:
    """One point for each value (or tuple of values, one for each seed)."""
    return [
        Point(
            label=f"night {place}",
            evidence=replace(
                EVIDENCE,
                seeds=seeds,
                features=(feature(name, *(value if isinstance(value, tuple) else (value,))),),
            ),
        )
        for place, value in enumerate(series)
    ]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class TestChangePoint:
    def test_the_p_value_is_that_of_all_orders(self):
        """Eight values have 40,320 orders; the split of 0 0 0 0 | 1 1 1 1 is reached by 2 of C(8, 4)."""
        place, t, p = change_point(np.array([0, 0, 0, 0, 1, 1, 1, 1.0]), rng())

        assert (4, math.inf) == (place, t)
        assert p == pytest.approx(2 / 70, rel=0.15)

    def test_t_is_the_pooled_one_of_the_text_book(self):
        from scipy.stats import ttest_ind

        values = np.random.default_rng(1).normal(size=15)
        ts = {k: abs(ttest_ind(values[:k], values[k:]).statistic) for k in range(3, 13)}
        place, t, _ = change_point(values, rng(), num_permutations=1)

        assert max(ts, key=ts.get) == place
        assert max(ts.values()) == pytest.approx(t)

    def test_its_p_value_is_exact_where_all_orders_can_be_tried(self):
        """Of eight values, by an independent count over every order of them."""
        values = np.random.default_rng(2).normal(size=8)
        orders = np.array(list(itertools.permutations(values)))
        sums, before = np.cumsum(orders - values.mean(), axis=1), np.arange(1, 8)
        between = (sums[:, :-1] ** 2 / (before * (8 - before)))[:, MIN_SEGMENT - 1 : 8 - MIN_SEGMENT].max(axis=1)
        exact = (between >= between[0] * (1 - 1e-9)).mean()

        assert exact == pytest.approx(change_point(values, rng(), num_permutations=40_000)[2], abs=0.01)

    @pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
    def test_a_constant_has_no_step(self, value):
        place, t, p = change_point(np.full(12, value), rng())

        assert (1.0, True) == (p, MIN_SEGMENT <= place <= 12 - MIN_SEGMENT)
        assert t == 0 or value == 0.1, "sums of 0.1 are rounded"

    @pytest.mark.parametrize("night", [0, 14, 29])
    def test_one_odd_night_is_no_step(self, night):
        values = np.random.default_rng(3).normal(size=30)
        values[night] += 30
        place, _, p = change_point(values, rng())

        assert 3 <= place <= 27
        assert p > 5 * TREND_ALPHA

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 999), st.floats(0.01, 100), st.floats(-100, 100))
    def test_scale_and_place_do_not_matter(self, seed, scale, offset):
        values = np.random.default_rng(seed).normal(size=12)
        first = change_point(values, rng(), num_permutations=99)
        second = change_point(offset - scale * values, rng(), num_permutations=99)

        assert first[0] == second[0]
        assert first[1:] == pytest.approx(second[1:], rel=1e-6)

    @pytest.mark.parametrize("values", [np.ones(7), np.array([1, 2, 3, 4, 5, 6, 7, np.nan])])
    def test_too_few_or_no_numbers(self, values):
        with pytest.raises(ValueError, match="needed 8 finite values or more"):
            change_point(values, rng())

    @pytest.mark.parametrize(("num", "replicates"), [(20, 1000), (50, 500), (100, 200)])
    def test_noise_shows_a_step_as_rarely_as_is_said(self, num, replicates):
        found, noise = np.random.default_rng(num), np.random.default_rng(num + 1)
        hits = sum(
            change_point(noise.standard_normal(num), found, num_permutations=499)[2] <= TREND_ALPHA
            for _ in range(replicates)
        )

        assert binomial_tail(hits, replicates, TREND_ALPHA) > 1e-3
        assert MEASURED[num] <= TREND_ALPHA * 1.2

    def test_the_count_would_notice_a_split_that_was_chosen_and_not_paid_for(self):
        """The usual error: the t-test of the best split at its ordinary quantile."""
        from scipy.stats import t

        noise = np.random.default_rng(8)
        limit = t.isf(TREND_ALPHA / 2, 18)
        hits = sum(change_point(noise.standard_normal(20), noise, num_permutations=1)[1] > limit for _ in range(1000))

        assert binomial_tail(hits, 1000, TREND_ALPHA) < 1e-3

    def test_a_step_of_two_sds_shows_after_as_many_points_as_is_said(self):
        noise, delays = np.random.default_rng(6), []
        for _ in range(24):
            values = noise.standard_normal(50)
            values[20:] += 2
            p = (change_point(values[: 20 + num], noise, num_permutations=1999)[2] for num in range(3, 30))
            delays.append(next((num for num, each in enumerate(p, start=3) if each <= TREND_ALPHA / 10), 30))

        assert np.median(delays) == pytest.approx(DELAY[20], abs=3)


class TestTrend:
    def test_a_step_is_found_where_it_is(self):
        values = NOISE.copy()
        values[18:] *= 0.92
        trend = trend_of(points(*values))
        (found,) = trend.features

        assert found.steps
        assert "night 18" == found.since
        assert found.change == pytest.approx(-0.08, abs=0.02)
        assert found.worse
        assert (30, 30, (0,)) == (trend.num_reports, trend.num_points, trend.seeds)

    def test_noise_has_none(self):
        (found,) = trend_of(points(*NOISE)).features

        assert not found.steps

    @pytest.mark.parametrize(("name", "worse"), [(LOSS, True), (RECALL, False), ("test/mean_rank", True)])
    def test_a_rise_is_worse_for_losses_and_ranks(self, name, worse):
        (found,) = trend_of(points(*NOISE[:15], *(NOISE[15:] * 1.1), name=name)).features

        assert found.steps
        assert worse == found.worse

    def test_the_level_is_shared_among_the_features(self):
        many = [
            replace(point, evidence=replace(point.evidence, features=(*point.evidence.features, feature(LOSS, value))))
            for point, value in zip(points(*NOISE), NOISE[::-1], strict=True)
        ]

        assert [TREND_ALPHA / 2] * 2 == [each.level for each in trend_of(many).features]

    def test_repeated_numbers_are_one_point(self):
        """Ten nights of one commit and ten of the next are two draws, not a step."""
        repeated = trend_of(points(*[0.200] * 10, *[0.204] * 10))

        assert (20, 2) == (repeated.num_reports, repeated.num_points)
        assert () == repeated.features
        assert {RECALL: 2} == repeated.too_short

    def test_a_slow_slide_does_not_hide_among_repeats(self):
        slide = trend_of(points(*(0.2 * np.exp(-6e-5 * np.arange(60)))))

        assert 30 == slide.num_points
        assert slide.features[0].steps

    def test_only_seeds_that_every_report_has_are_compared(self):
        """A second seed that is trained now and then, and always scores lower, is no step."""
        some = points(*NOISE[:15]) + points(*((value, 0.1) for value in NOISE[15:]), seeds=(0, 1))
        trend = trend_of(some)

        assert (0,) == trend.seeds
        np.testing.assert_allclose(np.log(NOISE), trend.features[0].logs)

    def test_without_a_common_seed_all_runs_count(self):
        trend = trend_of(points(*NOISE[:9]) + points(*NOISE[9:], seeds=(7,)))

        assert () == trend.seeds
        assert 30 == trend.num_points

    @pytest.mark.parametrize("hole", [None, math.nan, 0.0, -1.0, math.inf])
    def test_a_value_that_is_none_is_left_out_and_the_rest_is_judged(self, hole):
        values = [*NOISE[:15], *(NOISE[15:] * 0.9)]
        values[3] = hole
        (found,) = trend_of(points(*values)).features

        assert 29 == len(found.logs)
        assert "night 3" not in found.labels
        assert ("night 15", True) == (found.since, found.steps)

    def test_too_few_points_are_said(self):
        trend = trend_of(points(*NOISE[:7]))

        assert () == trend.features
        assert {RECALL: 7} == trend.too_short

    def test_a_feature_that_nothing_has_is_said(self):
        assert {RECALL: 0} == trend_of(points(*[None] * 9)).too_short

    def test_another_environment_is_named(self):
        some = points(*NOISE)
        some[12:] = [replace(p, evidence=replace(p.evidence, fingerprint="0" * 16)) for p in some[12:]]

        assert ("night 12",) == trend_of(some).moves

    def test_real_gates(self):
        """Nights of real judgements, each with other random numbers; from the fifteenth on recall is 10 % lower."""
        nights = [
            Point(label=str(n), evidence=judged(make_records((0,), noise=n + 1, recall=0.2 if n < 15 else 0.18)))
            for n in range(26)
        ]
        found = {each.name: each for each in trend_of(nights).features}

        assert found[RECALL].steps
        assert "15" == found[RECALL].since
        assert not found[LOSS].steps

    @pytest.mark.parametrize("change", [{"name": "other"}, {"env_class": "cuda"}])
    def test_mixed_systems_are_refused(self, change):
        mixed = points(*NOISE)
        mixed[4] = replace(mixed[4], evidence=replace(mixed[4].evidence, **change))

        with pytest.raises(ValueError, match="one system in one environment class"):
            trend_of(mixed)

    def test_no_points_are_refused(self):
        with pytest.raises(ValueError, match=r"got \[\]"):
            trend_of([])

    def test_values_that_do_not_fit_the_runs(self):
        with pytest.raises(RecordError, match=r"night 0: test/recall@10 of toy has 1 values for 2 runs"):
            trend_of(points(*NOISE, seeds=(0, 1)))

    @pytest.mark.parametrize("odd", ["0.2", True, [0.2]])
    def test_values_that_are_no_numbers(self, odd):
        with pytest.raises(RecordError, match="needed a number"):
            trend_of(points(*NOISE, odd))


def test_fewer_points_than_needed_can_show_nothing():
    for level in (0.01, 0.001):
        num = points_needed(level)
        for size in (num - 1, num):
            perfect = np.repeat([0.0, 1.0], [size // 2, size - size // 2])

            assert (change_point(perfect, rng(), num_permutations=19_999)[2] <= level) == (size == num)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0], "▁"), ([2.0, 2.0], "▁▁"), ([0.0, 1.0], "▁█"), ([3.0, 0.0, 3.0, 0.0], "█▁█▁")],
)
def test_sparkline(values, expected):
    assert expected == sparkline(values)


def test_a_long_sparkline_is_thinned_out():
    assert "▁▃▆█" == sparkline(list(range(1000)), width=4)
