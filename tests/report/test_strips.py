"""Pictures of characters: where things stand on a strip, columns that fit, and terminals without Unicode."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.evidence import CASES, evidence
from rectest.report.arithmetic import arithmetic_of
from rectest.report.strips import LEGEND, features_on_limits, ladder, paragraph, plain, table_lines

COMPARED = [case for case in sorted(CASES) if arithmetic_of(evidence(case)) is not None]


def picture(case: str, width: int = 100) -> list[str]:
    found = arithmetic_of(evidence(case)).decision
    return features_on_limits(evidence(case).features, found.drops, found.rises, width=width)


def strip(case: str, name: str, width: int = 100) -> str:
    line = next(line for line in picture(case, width) if line.startswith(name))
    return line.partition("%  ")[2]


def test_a_drop_is_left_of_its_limit_and_a_rise_right():
    assert strip("drop", "test/recall@10").index("◀") < strip("drop", "test/recall@10").index("├")
    assert strip("rise", "test/recall@10").index("▶") > strip("rise", "test/recall@10").index("┤")


def test_a_loss_that_grew_stands_left_too():
    assert strip("loss grew", "loss/late").index("◀") < strip("loss grew", "loss/late").index("├")
    assert strip("loss fell", "loss/late").index("▶") > strip("loss fell", "loss/late").index("┤")


def test_alarms_are_marked_and_nothing_else_is():
    marked = {line.split()[0] for line in picture("drop") if line.endswith(" alarm")}

    assert marked == {each.name for each in evidence("drop").features if each.alarm}
    assert not any(line.endswith(" alarm") for line in picture("early"))


def test_limits_stand_in_the_same_columns():
    rows = picture("late")[1:]

    assert len({(row.index("├"), row.index("┤")) for row in rows}) == 1
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("case", COMPARED)
def test_the_mean_of_new_runs_is_where_its_number_is(case):
    """Halfway to the limit is half the columns to it."""
    found, seen = arithmetic_of(evidence(case)).decision, 0
    for each, drop, rise in zip(evidence(case).features, found.drops, found.rises, strict=True):
        text = strip(case, each.name, 120).removesuffix(" alarm")
        if not all(sign in text for sign in "├┤●"):
            continue
        left, right = text.index("├"), text.index("┤")
        share = (drop.shift + drop.limit) / (drop.limit + rise.limit)
        seen += 1

        assert abs(text.index("●") - (left + share * (right - left))) <= 0.5 + 1e-9

    assert seen >= 3


def test_single_runs_are_drawn_where_there_are_several():
    assert "○" not in "".join(picture("early"))
    assert strip("late", "test/recall@10").count("○") >= 2


def test_a_narrow_terminal_gets_strips_of_their_own():
    rows = picture("drop", 50)

    assert rows[1].split()[0] == "test/recall@10"
    assert "├" in rows[2]
    assert max(map(len, rows)) <= 50


def test_equal_stored_values_do_not_divide_by_zero():
    found = arithmetic_of(evidence("early")).decision
    features = [replace(each, stored=(each.stored[0],) * 16) for each in evidence("early").features]

    assert "█" in "".join(features_on_limits(features, found.drops, found.rises, width=100))


def test_without_unicode_every_sign_has_another():
    text = "\n".join([*picture("drop"), LEGEND, ladder([0, 0.5, 2])])
    obtained = plain(text, "ascii")

    assert obtained.isascii()
    assert "?" not in obtained
    assert len(text) == len(obtained)
    assert plain(text, "utf-8") == text
    assert plain(text, "no such encoding").isascii()


def test_a_reason_in_another_script_is_still_printed():
    assert plain("reason: 再训练", "latin-1") == "reason: ???"


def test_a_ladder():
    assert ladder([0.0, 0.1, 0.3, 0.6, 0.9, 1.0, 1.01, math.nan, math.inf]) == "·▂▄▆██✗✗✗"


def test_a_percent_sign_stays_with_its_number():
    lines = paragraph("a drop of 12.5 % in recall", width=14)

    assert any("12.5 %" in line for line in lines)


def test_a_command_is_one_line():
    assert paragraph("$ rectest attribute a_long_name", width=10, begun="  ") == ["    $ rectest attribute a_long_name"]


@settings(max_examples=50, deadline=None)
@given(
    width=st.integers(10, 60),
    cells=st.lists(st.lists(st.text("ab1", min_size=1, max_size=8), min_size=4, max_size=4), min_size=1, max_size=4),
)
def test_a_table_loses_no_cell(width, cells):
    lines = table_lines(("name", "one", "two", "three"), cells, width=width)
    found = " ".join(lines).split()

    assert {cell for row in cells for cell in row} <= set(found)
    assert all(len(line) <= max(width, 8 + 2 + 8) for line in lines)
