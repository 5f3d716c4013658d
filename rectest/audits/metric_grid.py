"""Metric tables out of a grid of texts: a header and rows, whichever way round the file has them.

Four layouts are known: a column for each measure (wide), a row for each measure (long), measures by cut-offs, and
cut-offs by measures. Which one it is follows from where the names are, and never from their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rectest.audits.metric_cells import Cell, MetricTable, read_cell
from rectest.audits.metric_names import (
    Name,
    cut_off_of,
    family_of,
    looks_like_a_metric,
    name_of,
    plain,
    speaks_of_others,
)

__all__ = ["TIME", "Entry", "Read", "collected", "tables_of_grid"]

TIME = ("epoch", "step", "iteration", "iter", "global_step", "epochs", "steps", "轮次", "轮数")
_KEYS = (*TIME, "split", "model", "method", "dataset", "fold", "seed", "phase", "stage", "run", "模型", "数据集")
_DEPTHS = ("k", "top-k", "topk", "top k", "@k", "cut-off", "cutoff", "n")
_WHOLE = ("mrr", "mean_rank")
"""Families that need no cut-off."""
_EMPTY = ("", "-", "--", "—", "–", "n/a", "na", "none", "null", "/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What was found in a part of a file."""

    tables: tuple[MetricTable, ...] = ()
    left_out: tuple[str, ...] = ()
    """Names that look like metrics and are not known, and cells that hold no single number."""

    def __add__(self, other: Read) -> Read:
        return Read(tables=self.tables + other.tables, left_out=self.left_out + other.left_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One cell with the name of its measure and the label of its table."""

    name: Name
    k: int | None
    text: str
    label: str
    series: bool

    @property
    def measure(self) -> str | None:
        """The measure, with the cut-off of the other axis where the name has none."""
        given = self.name if self.name.k or not self.k else replace(self.name, k=self.k)
        return given.measure


def collected(entries: Iterable[Entry], *, group: str) -> Read:
    """Tables out of entries: one for each prefix and label; a second value for a cell starts another table.

    Lightning writes one evaluation over several rows with the same epoch and step, which become one table so.
    """
    tables: dict[tuple[str, str, int], dict[str, Cell]] = {}
    series: set[tuple[str, str, int]] = set()
    left_out: list[str] = []
    for entry in entries:
        if plain(entry.text) in _EMPTY or entry.measure is None:
            continue
        cell = read_cell(entry.text, in_percent=entry.name.in_percent)
        if cell is None:
            left_out.append(f"{entry.measure} = {entry.text.strip()[:40]!r} (no single number)")
            continue
        where = "/".join(filter(None, (group, entry.name.prefix)))
        copy = 0
        while entry.measure in tables.get((where, entry.label, copy), {}):
            copy += 1
        key = (where, entry.label, copy)
        tables.setdefault(key, {})[entry.measure] = cell
        series |= {key} if entry.series else set()
    found = tuple(
        MetricTable(label=label + (f" ({copy + 1})" if copy else ""), group=where, cells=cells, series=key in series)
        for key, cells in tables.items()
        for where, label, copy in (key,)
    )
    return Read(tables=found, left_out=tuple(left_out))


def tables_of_grid(header: Sequence[str], rows: Sequence[Sequence[str]], *, group: str = "") -> Read:
    """The tables of a grid; no tables where no layout fits."""
    others = [text for row in rows for text in row if speaks_of_others(text)]
    full = [row for row in rows if any(plain(cell) not in _EMPTY for cell in row) and not _about_others(row)]
    padded = [[*row, *[""] * (len(header) - len(row))][: len(header)] for row in full]
    unknown = Read(left_out=tuple(dict.fromkeys([*(text.strip() for text in header if _unknown(text)), *others])))
    misread = Read()
    for layout in (_cut_offs_down, _wide, _long, _cut_offs_across):
        read = layout(header, padded, group)
        if read.tables:
            return read + unknown
        misread += Read(left_out=read.left_out)
    return unknown + misread


def _about_others(row: Sequence[str]) -> bool:
    return any(map(speaks_of_others, row))


def _unknown(text: str) -> bool:
    return name_of(text) is None and cut_off_of(text) is None and looks_like_a_metric(text)


def _wide(header: Sequence[str], rows: Sequence[Sequence[str]], group: str) -> Read:
    names = [name_of(text) for text in header]
    columns = [i for i, name in enumerate(names) if name is not None and name.measure]
    entries = []
    for number, row in enumerate(rows, start=1):
        label, series = _label(header, row, [i for i in range(len(header)) if i not in columns], number)
        for i in columns:
            name = names[i]
            if name is not None:
                entries.append(Entry(name=name, k=None, text=row[i], label=label, series=series))
    return collected(entries, group=group)


def _label(
    header: Sequence[str], row: Sequence[str], columns: Sequence[int], number: int, *, named: bool = False
) -> tuple[str, bool]:
    """What tells a row from the others: its key columns, else its first text, else its number."""
    keys = [i for i in columns if plain(header[i]) in _KEYS and row[i].strip()]
    if keys:
        return " ".join(f"{plain(header[i])} {row[i].strip()}" for i in keys), any(
            plain(header[i]) in TIME for i in keys
        )
    texts = [row[i].strip() for i in columns if row[i].strip() and read_cell(row[i]) is None]
    if texts and not named:
        return plain(texts[0]), False
    return ("" if named else f"row {number}"), False


def _long(header: Sequence[str], rows: Sequence[Sequence[str]], group: str) -> Read:
    """A row for each measure, its cut-off in a column of its own or not; every column of numbers is a table."""
    depth = _depth_column(header)
    known = _full_name if depth is None else _any_name
    column = max(range(len(header)), key=lambda i: (sum(known(row[i]) for row in rows), -i), default=None)
    if column is None or not any(known(row[column]) for row in rows):
        # A file without a header starts with its first measure.
        return _long([""] * len(header), [header, *rows], group) if any(map(_full_name, header)) and rows else Read()
    if _full_name(header[column]) and len(header) > 1 and any(read_cell(text) for text in header):
        rows, header = [list(header), *rows], [""] * len(header)
    named = [row for row in rows if known(row[column])]
    keys = [i for i in range(len(header)) if i != column and plain(header[i]) in _KEYS]
    values = [
        i
        for i in range(len(header))
        if i not in (column, depth, *keys)
        and not speaks_of_others(header[i])
        and 2 * sum(read_cell(row[i]) is not None for row in named) > len(named)
    ]
    left_out = tuple(dict.fromkeys(row[column].strip() for row in rows if _unknown(row[column])))
    entries = []
    for row in named:
        name, k = name_of(row[column]), None if depth is None else cut_off_of(row[depth])
        label, series = _label(header, row, keys, 0, named=True)
        for i in values:
            own = " ".join(filter(None, (label, plain(header[i]) if len(values) > 1 else "")))
            if name is not None:
                entries.append(Entry(name=name, k=k, text=row[i], label=own, series=series))
    return collected(entries, group=group) + Read(left_out=left_out)


def _full_name(text: str) -> bool:
    name = name_of(text)
    return name is not None and name.measure is not None


def _any_name(text: str) -> bool:
    return name_of(text) is not None


def _depth_column(header: Sequence[str]) -> int | None:
    """The column of cut-offs."""
    return next((i for i, text in enumerate(header) if plain(text) in _DEPTHS), None)


def _cut_offs_down(header: Sequence[str], rows: Sequence[Sequence[str]], group: str) -> Read:
    """A row for each cut-off, a column for each family: ``| K | Recall | NDCG |``.

    A column of MRR is MRR@k where it changes with k, and MRR over the whole list where it does not.
    """
    families = [i for i, text in enumerate(header) if (name := name_of(text)) and name.k is None]
    depth = _depth_column(header)
    if depth is None or all(family_of(header[i]) in (None, *_WHOLE) for i in families):
        return Read()
    keys = [i for i in range(len(header)) if plain(header[i]) in _KEYS]
    labels = [_label(header, row, keys, 0, named=True) for row in rows]
    entries = []
    for i in families:
        name, seen = name_of(header[i]), set[tuple[str, str]]()
        for row, (label, series) in zip(rows, labels, strict=True):
            k = cut_off_of(row[depth])
            if name is None or not k:
                continue
            if _is_whole(name, [other[i] for other, (owner, _) in zip(rows, labels, strict=True) if owner == label]):
                if (label, row[i]) in seen:
                    continue
                seen.add((label, row[i]))
                k = None
            entries.append(Entry(name=name, k=k, text=row[i], label=label, series=series))
    return collected(entries, group=group)


def _is_whole(name: Name, texts: Sequence[str]) -> bool:
    """Whether a column beside cut-offs is of the whole list: a mean rank, or an MRR that is the same at each."""
    return name.family == "mean_rank" or (name.family == "mrr" and len(texts) > 1 and len(set(texts)) == 1)


def _cut_offs_across(header: Sequence[str], rows: Sequence[Sequence[str]], group: str) -> Read:
    """A row for each family, a column for each cut-off: ``| Metric | @5 | @10 |``."""
    depths = {i: k for i, text in enumerate(header) if (k := cut_off_of(text))}
    column = next((i for i in range(len(header)) if i not in depths and any(family_of(r[i]) for r in rows)), None)
    if len(depths) < 2 or column is None:
        return Read()
    keys = [i for i in range(len(header)) if i != column and plain(header[i]) in _KEYS]
    entries = []
    for row in rows:
        name = name_of(row[column])
        label, series = _label(header, row, keys, 0, named=True)
        for i, k in depths.items():
            if name is not None and name.k is None:
                entries.append(Entry(name=name, k=k, text=row[i], label=label, series=series))
    return collected(entries, group=group)
