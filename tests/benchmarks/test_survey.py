"""The measured process itself: what it collects, how each benchmark ends in it, and what memory it sees."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from fixtures.bench_project import write
from rectest.benchmarks.child import How, Lost, started
from rectest.benchmarks.inside import start
from rectest.benchmarks.survey import listed, surveyed
from rectest.benchmarks.trees import Tree

MIB = 1 << 20

BENCHMARKS = """
import os, signal
import pytest

def test_plain(benchmark):
    benchmark.extra_info["rectest_limit"] = 0.3
    assert benchmark(sum, [1, 2]) == 3
    assert benchmark.stats["mean"] > 0

def test_memory(benchmark):
    benchmark(lambda: bytearray(64 << 20))

def test_small_pieces(benchmark):
    benchmark(lambda: [bytes(1000) for _ in range(20_000)])

def test_held_before(benchmark):
    held = bytearray(64 << 20)
    benchmark(len, held)

def test_pedantic(benchmark):
    made = []
    def setup():
        made.append(bytearray(32 << 20))
        return (made[-1],), {}
    def teardown(_values):
        made.clear()
    assert benchmark.pedantic(len, setup=setup, teardown=teardown, rounds=3) == 32 << 20

def test_fails(benchmark):
    benchmark(lambda: 1 / 0)

def test_fails_afterwards(benchmark):
    assert benchmark(int) == 1

def test_skips(benchmark):
    pytest.skip("not here")

@pytest.mark.skip(reason="not today")
def test_marked(benchmark):
    benchmark(int)

@pytest.mark.slow
def test_left_out(benchmark):
    benchmark(int)

def test_dies(benchmark):
    benchmark(os.kill, os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("size", [1, 2], ids=["one", "two: three"])
def test_parameters(benchmark, size):
    benchmark(bytes, size)

def test_no_benchmark():
    assert False
"""

CONFTEST = """
def pytest_collection_modifyitems(config, items):
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
"""

SETTINGS = """
[tool.pytest]
addopts = ["--benchmark-skip", "--strict-markers", "-n2", "-x"]
markers = ["slow: takes long"]
testpaths = ["tests"]
"""


def tree_of(folder: Path) -> Tree:
    return Tree.of("head", folder, repository=folder, project=folder, import_path=[])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a survey of all of them says; one run for all tests of this file."""
    folder = tmp_path_factory.mktemp("project")
    write(folder, {"tests/test_b.py": BENCHMARKS, "tests/broken.py": "", "pyproject.toml": SETTINGS})
    write(folder, {"tests/test_broken.py": "import absent  # of a benchmark\n", "conftest.py": CONFTEST})
    how = How(folder=tmp_path_factory.mktemp("work"), deadline=60)
    listing, seen = surveyed(tree_of(folder), how, paths=[], rng=Random(0))
    return listing, {name.partition("::")[2]: value for name, value in seen.items()}


def test_benchmarks_are_listed_whatever_options_the_project_has(found):
    listing, seen = found

    assert 12 == len(listing.names)
    assert ("tests/test_b.py::test_left_out",) == listing.deselected
    assert ["tests/test_broken.py"] == list(listing.errors)
    assert "absent" in listing.errors["tests/test_broken.py"]
    assert "test_no_benchmark" not in seen


@pytest.mark.parametrize(
    "name", ["test_plain", "test_memory", "test_pedantic", "test_parameters[one]", "test_parameters[two: three]"]
)
def test_a_benchmark_that_runs(found, name):
    assert "" == found[1][name].problem


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test_fails", "ZeroDivisionError"),
        ("test_fails_afterwards", "assert 0 == 1"),
        ("test_skips", "skipped not here"),
        ("test_marked", "skipped not today"),
        ("test_dies", "killed by SIGKILL"),
    ],
)
def test_a_benchmark_that_does_not_run_says_why(found, name, expected):
    assert expected in found[1][name].problem


def test_the_limit_of_a_test_is_heard(found):
    assert 0.3 == found[1]["test_plain"].limit


