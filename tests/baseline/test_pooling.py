"""Pooled variances: the arithmetic by hand and by simulation, and which baselines lend what to which feature."""

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr, polygamma, stdtrit

from fixtures.baselines import make_baseline, make_records
from rectest.baseline.judge import judge_sequential
from rectest.baseline.looks import ALPHA_DROP, promised_drop
from rectest.baseline.pooling import MIN_SYSTEMS, _trigamma_inverse, noise_of, pooled_variance
from rectest.baseline.power import shift_quantile, t_quantile
from rectest.baseline.schema import Baseline
from rectest.baseline.sequential import Rule


def test_equal_variances_are_fully_pooled():
    found = pooled_variance([2.0] * 8, 15)

    assert found.prior == 2.0
    assert math.isinf(found.prior_df)
    assert np.full(8, 2.0).tolist() == found.phi.tolist()
    # The seven others have 105 degrees of freedom, and half of them are lent.
    assert np.full(8, 52.5).tolist() == found.df_extra.tolist()


def test_fit_of_two_values_by_hand():
    """Four ratios of 1 and four of 9 with two degrees of freedom: digamma(1) is minus Euler's constant."""
    found = pooled_variance([1.0] * 4 + [9.0] * 4, 2)
    # var(ln phi) = (ln 9)^2 / 4 * 8/7, less trigamma(1) = pi^2 / 6.
    assert math.log(9) ** 2 * 2 / 7 < math.pi**2 / 6
    assert math.isinf(found.prior_df)
    assert found.prior == 5.0

    wide = pooled_variance([1.0] * 4 + [81.0] * 4, 2)
    excess = math.log(81) ** 2 * 2 / 7 - math.pi**2 / 6
    half = wide.prior_df / 2

    assert excess == pytest.approx(float(polygamma(1, half)), rel=1e-9)
    # ln 9 is the mean log, and e = ln phi + Euler's constant.
    digamma = float(polygamma(0, half))
    assert math.log(wide.prior) == pytest.approx(math.log(9) + 0.5772156649 + digamma - math.log(half), rel=1e-9)
    assert wide.phi[0] == pytest.approx((2 * half * wide.prior + 2 * 1.0) / (2 * half + 2))
    assert np.full(8, half).tolist() == pytest.approx(wide.df_extra.tolist())


@given(seed=st.integers(0, 10_000), num_systems=st.integers(8, 20), factor=st.floats(0.01, 100))
@settings(max_examples=50, deadline=None)
def test_moderation_shrinks_keeps_the_order_and_knows_no_unit(seed, num_systems, factor):
    phi = np.random.default_rng(seed).chisquare(4, num_systems)
    found, scaled = pooled_variance(phi, 7), pooled_variance(factor * phi, 7)

    assert (np.abs(found.phi - found.prior) <= np.abs(phi - found.prior) * (1 + 1e-9)).all()
    assert (np.diff(found.phi[np.argsort(phi)]) >= 0).all()
    assert (found.df_extra <= 7 * (num_systems - 1) / 2).all()
    assert (factor * found.phi).tolist() == pytest.approx(scaled.phi.tolist(), rel=1e-6)


@given(x=st.floats(1e-3, 1e6))
@settings(max_examples=50, deadline=None)
def test_trigamma_inverse(x):
    assert x == pytest.approx(_trigamma_inverse(float(polygamma(1, x))), rel=1e-6)


def test_the_prior_is_recovered_from_many_systems():
    rng = np.random.default_rng(5)
    true = 3.0 * 10 / rng.chisquare(10, 20_000)
    found = pooled_variance(true * rng.chisquare(7, 20_000) / 7, 7)

    assert found.prior_df == pytest.approx(10, rel=0.1)
    assert found.prior == pytest.approx(3.0, rel=0.02)


def false_alarms(num_stored: int) -> dict[str, float]:
    """Rates of t tests, in units of their level 1e-3, with eight systems whose variances spread as 10 / chi2(10)."""
    rng, df, alpha = np.random.default_rng(num_stored), num_stored - 1, 1e-3
    rates: dict[str, list[float]] = {"own": [], "half": [], "all": []}
    for _ in range(2000):
        true = 10 / rng.chisquare(10, 8)
        phi = true * rng.chisquare(df, 8) / df
        found = pooled_variance(phi, df)
        half = float(found.df_extra[0])
        for name, used, extra in (("own", phi, 0), ("half", found.phi, half), ("all", found.phi, 2 * half)):
            # Given the sds the rate is exact: a normal tail.
            rates[name].append(float(ndtr(-t_quantile(alpha, df + extra) * np.sqrt(used / true)).mean()))
    return {name: float(np.mean(values)) / alpha for name, values in rates.items()}


