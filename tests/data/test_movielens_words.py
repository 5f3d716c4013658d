"""Words of films: what counts as one, and the two forms of the file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.data.movielens_words import film_words, item_text_of_uitem, read_film_words
from rectest.errors import DataError

HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
FLAGS = "0|0|0|0|0|1|0|0|1|0|0|0|0|0|0|0|0|0|0"


@pytest.mark.parametrize(
    ("title", "year", "genres", "expected"),
    [
        (
            "Toy Story",
            "1995",
            "Children's Comedy",
            ("toy", "story", "genre:children's", "genre:comedy", "decade:1990s"),
        ),
        ("M*A*S*H", "1970", "War", ("m", "a", "s", "h", "genre:war", "decade:1970s")),
        ("Seven (Se7en)", "1995", "Film-Noir", ("seven", "se7en", "genre:film-noir", "decade:1990s")),
        ("The Great Giving (1995)", "V", "Drama", ("the", "great", "giving", "genre:drama", "decade:1990s")),
        ("Cérémonie, La", "unkonwn", "", ("cérémonie", "la")),
        ("2001: A Space Odyssey", "1968", "", ("2001", "a", "space", "odyssey", "decade:1960s")),
        ("...", "", "", ()),
    ],
)
def test_words_of_a_film(title, year, genres, expected):
    assert expected == film_words(title, year, genres)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.integers(1900, 2099))
def test_words_are_lower_case_without_blanks_and_end_with_the_decade(title, year):
    words = film_words(title, str(year), "Drama")

    assert all(word and word == word.lower() and not any(sign.isspace() for sign in word) for word in words)
    assert words[-2] == "genre:drama"
    assert words[-1].startswith("decade:")


def test_both_forms_of_the_file_are_the_same(tmp_path):
    old, new = tmp_path / "u.item", tmp_path / "ml-100k.item"
    lines = (f"7|Cérémonie, La (1995)|01-Jan-1995||x|{FLAGS}", f"2|Wei? (1996) (V)||||{FLAGS}", f"3|unknown||||{FLAGS}")
    old.write_bytes("\r\n".join(lines).encode("latin-1"))
    rows = (
        "7\tCérémonie, La\t1995\tComedy Drama",
        "2\tWei? (1996)\tV\tComedy Drama",
        "3\tunkonwn\tunkonwn\tComedy Drama",
    )
    new.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")

    assert new.read_bytes() == item_text_of_uitem(old)
    assert read_film_words(new) == {
        "7": ("cérémonie", "la", "genre:comedy", "genre:drama", "decade:1990s"),
        "2": ("wei", "genre:comedy", "genre:drama", "decade:1990s"),
        "3": ("unkonwn", "genre:comedy", "genre:drama"),
    }


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("id\tname\n1\ta\n", 1, "found the header"),
        (HEADER, 1, "holds a header but no row"),
        (HEADER + "1\ta\t1990\tDrama\n2\tb\t1990\n", 3, "found 3 cells"),
        (HEADER + "1\ta\t1990\tDrama\n1\tb\t1990\tDrama\n", 3, "film 1 has a row already"),
        (HEADER + "1\t...\tV\t-\n", None, None),
        (HEADER + "1\t...\tV\t \n", 2, "film 1 has no words"),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, line, problem):
    path = tmp_path / "ml-100k.item"
    path.write_text(text)
    if problem is None:
        assert read_film_words(path) == {"1": ("genre:-",)}
        return
    with pytest.raises(DataError, match=problem) as caught:
        read_film_words(path)

    assert caught.value.line == line


def test_a_short_row_of_the_older_form_is_refused(tmp_path):
    path = tmp_path / "u.item"
    path.write_text(f"1|a (1990)|||x|{FLAGS}\n2|b (1990)|||x|0|1\n")
    with pytest.raises(DataError, match=r"line 2: found 7 cells, needed 24 separated by \|"):
        item_text_of_uitem(path)
