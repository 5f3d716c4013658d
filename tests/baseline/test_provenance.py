import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.baselines import make_environment
from rectest.baseline.provenance import collect_provenance, git_state

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text("x = 1\n")
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *args], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_commit_and_dirty_flag(repository):
    commit, dirty = git_state(repository)

    assert len(commit) == 40
    assert dirty is False

    (repository / "model.py").write_text("x = 2\n")

    assert git_state(repository) == (commit, True)


def test_untracked_files_are_not_dirty(repository):
    (repository / "notes.txt").write_text("")

    assert git_state(repository)[1] is False


def test_outside_a_repository_and_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert git_state(tmp_path) == (None, None)

    monkeypatch.setenv("PATH", "")

    assert git_state(tmp_path) == (None, None)


def test_what_is_collected(tmp_path):
    found = collect_provenance(
        " new sampler ",
        environment=make_environment(),
        argv=["/somewhere/bin/pytest", "-k", "a b"],
        folder=tmp_path,
        now=datetime(2026, 8, 1, 12, 0, 0, 5, tzinfo=UTC),
    )

    assert found.reason == "new sampler"
    assert found.command == "pytest -k 'a b'"
    assert found.date == "2026-08-01T12:00:00Z"
    assert found.environment.startswith("cpu (vendor-6-85")


def test_a_blank_reason_is_refused():
    with pytest.raises(ValueError, match="needs a reason"):
        collect_provenance("  ", environment=make_environment())
