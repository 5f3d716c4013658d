"""``rectest attribute`` in a user's repository: each kind of change committed or made, and attributed rightly.

Trainings run in this process, from the folder that a child would import from; one test has real children.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rectest.baseline.recording import record_baseline
from rectest.baseline.store import BaselineStore
from rectest.cli import main
from rectest.errors import ChildFailed
from rectest.record import RunSpec
from rectest.training.program import run_spec

MINE = """
import hashlib, os
from pathlib import Path

QUALITY = 0.30
SCALE = 1.0
DATA = Path(os.environ.get("TOY_DATA") or Path(__file__).with_name("data.txt"))

def train(run):
    text = DATA.read_bytes()
    run.facts["inputs"] = {"world": "blake2b:" + hashlib.blake2b(text, digest_size=4).hexdigest()}
    library = float(os.environ.get("TOY_LIBRARY", "1"))
    if run.spec.seed < 16:
        library *= float(os.environ.get("TOY_LUCK", "1"))
    rng = run.seeds.rng("noise")
    for _ in range(12):
        run.step(loss=(1.0 + 0.01 * float(rng.random())) * SCALE * library, batch=rng.integers(0, 9, 4).tolist())
    noise = 1 + 0.01 * float(rng.normal())
    run.metrics("test", {"recall@10": QUALITY * noise * SCALE * library * len(text) / 5})
