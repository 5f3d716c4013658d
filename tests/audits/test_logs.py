"""Reading logs: every form, the columns that are meant, and the line of whatever is wrong."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.audits import log_cells
from rectest.audits.logs import column_names, read_columns, read_ids, read_lists, read_log
from rectest.data.readers import read_inter, read_user_lines
from rectest.errors import DataError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\tA\t4\t100\nu2\tB\t3\t200\nu1\tB\t5\t150\n"


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(log):
    times = [None] * len(log) if log.time is None else log.time.tolist()
    return list(zip(log.user.tolist(), log.item.tolist(), times, strict=True))


EXPECTED = [("u1", "A", 100), ("u2", "B", 200), ("u1", "B", 150)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.inter", INTER),
        ("a.inter", INTER.replace("\n", "\r\n")),
        ("a.inter", "\ufeff" + INTER),
        ("a.inter", INTER.removesuffix("\n")),
        ("a.inter", INTER + "\n\n"),
        ("a.csv", "userId,movieId,timestamp\nu1,A,100\nu2,B,200\nu1,B,150\n"),
        ("a.csv", "time;item;user\n100;A;u1\n200;B;u2\n150;B;u1\n"),
        ("a.csv", 'user_id,item_id,title,timestamp\nu1,A,"x, y",100\nu2,B,"a\nb",200\nu1,B,"""",150\n'),
        ("a.csv", '"user","item","a,b",time\nu1,A,x,100\nu2,B,x,200\nu1,B,x,150\n'),
        ("a.tsv", "user\titem\ttime\nu1\tA\t100.0\nu2\tB\t200.0\nu1\tB\t150.0\n"),
        ("u.data", "u1\tA\t5\t100\nu2\tB\t5\t200\nu1\tB\t5\t150\n"),
    ],
)
def test_every_form_gives_the_same_events(tmp_path, name, text):
    """Typed headers, CSV with quotes or semicolons, TSV, MovieLens."""
    assert rows(read_log(write(tmp_path / name, text))) == EXPECTED


def test_a_line_for_each_user_has_no_times(tmp_path):
    """And users keep the order of their lines; pairs may repeat a user."""
    lines = read_log(write(tmp_path / "a.txt", "u1 A B A\nu2 B\n"))
    pairs = read_log(write(tmp_path / "b.txt", "u1 A\nu2 B\nu1 B\n"))

    assert [("u1", "A", None), ("u1", "B", None), ("u1", "A", None), ("u2", "B", None)] == rows(lines)
    assert [("u1", "A", None), ("u2", "B", None), ("u1", "B", None)] == rows(pairs)


def test_columns_are_named(tmp_path):
    """What was asked for wins over the usual names."""
    path = write(tmp_path / "a.csv", "user_id,who,item_id,what,when\n1,u1,9,A,2014-05-03\n1,u2,9,B,2014-05-04\n")

    assert [("u1", "A", 1399075200), ("u2", "B", 1399161600)] == rows(
        read_log(path, user="who", item="what", time="when")
    )


def test_fractions_of_seconds_become_millionths(tmp_path):
    """All of them, also the whole ones."""
    path = write(tmp_path / "a.csv", "user,item,time\n1,2,1.5\n1,3,2\n")

    assert [1_500_000, 2_000_000] == read_log(path).time.tolist()


