"""Interaction files of any usual form as columns: RecBole's typed headers, CSV and TSV, Parquet, a line per user.

`read_log` and `read_ids` give the events, `read_columns` every column as text with list columns flattened, `read_lists`
the list columns as lists. What is wrong with a file is a DataError with its line; no row is ever skipped. The bytes are
cut in `log_cells`; quoted CSV and Parquet are read in `log_others`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rectest.audits.log_cells import WIDEST, Block, Cells, blocks, split_block, split_words, texts, whole_numbers
from rectest.audits.log_others import header_names, parquet_columns, parquet_names, quoted_columns
from rectest.audits.log_times import times_of
from rectest.data.rawlog import RawLog
from rectest.errors import DataError

__all__ = ["IdLog", "ListColumn", "column_names", "read_columns", "read_ids", "read_lists", "read_log"]

Texts = NDArray[np.str_]
Ints = NDArray[np.int64]

KINDS = ("token", "token_seq", "float", "float_seq")
_USERS = ("user_id", "user", "userid", "uid", "user_idx", "reviewerid", "session_id", "sessionid", "session")
_ITEMS = ("item_id", "item", "itemid", "iid", "item_idx", "movieid", "movie_id", "asin", "parent_asin", "product_id")
_TIMES = ("timestamp", "time", "unixreviewtime", "ts", "datetime", "date", "unix_time")
_UDATA = ("user_id", "item_id", "rating", "timestamp")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """How a text file is to be cut."""

    names: tuple[str, ...]
    """Column names; empty for a line per user."""
    kinds: tuple[str, ...] = ()
    separator: str = "\t"
    header: bool = True


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IdLog:
    """The rows of a file in file order, with ids as numbers where all of a column are plain whole numbers."""

    path: Path
    user: Texts | Ints
    item: Texts | Ints
    time: Ints | None
    first_line: int
    """Line of the first row."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ListColumn:
    """A column whose cells are lists: the words of all rows, and the row of each."""

    values: Texts
    row: Ints
    """Index of the row in the file, 0 for the first under the header."""


def read_log(path: Path | str, *, user: str | None = None, item: str | None = None, time: str | None = None) -> RawLog:
    """The events of a file, in file order.

    The form is found by the suffix and the first line. Columns are found by their usual names unless they are named;
    without a time column `time` is None. Times may be whole numbers, fractions (taken as microseconds then), or dates.

    Raises:
        DataError: the file cannot be read, has no such column, a ragged line, an empty id, or a time that is none.
    """
    log = _read(Path(path), user, item, time, ids_as_numbers=False)
    return RawLog(path=log.path, user=_as_text(log.user), item=_as_text(log.item), time=log.time)


def read_ids(path: Path | str, *, user: str | None = None, item: str | None = None, time: str | None = None) -> IdLog:
    """The same with ids as numbers where all of a column are plain ones, in a third of the memory."""
    return _read(Path(path), user, item, time, ids_as_numbers=True)


def _read(file: Path, user: str | None, item: str | None, time: str | None, *, ids_as_numbers: bool) -> IdLog:
    form = _form(file)
    if form is not None and not form.names:
        lines = _user_lines(file)
        return IdLog(path=file, user=lines.user, item=lines.item, time=None, first_line=1)
    names = column_names(file)
    owner = _pick(file, names, user, _USERS, "user") or ""
    thing = _pick(file, names, item, _ITEMS, "item") or ""
    moment = _pick(file, names, time, _TIMES, "time", needed=time is not None)
    numbers = {moment: False} | ({owner: True, thing: True} if ids_as_numbers else {})
    columns = _columns(file, form, [name for name in (owner, thing, moment) if name is not None], numbers=numbers)
    for name in (owner, thing):
        _refuse_empty(file, columns[name], name, form)
    held = None if moment is None else times_of(columns[moment], path=file, name=moment, first_line=_first(form))
    return IdLog(path=file, user=columns[owner], item=columns[thing], time=held, first_line=_first(form))


def read_columns(path: Path | str) -> Mapping[str, Texts]:
    """Every column as text, by its name; list columns flattened, empty cells as ``""``.

    A line per user gives ``user_id`` and ``item_id``. What holds no ids is left out: lists of numbers with a fraction,
    and columns of unquoted text with a cell of more than 256 bytes.
    """
    file = Path(path)
    form = _form(file)
    if form is not None and not form.names:
        log = _user_lines(file)
        return {"user_id": log.user, "item_id": log.item}
    found = {name: _as_text(values) for name, values in _columns(file, form, None).items()}
    return found | {name: lists.values for name, lists in read_lists(file).items()}


