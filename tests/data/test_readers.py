"""Readers: what each format means, and a path, a line and a need for everything that can be wrong with a file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.data.readers import (
    index_log,
    read_behaviour_rows,
    read_inter,
    read_pairs,
    read_udata,
    read_user_lines,
)
from rectest.errors import DataError

FILES = Path(__file__).parents[2] / "fixtures" / "files"
HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="log.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def test_inter_by_hand():
    raw = read_inter(FILES / "small.inter")

    assert raw.user.tolist() == ["u7", "u2", "u7"]
    assert raw.item.tolist() == ["B00A", "B00B", "B00B"]
    assert raw.rating.tolist() == [4.5, 3.0, 1.0]
    assert raw.time.tolist() == [881250949, 881250950, 881250951]


def test_udata_by_hand():
    raw = read_udata(FILES / "u.data")

    assert raw.user.tolist() == ["96", "86", "22"]
    assert raw.item.tolist() == ["42", "32", "77"]
    assert raw.rating.tolist() == [3.0, 3.0, 1.0]


def test_user_lines_by_hand():
    raw = read_user_lines(FILES / "users.txt")

    assert raw.user.tolist() == ["A1", "A1", "A1", "A2", "A2"]
    assert raw.item.tolist() == ["B7", "B3", "B7", "B3", "B1"]
    assert raw.time is None


def test_pairs_by_hand():
    world = index_log(read_pairs(FILES / "pairs.txt"))

    assert [items.tolist() for items in world.interactions.sequences()] == [[1, 2], [3, 1]]
    assert world.items.raws == ("3", "9", "20")


def test_behaviour_rows_by_hand():
    world = index_log(read_behaviour_rows(FILES / "behaviours.txt"), behaviours=("pv", "cart", "buy"))

    assert world.interactions.behaviour.tolist() == [1, 3, 2]
    assert world.behaviours.raws == ("pv", "cart", "buy")
    with pytest.raises(DataError, match="unknown raw id 'cart'"):
        index_log(read_behaviour_rows(FILES / "behaviours.txt"), behaviours=("pv", "buy"))


def test_inter_columns_may_be_reordered_absent_or_extra(write):
    path = write("item_id:token\tnote:token_seq\tuser_id:token\nx\tany thing\tu\n")
    raw = read_inter(path)

    assert (raw.user.tolist(), raw.item.tolist(), raw.rating, raw.time) == (["u"], ["x"], None, None)


def test_byte_order_mark_crlf_and_missing_last_newline_do_not_matter(write):
    plain = read_udata(write("1\t2\t3\t4\n5\t6\t4\t8\n", "a"))
    odd = read_udata(write("\ufeff1\t2\t3\t4\r\n5\t6\t4\t8", "b"))

    assert plain.user.tolist() == odd.user.tolist()
    assert plain.time.tolist() == odd.time.tolist()


def test_index_log_by_hand():
    world = index_log(read_inter(FILES / "small.inter"), name="small", item_order="popularity")

    assert world.name == "small"
    assert world.users.raws == ("u2", "u7")
    assert world.items.raws == ("B00B", "B00A")
    assert world.interactions.user.tolist() == [1, 0, 1]
    assert world.interactions.item.tolist() == [2, 1, 1]
    assert world.source.endswith("small.inter")


def test_select_filters_raw_rows():
    raw = read_inter(FILES / "small.inter")

    assert raw.select(raw.rating >= 3).item.tolist() == ["B00A", "B00B"]
    with pytest.raises(DataError, match=r"small\.inter: no events to index"):
        index_log(raw.select(raw.rating > 9))


@pytest.mark.parametrize(
    ("reader", "content", "line", "problem"),
    [
        (read_udata, "", None, "is empty, needed at least one row"),
        (read_udata, "\n\n", None, "is empty"),
        (read_udata, "1\t2\t3\t4\n5\t6\t7", 2, r"found 3 cells \(the last line: is the file truncated\?\), needed 4"),
        (read_udata, "1\t2\t3\n5\t6\t7\t8\n", 1, "found 3 cells, needed 4: user, item, rating, timestamp"),
        (read_udata, "1\t2\t3\t4\n\n5\t6\t7\t8\n", 2, "found 1 cells"),
        (read_udata, "1\t2\t3\t4\n1\t\t3\t4\n1\t2\t3\t4\n", 2, "found an empty cell, needed 4"),
        (read_udata, "1\tx\t3\t4\n", 1, "item is 'x', needed a finite number"),
        (read_udata, "1\t2\tnan\t4\n", 1, "rating is 'nan', needed a finite number"),
        (read_udata, "1\t2\t3\t4\n1\t2\t3\t4.5\n", 2, r"timestamp is '4\.5', needed a whole number"),
        (read_udata, "1\t2\t3\t4\n1\t2\t3\tsoon\n", 2, "timestamp is 'soon'"),
        (read_udata, b"1\t2\t3\t4\n1\t2\xff\t3\t4\n", 2, "byte 0xff is not UTF-8"),
        (read_udata, b"1\t2\t3\t4\nPK\x03\x00\n", 2, "NUL byte"),
        (read_inter, "user_id\titem_id:token\nu\ti\n", 1, "'user_id' has no type, needed name:type"),
        (read_inter, "user_id:int\titem_id:token\nu\ti\n", 1, "has type 'int', needed name:type with a type of token"),
        (read_inter, "user_id:float\titem_id:token\nu\ti\n", 1, "'user_id' has type 'float', needed 'token'"),
        (read_inter, "user_id:token\trating:float\nu\t1\n", 1, "among them user_id, item_id"),
        (read_inter, "user_id:token\titem_id:token\titem_id:token\n1\t2\t3\n", 1, "needed each once"),
        (read_inter, HEADER, 1, "holds a header but no row"),
        (read_inter, HEADER + "u\ti\t1\t2\nu\ti\tNaN\t2\n", 3, "rating is 'NaN'"),
        (read_inter, HEADER + "u\ti\t1\t2\nu\ti\n", 3, "found 2 cells"),
        (read_user_lines, "A1 B1\nA2\n", 2, "found 'A2' and no item"),
        (read_user_lines, "A1 B1\n\nA2 B1\n", 2, "found '' and no item"),
        (read_user_lines, "A1 B1\nA2 B1\nA1 B2\n", 3, r"'A1' had a line already \(line 1\)"),
        (read_pairs, "1 2\n3 4 5\n", 2, "found 3 cells"),
        (read_pairs, "1 2\n3 b\n", 2, "item is 'b'"),
        (read_behaviour_rows, "1 2 buy now\n", 1, "time is 'now'"),
    ],
)
def test_bad_files_are_refused_with_their_line(write, reader, content, line, problem):
    path = write(content)
    with pytest.raises(DataError, match=problem) as caught:
        reader(path)

    assert caught.value.path == path
    assert caught.value.line == line
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_udata(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read"):
        read_udata(tmp_path)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 5), st.integers(0, 2**40)), min_size=1)
)
def test_written_rows_are_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "u.data"
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    raw = read_udata(path)
    world = index_log(raw)
    log = world.interactions

    obtained = zip(world.users.decode(log.user), world.items.decode(log.item), log.rating, log.time, strict=True)
    assert rows == [(int(user), int(item), int(rating), int(moment)) for user, item, rating, moment in obtained]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_junk_is_a_data_error_or_a_log(tmp_path_factory, junk):
    path = tmp_path_factory.mktemp("junk") / "junk"
    path.write_bytes(junk)
    for reader in (read_inter, read_udata, read_user_lines, read_pairs, read_behaviour_rows):
        try:
            world = index_log(reader(path))
        except DataError:
            continue
        assert len(world.interactions) > 0


def test_a_hundred_thousand_rows_take_no_time(write):
    numbers = np.random.default_rng(0).integers(1, 2000, size=(100_000, 4))
    path = write(HEADER + "".join(f"{a}\t{b}\t{c % 5 + 1}\t{d}\n" for a, b, c, d in numbers.tolist()))
    start = time.perf_counter()
    world = index_log(read_inter(path))

    assert time.perf_counter() - start < 5
    assert len(world.interactions) == 100_000
