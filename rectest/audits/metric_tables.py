"""`read_metrics`: every table of metrics in a file or log folder, whatever its format, as measures of rectest.

Owns the choice of the reader, the choice of a split, and the refusal of a file that has no metric. Nothing is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rectest.audits.metric_cells import MetricTable, with_common_digits
from rectest.audits.metric_events import file_of_folder, is_events, read_events
from rectest.audits.metric_grid import Read
from rectest.audits.metric_json import read_json, read_json_lines
from rectest.audits.metric_names import split_of
from rectest.audits.metric_text import read_csv, read_lines, read_markdown
from rectest.errors import DataError

__all__ = ["MetricFile", "read_metrics", "split_of"]

MAX_BYTES = 256 * 2**20
"""A larger file is no table of metrics; it is refused before it fills the memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricFile:
    """What a file holds."""

    path: Path
    format: str
    tables: tuple[MetricTable, ...]
    left_out: tuple[str, ...]


def read_metrics(path: str | Path, *, split: str | None = None, decimals: int | None = None) -> MetricFile:
    """The tables of a file: CSV, JSON, JSON lines, Markdown, text, TensorBoard events, or a log folder.

    Args:
        split: keep the tables of this split only (``val`` and ``valid`` are the same).
        decimals: digits to which all cells were rounded, in place of those that are written.

    Raises:
        DataError: the file cannot be read, or holds no metric that is known.
        RectestError: an event file, and TensorBoard is not installed.
        ValueError: `decimals` is negative.
    """
    if decimals is not None and decimals < 0:
        msg = f"decimals must be at least 0, got {decimals}"
        raise ValueError(msg)
    path = Path(path)
    file, kind, read = _read(path)
    if not read.tables:
        seen = f"; left out: {', '.join(read.left_out[:8])}" if read.left_out else ""
        problem = f"it holds no metric that is known{seen}"
        raise DataError(problem, path=file, hint="names such as recall@10, hit@10, ndcg@10, mrr, mean_rank are known")
    tables = list(read.tables) if kind in ("Markdown", "text") else with_common_digits(read.tables)
    if split is not None:
        tables = _of_split(tables, split, path)
    if decimals is not None:
        tables = [_with_decimals(table, decimals) for table in tables]
    return MetricFile(path=file, format=kind, tables=tuple(tables), left_out=tuple(dict.fromkeys(read.left_out)))


def _with_decimals(table: MetricTable, decimals: int) -> MetricTable:
    return replace(table, cells={name: replace(cell, decimals=decimals) for name, cell in table.cells.items()})


def _of_split(tables: list[MetricTable], split: str, path: Path) -> list[MetricTable]:
    wanted = split.strip().lower()
    kept = [table for table in tables if wanted in (table.group, table.label, split_of(table.group))]
    kept = kept or [table for table in tables if split_of(wanted) and split_of(table.group) == split_of(wanted)]
    kept = kept or [table for table in tables if split_of(wanted) and split_of(table.label.lower()) == split_of(wanted)]
    if not kept:
        known = ", ".join(sorted({split_of(table.group) or table.group or "(no split)" for table in tables}))
        problem = f"it has no metrics of split {split!r}"
        raise DataError(problem, path=path, hint=f"it has {known}")
    return kept


def _read(path: Path) -> tuple[Path, str, Read]:
    try:
        if path.is_dir():
            path = file_of_folder(path)
        if is_events(path):
            return path, "TensorBoard", read_events(path)
        size = path.stat().st_size
        if size > MAX_BYTES:
            problem = f"{size:,} bytes are no table of metrics"
            raise DataError(problem, path=path, hint=f"at most {MAX_BYTES:,} are read")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        problem = f"it is no text: byte {e.start} is not UTF-8"
        raise DataError(problem, path=path, hint="CSV, JSON, Markdown or a TensorBoard event file was needed") from e
    except OSError as e:
        problem = f"it cannot be read: {e.strerror or e}"
        raise DataError(problem, path=path) from e
    if not text.strip() or "\0" in text:
        problem = "it is empty" if not text.strip() else "it is no text: it holds null characters"
        raise DataError(problem, path=path)
    kind = _kind(path, text)
    try:
        return path, kind, _READERS[kind](text)
    except DataError as e:
        raise DataError(e.problem, path=path, line=e.line, hint=e.hint) from e
    except ValueError as e:
        problem = f"it cannot be read as {kind}: {e}"
        raise DataError(problem, path=path) from e


def _kind(path: Path, text: str) -> str:
    known = _SUFFIXES.get(path.suffix.lower())
    if known:
        return known
    start = text.lstrip()[0]
    if start in "{[":
        return "JSON lines" if start == "{" and "\n{" in text.strip() else "JSON"
    if "|" in text and "---" in text:
        return "Markdown"
    return "CSV" if any(mark in text.lstrip().splitlines()[0] for mark in ",;\t") else "text"


_SUFFIXES = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".json": "JSON",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".md": "Markdown",
    ".markdown": "Markdown",
    ".txt": "text",
    ".log": "text",
}


def _text(text: str) -> Read:
    read = read_markdown(text)
    return read if read.tables else read_csv(text) if text.count(",") > 1 else read_lines(text)


_READERS: Mapping[str, Callable[[str], Read]] = {
    "CSV": read_csv,
    "JSON": read_json,
    "JSON lines": read_json_lines,
    "Markdown": read_markdown,
    "text": _text,
}
