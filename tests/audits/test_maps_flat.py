"""The fast reader of flat JSON gives what `json.loads` gives, or gives up; it never gives anything else."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.audits import maps_flat
from rectest.audits.maps_flat import flat_entries
from rectest.checks.mapping_entries import Entries
from rectest.checks.mapping_ids import PADDED

KEYS = st.one_of(st.text("AB019", min_size=0, max_size=12), st.text('a:,{} "é日\n', max_size=6), st.text(max_size=40))
VALUES = st.one_of(st.integers(0, 12), st.integers(0, 10**9), st.integers(0, 10**17))
PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=2, max_size=30)
STYLES = st.sampled_from([(None, (", ", ": ")), (None, (",", ":")), (2, (",", ": ")), (0, (",", ":"))])


def _dump(
    pairs: Sequence[tuple[str, object]], indent: int | None, separators: tuple[str, str], ascii_only: bool
) -> str:
    comma, colon = separators
    space = "" if indent is None else "\n" + " " * indent
    body = (comma + space).join(
        f"{json.dumps(key, ensure_ascii=ascii_only)}{colon}{json.dumps(value)}" for key, value in pairs
    )
    return "{" + space + body + ("" if indent is None else "\n") + "}"


def _entries(text: str | bytes) -> Entries | None:
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return flat_entries(np.frombuffer(content + bytes(PADDED), dtype=np.uint8))


def _read(text: str | bytes) -> list[tuple[str, int]] | None:
    entries = _entries(text)
    return None if entries is None else list(zip(entries.ids.texts(), entries.index.tolist(), strict=True))


@given(PAIRS, STYLES, st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_fast_reader_is_equal_to_json(pairs, style, ascii_only) -> None:
    pairs = [(key.encode("utf-8", "replace").decode(), value) for key, value in pairs]
    text = _dump(pairs, *style, ascii_only)
    expected = json.loads(text, object_pairs_hook=list)

    assert expected == pairs
    obtained = _read(text)
    plain = '\\"' not in text and pairs[-1][1] < 10**16
    assert (expected if plain else None) == obtained


@given(st.text('{}":, 019ab\n\\e.-', max_size=40))
@settings(max_examples=50, deadline=None)
def test_whatever_it_reads_is_json(text: str) -> None:
    _agrees("{" + text)


@given(PAIRS, st.integers(0, 10**6), st.sampled_from([*list('{}":, 09a\n\\e.-\t'), "", "é", "\x00"]), st.booleans())
@settings(max_examples=50, deadline=None)
def test_one_changed_character_never_makes_it_read_what_json_does_not(pairs, place, character, insert) -> None:
    text = _dump(pairs, None, (", ", ": "), False)
    place %= len(text)

    _agrees(text[:place] + character + text[place + (not insert) :])


def _agrees(text: str) -> None:
    entries = _entries(text)
    if entries is not None:
        pairs = json.loads(text, object_pairs_hook=list)
        _equal(Entries.from_values(*map(list, zip(*pairs, strict=True))), entries)


def _equal(expected: Entries, obtained: Entries) -> None:
    assert expected.ids.texts() == obtained.ids.texts()
    assert expected.index.tolist() == obtained.index.tolist()
    assert expected.odd == obtained.odd


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"a": 1}',
        '{"a": 1, "b": 2',
        '{"a": 1, "b": 2}}',
        '{"a": 1, "b": 2} x',
        '{"a": 1, "b": 2.0}',
        '{"a": 1, "b": -2}',
        '{"a": 1, "b": NaN}',
        '{"a": 1, "b": "2"}',
        '{"a": 1, "b": "2", "c": 3}',
        '{"a": 1, "b": {}, "c": 3}',
        '{"a": 1, "b": [2], "c": 3}',
        '{"a": 1, "b": 02}',
        '{"a": 1, "b": [2]}',
        '{"a": 1, "b": 2, }',
        '{"a": 1,  "b": 2}, "c": 3}',
        '{"a": 1, "b\n": 2}',
        '{"a": 1, "b\\u004": 2}',
        '{"a": 1, "b\\"": 2}',
        '{"a": 1, "b": 12345678901234567}',
        '{"a": 1, "b":, "c": 3}',
        b'{"a": 1, "\xff": 2}',
        b'\xef\xbb\xbf{"a": 1, "b": 2}',
    ],
)
def test_anything_but_a_flat_object_of_plain_numbers_is_left_to_json(text: str | bytes) -> None:
    assert _read(text) is None


def test_repeated_keys_are_all_there() -> None:
    assert [("a", 1), ("b", 2), ("a", 3)] == _read('{"a": 1, "b": 2, "a": 3}')


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_blocks_and_two_threads_change_nothing(separators, monkeypatch) -> None:
    pairs = [(f"B{i}, {':' * (i % 3)}" + "," * (i % 5), i * 37 % 4001) for i in range(4001)]
    text = _dump(pairs, None, separators, False)

    whole = _read(text)
    for scan in (7, 64, 1000):
        monkeypatch.setattr(maps_flat, "_SCAN", scan)
        assert pairs == _read(text)

    assert pairs == whole


@pytest.mark.parametrize("scan", [64, 1000, 1 << 19])
def test_odd_entries_are_read_among_the_others(scan, monkeypatch) -> None:
    monkeypatch.setattr(maps_flat, "_SCAN", scan)
    for place, value in enumerate([1.5, 3.0, None, True, -4, 10**17, 10**30, float("nan")], start=1):
        pairs = [(f"B{i}" if i % 30 != place else f"é{i}\\", i if i != 7 * place else value) for i in range(100)]
        for ascii_only in (False, True):
            text = _dump([(key.rstrip("\\"), number) for key, number in pairs], None, (", ", ": "), ascii_only)
            _agrees(text)

            assert _entries(text) is not None


@given(st.lists(st.tuples(KEYS, st.one_of(VALUES, st.floats(), st.none(), st.booleans(), st.integers())), min_size=1))
@settings(max_examples=50, deadline=None)
def test_odd_entries_are_as_json_reads_them(pairs) -> None:
    pairs = [(key.replace('"', "").encode("utf-8", "replace").decode(), value) for key, value in pairs]
    text = _dump([("a", 0), *pairs, ("z", 1)], None, (", ", ": "), True)

    assert _entries(text) is not None or '\\"' in text or len(pairs[0][0]) > 4000
    _agrees(text)
