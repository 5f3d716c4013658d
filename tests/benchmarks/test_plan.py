"""Which benchmarks of two trees are compared, with what, and what is said of the others."""

from __future__ import annotations

import shutil
from random import Random

import pytest

from fixtures.bench_project import write
from rectest.benchmarks.child import How
from rectest.benchmarks.memory import memory_state, seen_twice
from rectest.benchmarks.plan import planned
from rectest.benchmarks.results import State
from rectest.benchmarks.settings import Settings
from rectest.benchmarks.trees import Overlay, Tree, project_in
from rectest.errors import RectestError

WORK = "def same():\n    return 1\n\ndef old():\n    return 2\n\ndef fat():\n    return bytearray(64 << 20)\n"

BASE = {
    "work.py": WORK,
    "conftest.py": "",
    "tests/test_a.py": """
import work
def test_same(benchmark):
    benchmark(work.same)
def test_fat(benchmark):
    benchmark(work.fat)
def test_vanished(benchmark):
    benchmark(work.same)
def test_removed(benchmark):
    benchmark(work.same)
""",
    "tests/test_moved.py": "import work\ndef test_moved(benchmark):\n    benchmark(work.old)\n",
    "tests/test_gone.py": "def test_gone(benchmark):\n    benchmark(int)\n",
    "tests/test_data.py": "def test_data(benchmark):\n    benchmark(open, 'data.bin')\n",
    "tests/test_breaks.py": "def test_breaks(benchmark):\n    benchmark(int)\n",
}