@pytest.mark.parametrize(
    ("name", "expected", "room"),
    [
        ("test_memory", 64 * MIB, 0.02 * 64 * MIB),
        ("test_small_pieces", 20_000 * (1000 + 33 + 8), 2 * MIB),
        ("test_held_before", 0, MIB),
        ("test_pedantic", 0, MIB),
    ],
)
def test_memory_of_a_known_allocation(found, name, expected, room):
    """What is held before the call, or made by its setup, is no part of what the call needs."""
    assert abs(expected - found[1][name].peak_bytes) <= room


def test_an_expression_leaves_out_without_complaint(tmp_path):
    write(tmp_path, {"tests/test_b.py": BENCHMARKS, "pyproject.toml": SETTINGS, "conftest.py": CONFTEST})
    how = How(folder=tmp_path, expression="parameters or left_out", deadline=60)
    listing = listed(tree_of(tmp_path), how, paths=["tests"], rng=Random(0))

    assert 2 == len(listing.names)
    assert 1 == len(listing.deselected)


def test_a_process_that_hangs_is_ended_with_all_it_started(tmp_path):
    text = "import subprocess\ndef test_h(benchmark):\n    benchmark(subprocess.run, ['sleep', '987'])\n"
    write(tmp_path, {"test_h.py": text})
    how = How(folder=tmp_path, deadline=20)
    began = time.monotonic()
    with started(tree_of(tmp_path), how, paths=["test_h.py"], rng=Random(0)) as child:
        child.receive()
        assert "at" == child.receive()["kind"]
        child.deadline = 0.3
        with pytest.raises(Lost, match=r"head said nothing for 0\.3 s"):
            child.ask("run", calls=1)

    assert child.process.poll() is not None
    assert not _sleeping(child.process.pid)
    assert time.monotonic() - began < 30


def _sleeping(group: int) -> list[str]:
    """Processes of a group that live; the fifth field of a stat file is the group."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return [fields[0] for fields in stats if fields[2] == str(group) and fields[0] != "Z"]


def test_a_pytest_that_does_not_start_is_told_with_its_last_words(tmp_path):
    write(tmp_path, {"conftest.py": "raise RuntimeError('planted')\n", "test_x.py": ""})

    with pytest.raises(Lost, match=r"(?s)left with exit code 4; it wrote last:.*planted"):
        listed(tree_of(tmp_path), How(folder=tmp_path, deadline=60), paths=["test_x.py"], rng=Random(0))


def test_the_tree_comes_before_what_is_installed(tmp_path):
    """The code under measurement is the tree's, a package of this very name included."""
    write(tmp_path, {"src/rectest_planted.py": "WHERE = 'src'\n", "rectest_other.py": "WHERE = 'root'\n"})
    text = "import rectest_planted, rectest_other\ndef test_x(benchmark):\n    benchmark(int)\n"
    write(tmp_path, {"tests/test_x.py": text})
    listing = listed(tree_of(tmp_path), How(folder=tmp_path, deadline=60), paths=["tests"], rng=Random(0))

    assert ("tests/test_x.py::test_x",) == listing.names


def test_what_measures_is_not_taken_for_code_of_the_other_side(tmp_path):
    """As it lies there when rectest compares itself; multiprocessing has the main module under a second name."""
    text = "import multiprocessing, work\ndef test_it(benchmark):\n    benchmark(work.run)\n"
    write(tmp_path / "project", {"work.py": "def run(): pass\n", "test_it.py": text})
    project, measuring = tmp_path / "project", Path(start.__file__).parent
    tree = Tree(side="base", root=project, project=project, import_path=(str(project),), copied_from=measuring)
    _, seen = surveyed(tree, How(folder=tmp_path, deadline=60), paths=["test_it.py"], rng=Random(0))

    assert {"test_it.py::test_it": ("", False)} == {
        name: (found.problem, found.foreign) for name, found in seen.items()
    }
