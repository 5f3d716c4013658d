"""Stated figures and the values that round to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rectest.checks.stated import Figure, growth


@pytest.mark.parametrize(
    ("text", "value", "half"),
    [
        ("0.274", 0.274, 0.0005),
        ("+151 %", 151, 0),
        ("-0.7%", -0.7, 0.05),
        ("\N{MINUS SIGN}19.6 %", -19.6, 0.05),
        ("3.2M", 3.2e6, 5e4),
        ("12.98 MB", 12.98, 0.005),
        ("203,455", 203_455, 0),
        ("3M", 3e6, 5e5),
    ],
)
def test_figures_as_reports_write_them(text, value, half):
    figure = Figure.parse(text)

    assert (figure.value, figure.half) == pytest.approx((value, half))


def test_whole_percentages_are_rounded_too():
    assert Figure.parse("+151 %", exact_integers=False).interval == (150.5, 151.5)


@given(value=st.floats(0.001, 1e6), decimals=st.integers(1, 6))
def test_a_rounded_value_is_allowed_and_two_units_off_is_not(value, decimals):
    figure = Figure.parse(f"{value:.{decimals}f}")
    unit = 10.0**-decimals

    assert figure.allows(value)
    assert not figure.allows(figure.value + 2 * unit + 1e-8 * value)


def test_growth_between_rounded_values_is_an_interval():
    low, high = growth(Figure.parse("0.50"), Figure.parse("1.00"))

    assert low < 100 < high
    with pytest.raises(ValueError, match="positive start"):
        growth(Figure.parse("0.00"), Figure.parse("1.00"))


@pytest.mark.parametrize("text", ["", "about 3", "1.2.3", "e5"])
def test_what_is_no_figure_is_refused(text):
    with pytest.raises(ValueError, match="no number as reports write them"):
        Figure.parse(text)