"""
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")
SPEC = RunSpec(system="toy_train:train")


def git(*args: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def committed(name: str) -> str:
    git("add", "--all")
    git("commit", "-q", "-m", name)
    return git("rev-parse", "HEAD")


def write(**values: object) -> None:
    """The training module with other constants."""
    lines = [
        next((f"{name} = {value}" for name, value in values.items() if line.startswith(f"{name} =")), line)
        for line in MINE.splitlines()
    ]
    Path("toy_train.py").write_text("\n".join(lines) + "\n")


@pytest.fixture
def trained(monkeypatch) -> list[tuple[Path, int, int]]:
    """Train in this process with the code that the child would have; folder, seed and repetition of each."""
    seen: list[tuple[Path, int, int]] = []

    def launch(spec, *, how):
        folder = Path(how.environ["RECTEST_CODE"])
        seen.append((folder, spec.seed, spec.replica))
        sys.modules.pop("toy_train", None)
        kept, sys.path[:] = list(sys.path), [*how.sys_path]
        sys.dont_write_bytecode = True
        try:
            return run_spec(spec)
        except Exception as e:
            raise ChildFailed(spec.describe(), reason="raised", detail=f"raised {e!r}") from e
        finally:
            sys.path[:] = kept
            sys.dont_write_bytecode = False
            sys.modules.pop("toy_train", None)

    monkeypatch.setattr("rectest.training.commits.launch", launch)
    return seen


@pytest.fixture
def repo(tmp_path, monkeypatch, trained):
    """A repository with its baseline: one commit that recorded it, one that brought it."""
    for folder in (tmp_path / "temp", tmp_path / "project"):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.chdir(tmp_path / "project")
    for name in ("FORCE_COLOR", "COLUMNS", "CI", "TOY_DATA", "TOY_LIBRARY", "TOY_LUCK"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-q", "-b", "main")
    write()
    Path("data.txt").write_text("abcde")
    committed("code")
    record()
    committed("baseline")
    trained.clear()
    return tmp_path


def record() -> None:
    """Record the baseline with the code and in the environment of this moment."""
    kept = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    sys.dont_write_bytecode = True
    try:
        made = record_baseline(SPEC, lambda specs: [run_spec(s) for s in specs], num_seeds=16, reason="first")
    finally:
        sys.path[:] = kept
        sys.dont_write_bytecode = False
        sys.modules.pop("toy_train", None)
    BaselineStore(Path("baselines")).save(made.baseline, sidecar=made.sidecar, replace=True)


@pytest.fixture
def run(repo, capsys):
    def run(*args: object) -> tuple[int, str, str, dict]:
        with pytest.raises(SystemExit) as leaving:
            main(["attribute", "toy_train:train", "--json", str(repo / "found.json"), *map(str, args)])
        said = capsys.readouterr()
        found = json.loads((repo / "found.json").read_text()) if (repo / "found.json").exists() else {}
        assert git("worktree", "list").count("\n") == 0, "no worktree stays behind"
        assert list((repo / "temp").glob("rectest-base-*")) == []
        return leaving.value.code or 0, said.out, said.err, found

    return run


def test_nothing_changed(run, trained):
    code, out, err, found = run()

    assert (code, found["causes"], err) == (0, ["nothing"], "")
    assert "nothing to attribute" in out
    assert len(trained) == 1, "the base is not trained for a green gate"


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "not committed"])
def test_code_that_is_worse(run, trained, commits):
    write(QUALITY=0.24)
    if commits:
        committed("worse")
    code, out, _, found = run()

    assert (code, found["causes"]) == (0, ["code"])
    assert out.startswith("toy_train:train: code\n")
    assert "first to differ: metrics" in out
    assert "toy_train.py | 2 +-" in out
    assert "baselines" not in "".join(found["changed"])
    assert found["base_is"] == "which the baseline was recorded with"
    assert {folder.name for folder, _, _ in trained} == {"project"}
    assert any(replica for _, _, replica in trained), "a difference of bits counts only where bits repeat"


def test_code_that_only_rounds(run):
    write(SCALE="(1 + 2e-15)")
    code, out, _, found = run()

    assert (code, found["causes"]) == (0, ["code"])
    assert "another rounding" in out


def test_a_new_file_is_a_candidate_too(run):
    write(QUALITY="__import__('tuning').QUALITY")
    Path("tuning.py").write_text("QUALITY = 0.2\n")
    _, out, _, found = run()

    assert found["causes"] == ["code"]
    assert "tuning.py (not in git)" in out


@pytest.mark.parametrize("known", [True, False], ids=["fingerprint moved", "fingerprint did not"])
def test_environment(run, monkeypatch, known):
    monkeypatch.setenv("TOY_LIBRARY", "0.8")
    if known:
        monkeypatch.setattr("rectest.training.determinism.cpu_model", lambda: "another-processor")
    code, out, _, found = run()

    assert (code, found["causes"]) == (0, ["environment"])
    assert ("-> 'another-processor'" in out) is known
    assert found["changed"] == []


def test_data_that_came_with_the_code(run):
    Path("data.txt").write_text("abcd")
    _, out, _, found = run()

    assert found["causes"] == ["data"]
    assert "the data changed with the working tree" in out


def test_data_that_moved_under_both(run, repo, monkeypatch):
    elsewhere = repo / "data.txt"
    elsewhere.write_text("abcd")
    monkeypatch.setenv("TOY_DATA", str(elsewhere))
    _, out, _, found = run()

    assert found["causes"] == ["data"]
    assert "under both commits" in out


def test_unlucky_seeds(run, monkeypatch, trained):
    monkeypatch.setenv("TOY_LUCK", "0.8")
    code, out, _, found = run()

    assert (code, found["causes"]) == (0, ["seed"])
    assert "declared rate is 0.1 %" in out
    assert 16 in [seed for _, seed, _ in trained]


def test_environment_and_code(run, monkeypatch):
    monkeypatch.setenv("TOY_LIBRARY", "0.8")
    write(QUALITY=0.2)
    _, _, _, found = run()

    assert found["causes"] == ["environment", "code"]


class TestBase:
    def test_a_base_that_already_differs_is_not_blamed_on_the_environment(self, run):
        """The change came before the base: which it was cannot be told, and the way to tell is named."""
        write(QUALITY=0.24)
        committed("worse")
        code, out, _, found = run("--base", "HEAD")

        assert (code, found["causes"]) == (1, ["undecided"])
        assert "best the commit that the baseline was recorded with" in out

    def test_two_steps_for_the_worse(self, run):
        write(QUALITY=0.24)
        committed("worse")
        write(QUALITY=0.2)
        _, out, _, found = run("--base", "HEAD")

        assert found["causes"] == ["code"]
        assert "code changed before the base as well" in out

    def test_the_commit_that_brought_the_baseline_serves_where_the_recording_was_dirty(self, run):
        write(QUALITY=0.31)
        record()
        brought = committed("baseline of uncommitted code")
        write(QUALITY=0.2)
        _, _, _, found = run()

        assert found["base"] == brought
        assert found["base_is"] == "which brought the baseline"
        assert found["causes"] == ["code"]

    @pytest.mark.parametrize("base", ["nowhere", "0123456789abcdef"])
    def test_no_such_commit(self, run, trained, base):
        code, _, err, _ = run("--base", base)

        assert (code, trained) == (2, [])
        assert f"has no commit '{base}'" in err

    def test_one_without_the_system(self, run):
        write(QUALITY=0.2)
        git("checkout", "-q", "--orphan", "empty")
        git("rm", "-q", "-r", "-f", "--cached", ".")
        Path("other.txt").write_text("")
        git("add", "other.txt")
        git("commit", "-q", "-m", "empty")
        empty = git("rev-parse", "HEAD")
        git("symbolic-ref", "HEAD", "refs/heads/main")
        git("reset", "-q")
        code, _, err, _ = run("--base", empty)

        assert code == 2
        assert "has no toy_train; choose a later one with --base" in err

    def test_one_that_cannot_be_trained(self, run):
        write(QUALITY="nobody.knows")
        broken = committed("broken")
        write(QUALITY=0.2)
        code, _, err, _ = run("--base", broken)

        assert code == 2
        assert f"the base commit {broken[:12]} cannot be trained here: raised" in err


class TestRefused:
    def test_no_repository(self, run, repo, monkeypatch):
        (repo / "apart").mkdir()
        monkeypatch.chdir(repo / "apart")
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repo))
        with pytest.raises(SystemExit) as leaving:
            main(["attribute", "toy_train:train"])
        assert leaving.value.code == 2

    def test_no_baseline(self, run, capsys):
        with pytest.raises(SystemExit) as leaving:
            main(["attribute", "toy_trian:train"])
        assert leaving.value.code == 2
        assert "unknown baseline 'toy_trian:train' (did you mean 'toy_train:train'?)" in capsys.readouterr().err

        code, _, err, _ = run("--world", "tiny")
        assert code == 2
        assert "for world tiny, found cpu/toy_train+train.json" in err

    def test_code_that_is_in_no_commit_here(self, run, repo, monkeypatch):
        apart = repo / "installed"
        apart.mkdir()
        Path("toy_train.py").rename(apart / "toy_train.py")
        monkeypatch.syspath_prepend(apart)
        code, _, err, _ = run()

        assert code == 2
        assert "no commit there changes what is trained" in err

    def test_a_working_tree_that_cannot_be_trained(self, run):
        write(QUALITY="nobody.knows")
        code, _, err, _ = run()
        assert code == 2
        assert "training toy_train:train, seed 0: raised NameError" in err


@pytest.mark.slow
def test_a_killed_command_leaves_no_worktree(repo):
    """With real children: the base waits for a file that never comes, and the command is killed meanwhile."""
    mark = repo / "begun"
    text = Path("toy_train.py").read_text()
    waiting = f"    import time\n    Path({str(mark)!r}).write_text('')\n    time.sleep(300)\n"
    Path("toy_train.py").write_text(text.replace("def train(run):\n", f"def train(run):\n{waiting}"))
    slow = committed("slow")
    Path("toy_train.py").write_text(text.replace("QUALITY = 0.30", "QUALITY = 0.2"))
    environ = {**os.environ, "TMPDIR": str(repo / "temp"), "PYTHONDONTWRITEBYTECODE": "1"}
    environ["PYTHONPATH"] = str(Path(main.__code__.co_filename).parents[2])
    command = [sys.executable, "-m", "rectest", "attribute", "toy_train:train", "--base", slow, "--seeds", "2"]
    child = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not mark.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mark.exists()
    assert git("worktree", "list").count("\n") == 1

    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM
    assert git("worktree", "list").count("\n") == 0
    assert list((repo / "temp").glob("rectest-base-*")) == []
