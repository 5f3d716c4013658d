"""Texts that fit: nothing unprintable, names that can still be told apart, lines of code that are there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.divergence.wording import Site, clean, difference_text, shorten, wrapped


@given(text=st.text(max_size=200), width=st.integers(10, 120), most=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_lines_are_printable_and_fit(text, width, most):
    lines = wrapped(text, width=width, most=most)

    assert len(lines) <= most
    assert all(line.isprintable() and len(line) <= width for line in lines)


@given(text=st.text(max_size=100), longest=st.integers(8, 60))
@settings(max_examples=50, deadline=None)
def test_shortened_names_keep_both_ends(text, longest):
    short = shorten(text, longest)

    assert len(short) <= longest
    assert short == text or (text.startswith(short.split("...")[0]) and len(short) == longest)


def test_what_would_move_a_cursor_or_turn_text_around_is_escaped():
    assert clean("a\x1b[2J\u202eb\x00\ud800 \t c") == r"a\x1b[2J\u202eb\x00\ud800 c"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(float("inf"), "not a finite number"), (1e-12, "1e-12"), (0.00999, "1 %"), (0.1, "10 %"), (1234.5, "123,450 %")],
)
def test_differences_have_a_sensible_precision(value, expected):
    assert difference_text(value) == expected


@pytest.mark.parametrize("text", ["", "a.py", "a.py:1", ":1:f", "a.py:x:f", "a.py:²:f", "a.py:-1:f"])
def test_what_is_no_site_is_none(text):
    assert Site.parse(text) is None


def test_a_line_is_read_from_the_first_folder_that_has_it(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "m.py").write_bytes(b"x = 1\n\ty = 2  # \xff\n")
    roots = [tmp_path / "a", tmp_path / "b"]

    assert Site(path="m.py", line=2).source(roots) == "y = 2  # \ufffd"
    assert Site(path="m.py", line=3).source(roots) == ""
    assert Site(path="m.py", line=0).source(roots) == ""
    assert Site(path=str(tmp_path / "b" / "m.py"), line=1).source(roots) == "x = 1"
    assert Site(path="b", line=1).source([tmp_path]) == ""
