"""Id maps in columns: CSV, TSV, blank-separated pairs, JSON lines, Parquet, and text of one raw id a line.

Which column holds the raw ids and which the indices is told by the caller, else by their names, else by the one column
that counts 0 or 1, 2, 3 ..., else of two columns the last; where that leaves it open, the error lists the columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rectest.audits.maps_json import Pairs, parse_pairs
from rectest.checks.mapping_entries import Entries, as_raw
from rectest.checks.mapping_ids import PADDED, RawIds
from rectest.errors import DataError

__all__ = ["read_lines", "read_parquet", "read_table"]

INDEX_NAMES = frozenset({"index", "idx", "dense_id", "remap_id", "new_id", "internal_id", "row", "encoded", "position"})
RAW_NAMES = frozenset(
    {"raw", "raw_id", "org_id", "orig_id", "original_id", "asin", "parent_asin", "isbn", "token", "key", "item_id"}
    | {"user_id", "product_id", "item", "user", "name", "external_id", "movieid", "itemid", "userid"}
)

Columns = Mapping[str, Sequence[Any]]


def read_table(path: Path, *, raw: str | None, index: str | None) -> tuple[Entries, str]:
    """The map of separated columns with or without a header, or of one raw id a line.

    Raises:
        DataError: no text, rows of different lengths, or columns that leave open which is which.
    """
    rows = _rows(path)
    if not rows:
        raise DataError("the file is empty", path=path)
    width = len(rows[0][1])
    for line, row in rows:
        if len(row) != width:
            msg = f"{len(row)} fields where the first line has {width}"
            raise DataError(msg, path=path, line=line)
    header = _is_header([row for _, row in rows[:1000]], named=raw is not None or index is not None)
    names = [name.strip() for name in rows[0][1]] if header else [f"column {i + 1}" for i in range(width)]
    body = rows[1:] if header else rows
    columns = {name: [row[i] for _, row in body] for i, name in enumerate(names)}
    if len(columns) != width:
        msg = f"two columns have one name: {', '.join(names)}"
        raise DataError(msg, path=path, line=1)
    return _entries(columns, path, raw=raw, index=index, quoted=False)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"not UTF-8 text: {error.reason} at byte {error.start}"
        raise DataError(msg, path=path) from error
    if "\0" in text:
        msg = "binary, where text was expected"
        raise DataError(msg, path=path, hint="JSON, CSV, TSV, Parquet and text are read")
    delimiter = _delimiter(path, text)
    if delimiter in (" ", ""):
        lines = ((i, line.split() if delimiter else [line.strip("\r")]) for i, line in enumerate(text.split("\n"), 1))
        return [(i, fields) for i, fields in lines if any(fields)]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DataError(str(error), path=path, line=reader.line_num) from error


def _delimiter(path: Path, text: str) -> str:
    """What separates the fields of the first line; "" for one field a line."""
    first = text.partition("\n")[0]
    for delimiter in "\t,;":
        if delimiter in first and not (delimiter == "," and path.suffix.lower() == ".tsv"):
            return delimiter
    sample = [line.split() for line in text[:20000].split("\n")[:200] if line.strip()][:-1] or [first.split()]
    counting = all(len(fields) == 2 for fields in sample) and (
        all(fields[0].isdigit() for fields in sample[1:]) or all(fields[1].isdigit() for fields in sample[1:])
    )
    return " " if counting or set(first.lower().split()) & INDEX_NAMES else ""


def _is_header(rows: list[list[str]], *, named: bool) -> bool:
    first = [name.strip().lower() for name in rows[0]]
    if named or any(_is_index_name(name) or _bare(name) in RAW_NAMES for name in first):
        return True
    return len(rows) > 2 and any(
        not first[i].isdigit() and all(row[i].strip().isdigit() for row in rows[1:]) for i in range(len(first))
    )


def _bare(name: str) -> str:
    return name.lower().partition(":")[0].strip()


def _is_index_name(name: str) -> bool:
    return _bare(name) in INDEX_NAMES or _bare(name).endswith(("_index", "_idx"))


def read_lines(path: Path, *, raw: str | None, index: str | None) -> tuple[Entries, str]:
    """The map of JSON lines, each an object of the same fields, or a pair.

    Raises:
        DataError: a line is no JSON, or has other fields than the first.
    """
    columns: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        for line, content in enumerate(file, start=1):
            if not content.strip():
                continue
            fields = _fields(content, path, line)
            if columns and list(columns) != list(fields):
                msg = f"fields {', '.join(fields)} where others were {', '.join(columns)}"
                raise DataError(msg, path=path, line=line)
            for name, value in fields.items():
                columns.setdefault(name, []).append(value)
    if not columns:
        raise DataError("the file is empty", path=path)
    return _entries(columns, path, raw=raw, index=index, quoted=True)


def _fields(content: bytes, path: Path, line: int) -> dict[str, Any]:
    try:
        value = parse_pairs(content, path)
    except DataError as error:
        raise DataError(error.problem, path=path, line=line) from error
    pairs = value if isinstance(value, Pairs) else _pair(value, path, line)
    if len(dict(pairs)) != len(pairs):
        raise DataError("a field occurs twice", path=path, line=line)
    return dict(sorted(pairs))


def _pair(value: Any, path: Path, line: int) -> list[tuple[str, Any]]:
    if isinstance(value, list) and len(value) == 2:
        return [(f"column {i + 1}", part) for i, part in enumerate(value)]
    msg = "a line is neither an object nor a pair"
    raise DataError(msg, path=path, line=line)


def read_parquet(path: Path, *, raw: str | None, index: str | None) -> tuple[Entries, str]:
    """The map of a Parquet file, by pyarrow, or polars where that is not installed.

    Raises:
        DataError: neither is installed, no Parquet, or columns that leave open which is which.
    """
    columns = _arrow_columns(path)
    if columns is None:
        columns = _polars_columns(path)
    if columns is None:
        hint = "pip install 'rectest[parquet]'"
        msg = "Parquet needs pyarrow (or polars), and neither is installed"
        raise DataError(msg, path=path, hint=hint)
    return _entries(columns, path, raw=raw, index=index, quoted=True)


def _arrow_columns(path: Path) -> Columns | None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        msg = f"not Parquet: {str(error).partition('. ')[0]}"
        raise DataError(msg, path=path) from error
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: Any) -> Any:
    """A column of whole numbers as an array, of texts as `RawIds`, any other as a list."""
    import pyarrow as pa

    if pa.types.is_integer(column.type) and not column.null_count and not pa.types.is_uint64(column.type):
        return column.to_numpy().astype(np.int64)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) or column.null_count:
        return column.to_pylist()
    chunk = pa.chunked_array(column.cast(pa.large_string())).combine_chunks()
    texts = chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) else chunk
    if not len(texts):
        return []
    _, ends, data = texts.buffers()
    offsets = np.frombuffer(ends, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.concatenate([np.frombuffer(data, dtype=np.uint8), np.zeros(PADDED, np.uint8)])
    return RawIds(content, offsets[:-1].copy(), np.diff(offsets))


def _polars_columns(path: Path) -> Columns | None:
    try:
        import polars as pl
    except ImportError:
        return None
    try:
        frame = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        msg = f"not Parquet: {error}"
        raise DataError(msg, path=path) from error
    return {name: frame[name].to_list() for name in frame.columns}


def _entries(columns: Columns, path: Path, *, raw: str | None, index: str | None, quoted: bool) -> tuple[Entries, str]:
    for name in (raw, index):
        if name is not None and name not in columns:
            known = ", ".join(map(repr, columns))
            msg = f"has no column {name!r}; known: {known}"
            raise DataError(msg, path=path)
    if len(columns) == 1 and index is None:
        (name,) = columns
        ids = _raw_ids(columns[name])
        return Entries(ids=ids, index=np.arange(len(ids))), f"raw ids in the order of their lines ({name})"
    raw, index = _roles(columns, path, raw, index)
    ids, values = _raw_ids(columns[raw]), columns[index]
    layout = f"columns {raw} and {index}"
    if isinstance(values, np.ndarray):
        return Entries(ids=ids, index=values), layout
    texts = values.texts() if isinstance(values, RawIds) else values
    return Entries.from_values(ids, texts, quoted=quoted), layout


def _raw_ids(values: Any) -> RawIds:
    return values if isinstance(values, RawIds) else RawIds.from_texts(map(as_raw, values))


def _roles(columns: Columns, path: Path, raw: str | None, index: str | None) -> tuple[str, str]:
    """The names of the columns of raw ids and of indices."""
    open_names = [name for name in columns if name not in (raw, index)]
    if index is None:
        by_name = [name for name in open_names if _is_index_name(name)]
        index = _only(by_name) or _only([name for name in open_names if _counts(columns[name])])
        if index is None and len(columns) == 2:
            index = open_names[-1]
    open_names = [name for name in open_names if name != index]
    if raw is None:
        raw = _only(open_names) or _only([name for name in open_names if _bare(name) in RAW_NAMES])
    if raw is None or index is None:
        known = ", ".join(map(repr, columns))
        problem = f"which columns hold the raw ids and the indices is open; known: {known}"
        raise DataError(problem, path=path, hint="name them with --key and --index")
    return raw, index


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _counts(values: Any) -> bool:
    """Whether a column counts from 0 or 1 without leaving much out."""
    if isinstance(values, RawIds):
        values = values.texts()
    if not isinstance(values, np.ndarray):
        texts = [str(value) for value in values]
        if sum(text.isdigit() and len(text) < 19 for text in texts) < 0.9 * len(texts):
            return False
        values = np.array([int(text) for text in texts if text.isdigit() and len(text) < 19], dtype=np.int64)
    return len(values) > 0 and int(values.min()) in (0, 1) and int(values.max()) <= 1.1 * len(values) + 1
