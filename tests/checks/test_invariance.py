"""Invariance: NaN in one mode, scores that depend on the block or on padding each turn their own result red."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import edit_facts, find, make_record, red_checks
from rectest.checks.invariance import MODES, invariance, reduction_error
from rectest.checks.result import Verdict

CHECKS = ["invariance/modes", "invariance/blocks", "invariance/padding"]


def test_a_healthy_record_is_green():
    results = invariance(make_record())

    assert [result.check for result in results] == CHECKS
    assert red_checks(results) == set()


@pytest.mark.parametrize("mode", MODES)
def test_scores_that_are_not_finite_in_one_mode_are_red(mode):
    """Fully masked rows are NaN in eval mode without gradients only."""
    results = invariance(edit_facts(make_record(), "probes", "modes", mode, value=61))

    assert red_checks(results) == {"invariance/modes"}
    assert find(results, "invariance/modes").worst == f"{mode}: 61 of 3660 scores (1.67 %)"
    assert find(results, "invariance/modes").detail.startswith(f"only in {mode}")


def test_scores_that_are_never_finite_are_red():
    record = make_record()
    for mode in MODES:
        record = edit_facts(record, "probes", "modes", mode, value=3660)

    assert find(invariance(record), "invariance/modes").detail.startswith("in every mode")


@pytest.mark.parametrize("modes", [MODES, MODES[:1]])
def test_a_mode_in_which_scoring_raises_is_red(modes):
    errors = dict.fromkeys(modes, "shape mismatch")

    result = find(invariance(edit_facts(make_record(), "probes", "modes", "errors", value=errors)), "invariance/modes")

    assert result.verdict is Verdict.FAIL
    assert result.worst == f"{min(modes)}: shape mismatch"


@pytest.mark.parametrize("probe", ["blocks", "padding"])
@pytest.mark.parametrize("difference", [0.01, float("nan"), float("inf")])
def test_scores_that_depend_on_what_is_beside_them_are_red(probe, difference):
    results = invariance(edit_facts(make_record(), "probes", probe, "max_difference", value=difference))

    assert red_checks(results) == {f"invariance/{probe}"}


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(1e-6, 1e6), share=st.floats(0, 4), probe=st.sampled_from(["blocks", "padding"]))
def test_the_limit_follows_the_scale_of_the_scores(scale, share, probe):
    facts = {"max_difference": share * reduction_error(scale), "scale": scale, "num_users": 60, "extra": 3}
    result = find(invariance(edit_facts(make_record(), "probes", probe, value=facts)), f"invariance/{probe}")

    assert result.red == (facts["max_difference"] > reduction_error(scale))


def test_another_order_of_additions_is_within_the_bound():
    """A thousand float32 products added from either end and in blocks, a thousand times."""
    rng = np.random.default_rng(0)
    products = rng.normal(size=(1000, 1024)).astype(np.float32)
    orders = [
        np.add.accumulate(products, axis=1)[:, -1],
        np.add.accumulate(products[:, ::-1], axis=1)[:, -1],
        products.reshape(1000, 32, 32).sum(axis=2, dtype=np.float32).sum(axis=1, dtype=np.float32),
    ]
    apart = max(float(np.abs(orders[0] - other).max()) for other in orders[1:])

    assert apart <= reduction_error(float(np.abs(orders[0]).max()))


def test_what_is_not_left_padded_gives_no_result():
    probes = {key: value for key, value in make_record().facts["probes"].items() if key != "padding"}

    assert CHECKS[:2] == [result.check for result in invariance(edit_facts(make_record(), "probes", value=probes))]


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        (("probes",), None, {"invariance/modes", "invariance/blocks"}),
        (("probes", "modes"), None, {"invariance/modes"}),
        (("probes", "modes"), {"train/grad": 0, "num_scores": 5}, {"invariance/modes"}),
        (("probes", "modes", "num_scores"), 0, {"invariance/modes"}),
        (("probes", "blocks"), None, {"invariance/blocks"}),
        (("probes", "blocks", "num_users"), 1, {"invariance/blocks"}),
        (("probes", "blocks", "scale"), 0.0, {"invariance/blocks"}),
        (("probes", "padding", "extra"), 0, {"invariance/padding"}),
    ],
)
def test_what_was_not_probed_is_not_green(path, value, check):
    results = invariance(edit_facts(make_record(), *path, value=value))

    assert check == red_checks(results)
    assert {Verdict.NOT_MEASURED} == {result.verdict for result in results if result.red}


def test_a_scale_that_is_not_a_number_is_red():
    results = invariance(edit_facts(make_record(), "probes", "blocks", "scale", value=float("nan")))

    assert find(results, "invariance/blocks").verdict is Verdict.FAIL