def test_blocks_are_put_together(tmp_path, monkeypatch):
    """A file of many blocks is the same as one of one block, with text that is not ASCII in one of them."""
    text = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(
        f"u{row}\t{'é' if row == 70 else 'i'}{row % 7}\t{row}{'.0' if row == 90 else ''}\n" for row in range(100)
    )
    path = write(tmp_path / "a.inter", text)
    whole = read_log(path)
    monkeypatch.setattr(log_cells.blocks, "__kwdefaults__", {"num_bytes": 64})

    assert rows(whole) == rows(read_log(path))
    assert rows(whole)[70] == ("u70", "é0", 70)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(alphabet="abcé7", min_size=1, max_size=4),
            st.text(alphabet="xyz0", min_size=1, max_size=3),
            st.integers(-(2**50), 2**50),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_it_agrees_with_the_reader_of_worlds(tmp_path_factory, events):
    """Two implementations of the typed format."""
    text = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(f"{u}\t{i}\t{t}\n" for u, i, t in events)
    path = write(tmp_path_factory.mktemp("log") / "a.inter", text)

    assert rows(read_inter(path)) == rows(read_log(path)) == events


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.text(alphabet="ab0", min_size=1, max_size=3), min_size=1, max_size=5), min_size=1, max_size=6)
)
def test_user_lines_agree_with_the_reader_of_worlds(tmp_path_factory, histories):
    """Two implementations of a line for each user."""
    text = "".join(f"u{number} {' '.join(items)}\n" for number, items in enumerate(histories))
    path = write(tmp_path_factory.mktemp("log") / "a.txt", text)

    assert rows(read_user_lines(path)) == rows(read_log(path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.inter", "", "is empty"),
        ("a.inter", "\n\n", "its first line is empty"),
        ("a.csv", "user,item,time\n1,2,2014-05-03\n1,2,7\n", "line 3: time is '7'"),
        ("a.csv", "user,item,time\n1,2,2014-05-03\n1,2,2014-55-03\n", "line 3: time is '2014-55-03'"),
        ("a.inter", "user_id\titem_id\n1\t2\n", "line 1: the header .* is not typed"),
        ("a.inter", "user_id:token\titem_id:token\n", "line 1: holds a header but no row"),
        ("a.inter", INTER + "u3\tC\n", "line 5: found 2 cells .*needed 4"),
        ("a.inter", INTER + "u3\tC\t1\t2\t3\nu3\tC\t1\t2\n", "line 5: found 5 cells"),
        ("a.inter", INTER + "\tC\t1\t2\n", "line 5: user_id is empty"),
        ("a.inter", INTER + "u3\tC\t1\tsoon\n", "line 5: timestamp is 'soon'"),
        ("a.inter", INTER + "u3\tC\t1\tnan\n", "line 5: timestamp is 'nan'"),
        ("a.inter", INTER + "u3\tC\t1\t1e300\n", "line 5: timestamp is '1e300'"),
        ("a.inter", INTER + "u3\tC\t1\t\n", "line 5: timestamp is ''"),
        ("a.inter", "item_id:token\tb:token\n1\t2\n", "needed a column of the user.*--user"),
        ("a.inter", "user_id:token\tuser_id:token\n1\t2\n", "line 1: the header names"),
        ("a.inter", b"user_id:token\titem_id:token\n\xff\t2\n", "line 2: byte 0xff is not UTF-8"),
        ("a.inter", b"user_id:token\titem_id:token\n1\t\x00\n", "line 2: holds a NUL byte"),
        ("a.csv", "user,item\n1,2,3\n", "line 2: found 3 cells"),
        ("a.csv", 'user,item\n1,"2\n', "line 2: is no CSV file"),
        ("a.csv", 'user,item\n"1",2,3\n', "line 2: found 3 cells"),
        ("a.csv", 'user,item,"t\nu",time\n1,2,3,4\n', "line 1: "),
        ("a.txt", "u1 A\nu2\n", "line 2: found 1 words"),
        ("a.txt", "u1 A\n\nu2 B\n", "line 2: found 0 words"),
        ("a.txt", "u1 A B\nu2 A\nu1 B\n", "line 3: user 'u1' had a line already .line 1"),
        ("a.csv", f"user,item\n1,{'x' * 300}\n", "a cell of 300 bytes"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, name, text, message):
    """Empty, ragged, cut, binary, without ids or times."""
    with pytest.raises(DataError, match=message):
        read_log(write(tmp_path / name, text))


def test_a_column_that_is_not_there_is_refused(tmp_path):
    """A time that was asked for, a folder, a file that does not exist."""
    path = write(tmp_path / "a.csv", "user,item\n1,2\n")
    with pytest.raises(DataError, match="needed a column of the time: 'when'"):
        read_log(path, time="when")
    with pytest.raises(DataError, match="cannot be read"):
        read_log(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_log(tmp_path / "none.inter")


def test_all_columns_and_lists(tmp_path):
    """Lists are flattened, empty ones have no words, and long texts are left out."""
    text = (
        "user_id:token\titem_id:token\titem_id_list:token_seq\tabout:token\n"
        f"u1\tA\tB C\tx\nu2\tB\t\t{'y' * 300}\nu3\tC\tA\t\n"
    )
    path = write(tmp_path / "a.inter", text)
    columns, lists = read_columns(path), read_lists(path)

    assert {"user_id", "item_id", "item_id_list"} == set(columns)
    assert ["B", "C", "A"] == columns["item_id_list"].tolist()
    assert [0, 0, 2] == lists["item_id_list"].row.tolist()
    assert ("user_id", "item_id", "item_id_list", "about") == column_names(path)


@pytest.mark.parametrize(("cells", "kind"), [(("7", "10"), "i"), (("07", "10"), "U"), (("7", "x"), "U")])
def test_ids_are_numbers_where_all_are_plain(tmp_path, cells, kind):
    """A leading zero, or a letter, and the column is text."""
    log = read_ids(write(tmp_path / "a.csv", f"user,item\n{cells[0]},A\n{cells[1]},B\n"))

    assert kind == log.user.dtype.kind
    assert list(cells) == log.user.astype(str).tolist()
    assert log.first_line == 2


def test_parquet_without_a_reader_names_the_extra(tmp_path, monkeypatch):
    """Neither pyarrow nor polars is there."""
    for module in ("pyarrow", "pyarrow.parquet", "polars"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"Parquet needs pyarrow; install it with: pip install 'rectest\[parquet\]'"):
        read_log(write(tmp_path / "a.parquet", b"PAR1"))


class _Column(list):
    null_count = 0

    def to_numpy(self):
        return np.array(self)


def _planted(monkeypatch, columns):
    """A pyarrow that has these columns in every file."""
    parquet = types.ModuleType("pyarrow.parquet")
    planted = {name: _Column(values) for name, values in columns.items()}
    table = types.SimpleNamespace(names=list(columns), column=planted.__getitem__)
    parquet.read_schema = lambda *_, **__: table
    parquet.read_table = lambda *_, **__: table
    monkeypatch.setitem(sys.modules, "pyarrow", types.ModuleType("pyarrow"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)


def test_parquet_is_read_by_what_is_there(tmp_path, monkeypatch):
    """Columns of numbers become text ids and whole times."""
    _planted(monkeypatch, {"user": [1, 2], "item": ["A", "B"], "time": [10, 20]})

    assert [("1", "A", 10), ("2", "B", 20)] == rows(read_log(write(tmp_path / "a.parquet", b"PAR1")))


def test_damaged_parquet_is_one_line(tmp_path, monkeypatch):
    """What the reader raises, and a file that is not there."""
    _planted(monkeypatch, {"user": [1], "item": [2]})

    def damaged(file):
        msg = "not a parquet file\nbecause"
        raise OSError(msg)

    sys.modules["pyarrow.parquet"].read_schema = damaged
    with pytest.raises(DataError, match=r"cannot be read as Parquet \(not a parquet file\)$"):
        read_log(write(tmp_path / "a.parquet", b"x"))
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "none.parquet")
