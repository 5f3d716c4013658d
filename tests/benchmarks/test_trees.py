"""A tree is built in place, and what keeps it from being built is said in one line."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from rectest.benchmarks.trees import Tree
from rectest.errors import RectestError


def make_tree(folder: Path) -> Tree:
    return Tree.of("base", folder, repository=folder, project=folder, import_path=[])


def test_built_in_the_project_by_the_interpreter_that_compares(tmp_path):
    make_tree(tmp_path).build(
        ["python", "-c", "import sys; open('built', 'w').write(sys.executable)", "python"], deadline=60
    )

    assert sys.executable == (tmp_path / "built").read_text()


@pytest.mark.parametrize(
    ("command", "deadline", "match"),
    [
        (["python", "-c", "raise SystemExit('no compiler')"], 60, r"base was not built by python -c .*1: no compiler$"),
        (["python", "-c", "raise SystemExit(3)"], 60, "exit code 3: it said nothing"),
        (["python", "-c", "import time; time.sleep(60)"], 0.5, r"did not end within 0\.5 s"),
        (["no-such-command"], 60, "No such file"),
    ],
)
def test_what_was_not_built_is_refused(tmp_path, command, deadline, match):
    with pytest.raises(RectestError, match=match):
        make_tree(tmp_path).build(command, deadline=deadline)


def test_what_a_late_build_started_ends_with_it(tmp_path):
    later = "import time; time.sleep(1.2); open('late', 'w').close()"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {later!r}]).wait()"
    with pytest.raises(RectestError, match=r"did not end within 0\.6 s"):
        make_tree(tmp_path).build(["python", "-c", start], deadline=0.6)
    time.sleep(1.2)

    assert not (tmp_path / "late").exists()
