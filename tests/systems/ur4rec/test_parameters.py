"""Report 001's parameter counts, to the digit: by arithmetic and by building the modules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.systems.ur4rec.config import UR4RecConfig
from rectest.systems.ur4rec.parameters import MINI_LM, built_count, formula_count, report_config


def test_the_report_s_configuration_to_the_digit():
    count = formula_count(num_items=1659, size=256)

    assert (1_229_824, 2_109_699, 591_873, 99_072, 424_960) == (
        count.sasrec,
        count.mixture,
        count.memory,
        count.text_projection,
        count.item_table,
    )
    assert count.trainable == 4_455_428
    assert count.total == 27_168_644
    assert MINI_LM == 22_713_216


@pytest.mark.parametrize("size", [256, 128])
def test_our_modules_have_these_sizes(size):
    expected = formula_count(num_items=1659, size=size)

    assert expected == built_count(report_config(size=size), num_items=1659)


def test_halving_the_size_saves_far_less_than_the_report_says():
    """Report 001 expects about 7 M after halving; the frozen encoder alone has 22.7 M."""
    half, whole = (formula_count(num_items=1659, size=size) for size in (128, 256))

    assert half.trainable == 1_359_364
    assert half.total == 24_072_580
    assert 1 - half.trainable / whole.trainable == pytest.approx(0.69, abs=0.005)
    assert 1 - half.total / whole.total == pytest.approx(0.11, abs=0.005)


def test_parameters_per_user():
    assert round(formula_count(num_items=1659, size=256).total / 938) == 28_964


@settings(max_examples=15, deadline=None)
@given(
    num_items=st.integers(1, 30),
    heads=st.integers(1, 3),
    per_head=st.integers(1, 5),
    num_blocks=st.integers(1, 3),
    num_proxies=st.integers(1, 5),
    max_length=st.integers(1, 9),
    text_size=st.integers(1, 9),
)
def test_formula_and_modules_agree_at_any_size(
    num_items, heads, per_head, num_blocks, num_proxies, max_length, text_size
):
    config = UR4RecConfig(
        embedding_size=heads * per_head,
        num_heads=heads,
        retriever_heads=heads,
        num_blocks=num_blocks,
        num_proxies=num_proxies,
        max_length=max_length,
        text_size=text_size,
    )
    expected = formula_count(
        num_items=num_items,
        size=heads * per_head,
        max_length=max_length,
        num_blocks=num_blocks,
        num_proxies=num_proxies,
        text_size=text_size,
    )

    assert expected == built_count(config, num_items=num_items)
