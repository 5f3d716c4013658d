"""The page of `rectest why`: what it shows, that it stands alone, that no name is markup, that bytes are equal."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.findings import HOSTILE, IDENTICAL_FINDING, NEGATIVES, RNG, make_details
from fixtures.html_page import Page
from rectest.divergence.details import Details
from rectest.divergence.finding import UNKNOWN, Finding, Growth
from rectest.report.why import growth_figure, why_page, write_why_page


def page_of(details: Details) -> Page:
    return Page(why_page(details))


def cells(details: Details) -> dict[str, list[str]]:
    """Marks of the timeline by row; the framed one is in brackets, one without a cell is empty."""
    table = re.search(r'<table class="timeline">.*?</table>', why_page(details), re.DOTALL)[0]
    rows = {}
    for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.DOTALL):
        name = re.search(r"<th[^>]*>(.*?)</th>", row)[1]
        marks = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)]
        framed = [" first" in cell for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)]
        rows[name] = [f"[{mark}]" if frame else mark for mark, frame in zip(marks, framed, strict=True)]
    return rows


def timeline(**rows: str) -> tuple[dict[str, object], ...]:
    """One character a step: ``=`` equal, ``x`` differs, ``-`` absent, a blank: nothing."""
    equal = {"=": True, "x": False, "-": None}
    return tuple(
        {"step": step, "stage": stage, "equal": equal[mark]}
        for stage, marks in rows.items()
        for step, mark in enumerate(marks, start=1)
        if mark != " "
    )


def test_the_verdict_comes_first_and_everything_is_there():
    text = page_of(make_details()).text

    assert text.index("DIVERGED at step 1") < text.index("Timeline") < text.index("Causes") < text.index("Random draws")
    assert "python train.py" in text
    assert "sampler.py:2:__init__" in text
    assert "numpy.random.Generator.integers" in text
    assert "not tried" in text
    assert "1 difference" in text
    assert "hash unchanged" in text


def test_the_screen_is_shown_label_by_label():
    lines = ("DIVERGED", "", f"{'where':11}a.py:1", f"{'':11}  1   x = 1", f"{'proof':11}not confirmed")
    html = why_page(make_details(answer=lines))

    assert '<dt>where</dt><dd class="code">a.py:1\n  1   x = 1</dd>' in html
    assert '<dt>proof</dt><dd class="code">not confirmed</dd>' in html


def test_the_first_difference_is_framed():
    finding = replace(NEGATIVES, step=2, stage="negatives", timeline=timeline(batch="===", negatives="=xx", loss="-x "))

    assert cells(make_details(finding)) == {
        "batch": ["·", "·", "·"],
        "negatives": ["·", "[✕]", "✕"],
        "loss": ["–", "✕", ""],
    }


def test_a_class_without_a_row_frames_the_first_cell_that_differs():
    finding = replace(NEGATIVES, step=2, stage="rng_evaluation", timeline=timeline(batch="==x", loss="=xx"))

    assert cells(make_details(finding))["loss"] == ["·", "[✕]", "✕"]


def test_many_steps_share_columns_except_near_the_first_difference():
    finding = replace(NEGATIVES, step=500, timeline=timeline(negatives="=" * 499 + "x" * 501))
    html, marks = why_page(make_details(finding)), cells(make_details(finding))["negatives"]

    assert len(marks) <= 44
    assert marks.count("[✕]") == 1
    assert '<th scope="col">500</th>' in html
    assert "·" not in marks[marks.index("[✕]") :]


@given(first=st.integers(0, 700), num=st.integers(1, 700))
@settings(max_examples=12, deadline=None)
def test_every_step_has_one_column(first, num):
    finding = replace(NEGATIVES, step=first, timeline=timeline(batch="=" * num))
    labels = re.findall(r'<th scope="col">(\d+)(?:–(\d+))?</th>', why_page(make_details(finding)))
    covered = [step for low, high in labels for step in range(int(low), int(high or low) + 1)]

    assert covered == list(range(1, num + 1))
    assert len(labels) <= 46


def test_names_and_messages_are_text():
    hostile = replace(
        RNG, **{field.name: HOSTILE for field in fields(RNG) if isinstance(getattr(RNG, field.name), str)}
    )
    row = {"step": 1, "stage": HOSTILE, "equal": False}
    finding = replace(NEGATIVES, name=HOSTILE, stage=HOSTILE, causes=(hostile,), harmless=(hostile,), timeline=(row,))
    details = make_details(finding, answer=(HOSTILE,), command=(HOSTILE,), notes=(HOSTILE,), version=HOSTILE)
    runs = tuple(replace(run, tape=HOSTILE, log=HOSTILE, environment={HOSTILE: HOSTILE}) for run in details.runs)
    draws = tuple(replace(each, site=HOSTILE, function=HOSTILE, generator=HOSTILE) for each in details.draws)
    trials = ({"pins": [HOSTILE], "outcome": HOSTILE, "problem": HOSTILE, "finding": {"stage": HOSTILE}},)
    page = page_of(replace(details, runs=runs, draws=draws, trials=trials))

    assert not any(tag == "script" for tag, _ in page.found)
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert "<script>alert(1)</script>" in page.text


def test_the_page_stands_alone_and_can_be_read_by_everyone():
    text = why_page(make_details())
    page = Page(text)
    svgs = [attributes for tag, attributes in page.found if tag == "svg"]

    assert text.startswith("<!DOCTYPE html>")
    assert not any(tag in ("script", "link", "img", "iframe") for tag, _ in page.found)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)
    assert text.count("<table") == text.count('<div class="scroll"')
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in svgs)
    assert len(svgs) == 1
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_equal_details_give_equal_bytes(tmp_path):
    first, second = (write_why_page(tmp_path / f"{name}.html", make_details()) for name in "ab")

    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("finding", "mark"), [(IDENTICAL_FINDING, "✓"), (Finding(verdict=UNKNOWN, reason="no step"), "?")]
)
def test_little_is_known_and_still_a_page(finding, mark):
    page = page_of(Details(finding=finding, answer=("IDENTICAL",)))

    assert f"{mark} {finding.verdict}" in page.text
    assert "Timeline" not in page.text
    assert "Causes" not in page.text


def test_names_that_are_no_unicode_do_not_break_the_page():
    assert "\\udcff" in why_page(make_details(command=("\udcff",)))


def test_growth_has_a_log_scale_with_zero_at_the_foot():
    figure = growth_figure([(1, 0.0, math.nan), (2, 1e-8, 1e-6), (3, 1e-2, math.inf)])
    loss = [float(pair.split(",")[1]) for pair in re.search(r'class="loss" points="([^"]*)"', figure)[1].split()]

    assert loss == sorted(loss, reverse=True)
    assert loss[0] == 166.0
    assert len(re.findall(r'class="square"', figure)) == 1
    assert ">0<" in figure


@pytest.mark.parametrize("rows", [[], [(1, math.nan, math.nan)], [(1, 0.0, 0.0)], [(1, math.inf, math.nan)]])
def test_without_a_size_there_is_no_figure(rows):
    assert growth_figure(rows) == ""


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 10**6), st.floats(0) | st.just(math.nan), st.floats(0) | st.just(math.nan)),
        max_size=60,
    )
)
@settings(max_examples=50, deadline=None)
def test_growth_stays_in_its_frame(rows):
    figure = growth_figure(rows)
    places = [
        tuple(map(float, pair.split(","))) for line in re.findall(r'points="([^"]*)"', figure) for pair in line.split()
    ]

    assert all(0 <= x <= 360 and 0 <= y <= 200 for x, y in places)


def test_a_page_of_a_long_training_is_small():
    growth = tuple(Growth(step=k, loss=1e-3, parameters=1e-3) for k in range(1, 20_001))
    marks = timeline(batch="=" * 5000, loss="x" * 5000)
    page = why_page(make_details(replace(NEGATIVES, growth=growth, timeline=marks)))

    assert len(page) < 100_000
