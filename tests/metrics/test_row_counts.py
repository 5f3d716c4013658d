"""The compiled count by itself: it is there where it can be built, and nothing leads it outside of an array."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rectest.metrics import counting

MOST_AT_ONCE = 1 << 20
"""So many scores of a row are added up before 32 bits are emptied (`_row_counts.c`)."""

RANK = """
import sys
sys.modules["rectest.metrics._row_counts"] = None
import numpy as np
from rectest.metrics import counting, rank_targets
print(counting.count_rows, rank_targets(np.array([[0, 3.0, 1, 2]]), [[3]]).optimistic.tolist())
"""


def test_built_wherever_it_can_be() -> None:
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if shutil.which(compiler) is None or not headers.exists() or sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("no C compiler, no Python.h, or no stable ABI; ranks are counted in NumPy")

    assert counting.count_rows is not None, "not built, or by another Python: pip install -e . builds it"


def test_ranks_the_same_where_it_was_not_built() -> None:
    done = subprocess.run([sys.executable, "-c", RANK], capture_output=True, text=True, check=True)

    assert done.stdout == "None [2]\n"


@pytest.fixture
def count_rows() -> Any:
    if counting.count_rows is None:
        pytest.skip("the compiled count was not built")
    return counting.count_rows


def _arrays(num_rows: int = 3, width: int = 5) -> dict[str, Any]:
    return {
        "scores": np.arange(num_rows * width, dtype=np.float32).reshape(num_rows, width),
        "row": np.arange(num_rows),
        "column": np.full(num_rows, 1),
        "out": np.full((2, num_rows), -1),
        "first_column": 0,
    }


def test_counts_by_hand(count_rows: Any) -> None:
    given = _arrays()

    assert count_rows(*given.values()) == 0
    assert given["out"].tolist() == [[3, 3, 3], [4, 4, 4]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beyond", [-1, 0, 1, MOST_AT_ONCE + 3])
def test_rows_longer_than_what_is_added_up_at_once(count_rows: Any, dtype: Any, beyond: int) -> None:
    width = MOST_AT_ONCE + beyond
    scores = np.zeros((2, width), dtype=dtype)
    scores[:, [0, 1, -2]] = 1
    scores[0, -1] = scores[1, 0] = np.nan
    out = np.empty((2, 2), dtype=np.int64)

    assert count_rows(scores, np.array([0, 0]), np.array([5, 1]), out, 1) == 1
    assert out.tolist() == [[2, 0], [width - 2, 2]]


def test_scores_and_targets_may_be_read_only(count_rows: Any) -> None:
    given = _arrays()
    for name in ("scores", "row", "column"):
        given[name].setflags(write=False)

    assert count_rows(*given.values()) == 0


def test_the_largest_numbers_are_finite(count_rows: Any) -> None:
    for dtype in (np.float32, np.float64):
        largest = np.full((3, 5), np.finfo(dtype).max, dtype)

        assert count_rows(*(_arrays() | {"scores": largest}).values()) == 0
        assert count_rows(*(_arrays() | {"scores": np.full((3, 5), -np.inf, dtype)}).values()) == 15


def test_columns_that_the_counts_are_written_over_lead_nowhere(count_rows: Any) -> None:
    shared = np.zeros(8, dtype=np.int64)
    out = np.lib.stride_tricks.as_strided(shared, (2, 2), (32, 8))
    scores = np.zeros((1, 1000), dtype=np.float32)

    with pytest.raises(ValueError, match="must not change"):
        count_rows(scores, np.zeros(2, np.int64), shared[3:5], out, 0)


def test_no_candidates_are_no_counts(count_rows: Any) -> None:
    given = _arrays() | {"first_column": 5}

    assert count_rows(*given.values()) == 0
    assert given["out"].tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_count(count_rows: Any, shape: tuple[int, int]) -> None:
    nobody = np.empty(0, dtype=np.int64)

    assert count_rows(np.empty(shape, np.float32), nobody, nobody, np.empty((2, 0), np.int64), 0) == 0


UNALIGNED = memoryview(bytearray(64))[1:61].cast("f", (3, 5))

BAD = {
    "half precision": {"scores": np.zeros((3, 5), np.float16)},
    "long doubles": {"scores": np.zeros((3, 5), np.longdouble)},
    "integers": {"scores": np.zeros((3, 5), np.int32)},
    "foreign byte order": {"scores": np.zeros((3, 5), np.float32).astype(">f4")},
    "unaligned": {"scores": UNALIGNED},
    "columns side by side": {"scores": np.zeros((5, 3), np.float32).T},
    "backwards": {"scores": np.zeros((3, 5), np.float32)[:, ::-1]},
    "one axis": {"scores": np.zeros(15, np.float32)},
    "short row numbers": {"row": np.arange(3, dtype=np.int32)},
    "unsigned row numbers": {"row": np.arange(3, dtype=np.uint64)},
    "every second row number": {"row": np.arange(6)[::2]},
    "float columns": {"column": np.ones(3)},
    "short counts": {"out": np.zeros((2, 3), np.int32)},
    "one count": {"out": np.zeros((1, 3), np.int64)},
    "counts side by side": {"out": np.zeros((3, 2), np.int64).T},
    "fewer counts": {"out": np.zeros((2, 2), np.int64)},
    "fewer columns": {"column": np.ones(2, np.int64)},
    "row before the first": {"row": np.array([-1, 0, 1])},
    "row after the last": {"row": np.array([0, 1, 3])},
    "rows not sorted": {"row": np.array([1, 0, 2])},
    "column before the first": {"column": np.array([0, -1, 0])},
    "column after the last": {"column": np.array([0, 5, 0])},
    "no first column": {"first_column": -1},
    "first column after the last": {"first_column": 6},
}


@pytest.mark.parametrize("bad", list(BAD))
def test_refuses_what_leads_outside_or_means_something_else(count_rows: Any, bad: str) -> None:
    given = _arrays() | BAD[bad]
    before = given["out"].copy()

    with pytest.raises(ValueError, match=r"must|not of the same number|is no column"):
        count_rows(*given.values())
    assert np.array_equal(given["out"], before)


@pytest.mark.parametrize("name", ["scores", "row", "column", "out", "first_column"])
def test_refuses_what_is_no_array(count_rows: Any, name: str) -> None:
    given = _arrays() | {name: [1, 2]}

    with pytest.raises(TypeError):
        count_rows(*given.values())


def test_refuses_counts_that_cannot_be_written(count_rows: Any) -> None:
    given = _arrays()
    given["out"].setflags(write=False)

    with pytest.raises(ValueError, match=r"read-only|writeable|writable"):
        count_rows(*given.values())


@pytest.mark.parametrize("column", [1, 5], ids=["counted", "refused"])
def test_arrays_are_let_go(count_rows: Any, column: int) -> None:
    given = _arrays() | {"column": np.full(3, column)}
    arrays = [value for value in given.values() if isinstance(value, np.ndarray)]
    before = [sys.getrefcount(value) for value in arrays]
    for _ in range(50):
        with contextlib.suppress(ValueError):
            count_rows(*given.values())

    assert before == [sys.getrefcount(value) for value in arrays]
