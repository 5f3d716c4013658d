"""A drawing becomes one element of SVG: its size, its colours, its ids and texts, and nothing of matplotlib's own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.pages import HOSTILE
from rectest.report.svg import BAD, GRID, INK, MUTED, NEW, STORED, WIDTH, axes_of, svg_of

HEIGHT = 100


def line(figure, *, colour=NEW):
    axes = axes_of(figure, HEIGHT, top=10, bottom=30)
    axes.plot([0, 1], [0, 1], color=colour)


def nothing(figure):
    """Leave it empty."""


def test_a_drawing_is_one_element_of_the_given_size():
    root = ET.fromstring(svg_of(line, HEIGHT, ident="x", label="a line"))

    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (root.attrib["viewBox"], root.attrib["aria-label"]) == ("0 0 360 100", "a line")


def test_axes_lie_where_they_are_asked_for():
    """46 px are left on the left and 10 on the right; y of matplotlib counts from below."""
    boxes = []

    def draw(figure):
        box = axes_of(figure, HEIGHT, top=10, bottom=30).get_position()
        boxes.append((box.x0 * WIDTH, box.x1 * WIDTH, box.y0 * HEIGHT, box.y1 * HEIGHT))

    svg_of(draw, HEIGHT, ident="x", label="")

    assert boxes == [pytest.approx((46, 350, 30, 90))]


@pytest.mark.parametrize(
    ("colour", "expected"),
    [(INK, "ink"), (MUTED, "muted"), (GRID, "line"), (STORED, "stored"), (NEW, "new"), (BAD, "bad")],
)
def test_a_colour_is_a_name_of_the_page(colour, expected):
    svg = svg_of(lambda figure: line(figure, colour=colour), HEIGHT, ident="x", label="")

    assert f"stroke: var(--{expected}); stroke-width: 1.5" in svg
    assert "#0101" not in svg


def test_ids_begin_as_they_are_told_and_each_is_referred_to():
    svg = svg_of(line, HEIGHT, ident="mine", label="")
    ids = re.findall(r' id="([^"]+)"', svg)

    assert ids
    assert all(name.startswith("mine-") for name in ids)
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg)) == set(ids)


def test_an_empty_drawing_is_still_a_figure():
    assert ET.fromstring(svg_of(nothing, HEIGHT, ident="x", label="")) is not None


def test_settings_of_the_user_have_no_part_and_are_left_alone():
    import matplotlib as mpl

    expected = svg_of(line, HEIGHT, ident="x", label="")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        obtained = svg_of(line, HEIGHT, ident="x", label="")

        assert mpl.rcParams["font.size"] == 30
    assert expected == obtained


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=20))
def test_any_words_are_text_and_never_markup(words):
    svg = svg_of(lambda figure: figure.text(0.1, 0.5, words + HOSTILE), HEIGHT, ident="x", label=words)
    root = ET.fromstring(svg)

    assert root.attrib["aria-label"] == words
    assert "<script" not in svg


def test_what_fails_to_draw_fails_and_leaves_the_settings():
    import matplotlib as mpl

    before = mpl.rcParams["font.size"]
    with pytest.raises(ValueError, match="colour"):
        svg_of(lambda figure: line(figure, colour="no colour"), HEIGHT, ident="x", label="")

    assert mpl.rcParams["font.size"] == before
