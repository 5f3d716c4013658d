"""The join of a log, a map and rows: sequences in time, unknown items, other orders of the ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rectest.audits.maps import read_mapping
from rectest.audits.table_items import item_orders, join_items
from rectest.data.rawlog import RawLog
from rectest.errors import DataError


def _log(user: list[str], item: list[str], time: list[int] | None = None) -> RawLog:
    times = None if time is None else np.array(time)
    return RawLog(path=Path("log.csv"), user=np.array(user), item=np.array(item), time=times)


def _map(tmp_path: Path, entries: dict[str, int]):
    (tmp_path / "map.json").write_text(json.dumps(entries))
    return read_mapping(tmp_path / "map.json")


def test_sequences_are_in_the_order_of_time(tmp_path: Path) -> None:
    mapping = _map(tmp_path, {"a": 1, "b": 2, "c": 3})
    log = _log(["u", "v", "u", "v"], ["a", "c", "b", "a"], [9, 1, 2, 1])

    items = join_items(log, 4, dim=8, mapping=mapping)

    assert [[2, 1], [3, 1]] == items.pairs.tolist(), "u had b before a; v's tie stays in the order of the file"
    assert [0, 2, 1, 1] == items.popularity(4).tolist()
    assert [0, 2, 1] == items.first.tolist()


def test_unknown_items_have_no_row_and_no_pair(tmp_path: Path) -> None:
    mapping = _map(tmp_path, {"a": 1, "b": 7})

    items = join_items(_log(["u"] * 3, ["a", "x", "b"]), 4, dim=8, mapping=mapping)

    assert [1, -1, -1] == items.row[np.argsort(items.raws)].tolist(), "b's index is outside of the table"
    assert items.pairs.size == 0
    assert items.num_events == 3


def test_without_a_map_items_are_row_numbers() -> None:
    assert [3, 10] == join_items(_log(["u", "u"], ["10", "3"]), 11, dim=8).row[[1, 0]].tolist()
    for odd in ("x", "-1", "1.5"):
        with pytest.raises(DataError, match="is no row number"):
            join_items(_log(["u", "u"], ["10", odd]), 11, dim=8)


def test_other_orders_start_at_the_first_row_and_leave_out_the_own_one(tmp_path: Path) -> None:
    mapping = _map(tmp_path, {"30": 1, "4": 2, "100": 3})
    items = join_items(_log(["u"] * 4, ["4", "4", "100", "30"]), 4, dim=8, mapping=mapping)

    orders = {name: rows.tolist() for name, rows in item_orders(4, items, mapping).items()}

    assert orders == {
        "the sorted ids of the map": [-1, 2, 3, 1],
        "the ids of the map as numbers": [-1, 2, 1, 3],
        "the numbers that are the ids of the map": [-1, 30, 4, 100],
        "popularity, most events first": [-1, 3, 1, 2],
        "the first events of the items": [-1, 3, 1, 2],
    }


def test_no_item_of_the_map_gives_no_order(tmp_path: Path) -> None:
    mapping = _map(tmp_path, {"a": 1})

    assert item_orders(2, join_items(_log(["u"], ["x"]), 2, dim=8, mapping=mapping), mapping) == {}
