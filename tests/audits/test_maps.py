"""Every form of an id map is read as the same entries; what is no map is an error of one line, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.audits import maps_columns
from rectest.audits.maps import RawMapping, read_mapping
from rectest.checks.mapping_entries import NO_INDEX
from rectest.errors import DataError, RectestError

EXPECTED = [("B001", 1), ("B002", 2), ("B003", 3)]


def _pairs(mapping: RawMapping) -> list[tuple[str, int]]:
    return list(zip(mapping.entries.ids.texts(), mapping.index.tolist(), strict=True))


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.json", '{"B001": 1, "B002": 2, "B003": 3}'),
        ("m.json", '{\n  "B001" : 1,\n  "B002": 2,\n  "B003": 3\n}\n'),
        ("m.json", '{"B\\u0030\\u0030\\u0031": 1, "B002": 2, "B003": 3}'),
        ("m.json", '\ufeff{"B001": 1, "B002": 2, "B003": 3}'),
        ("m.json", '{"1": "B001", "2": "B002", "3": "B003"}'),
        ("m.json", '{"item2id": {"B001": 1, "B002": 2, "B003": 3}, "version": 1}'),
        ("m.jsonl", '{"asin": "B001", "index": 1}\n{"index": 2, "asin": "B002"}\n\n{"asin": "B003", "index": 3}\n'),
        ("m.ndjson", '["B001", 1]\n["B002", 2]\n["B003", 3]\n'),
        ("m.csv", "asin,index\nB001,1\nB002,2\nB003,3\n"),
        ("m.csv", "index,asin\r\n1,B001\r\n2,B002\r\n3,B003\r\n"),
        ("m.csv", "B001,1\nB002,2\nB003,3\n"),
        ("m.csv", '"B001","1"\n"B002","2"\n"B003","3"\n'),
        ("m.tsv", "1\tB001\n2\tB002\n3\tB003"),
        ("item_list.txt", "org_id remap_id\nB001 1\nB002 2\nB003 3\n"),
        ("item_list.txt", "B001 1\nB002 2\nB003 3\n"),
    ],
)
def test_every_form_gives_the_same_entries(tmp_path, name, content) -> None:
    assert EXPECTED == _pairs(read_mapping(_write(tmp_path, name, content)))


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.json", '["B001", "B002", "B003"]'), ("m.txt", "B001\nB002\nB003\n"), ("m.csv", "asin\nB001\nB002\nB003\n")],
)
def test_lists_are_numbered_from_zero(tmp_path, name, content) -> None:
    assert [(raw, index - 1) for raw, index in EXPECTED] == _pairs(read_mapping(_write(tmp_path, name, content)))


@pytest.mark.parametrize("package", ["pyarrow", "polars"])
def test_parquet_is_read_by_either_package(tmp_path, package, monkeypatch) -> None:
    pytest.importorskip(package)
    path = tmp_path / "m.parquet"
    if package == "pyarrow":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"asin": ["B001", "B002", "B003"], "index": [1, 2, 3]}), path)
    else:
        import polars as pl

        pl.DataFrame({"asin": ["B001", "B002", "B003"], "index": [1, 2, 3]}).write_parquet(path)
        monkeypatch.setattr(maps_columns, "_arrow_columns", lambda _: None)

    assert EXPECTED == _pairs(read_mapping(path))
    with pytest.raises(DataError, match="not Parquet"):
        read_mapping(_write(tmp_path, "bad.parquet", "x"))


def test_parquet_with_missing_values_keeps_them(tmp_path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"asin": ["B001", None], "index": [1.0, None]}), path)

    mapping = read_mapping(path)

    assert [("B001", 1), ("", NO_INDEX)] == _pairs(mapping)
    assert ["a decimal number", "null"] == [odd.kind for odd in mapping.entries.odd]


def test_parquet_without_a_reader_names_the_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(maps_columns, "_arrow_columns", lambda _: None)
    monkeypatch.setattr(maps_columns, "_polars_columns", lambda _: None)

    with pytest.raises(DataError, match=r"rectest\[parquet\]"):
        read_mapping(_write(tmp_path, "m.parquet", "PAR1"))


def test_repeated_keys_are_kept_and_the_last_is_found(tmp_path) -> None:
    for content in ('{"a": 1, "b": 2, "a": 3}', '{"m": {"a": 1, "b": 2, "a": 3}}', '{"a": 1, "b": 2, "a":  3}'):
        mapping = read_mapping(_write(tmp_path, "m.json", content))

        assert [("a", 1), ("b", 2), ("a", 3)] == _pairs(mapping)
        assert [3, 2, -1] == mapping.find(np.array(["a", "b", "c"])).tolist()


def test_odd_values_are_kept_with_their_kinds(tmp_path) -> None:
    values = {"a": 1.0, "b": "2", "c": None, "d": True, "e": [1], "f": float("nan"), "g": 10**30, "h": 8}

    mapping = read_mapping(_write(tmp_path, "m.json", json.dumps(values)))

    kinds = ["a decimal number", "text", "null", "a truth value", "nested", "not a number", "out of range"]
    assert kinds == [odd.kind for odd in mapping.entries.odd]
    assert [1, 2, -1, 8] == mapping.find(np.array(["a", "b", "c", "h"])).tolist()


@pytest.mark.parametrize(("key", "expected"), [("items", ["x", "y"]), ("users", ["u", "v"])])
def test_one_of_several_maps_is_named(tmp_path, key, expected) -> None:
    path = _write(tmp_path, "m.json", '{"items": {"x": 1, "y": 2}, "users": ["u", "v"]}')

    assert expected == read_mapping(path, key=key).entries.ids.texts()
    with pytest.raises(DataError, match=r"several maps; known: 'items' \(2 entries\), 'users'"):
        read_mapping(path)
    with pytest.raises(DataError, match="no map named 'other'"):
        read_mapping(path, key="other")


def test_columns_are_named_where_that_is_open(tmp_path) -> None:
    path = _write(tmp_path, "m.csv", "a,b,c\nx,7,9\ny,8,3\nz,9,1\n")

    assert [("x", 9), ("y", 3), ("z", 1)] == _pairs(read_mapping(path, key="a", index="c"))
    with pytest.raises(DataError, match="'a', 'b', 'c'; name them"):
        read_mapping(path)
    with pytest.raises(DataError, match="no column 'd'; known: 'a'"):
        read_mapping(path, key="d")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", "", "the file is empty"),
        ("m.json", "{}", "the map is empty"),
        ("m.json", '{"a": 1, "b": 2', "line 1: not JSON"),
        ("m.json", '{"a": 1} x', "not JSON"),
        ("m.json", b"\xff\xfe{\0", "not UTF-8"),
        ("m.json", "[" * 100_000, "nested too deeply"),
        ("m.json", "3", "single int"),
        ("m.json", "[[1, 2]]", "list of lists"),
        ("m.jsonl", '{"a": 1}\n{"b": 1}\n', "line 2: fields b"),
        ("m.jsonl", '{"a": 1, "a": 2}\n', "line 1: a field occurs twice"),
        ("m.jsonl", "3\n", "neither an object nor a pair"),
        ("m.jsonl", "{\n", "line 1: not JSON"),
        ("m.jsonl", "", "the file is empty"),
        ("m.csv", "a,1\nb\n", "line 2: 1 fields"),
        ("m.csv", "asin,asin\n1,2\n", "two columns have one name"),
        ("m.csv", "", "the file is empty"),
        ("m.csv", b"a\0b", "binary"),
        ("m.csv", b"\xff", "not UTF-8"),
        ("m.csv", "asin,index\n", "the map is empty"),
    ],
)
def test_what_is_no_map_is_one_line(tmp_path, name, content, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_mapping(_write(tmp_path, name, content))

    assert "\n" not in str(caught.value)


def test_folders_and_absent_files_are_errors(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "absent.json", tmp_path / "absent.csv"):
        with pytest.raises(DataError, match="cannot be read"):
            read_mapping(path)


@given(
    st.sampled_from(["json", "jsonl", "csv", "tsv", "txt"]),
    st.one_of(st.binary(max_size=60), st.text('{}[]":,0a1\n\t .e\\', max_size=60)),
)
@settings(max_examples=50, deadline=None)
def test_no_content_gives_a_traceback(tmp_path_factory, suffix, content) -> None:
    path = _write(tmp_path_factory.mktemp("m"), f"m.{suffix}", content)
    try:
        mapping = read_mapping(path)
    except RectestError:
        return

    assert mapping.num_entries == len(mapping.index) > 0