@pytest.mark.parametrize("num_stored", [5, 8])
def test_half_the_prior_nearly_keeps_the_level_and_all_of_it_does_not(num_stored):
    """Planted fault: lending the whole of the prior, as with thousands of genes."""
    found = false_alarms(num_stored)

    assert found["own"] == pytest.approx(1.0, abs=0.15)
    assert found["half"] < 1.4 < found["all"]


@pytest.mark.parametrize(
    ("phi", "df", "match"),
    [
        ([1.0] * 7, 15, "8 or more systems"),
        (np.ones((8, 2)), 15, "8 or more systems"),
        ([1.0] * 7 + [0.0], 15, "above zero"),
        ([1.0] * 7 + [math.nan], 15, "finite"),
        ([1.0] * 8, 0, "above zero"),
        ([1.0] * 8, math.nan, "finite"),
        ([1.0] * 8, [15, 15], "df must be one number or 8"),
    ],
)
def test_too_few_systems_or_odd_ratios(phi, df, match):
    with pytest.raises(ValueError, match=match):
        pooled_variance(phi, df)


NAMES = ("test/recall@10", "valid/recall@10/late", "valid/recall@10/mid", "valid/recall@10/early", "loss/late")
TEMPLATE = make_baseline(5)


def system(
    name: str, *, sds: tuple[float, ...] = (0.02,) * 5, user: float = 0.01, num: int = 5, seed: int = 0
) -> Baseline:
    """A baseline whose features have exactly these sds, and whose users explain `user` of each but the loss's."""
    rng = np.random.default_rng([seed, num])
    draws = rng.normal(size=(num, len(NAMES)))
    draws = (draws - draws.mean(axis=0)) / draws.std(axis=0, ddof=1)
    features = {
        each: tuple((0.2 * np.exp(sd * draws[:, f])).tolist())
        for f, (each, sd) in enumerate(zip(NAMES, sds, strict=True))
    }
    ensemble = TEMPLATE.ensemble.model_copy(
        update={
            "seeds": tuple(range(num)),
            "features": features,
            "user_variance": {each: user**2 for each in NAMES if each != "loss/late"},
            "twins": {},
        }
    )
    return TEMPLATE.model_copy(update={"system": name, "ensemble": ensemble, "streams": {}})


def others(num: int = 7, **settings) -> list[Baseline]:
    return [system(f"other{place}", seed=place + 1, **settings) for place in range(num)]


