"""Children that import another commit's code, and nothing of the working tree's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rectest.errors import ChildFailed
from rectest.record import RunSpec
from rectest.training.commits import Code

MINE = """
from helper import QUALITY

def train(run):
    run.step(loss=1.0)
    run.metrics("test", {{"recall@10": QUALITY}})

def fails(run):
    raise KeyError({name!r})
"""


@pytest.fixture
def folders(tmp_path):
    """A repository and another commit of it, each with a module that imports a second one."""
    for name, quality in (("project", 0.2), ("commit", 0.4)):
        source = tmp_path / name / "src"
        source.mkdir(parents=True)
        (source / "mine.py").write_text(MINE.format(name=name))
        (source / "helper.py").write_text(f"QUALITY = {quality}\n")
    return tmp_path / "project", tmp_path / "commit"


def code(folders, root, *entries) -> Code:
    return Code(root=root, repository=folders[0], import_path=[*map(str, entries), str(Path.cwd())], deadline=120)


def test_children_import_the_commit_and_not_the_working_tree(folders):
    project, commit = folders
    spec = RunSpec(system="mine:train")
    found = [code(folders, root, project / "src").train([spec])[0].final("test/recall@10") for root in folders]

    assert found == [0.2, 0.4]
    assert code(folders, commit, project / "src").file_of("mine") == commit / "src" / "mine.py"


def test_a_failed_child_is_told_as_such(folders):
    with pytest.raises(ChildFailed, match="raised KeyError: 'commit'"):
        code(folders, folders[1]).train([RunSpec(system="mine:fails")])


def test_entries_of_the_repository_move_and_others_stay(folders, tmp_path, monkeypatch):
    project, commit = folders
    (project / "new").mkdir()
    (project / "venv" / "lib").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(project / "venv"))
    made = code(folders, commit, project, project / "src", project / "new", project / "venv" / "lib", tmp_path)

    here = str(Path.cwd())
    assert made.path == [str(commit), str(commit / "src"), str(project / "venv" / "lib"), str(tmp_path), here]


def test_a_package_that_is_installed_in_place_is_found_in_the_commit(folders):
    """Its hook knows only the working tree, and no entry of the path leads there."""
    assert code(folders, folders[1]).file_of("helper") == folders[1] / "src" / "helper.py"


def test_a_module_that_is_not_there(folders):
    project, commit = folders
    (commit / "src" / "mine.py").unlink()

    assert code(folders, commit, project / "src").file_of("mine") is None
    assert code(folders, commit, project / "src").file_of("mine.deeper") is None


def test_a_repetition_has_another_hash_seed(folders, monkeypatch):
    asked = []
    monkeypatch.setattr("rectest.training.commits.launch", lambda _, how: asked.append(how))
    spec = RunSpec(system="mine:train")

    code(folders, folders[0]).train([spec, spec.with_(replica=1)])

    assert [how.hash_seed == 0 for how in asked] == [True, False]
    assert all(how.environ for how in asked), "what has an environment of its own is never forked"
