import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.baselines import make_baseline, make_environment
from rectest.baseline.provenance import collect_provenance, git_state, with_provenance

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


class TestApartFrom:
    """Recording one baseline must not make the next one look as if it came from changed code."""

    @pytest.fixture
    def recorded(self, repository) -> Path:
        folder = repository / "kept" / "baselines"
        (folder / "cpu").mkdir(parents=True)
        (folder / "cpu" / "toy.json").write_text("{}")
        for args in (["add", "."], ["commit", "-qm", "baselines"]):
            subprocess.run([*GIT, *args], cwd=repository, check=True, capture_output=True)
        (folder / "cpu" / "toy.json").write_text("{ }")
        return folder

    @pytest.mark.parametrize("place", [".", "kept", "kept/baselines/cpu"])
    def test_changes_there_do_not_count_wherever_it_is_called(self, repository, recorded, place):
        assert git_state(repository / place)[1] is True
        assert git_state(repository / place, apart_from=recorded)[1] is False

    def test_other_changes_do(self, repository, recorded):
        (repository / "model.py").write_text("x = 2\n")

        assert git_state(recorded, apart_from=recorded)[1] is True

    def test_a_relative_folder_is_of_the_folder_it_is_called_in(self, repository, recorded):
        assert git_state(repository, apart_from=Path("kept/baselines"))[1] is False

    @pytest.mark.parametrize("other", ["..", "."])
    def test_the_repository_itself_and_what_is_outside_are_not_left_out(self, repository, recorded, other):
        assert git_state(repository, apart_from=repository / other)[1] is True


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


def test_a_baseline_gets_a_provenance_wherever_its_own_stands():
    made = make_baseline()
    other = next(iter(made.exact.values())).model_copy(
        update={"provenance": made.provenance.model_copy(update={"reason": "bits of another day"})}
    )
    mixed = made.model_copy(update={"exact": {**made.exact, "f" * 16: other}})
    origin = made.provenance.model_copy(update={"dirty": True})

    obtained = with_provenance(mixed, origin)

    assert obtained.provenance == origin
    assert [entry.provenance.reason for entry in obtained.exact.values()] == ["first recording", "bits of another day"]
    assert obtained.exact[made.ensemble.fingerprint].provenance == origin


def test_a_blank_reason_is_refused():
    with pytest.raises(ValueError, match="needs a reason"):
        collect_provenance("  ", environment=make_environment())
