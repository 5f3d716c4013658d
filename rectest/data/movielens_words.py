"""What is written about the films of MovieLens-100K: title, genres and decade, as words.

Owns the two forms of that file (the text of ``ml-100k.item`` and the older ``u.item``) and what counts as a word;
finding, checking and caching the file is in `movielens`.
"""

from __future__ import annotations

import re
from pathlib import Path

from rectest.data.rawlog import read_lines, split_columns
from rectest.errors import DataError

__all__ = ["film_words", "item_text_of_uitem", "read_film_words"]

_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
_COLUMNS = ("item_id", "movie_title", "release_year", "class")
_GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_UITEM_CELLS = 5 + len(_GENRES)
_UNTITLED = "unkonwn"
"""Sic: what ``ml-100k.item`` has for the one film that ``u.item`` gives no year."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_YEAR_IN_TITLE = re.compile(r"\s*\((\d{4})\)$")
_YEAR = re.compile(r"\d{4}")


def film_words(title: str, year: str, genres: str) -> tuple[str, ...]:
    """The words of a title in lower case and without its year, then the genres and, where there is a year, the decade.

    >>> film_words("Schindler's List", "1993", "Drama War")
    ("schindler's", 'list', 'genre:drama', 'genre:war', 'decade:1990s')
    """
    inside = _YEAR_IN_TITLE.search(title)
    if inside is not None:
        title, year = title[: inside.start()], inside.group(1)
    words = _WORD.findall(title.lower())
    words += [f"genre:{genre}" for genre in genres.lower().split()]
    if _YEAR.fullmatch(year):
        words.append(f"decade:{year[:3]}0s")
    return tuple(words)


def read_film_words(path: Path) -> dict[str, tuple[str, ...]]:
    """Words of every film in an ``ml-100k.item`` file by raw item id.

    Raises:
        DataError: the file has another header, a row without four cells, a film twice or one without words.
    """
    lines = read_lines(path)
    if lines[0] != _HEADER:
        msg = f"found the header {lines[0]!r}, needed {_HEADER!r}"
        raise DataError(msg, path=path, line=1)
    if len(lines) == 1:
        msg = "holds a header but no row"
        raise DataError(msg, path=path, line=1)
    films, titles, years, genres = split_columns(lines[1:], path=path, names=_COLUMNS, separator="\t", first_line=2)
    words: dict[str, tuple[str, ...]] = {}
    for line, (film, title, year, genre) in enumerate(zip(films, titles, years, genres, strict=True), start=2):
        own = film_words(title, year, genre)
        if film in words or not own:
            msg = f"film {film} {'has a row already' if film in words else 'has no words'}, needed one row with words"
            raise DataError(msg, path=path, line=line)
        words[film] = own
    return words


def item_text_of_uitem(path: Path) -> bytes:
    """The ``ml-100k.item`` bytes of a ``u.item`` file (Latin-1, ``id|title (year)|...`` and 19 genre flags)."""
    rows = [_HEADER]
    for line, text in enumerate(path.read_bytes().decode("latin-1").splitlines(), start=1):
        cells = text.split("|")
        if len(cells) != _UITEM_CELLS:
            msg = f"found {len(cells)} cells, needed {_UITEM_CELLS} separated by |"
            raise DataError(msg, path=path, line=line)
        title, bracket, year = cells[1].strip().rpartition(" (")
        if not bracket:
            title = year = _UNTITLED
        genres = " ".join(genre for genre, flag in zip(_GENRES, cells[5:], strict=True) if flag == "1")
        rows.append("\t".join((cells[0], title, year.removesuffix(")"), genres)))
    return "".join(f"{row}\n" for row in rows).encode()
