"""Another commit as a folder: what it holds, what git is asked, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from rectest.errors import RectestError
from rectest.training.worktree import Repository, worktree

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always")


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", ",".join(files) or "nothing of its own")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path, monkeypatch) -> Path:
    """A repository of two commits; temporary folders are made beside it, so that leftovers can be seen."""
    place = tmp_path / "temp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, mine="old\n")
    commit(folder, mine="new\n", other="1\n")
    return folder


def left(repo: Path) -> tuple[list[str], list[str]]:
    """Worktrees beside the first, and temporary folders."""
    known = git(repo, "worktree", "list", "--porcelain").split("\n\n")[1:]
    return known, [path.name for path in Path(tempfile.gettempdir()).iterdir()]


def test_a_commit_is_a_folder_and_then_gone(repo):
    (repo / "mine.py").write_text("not committed\n")
    found = Repository.containing(repo)

    with worktree(found, found.commit("HEAD~1")) as folder:
        assert (folder / "mine.py").read_text() == "old\n"
        assert not (folder / "other.py").exists()
        assert folder.name == "project"

    assert left(repo) == ([], [])
    assert (repo / "mine.py").read_text() == "not committed\n"
    assert git(repo, "branch", "--show-current") == "main"


def test_the_same_commit_twice_at_once(repo):
    found = Repository.containing(repo)
    with worktree(found, found.commit("HEAD")) as one, worktree(found, found.commit("HEAD")) as two:
        assert one != two
        assert (one / "mine.py").read_text() == (two / "mine.py").read_text() == "new\n"

    assert left(repo) == ([], [])


def test_it_is_gone_after_an_error_and_in_another_thread(repo):
    found = Repository.containing(repo)

    def fails() -> None:
        with pytest.raises(KeyError), worktree(found, found.commit("HEAD")):
            raise KeyError

    fails()
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()

    assert left(repo) == ([], [])


def test_no_hook_runs_and_variables_of_a_hook_point_nowhere_else(repo, tmp_path, monkeypatch):
    hook = repo / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    found = Repository.containing(repo)

    with worktree(found, found.commit("HEAD")) as folder:
        assert (folder / "mine.py").exists()

    assert not (tmp_path / "ran").exists()


SCRIPT = """
import sys, tempfile, time
from pathlib import Path
from rectest.training.worktree import Repository, worktree
tempfile.tempdir = sys.argv[2]
found = Repository(Path(sys.argv[1]))
with worktree(found, found.commit("HEAD")) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_process_leaves_nothing_or_what_the_next_one_removes(repo, number):
    command = [sys.executable, "-c", SCRIPT, str(repo), tempfile.gettempdir()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path.cwd())
    assert child.stdout is not None
    folder = Path(child.stdout.readline().strip())
    assert (folder / "mine.py").exists()

    child.send_signal(number)
    child.wait(30)
    child.stdout.close()
    if number == signal.SIGKILL:
        assert len(left(repo)[0]) == 1
        found = Repository.containing(repo)
        with worktree(found, found.commit("HEAD")):
            pass

    assert left(repo) == ([], [])


def test_a_worktree_of_a_living_process_is_left_alone(repo):
    found = Repository.containing(repo)
    command = [sys.executable, "-c", SCRIPT, str(repo), tempfile.gettempdir()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path.cwd())
    assert child.stdout is not None
    folder = Path(child.stdout.readline().strip())
    with worktree(found, found.commit("HEAD")):
        pass

    assert (folder / "mine.py").exists()
    child.terminate()
    child.wait(30)
    child.stdout.close()


def test_a_user_s_own_worktrees_are_left_alone(repo, tmp_path):
    git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "own"))
    found = Repository.containing(repo)
    with worktree(found, found.commit("HEAD")):
        pass

    assert len(left(repo)[0]) == 1
    assert (tmp_path / "own" / "mine.py").exists()


class TestSubmodules:
    @pytest.fixture
    def parent(self, repo, tmp_path):
        library = tmp_path / "library"
        library.mkdir()
        git(library, "init", "-q", "-b", "main")
        commit(library, lib="1\n")
        git(repo, "submodule", "--quiet", "add", str(library), "vendored")
        commit(repo)
        commit(repo / "vendored", lib="2\n")
        commit(repo)
        return repo

    def test_they_are_there_at_their_own_commit_and_gone_afterwards(self, parent):
        found = Repository.containing(parent)
        for name, expected in (("HEAD", "2\n"), ("HEAD~1", "1\n")):
            with worktree(found, found.commit(name)) as folder:
                assert (folder / "vendored" / "lib.py").read_text() == expected

        found.refuse_dirty_submodules()
        assert left(parent) == left(parent / "vendored") == ([], [])

    def test_changes_that_no_commit_holds_are_refused(self, parent):
        (parent / "vendored" / "lib.py").write_text("3\n")

        with pytest.raises(RectestError, match="submodule vendored has changes that no commit holds"):
            Repository.containing(parent).refuse_dirty_submodules()

    def test_one_that_is_not_here_is_refused(self, parent):
        git(parent, "submodule", "--quiet", "deinit", "--force", "vendored")
        found = Repository.containing(parent)

        with pytest.raises(RectestError, match="git submodule update"), worktree(found, found.commit("HEAD")):
            pass

        assert left(parent) == ([], [])


class TestQuestions:
    def test_names_of_commits(self, repo):
        found = Repository.containing(repo / ".")
        first = git(repo, "rev-parse", "HEAD~1")

        assert found.commit("main~1") == first == found.commit(first[:8])
        assert found.find("nothing") is None
        assert found.find("--all") is None
        with pytest.raises(RectestError, match="has no commit 'nothing'; see git log"):
            found.commit("nothing")

    def test_merge_base(self, repo):
        git(repo, "checkout", "-q", "-b", "work", "HEAD~1")
        commit(repo, third="3\n")
        found = Repository.containing(repo)

        assert found.merge_base("main") == git(repo, "rev-parse", "main~1")
        assert found.merge_base("origin/main") is None

    def test_last_change(self, repo):
        found = Repository.containing(repo)

        assert found.last_change(repo / "other.py") == git(repo, "rev-parse", "HEAD")
        (repo / "other.py").write_text("2\n")
        (repo / "new.py").write_text("2\n")
        assert found.last_change(repo / "other.py") is None
        assert found.last_change(repo / "new.py") is None

    def test_changed_files(self, repo):
        (repo / "ünew.py").write_text("2\n")
        (repo / "baselines").mkdir()
        (repo / "baselines" / "x.json").write_text("{}")
        found = Repository.containing(repo)

        lines = found.changed("HEAD~1", leaving_out=[repo / "baselines", Path("/")])
        assert [line.split()[0] for line in lines] == ["mine.py", "other.py", "2", "ünew.py"]
        assert found.changed("HEAD~1", until="HEAD~1") == []

    def test_no_repository(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        with pytest.raises(RectestError, match="not a git repository"):
            Repository.containing(tmp_path)

    def test_no_git(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RectestError, match="git is not installed"):
            Repository.containing(tmp_path)

    def test_a_hanging_git_ends(self, tmp_path, monkeypatch):
        fake = tmp_path / "git"
        fake.write_text("#!/bin/sh\nexec sleep 60\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr("rectest.training.worktree._PATIENCE", 0.2)
        begun = time.monotonic()

        with pytest.raises(RectestError, match=r"did not end within 0.2 s"):
            Repository.containing(tmp_path)
        assert time.monotonic() - begun < 30
