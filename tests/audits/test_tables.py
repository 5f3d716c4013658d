"""Tables of every format are opened, read in chunks and by row, and what is no table is refused in one line."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from rectest.audits.tables import OpenTable, open_table, table_names
from rectest.checks.rowsource import RowSource
from rectest.errors import DataError

TABLE = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def _rows(table: OpenTable, num_rows: int = 7) -> np.ndarray:
    """The whole table, from chunks."""
    found = np.full(table.shape, np.nan, table.dtype)
    for first, chunk in table.chunks(num_rows):
        assert chunk.flags.c_contiguous
        found[first : first + len(chunk)] = chunk
    return found


def _save(path: Path, array: np.ndarray, version: tuple[int, int] | None = None) -> Path:
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, version=version)
    return path


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_npy_of_every_header_order_and_type(tmp_path: Path, version: tuple[int, int], order: str, dtype: str) -> None:
    stored = np.asarray(TABLE.astype(dtype), order=order)
    with open_table(_save(tmp_path / "items.npy", stored, version)) as table:
        obtained = _rows(table)

        assert isinstance(table, RowSource)
        assert ("items", (50, 6), "=") == (table.name, table.shape, table.dtype.byteorder)
        np.testing.assert_array_equal(stored.astype(stored.dtype.newbyteorder("=")), obtained)
        np.testing.assert_array_equal(obtained[[49, 0, 1, 2, 1]], table.take(np.array([49, 0, 1, 2, 1])))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 49), st.integers(0, 60))
def test_any_range_in_any_chunks(tmp_path_factory, cut: int, num_rows: int, start: int, length: int) -> None:
    folder = tmp_path_factory.mktemp("parts")
    bounds = [0, min(cut, 49), 50]
    for part, (low, high) in enumerate(pairwise(bounds)):
        np.save(folder / f"part-{part}.npy", TABLE[low:high])
    table = open_table(folder)

    pieces = [(first, rows.copy()) for first, rows in table.chunks(num_rows, start=start, stop=start + length)]

    expected = TABLE[start : start + length]
    assert [start + i * num_rows for i in range(len(pieces))] == [first for first, _ in pieces]
    np.testing.assert_array_equal(expected, np.concatenate([expected[:0], *(rows for _, rows in pieces)]))


def test_safetensors_by_name(tmp_path: Path) -> None:
    users = TABLE[:9].astype(np.float16)
    save_file(
        {"item": TABLE, "user": users, "bias": TABLE[0], "ids": np.arange(6).reshape(2, 3)}, tmp_path / "m.safetensors"
    )

    assert {"item", "user"} == set(table_names(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(TABLE, _rows(open_table(tmp_path / "m.safetensors", name="item")))
    np.testing.assert_array_equal(users, _rows(open_table(tmp_path / "m.safetensors", name="user")))
    with pytest.raises(DataError, match=r"2 tensors are tables; name one of .*item float32 \[50, 6\]"):
        open_table(tmp_path / "m.safetensors")
    with pytest.raises(DataError, match=r"no tensor is named 'itme'; it holds .*bias float32 \[6\]"):
        open_table(tmp_path / "m.safetensors", name="itme")
    with pytest.raises(DataError, match="no floating-point table"):
        open_table(tmp_path / "m.safetensors", name="ids")


def test_bfloat16_becomes_float32_and_says_so(tmp_path: Path) -> None:
    upper = (TABLE.view(np.uint32) >> 16).astype("<u2")
    header = {"item": {"dtype": "BF16", "shape": [50, 6], "data_offsets": [0, upper.nbytes]}}
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + upper.tobytes())

    table = open_table(tmp_path / "m.safetensors")

    assert ("bfloat16", np.dtype(np.float32), 7) == (table.stored, table.dtype, table.mantissa_bits)
    np.testing.assert_array_equal((upper.astype(np.uint32) << 16).view(np.float32), _rows(table))


def test_parts_come_in_natural_order(tmp_path: Path) -> None:
    for number in range(1, 13):
        np.save(tmp_path / f"item-{number}.npy", TABLE[4 * (number - 1) : 4 * number])
    paths = sorted(tmp_path.glob("*.npy"))

    np.testing.assert_array_equal(TABLE[:48], _rows(open_table(tmp_path)))
    np.testing.assert_array_equal(TABLE[:48], _rows(open_table(paths)))
    np.testing.assert_array_equal(TABLE[[3, 4, 47, 46]], open_table(paths).take(np.array([3, 4, 47, 46])))


def test_one_of_several_files_names_the_others(tmp_path: Path) -> None:
    names = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    for number, name in enumerate(names):
        save_file({"item": TABLE[20 * number : 20 * number + 20]}, tmp_path / name)

    np.testing.assert_array_equal(TABLE, _rows(open_table(tmp_path / names[1])))
    np.testing.assert_array_equal(TABLE[20:40], _rows(open_table([tmp_path / names[1]])))

    (tmp_path / names[2]).unlink()
    with pytest.raises(DataError, match="1 of 3 parts are missing, the first is model-00003-of-00003"):
        open_table(tmp_path / names[0])


def test_an_index_leads_to_a_tensor_that_lies_in_one_file(tmp_path: Path) -> None:
    save_file({"item": TABLE}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"tower": TABLE[:3]}, tmp_path / "model-00002-of-00002.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    files = {"item": "model-00001-of-00002.safetensors", "tower": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": files}))

    for path in (index, tmp_path):
        np.testing.assert_array_equal(TABLE, _rows(open_table(path, name="item")))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../b.npy"}}', "\0"])
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.index.json").write_text(text)

    with pytest.raises(DataError, match="weight_map"):
        open_table(tmp_path / "m.index.json")


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a0.npy", TABLE)
    np.save(tmp_path / "a1.npy", TABLE[:, :5])
    with pytest.raises(DataError, match=r"\[50, 5\] does not continue"):
        open_table(tmp_path)
    np.save(tmp_path / "a1.npy", TABLE.astype(np.float64))
    with pytest.raises(DataError, match=r"float64 .* does not continue"):
        open_table(tmp_path)


def test_folders_that_hold_no_series_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        open_table(tmp_path)
    np.save(tmp_path / "item-0.npy", TABLE)
    np.save(tmp_path / "item-2.npy", TABLE)
    with pytest.raises(DataError, match=r"item-2.npy: part 1 is missing"):
        open_table(tmp_path)
    np.save(tmp_path / "user-0.npy", TABLE)
    with pytest.raises(DataError, match=r"found item-#.npy, user-#.npy"):
        open_table(tmp_path)


def test_a_distributed_checkpoint_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(b"\x80\x02}.")
    (tmp_path / "__0_0.distcp").write_bytes(b"x")

    with pytest.raises(DataError, match="format_utils dcp_to_torch"):
        open_table(tmp_path)


def test_a_tensor_that_a_part_lacks_is_refused(tmp_path: Path) -> None:
    for number, held in enumerate([{"item": TABLE}, {"item": TABLE}, {"user": TABLE}]):
        save_file(held, tmp_path / f"m{number}.safetensors")

    with pytest.raises(DataError, match=r"m2.safetensors: tensor 'item' is in 2 of 3 parts"):
        open_table(tmp_path, name="item")


@pytest.mark.parametrize(
    "array",
    [TABLE[0], np.zeros((3, 2), int), TABLE[:0], TABLE[:, :0], TABLE[None], np.zeros((2, 2), complex)],
    ids=["1-D", "integer", "no rows", "no columns", "3-D", "complex"],
)
def test_arrays_that_are_no_table_are_refused_with_what_they_are(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)

    with pytest.raises(DataError, match=rf"no floating-point table.*{array.dtype}"):
        open_table(tmp_path / "x.npy")


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(DataError, match="never loaded"):
        open_table(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, TABLE)
    else:
        save_file({"item": TABLE}, path)
    whole = path.read_bytes()

    for size in [*range(140), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            open_table(path)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([".npy", ".safetensors", ".pt", ".ckpt"]), st.binary(max_size=80), st.booleans())
def test_rubbish_is_refused(tmp_path_factory, suffix: str, content: bytes, headed: bool) -> None:
    start = {".npy": b"\x93NUMPY", ".safetensors": b"\x20" + bytes(7) + b"{", ".pt": b"PK\x03\x04"}.get(suffix, b"\x80")
    path = tmp_path_factory.mktemp("rubbish") / f"x{suffix}"
    path.write_bytes(start + content if headed else content)

    with pytest.raises(DataError):
        open_table(path)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no such file"):
        open_table(tmp_path / "absent.npy")
    with pytest.raises(DataError, match="no file was given"):
        open_table([])
    with pytest.raises(DataError, match=r"\.parquet is no table; known are \.npy"):
        open_table(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="it is a folder"):
        open_table([tmp_path])


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TABLE)
    table = open_table(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:300])

    with pytest.raises(DataError, match="ended while it was read"):
        _rows(table)


def test_rows_outside_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TABLE)

    with pytest.raises(IndexError, match="table of 50 rows"):
        open_table(tmp_path / "x.npy").take(np.array([50]))
