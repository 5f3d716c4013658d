"""Figures: what is drawn and what cannot be, bytes that only depend on the input, names that are never markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from fixtures.evidence import evidence
from fixtures.pages import HOSTILE
from rectest.baseline.evidence import Curve, PrefixEvidence
from rectest.report.figures import curve_figure, feature_figure, percent_text, prefix_figure

CURVE = Curve(
    name="valid/recall@10",
    steps=(10, 20, 30, 40),
    stored=((0.1, 0.2, 0.3, None), (0.12, 0.19, None, None)),
    new=((0.1, None, 0.2, 0.3),),
)
PREFIX = PrefixEvidence(seed=3, difference=(0.0, 1e-6, 2e-3, None), envelope=(1e-4, 1e-4, 1e-4, 1e-4))


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("{http://www.w3.org/2000/svg}text")]


def all_figures() -> list[str]:
    red = evidence("drop")
    return [
        curve_figure(red.curves[0], red.seeds, ident="a"),
        curve_figure(red.curves[-1], red.seeds, ident="b"),
        feature_figure(red.features, ident="c"),
        prefix_figure(evidence("rounding").prefix, ident="d"),
    ]


def test_a_curve_is_drawn_with_its_windows():
    svg = curve_figure(CURVE, (0,), ident="x")

    assert {"early", "mid", "late", "step"} <= set(texts(svg))
    assert "2 stored seeds and new runs of seed 0" in parsed(svg).attrib["aria-label"]
    assert parsed(svg).attrib["viewBox"] == "0 0 360 210"


@pytest.mark.parametrize("number", [1, 5])
def test_each_new_run_has_a_line_of_its_own(number):
    curve = replace(CURVE, new=tuple((0.1 * k, 0.2, 0.3, 0.4) for k in range(number)))

    lines = re.findall(r"stroke: var\(--new\); stroke-width: 1.7", curve_figure(curve, range(number), ident="x"))

    assert number == len(lines)


@pytest.mark.parametrize(
    "curve",
    [
        replace(CURVE, steps=(), stored=((),), new=((),)),
        replace(CURVE, stored=((None,) * 4,), new=((None,) * 4,)),
        replace(CURVE, stored=(), new=()),
    ],
    ids=["no step", "no value", "no run"],
)
def test_a_curve_without_a_value_is_no_figure(curve):
    assert curve_figure(curve, (0,), ident="x") == ""


@pytest.mark.parametrize("new", [((0.1,),), ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6),), ((),), ((None, None, None, None),)])
def test_curves_of_other_length_are_drawn_as_far_as_they_go(new):
    assert parsed(curve_figure(replace(CURVE, new=new), (0,), ident="x")) is not None


def test_a_long_curve_is_thinned_to_what_can_be_seen():
    steps = tuple(range(1, 1001))
    row = tuple(1 / step for step in steps)
    svg = curve_figure(replace(CURVE, steps=steps, stored=(row,) * 16, new=(row,)), (0,), ident="x")

    assert len(svg) < 25_000


def test_features_show_limits_and_alarms_in_words():
    svg = feature_figure(evidence("drop").features, ident="x")
    shown = texts(svg)

    assert {"← worse", "stored mean", "better →", "test/recall@10"} <= set(shown)
    assert any(text.startswith("ALARM −") for text in shown)
    assert "test/recall@10" in parsed(svg).attrib["aria-label"].partition("outside: ")[2]
    assert not any("ALARM" in text for text in texts(feature_figure(evidence("bits").features, ident="x")))


def test_worse_is_left_for_losses_as_well():
    (loss,) = [feature for feature in evidence("early").features if feature.name == "loss/late"]
    ends = [text for text in texts(feature_figure([loss], ident="x")) if text.endswith("%")][1:]

    assert ends[0].startswith("+")
    assert ends[1].startswith("−")


@pytest.mark.parametrize(
    "changes",
    [
        dict.fromkeys(("change", "lowest", "highest", "run_sd", "p", "level", "mdd")),
        {"new": (None,)},
        {"new": (1e-12,), "change": -1 + 1e-11},
        {"new": (1e12,), "change": 1e12, "alarm": True},
        {"change": -1.0},
        {"stored": ()},
    ],
    ids=["nothing compared", "no value", "far below", "far above", "all lost", "nothing stored"],
)
def test_odd_features_are_still_drawn(changes):
    feature = replace(evidence("early").features[0], **changes)
    svg = feature_figure([feature], ident="x")
    numbers = [float(x) for x in re.findall(r'<text[^>]* x="([^"]+)"', svg)]

    assert feature.name in texts(svg)
    assert all(-20 <= number <= 380 for number in numbers)


def test_no_features_and_no_prefix_are_no_figures():
    nothing = PrefixEvidence(seed=0, difference=(None,), envelope=(0.0,))

    assert feature_figure([], ident="x") == ""
    assert prefix_figure(nothing, ident="x") == ""


def test_the_prefix_says_how_many_losses_are_outside():
    svg = prefix_figure(PREFIX, ident="x")

    assert parsed(svg).attrib["aria-label"].endswith("seed 3: 2 of 4 outside, 1 equal")
    assert "var(--bad)" in svg
    assert "var(--bad)" not in prefix_figure(replace(PREFIX, difference=(0.0,) * 4), ident="x")


def test_names_are_text_and_never_markup_or_mathematics():
    feature = replace(evidence("early").features[0], name=f"test/{HOSTILE}")
    svg = feature_figure([feature], ident="x")

    assert f"test/{HOSTILE}" in texts(svg)
    assert "<script" not in svg
    assert parsed(curve_figure(replace(CURVE, name=HOSTILE), (0,), ident="x")).attrib["aria-label"].startswith(HOSTILE)


def test_ids_are_those_of_the_figure_and_every_reference_has_one():
    for svg, ident in zip(all_figures(), "abcd", strict=True):
        ids = re.findall(r' id="([^"]+)"', svg)
        used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))

        assert len(ids) == len(set(ids))
        assert used == set(ids)
        assert all(name.startswith(f"{ident}-") for name in ids)


def test_nothing_is_loaded_and_nothing_is_dated():
    for svg in all_figures():
        assert not re.search(r"<(metadata|style|script|image)|https?://(?!www.w3.org/2000/svg)|font-family", svg)


def test_settings_of_the_user_have_no_part(monkeypatch):
    import matplotlib as mpl

    before = all_figures()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "axes.spines.top": True}):
        assert before == all_figures()
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize(
    ("change", "expected"), [(0.0, "+0 %"), (-0.5, "−50 %"), (float("nan"), "–"), (float("inf"), "–"), (None, "–")]
)
def test_percentages(change, expected):
    assert expected == percent_text(change)