def read_lists(path: Path | str) -> Mapping[str, ListColumn]:
    """The list columns of a file with typed header (``item_id_list:token_seq``), words separated by blanks."""
    file = Path(path)
    form = _form(file)
    if form is None or not form.names:
        return {}
    names = [name for name, kind in zip(form.names, form.kinds, strict=False) if kind == "token_seq"]
    parts: dict[str, list[ListColumn]] = {name: [] for name in names}
    num_rows = 0
    for block in _row_blocks(file, form) if names else ():
        cells = dict(zip(form.names, split_block(block, list(form.names), form.separator), strict=True))
        for name in names:
            parts[name].append(_lists(cells[name], num_rows))
        num_rows += len(cells[form.names[0]].start)
    return {
        name: ListColumn(
            values=_joined([part.values for part in found]), row=np.concatenate([part.row for part in found])
        )
        for name, found in parts.items()
        if found
    }


def column_names(path: Path | str) -> tuple[str, ...]:
    """The names of the columns; empty for a line per user."""
    file = Path(path)
    form = _form(file)
    return parquet_names(file) if form is None else form.names


def _form(file: Path) -> _Form | None:
    """How to cut the file; None for Parquet."""
    if file.suffix.lower() in (".parquet", ".pq"):
        return None
    first = next(iter(_first_lines(file)), "")
    if not first.strip():
        msg = "its first line is empty, needed a header or a row"
        raise DataError(msg, path=file, line=1)
    cells = first.split("\t")
    typed = [cell.rpartition(":") for cell in cells]
    if all(name and kind in KINDS for name, _, kind in typed):
        return _checked(file, _Form(names=tuple(n for n, _, _ in typed), kinds=tuple(k for _, _, k in typed)))
    suffix = file.suffix.lower()
    if suffix == ".inter":
        msg = f"the header {first[:80]!r} is not typed, needed fields such as user_id:token, separated by tabs"
        raise DataError(msg, path=file, line=1)
    if suffix == ".data" and len(cells) == 4:
        return _Form(names=_UDATA, header=False)
    if suffix in (".csv", ".tsv"):
        separator = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)
        names = header_names(file, first, separator=separator)
        return _checked(file, _Form(names=names, separator=separator))
    return _Form(names=())


def _checked(file: Path, form: _Form) -> _Form:
    if len(set(form.names)) != len(form.names) or "" in form.names:
        msg = f"the header names the columns {', '.join(map(repr, form.names))}, needed each named once"
        raise DataError(msg, path=file, line=1)
    return form


def _first_lines(file: Path) -> Iterator[str]:
    for block in blocks(file, num_bytes=1 << 16):
        yield from block.data.tobytes().decode("utf-8").split("\n")


def _first(form: _Form | None) -> int:
    return 2 if form is None or form.header else 1


def _row_blocks(file: Path, form: _Form) -> Iterator[Block]:
    """The blocks of rows: those of the file without the header."""
    for block in blocks(file):
        if block.first_line == 1 and form.header:
            rest = block.data[int(np.argmax(block.data == ord("\n"))) + 1 :]
            if rest.size:
                yield Block(path=file, data=rest, first_line=2)
        else:
            yield block


def _pick(
    file: Path, names: Sequence[str], asked: str | None, usual: Sequence[str], role: str, *, needed: bool = True
) -> str | None:
    """The column of a role: the one that was asked for, else the first of the usual names."""
    if asked is not None:
        found = [name for name in names if name == asked]
    else:
        lower = {name.lower(): name for name in reversed(names)}
        found = [lower[name] for name in usual if name in lower]
    if found:
        return found[0]
    if needed:
        wanted = repr(asked) if asked is not None else f"one such as {usual[0]!r}"
        msg = f"has the columns {', '.join(names)}, needed a column of the {role}: {wanted}"
        raise DataError(msg, path=file, line=1, hint=f"name it with --{role}")
    return None