HEAD = {
    "work.py": WORK.replace("def old", "def new").replace("64", "66"),
    "tests/test_a.py": """
import work
def test_same(benchmark):
    benchmark(work.same)
def test_fat(benchmark):
    benchmark(work.fat)
def test_new(benchmark):
    benchmark(work.new)
""",
    "tests/test_moved.py": "import work\ndef test_moved(benchmark):\n    benchmark(work.new)\n",
    "tests/test_breaks.py": "def test_breaks(benchmark):\n    assert False\n",
    "tests/test_unread.py": "import absent\ndef test_unread(benchmark):\n    benchmark(int)\n",
    "data.bin": "not in git",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The plan for both trees, and the trees."""
    top = tmp_path_factory.mktemp("trees")
    write(top / "base", BASE)
    write(top / "head", {**BASE, **HEAD})
    (top / "head/tests/test_gone.py").unlink()
    trees = [
        Tree.of(side, top / side, repository=top / side, project=top / side, import_path=[])
        for side in ("base", "head")
    ]
    how = How(folder=tmp_path_factory.mktemp("work"), deadline=60)
    settings = Settings(removed=("*test_removed",), limits={"*fat": 0.5})
    told: list[str] = []
    plan = planned(*trees, how, settings=settings, paths=[], own=False, say=told.append, rng=Random(0))
    return plan, trees, how, settings


def test_what_runs_on_both_is_compared(found):
    plan, *_ = found
    names = {name.partition("::")[2] for name in plan.subjects}

    assert {"test_same", "test_fat", "test_moved"} == names
    assert 0.5 == plan.subjects["tests/test_a.py::test_fat"].limit


def test_a_benchmark_that_moved_with_its_code_runs_from_its_own_file(found):
    plan, *_ = found

    assert "own benchmark file" in plan.subjects["tests/test_moved.py::test_moved"].note
    assert not plan.subjects["tests/test_a.py::test_same"].note


@pytest.mark.parametrize(
    ("name", "state", "detail"),
    [
        ("tests/test_a.py::test_new", State.NEW, "no attribute 'new'"),
        ("tests/test_a.py::test_vanished", State.VANISHED, "the head has not"),
        ("tests/test_gone.py::test_gone", State.VANISHED, "the head has not"),
        ("tests/test_data.py::test_data", State.NOT_MEASURED, "on the base: failed"),
        ("tests/test_breaks.py::test_breaks", State.NOT_MEASURED, "on the head: failed"),
        ("tests/test_unread.py", State.NOT_MEASURED, "absent"),
    ],
)
def test_what_is_not_compared_is_told(found, name, state, detail):
    settled = {comparison.name: comparison for comparison in found[0].settled}

    assert state == settled[name].time
    assert detail in settled[name].detail


def test_nothing_else_is_told(found):
    assert 6 == len(found[0].settled)


def test_two_mebibytes_more_are_seen_twice(found):
    plan, trees, how, settings = found
    subjects = seen_twice(plan.subjects, trees, how, settings=settings, rng=Random(0))
    states = {name.partition("::")[2]: memory_state(subject, settings) for name, subject in subjects.items()}

    assert {"test_same": State.PASS, "test_fat": State.FATTER, "test_moved": State.PASS} == states


WHOLE = "import work\ndef test_a(benchmark):\n    benchmark(work.same)\n"


def planned_for(folder, base, head, *, paths=(), settings=None):
    write(folder / "base", base)
    write(folder / "head", head)
    trees = [
        Tree.of(side, folder / side, repository=folder / "head", project=folder / "head", import_path=[])
        for side in ("base", "head")
    ]
    (folder / "how").mkdir()
    how = How(folder=folder / "how", deadline=60)
    given = {"settings": settings or Settings(), "paths": list(paths), "own": False, "rng": Random(0)}
    plan = planned(*trees, how, say=lambda _text: None, **given)
    return plan, {comparison.name: comparison for comparison in plan.settled}


@pytest.mark.parametrize("broken", ["work.py", "conftest.py"])
def test_what_the_base_has_and_cannot_run_is_not_new(tmp_path, broken):
    """A module that git ignores is not in the base's folder: nothing was compared, and that is red."""
    files = {"work.py": WORK, "conftest.py": "", "test_a.py": WHOLE}
    files[broken] = f"import generated\n{files[broken]}"
    plan, settled = planned_for(tmp_path, files, {**files, "generated.py": ""})

    assert not plan.subjects
    assert State.NOT_MEASURED == settled["test_a.py::test_a"].time
    assert "generated" in settled["test_a.py::test_a"].detail


def test_a_file_of_the_base_that_is_gone_and_cannot_be_looked_into_is_red(tmp_path):
    files = {"work.py": WORK, "test_a.py": WHOLE}
    base = {**files, "test_old.py": "import generated\ndef test_old(benchmark): benchmark(int)\n"}
    plan, settled = planned_for(tmp_path, base, files)

    assert ["test_a.py::test_a"] == list(plan.subjects)
    assert State.NOT_MEASURED == settled["test_old.py"].time


def test_a_single_new_test_of_a_file_that_the_base_has(tmp_path):
    """What else is in the file was not asked for, and the base may lack the test."""
    other = "def test_b(benchmark):\n    benchmark(work.new)\n"
    base = {"work.py": WORK, "test_a.py": WHOLE}
    head = {"work.py": WORK.replace("def old", "def new"), "test_a.py": WHOLE + other}
    plan, settled = planned_for(tmp_path, base, head, paths=["test_a.py::test_b"])

    assert not plan.subjects
    assert {"test_a.py::test_b": State.NEW} == {name: found.time for name, found in settled.items()}


def test_code_that_is_not_the_trees_is_not_compared(tmp_path):
    """A package that is installed in place by a hook before the import path: the base imports the head's."""
    hook = f"""
import importlib.util, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "work":
            return importlib.util.spec_from_file_location(name, {str(tmp_path / "head/work.py")!r})

sys.meta_path.insert(0, Hook())
"""
    files = {"work.py": WORK, "conftest.py": hook, "test_a.py": WHOLE}
    plan, settled = planned_for(tmp_path, files, files)

    assert not plan.subjects
    assert State.NOT_MEASURED == settled["test_a.py::test_a"].time
    assert "both sides would run the same code" in settled["test_a.py::test_a"].detail


@pytest.mark.parametrize(("name", "expected"), [("My.Work", False), ("another", True)])
def test_a_copy_that_is_installed_is_the_trees_on_neither_side(tmp_path, name, expected):
    """Installed by a copy, sources where no path leads: found by the name of the distribution."""
    installed = tmp_path / "lib/site-packages"
    write(installed, {"work.py": WORK, "my_work-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: my-work\n"})
    write(installed, {"my_work-1.dist-info/RECORD": "work.py,,\n"})
    conftest = f"import sys\nsys.path.insert(0, {str(installed)!r})\n"
    settings = f'[project]\nname = "{name}"\n[tool.pytest.ini_options]\npythonpath = [{str(installed)!r}]\n'
    files = {"python/work.py": WORK, "conftest.py": conftest, "test_a.py": WHOLE, "pyproject.toml": settings}
    plan, _ = planned_for(tmp_path, files, files)

    assert expected == bool(plan.subjects)
    if plan.subjects:
        assert "nothing of the project but tests was imported" in plan.subjects["test_a.py::test_a"].note


def test_an_overlay_can_be_taken_back(tmp_path):
    write(tmp_path, {"base/a.py": "old", "head/a.py": "new", "head/deep/b.py": "b", "base/c.py": "c", "head/c.py": "c"})
    overlay = Overlay(base=tmp_path / "base", head=tmp_path / "head")
    overlay.lay(["a.py", "deep/b.py", "c.py"])

    assert "new" == (tmp_path / "base/a.py").read_text()
    assert "b" == (tmp_path / "base/deep/b.py").read_text()
    assert [True, False, False] == [overlay.had(name) for name in ("a.py", "deep/b.py", "c.py")]

    overlay.take_back("a.py")

    assert "old" == (tmp_path / "base/a.py").read_text()


def test_the_import_path_moves_with_the_tree(tmp_path):
    write(tmp_path, {"repo/lib/x.py": "", "repo/src/y.py": "", "base/lib/x.py": "", "base/src/y.py": ""})
    shutil.copytree(tmp_path / "base", tmp_path / "elsewhere")
    repository = tmp_path / "repo"
    places = [str(repository / "lib"), str(tmp_path / "elsewhere")]
    base = Tree.of("base", tmp_path / "base", repository=repository, project=repository, import_path=places)

    assert str(tmp_path / "base/lib") in base.import_path
    assert str(tmp_path / "base/src") in base.import_path
    assert str(tmp_path / "elsewhere") in base.import_path
    assert not [place for place in base.import_path if place.startswith(str(repository))]


def test_a_project_below_the_root_is_found(tmp_path):
    write(tmp_path, {"part/pyproject.toml": "", "part/tests/x.py": "", "other/x.py": ""})

    assert tmp_path / "part" == project_in(tmp_path / "part/tests", tmp_path)
    assert tmp_path == project_in(tmp_path / "other", tmp_path)


def test_a_base_without_the_project_is_refused(tmp_path):
    write(tmp_path, {"repo/part/x.py": "", "base/x.py": ""})
    repository = tmp_path / "repo"

    with pytest.raises(RectestError, match="base has no folder part"):
        Tree.of("base", tmp_path / "base", repository=repository, project=repository / "part", import_path=[])