class TestNoise:
    def test_equal_systems_lend_half_of_all_they_have(self):
        found = noise_of(system("mine"), others())

        assert found.num_systems == 8
        assert found.sd == pytest.approx(dict.fromkeys(NAMES, 0.02))
        # phi is 4 everywhere; seven others with four degrees of freedom each.
        assert found.df_extra == pytest.approx({**dict.fromkeys(NAMES, 14.0), "loss/late": 0.0})

    def test_a_lucky_sd_is_drawn_up_and_an_unlucky_one_down(self):
        spread = [system(f"other{s}", seed=s + 1, sds=(0.01 * (s + 1),) * 5) for s in range(7)]
        low, high = (noise_of(system("mine", sds=(sd,) * 5), spread) for sd in (0.004, 0.2))

        assert low.sd["test/recall@10"] > 0.004
        assert high.sd["test/recall@10"] < 0.2
        assert (low.sd["loss/late"], high.sd["loss/late"]) == pytest.approx((0.004, 0.2))

    def test_by_the_formula(self):
        spread = [system(f"other{s}", seed=s + 1, sds=(0.01 * (s + 1),) * 5, num=5 + s) for s in range(7)]
        found = noise_of(system("mine", sds=(0.03,) * 5), spread)
        phi = [9.0, *((s + 1.0) ** 2 for s in range(7))]
        expected = pooled_variance(phi, [4, *(4 + s for s in range(7))])

        assert found.sd["valid/recall@10/mid"] == pytest.approx(0.01 * math.sqrt(expected.phi[0]))
        assert found.df_extra["valid/recall@10/mid"] == pytest.approx(expected.df_extra[0])

    def test_users_are_a_floor(self):
        """Planted fault: eight lucky systems whose runs vary less than their users do."""
        lucky = {"sds": (0.001,) * 5}
        found = noise_of(system("mine", **lucky), others(**lucky))

        assert found.sd["test/recall@10"] == pytest.approx(0.01)

    def test_each_kind_of_feature_is_pooled_by_itself(self):
        """Early windows vary more than final values, and say nothing about them."""
        sds = (0.02, 0.02, 0.02, 0.2, 0.02)
        found = noise_of(system("mine", sds=sds), others(sds=sds))

        assert found.sd == pytest.approx(dict(zip(NAMES, sds, strict=True)))

    def test_a_kind_that_few_systems_have_keeps_its_own(self):
        lenders = others()
        short = lenders[0].ensemble
        left = {key: value for key, value in short.user_variance.items() if not key.endswith("/mid")}
        lenders[0] = lenders[0].model_copy(update={"ensemble": short.model_copy(update={"user_variance": left})})
        found = noise_of(system("mine"), lenders)

        assert found.df_extra["valid/recall@10/mid"] == 0
        assert found.df_extra["valid/recall@10/late"] == 14

    @pytest.mark.parametrize("num", range(MIN_SYSTEMS - 1))
    def test_fewer_than_eight_are_not_pooled(self, num):
        assert noise_of(system("mine"), others(num)) is None

    def test_who_lends_nothing(self):
        """Itself, a copy of it, another class of machines, and baselines without values of users."""
        mine, lenders = system("mine"), others()
        bare = lenders[0].model_copy(update={"ensemble": lenders[0].ensemble.model_copy(update={"user_variance": {}})})
        elsewhere = lenders[0].model_copy(update={"env_class": "cuda-sm90"})

        for other in (mine, lenders[1], bare, elsewhere):
            assert noise_of(mine, [other, *lenders[1:]]) is None
        assert noise_of(bare, [mine, *lenders[1:]]) is None

    def test_a_system_on_another_world_is_another_one(self):
        mine = system("mine")
        worlds = [mine.model_copy(update={"world": f"world{place}"}) for place in range(7)]

        assert noise_of(mine, worlds).num_systems == 8

    def test_a_system_whose_seeds_are_all_equal_stays_finite(self):
        found = noise_of(system("mine", sds=(0.0,) * 5), others())

        assert all(math.isfinite(sd) and sd > 0 for sd in found.sd.values())

    @given(seed=st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_the_order_of_the_others_does_not_matter(self, seed):
        rng = np.random.default_rng(seed)
        lenders = [system(f"other{s}", seed=s + 1, sds=tuple(rng.uniform(0.005, 0.05, 5))) for s in range(9)]
        one, other = noise_of(system("mine"), lenders), noise_of(system("mine"), lenders[::-1])

        assert one.sd == pytest.approx(other.sd)
        assert one.df_extra == pytest.approx(other.df_extra)


RULE = Rule(weights=(0.1, 0.1, 0.25, 0.05, 0.3, 0.2), min_effect=0.0)
DF = np.array([2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 50, 60, 80, 120.0])


@lru_cache
def factors(alpha: float) -> np.ndarray:
    """[F, df] delta in standard errors, at the degrees of freedom of `DF`."""
    levels = alpha * np.array(RULE.weights) / 4
    return np.array([[shift_quantile(level, df, RULE.beta / 5) for df in DF] for level in levels])


class Sides:
    """The limits of one side of eight gates."""

    def __init__(self, alpha: float, sd: np.ndarray, df: np.ndarray, num_stored: int):
        self.sd, self.df, self.num_stored = sd, df, num_stored
        self.limit = -stdtrit(df, alpha * np.array(RULE.weights) / 4)
        found = [np.interp(df[:, f], DF, row) for f, row in enumerate(factors(alpha))]
        self.delta = np.stack(found, axis=1) * sd * math.sqrt(1 / num_stored + 1 / 5)

    def look(self, runs: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which gates alarm downwards after these runs [8, k, F], and which exclude everything."""
        k, unit = runs.shape[1], self.sd * math.sqrt(1 / self.num_stored + 1 / runs.shape[1])
        shift = runs.mean(axis=1) - centre
        clear = (shift + self.delta > -stdtrit(self.df, RULE.beta / 5) * unit).all(axis=1)
        if k == 1:
            return np.zeros(8, bool), clear
        others_ = np.sort(runs, axis=1)[:, k // 2 :]
        least = self.sd * math.sqrt(1 / self.num_stored + 1 / others_.shape[1])
        witness = others_.mean(axis=1) - centre < stdtrit(self.df, RULE.witness[k - 2]) * least
        return ((shift < -self.limit * unit) & witness).any(axis=1), clear


def gates(num_stored: int, pools: int, *, pooled: str, drop: float = 0.0, spread: float = 10.0) -> tuple[int, float]:
    """Gates that fail, of pools of eight systems of six independent features each, and runs per gate.

    True variances are ``spread / chi2(spread)`` times a common one. All eight systems of a pool are judged, each with
    what the others lend; the first feature drops.
    """
    rng, df, failed, runs = np.random.default_rng(num_stored), num_stored - 1, 0, 0
    for _ in range(pools):
        true = np.sqrt(spread / rng.chisquare(spread, (8, 6)))[:, None]
        stored, new = true * rng.normal(size=(8, num_stored, 6)), true * rng.normal(size=(8, 5, 6))
        new[:, :, 0] -= drop
        sd, extra = stored.std(axis=1, ddof=1), np.zeros((8, 6))
        for f in range(6):
            if pooled == "moderated":
                found = pooled_variance(sd[:, f] ** 2, df)
                sd[:, f], extra[:, f] = np.sqrt(found.phi), found.df_extra
            elif pooled == "one":  # Planted fault: one variance for all, with all their degrees of freedom.
                sd[:, f], extra[:, f] = math.sqrt((sd[:, f] ** 2).mean()), 7.0 * df
        centre, open_ = stored.mean(axis=1), np.ones(8, bool)
        down, up = (Sides(alpha, sd, df + extra, num_stored) for alpha in (RULE.alpha_drop, RULE.alpha_rise))
        for k in range(1, 6):
            runs += int(open_.sum())
            drops, not_worse = down.look(new[:, :k], centre)
            rises, not_better = up.look(-new[:, :k], -centre)
            failed += int((open_ & drops).sum())
            open_ &= ~(drops | rises | (not_worse & not_better))
    return failed, runs / (8 * pools)


@pytest.mark.parametrize(("num_stored", "spread"), [(5, 10.0), (8, 4.0)])
def test_eight_pooled_systems_alarm_no_more_than_declared(num_stored, spread):
    """Planted fault: one variance for all, which is wrong for every system that varies more than most."""
    pools = 500
    moderated, runs = gates(num_stored, pools, pooled="moderated", spread=spread)
    one, _ = gates(num_stored, pools, pooled="one", spread=spread)

    assert moderated <= stats.binom.isf(1e-3, 8 * pools, ALPHA_DROP) < one
    assert 1.0 <= runs <= 1.5


def test_pooling_gives_five_seeds_the_power_of_many_more():
    """A drop of five run sds, which five seeds of one system hardly ever show."""
    (own, _), (pooled, _), (eight, _) = (
        gates(num_stored, 60, pooled=how, drop=5.0) for num_stored, how in ((5, "own"), (5, "moderated"), (8, "own"))
    )

    assert own < 0.1 * 480
    assert pooled > max(eight, 0.4 * 480)


def test_the_gate_itself_catches_more_with_what_others_lend():
    """Through records, features and looks: the same candidates, with and without seven other systems."""
    mine = make_baseline(5)
    lenders = [make_baseline(5, system=f"other{place}", noise=place + 1) for place in range(7)]
    noise = noise_of(mine, lenders)
    lost = promised_drop(mine, "test/recall@10", noise=noise)
    found = {"own": 0, "pooled": 0}
    for trial in range(20):
        records = make_records(range(1000 + 5 * trial, 1005 + 5 * trial), recall=0.2 * (1 - lost))
        for name, given_noise in (("own", None), ("pooled", noise)):
            for k in range(1, 6):
                outcome = judge_sequential(records[:k], mine, noise=given_noise)
                if not outcome.undecided:
                    found[name] += outcome.decision.state == "FAIL"
                    break

    assert lost < promised_drop(mine, "test/recall@10") / 1.5
    assert found["pooled"] >= 16
    assert found["own"] < found["pooled"]


def test_clean_candidates_of_a_pooled_gate_pass():
    mine = make_baseline(5)
    noise = noise_of(mine, [make_baseline(5, system=f"other{place}", noise=place + 1) for place in range(7)])
    states = []
    for trial in range(40):
        records = make_records(range(2000 + 5 * trial, 2005 + 5 * trial))
        outcomes = (judge_sequential(records[:k], mine, noise=noise) for k in range(1, 6))
        states.append(next(outcome for outcome in outcomes if not outcome.undecided).decision.state)

    assert states.count("PASS") == 40
