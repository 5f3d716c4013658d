"""`read_mapping`: an id map from a file of any usual kind, with everything kept that a map should not hold.

A raw id that occurs twice, an index that is no whole number and a hole are all still there afterwards: the reader
finds no fault, `rectest.checks.mapping` does. JSON is read by `maps_json.py`, columns and lines by `maps_columns.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rectest.checks.mapping_entries import Entries
from rectest.checks.mapping_ids import RawIds
from rectest.errors import DataError

__all__ = ["RawMapping", "read_mapping"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RawMapping:
    """The entries of one map in the order of its file."""

    path: Path
    entries: Entries
    layout: str
    """What the file was found to be, e.g. ``JSON object of indices`` or ``columns asin, index``."""

    @property
    def num_entries(self) -> int:
        """Entries, repeated ones counted as often as they stand there."""
        return len(self.entries)

    @property
    def index(self) -> npt.NDArray[np.int64]:
        """Index of each entry in file order; `NO_INDEX` where it is no whole number."""
        return self.entries.index

    def find(self, raw_ids: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
        """The index of each raw id, by the last entry that has it; -1 where it is absent or has no index."""
        return self.entries.find(RawIds.from_array(np.asarray(raw_ids, dtype=np.str_).reshape(-1)))


def read_mapping(path: str | Path, *, key: str | None = None, index: str | None = None) -> RawMapping:
    """The id map of a file: ``.json``, ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``, or lines of text.

    JSON may be an object of indices, an object from indices to raw ids, or a list of raw ids; columns are found by
    name, else the one that counts is the index; text of one id a line has its line numbers, from 0, as indices.

    Args:
        path: the file.
        key: the field of nested JSON that holds the map, or the column of raw ids.
        index: the column of indices.

    Raises:
        DataError: the file cannot be read, is not of its kind, is empty, or leaves open which of its fields is meant.
    """
    from rectest.audits.maps_columns import read_lines, read_parquet, read_table
    from rectest.audits.maps_json import read_json

    path = Path(path)
    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            entries, layout = read_parquet(path, raw=key, index=index)
        elif kind in (".jsonl", ".ndjson"):
            entries, layout = read_lines(path, raw=key, index=index)
        elif kind == ".json":
            entries, layout = read_json(path, key=key)
        else:
            entries, layout = read_table(path, raw=key, index=index)
    except OSError as error:
        msg = f"cannot be read: {error.strerror or error}"
        raise DataError(msg, path=path) from error
    if not len(entries):
        raise DataError("the map is empty", path=path, hint="name a file that holds at least one raw id")
    return RawMapping(path=path, entries=entries, layout=layout)