def _columns(
    file: Path, form: _Form | None, wanted: Sequence[str] | None, *, numbers: Mapping[str | None, bool] | None = None
) -> dict[str, Texts | Ints]:
    """The wanted columns (None: all that can be ids), as text; as numbers from Parquet, and where `numbers` has them.

    What `numbers` says of a column is whether its numbers must be plain to be taken as such.
    """
    numbers = numbers or {}
    if form is None:
        names = column_names(file) if wanted is None else wanted
        return parquet_columns(file, names)
    lists = {name for name, kind in zip(form.names, form.kinds, strict=False) if kind.endswith("_seq")}
    chosen = [name for name in form.names if name in wanted] if wanted is not None else list(form.names)
    chosen = [name for name in chosen if name not in lists]
    if not form.kinds and form.separator != "\t" and _is_quoted(file):
        return quoted_columns(file, chosen, separator=form.separator)
    parts: dict[str, list[Texts | Ints]] = {name: [] for name in chosen}
    for block in _row_blocks(file, form):
        cells = dict(zip(form.names, split_block(block, list(form.names), form.separator), strict=True))
        for name in list(parts):
            if wanted is None and _too_wide(cells[name]):
                del parts[name]
            else:
                whole = whole_numbers(cells[name], plain=numbers[name]) if name in numbers else None
                parts[name].append(texts(cells[name]) if whole is None else whole)
    if not any(parts.values()):
        msg = "holds a header but no row"
        raise DataError(msg, path=file, line=1)
    return {name: _joined(found) for name, found in parts.items()}


def _is_quoted(file: Path) -> bool:
    return any((block.data == ord('"')).any() for block in blocks(file))


def _too_wide(cells: Cells) -> bool:
    return int((cells.stop - cells.start).max(initial=0)) > WIDEST


def _joined(parts: Sequence[Any]) -> Any:
    """The parts of a column in one array; numbers only where all parts are."""
    if any(part.dtype.kind == "U" for part in parts):
        parts = [part if part.dtype.kind == "U" else part.astype(np.str_) for part in parts]
    return parts[0] if len(parts) == 1 else np.concatenate(list(parts))


def _as_text(column: Texts | Ints) -> Texts:
    return np.asarray(column, dtype=np.str_)


def _refuse_empty(file: Path, column: Texts | Ints, name: str, form: _Form | None) -> None:
    if column.dtype.kind != "U":
        return
    empty = np.asarray(column == "")
    if empty.any():
        msg = f"{name} is empty, needed an id"
        raise DataError(msg, path=file, line=_first(form) + int(np.argmax(empty)))


def _lists(cells: Cells, first_row: int) -> ListColumn:
    """The words of list cells; a word is what lies between blanks within one cell."""
    block = cells.block
    words, _ = split_words(block)
    row = np.searchsorted(cells.start, words.start, side="right") - 1
    inside = (row >= 0) & (words.stop <= cells.stop[np.maximum(row, 0)])
    kept = Cells(block=block, start=words.start[inside], stop=words.stop[inside])
    return ListColumn(values=texts(kept), row=first_row + row[inside])


def _user_lines(file: Path) -> RawLog:
    """``user item item ...``, one line a user in time order; or ``user item`` pairs, where users may come again."""
    users: list[Texts] = []
    items: list[Texts] = []
    owners: list[Texts] = []
    sizes: list[Ints] = []
    for block in blocks(file):
        words, row = split_words(block)
        size = np.bincount(row, minlength=int(np.count_nonzero(block.data == ord("\n"))))
        _refuse_short(block, size)
        heads = np.diff(row, prepend=-1) > 0
        found = texts(words)
        users.append(np.repeat(found[heads], size[size > 0] - 1))
        items.append(found[~heads])
        owners.append(found[heads])
        sizes.append(size)
    _refuse_repeated(file, _joined(owners), np.concatenate(sizes))
    return RawLog(path=file, user=_joined(users), item=_joined(items))


def _refuse_short(block: Block, size: Ints) -> None:
    num_lines = int(np.flatnonzero(size)[-1]) + 1 if size.any() else 0
    short = size[:num_lines] < 2
    if short.any():
        row = int(np.argmax(short))
        msg = f"found {size[row]} words, needed: user item item ..."
        raise DataError(msg, path=block.path, line=block.first_line + row)


def _refuse_repeated(file: Path, owners: Texts, size: Ints) -> None:
    """A user with a second line is wrong, unless all lines are pairs."""
    if (size[size > 0] == 2).all():
        return
    _, first, inverse = np.unique(owners, return_index=True, return_inverse=True)
    again = first[inverse] != np.arange(len(owners))
    if again.any():
        row = int(np.argmax(again))
        before = int(first[inverse[row]])
        msg = f"user {str(owners[row])!r} had a line already (line {before + 1}), needed one line per user"
        raise DataError(msg, path=file, line=row + 1)
