"""Formats judged by shape agree with a regular expression over every id; ids that differ in style alone are found."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.records import find
from rectest.checks.mapping_format import (
    FORMAT_SHARE,
    FORMATS,
    KEY_PATTERNS,
    MIXED_LEAST,
    canonical,
    key_pattern,
    written_alike,
)
from rectest.checks.mapping_ids import RawIds

UUID = "123e4567-e89b-12d3-a456-42661417{:04x}"
ODDLY = st.sampled_from(
    ["487.0", "-7", "007", "0x1f00ff00aa", "0xzz00ff00aa", "deadBEEF00", "B00A", "b00a", " 12", "é1"]
)
PIECES = st.one_of(
    ODDLY, st.text("0189.-", max_size=8), st.text("09afgzAFGZ_-x", max_size=12), st.integers(0, 99).map(str)
)


def _by_regex(texts: list[str]) -> tuple[str, set[int]]:
    """The rule as it is told: one id and one expression at a time."""
    stripped = [text.strip() for text in texts]
    fits = {title: [bool(pattern.fullmatch(text)) for text in stripped] for title, pattern in FORMATS}
    spaced = {i for i, text in enumerate(texts) if text != text.strip()}
    whole, decimals = fits["integers"], fits["decimals"]
    if any(whole) and any(decimals):
        usual, other = ("integers", decimals) if sum(decimals) <= sum(whole) else ("decimals", whole)
        return usual, spaced | {i for i, odd in enumerate(other) if odd}
    for share in (1.0, FORMAT_SHARE):
        for title, fit in fits.items():
            if sum(fit) >= share * len(texts) - 1e-9:
                return title, spaced | {i for i, good in enumerate(fit) if not good}
    own = [next((title for title, fit in fits.items() if fit[i]), "") for i in range(len(texts))]
    (usual, most), (other, fewer) = sorted(((t, own.count(t)) for t in fits), key=lambda pair: -pair[1])[:2]
    if fewer >= max(MIXED_LEAST, (1 - FORMAT_SHARE) * len(texts)) and most + fewer >= FORMAT_SHARE * len(texts):
        return f"{usual} mixed with {other}", spaced | {i for i, title in enumerate(own) if title != usual}
    return "free text", spaced


FORMED = st.one_of(st.integers(0, 10**6).map(str), st.integers(0, 10**6).map("item_{}".format))


@given(
    st.one_of(
        st.lists(PIECES.filter(lambda text: bool(text.strip())), min_size=1, max_size=40),
        st.lists(st.one_of(FORMED, FORMED, FORMED, ODDLY), min_size=15, max_size=60),
    )
)
@settings(max_examples=100, deadline=None)
def test_shapes_judge_as_one_by_one_would(texts: list[str]) -> None:
    title, bad = _by_regex(texts)

    result = find(written_alike(RawIds.from_texts(texts), "item"), "mapping/key_format")

    assert result.figure.startswith(f"{title}; {len(bad)} of {len(texts)}")


ASINS, NUMBERS = [f"B{i:09d}" for i in range(200)], [str(i) for i in range(200)]


@pytest.mark.parametrize(
    ("texts", "figure"),
    [
        (ASINS[:100] + NUMBERS[:100], "integers mixed with ten capitals or digits (ASIN, ISBN); 100 of 200"),
        (ASINS[:85] + NUMBERS[:15], "ten capitals or digits (ASIN, ISBN) mixed with integers; 15 of 100"),
        (ASINS[:95] + NUMBERS[:5], "ten capitals or digits (ASIN, ISBN); 5 of 100"),
        (
            ASINS[:60] + NUMBERS[:30] + [f"n.a. {i}" for i in range(10)],
            "ten capitals or digits (ASIN, ISBN) mixed with",
        ),
    ],
    ids=["half", "a seventh", "few", "and others"],
)
def test_two_vocabularies_in_one_map_are_red(texts: list[str], figure: str) -> None:
    result = find(written_alike(RawIds.from_texts(texts), "item"), "mapping/key_format")

    assert result.red
    assert result.figure.startswith(figure)


@pytest.mark.parametrize(
    "texts",
    [
        ASINS[:9] + NUMBERS[:9],
        ASINS[:50] + NUMBERS[:30] + [f"n.a. {i}" for i in range(20)],
        ["alice", "bob7", "12345", "dj-cool", "x_1", "maria.k", "j0hn"] * 10,
    ],
    ids=["too few to tell", "much of neither", "names of people"],
)
def test_other_mixtures_are_free_text(texts: list[str]) -> None:
    result = find(written_alike(RawIds.from_texts(dict.fromkeys(texts)), "item"), "mapping/key_format")

    assert not result.red
    assert result.figure.startswith("free text")


@given(st.lists(PIECES.filter(lambda text: bool(text.strip())), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_collisions_are_those_of_the_canonical_form(texts: list[str]) -> None:
    groups: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        groups[canonical(text)].add(text)
    num = sum(len(group) for group in groups.values() if len(group) > 1)

    result = find(written_alike(RawIds.from_texts(texts), "item"), "mapping/collisions")

    assert result.figure.startswith(f"{num} of {len(texts)} ")


@pytest.mark.parametrize(
    ("texts", "title"),
    [
        ([f"B{i:09d}" for i in range(300)], "ten capitals"),
        ([f"{i:09d}X" for i in range(300)], "ten capitals"),
        ([str(i) for i in range(300)], "integers"),
        ([f"-{i}" for i in range(300)], "integers"),
        ([f"{i}.5" for i in range(300)], "decimals"),
        ([UUID.format(i) for i in range(300)], "hexadecimal"),
        ([f"0x{i:040x}" for i in range(300)], "hexadecimal"),
        ([f"item_{i}" for i in range(300)], "a prefix"),
        ([f"The film ({i})" for i in range(300)], "free text"),
        ([f"電影 {i}" for i in range(300)], "free text"),
    ],
    ids=["asin", "isbn", "int", "negative", "decimal", "uuid", "hash", "prefix", "titles", "chinese"],
)
def test_healthy_formats_are_green_and_one_outlier_is_named(texts: list[str], title: str) -> None:
    green = written_alike(RawIds.from_texts(texts), "item")
    odd = written_alike(RawIds.from_texts([*texts, " spaced "]), "item")

    assert not any(result.red for result in green)
    assert title in green[0].figure
    assert "' spaced '" in odd[0].worst
    assert "entries 300" == odd[0].rows


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("asin", "B00ABC1234", "b00ABC1234"),
        ("isbn", "043942089X", "B00ABC1234"),
        ("uuid", UUID.format(1), UUID.format(1).upper()),
        ("int", "0", "01"),
        ("[a-c]+", "abc", "abd"),
    ],
)
def test_a_promised_pattern_is_kept_by_every_id(pattern: str, good: str, bad: str) -> None:
    promised = key_pattern(pattern)

    assert not written_alike(RawIds.from_texts([good]), "item", promised=promised)[0].red
    assert repr(bad) == written_alike(RawIds.from_texts([good, bad]), "item", promised=promised)[0].worst


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        key_pattern("[")
    assert set(KEY_PATTERNS) == {"asin", "isbn", "uuid", "int"}
