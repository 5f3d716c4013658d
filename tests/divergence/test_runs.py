"""Running commands under the recorder: what differs between runs, what never does, and how everything ends.

Only three tests start Python, without torch; those that start torch are slow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rectest.divergence import workdir
from rectest.divergence.inside.session import Config
from rectest.divergence.runs import Recorded, record_many
from rectest.divergence.tapes import load_run
from rectest.divergence.workdir import WorkingCopy, copy_tree, mark_copies, project_root, tree_bytes
from rectest.errors import WatchError

Project = Callable[[str], Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A directory with a script ``train.py``."""

    def make(source: str) -> Path:
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "train.py").write_text(textwrap.dedent(source))
        return folder

    return make


def record_python(folder: Path, *words: str, **settings: object) -> list[Recorded]:
    """Record ``python train.py words``; tapes go beside the project."""
    command = [sys.executable, "train.py", *words]
    return record_many(command, out=folder.parent / "out", cwd=folder, **settings)  # type: ignore[arg-type]


def is_over(pid: int) -> bool:
    """Whether a process is gone, or dead and waits for the system to clear it away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return True


class TestCopy:
    def test_copies_kept_within_what_is_copied_are_not_copied(self, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        (source / "train.py").touch()
        for number in (1, 2):
            mark_copies(source / "kept" / f"run{number}.work")
            copy_tree(source, source / "kept" / f"run{number}.work" / "source")

        copied = sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file() and p.suffix)

        assert ["kept/run1.work/source/train.py", "kept/run2.work/source/train.py", "train.py"] == copied

    def test_what_is_copied_and_what_is_not(self, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "copies" / "target"
        for folder in ("data", "venv", "__pycache__", ".git/objects/ab", ".git/refs"):
            (source / folder).mkdir(parents=True)
            (source / folder / "file").write_text(folder)
        (source / "venv" / "pyvenv.cfg").touch()
        (source / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        (tmp_path / "outside").write_text("elsewhere")
        (source / "out").symlink_to("../outside")
        (source / "in").symlink_to(source / "data")
        os.mkfifo(source / "pipe")

        copy_tree(source, target)

        obtained = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}
        assert {"data/file", "out", ".git/HEAD", ".git/refs/file", ".git/objects/info/alternates"} == obtained
        assert (target / "out").read_text() == "elsewhere"
        assert (target / "in").resolve() == target / "data"
        assert f"{source}/.git/objects\n" == (target / ".git/objects/info/alternates").read_text()

    def test_a_directory_that_is_too_large_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(b"0" * 1000)

        assert 1000 == tree_bytes(tmp_path)
        with pytest.raises(WatchError, match=r"holds more than .* GiB, .*--in-place.*--workdir"):
            copy_tree(tmp_path, tmp_path / "copy", max_bytes=999)
        assert not (tmp_path / "copy").exists()

    def test_a_full_disk_says_what_is_needed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workdir, "SPARE_BYTES", 2**60)

        with pytest.raises(WatchError, match=r"MiB free, a copy of .* needs"):
            copy_tree(tmp_path, tmp_path / "copy")

    def test_the_repository_around_is_copied_if_it_is_small(self, tmp_path: Path) -> None:
        inner = tmp_path / "repository" / "src"
        inner.mkdir(parents=True)
        (tmp_path / "repository" / ".git").mkdir()
        (tmp_path / "repository" / "data").write_bytes(b"0" * 1000)

        assert inner.parent == project_root(inner)
        assert inner == project_root(inner, max_bytes=10)
        assert tmp_path == project_root(tmp_path)

    def test_paths_into_the_original_lead_into_the_copy(self, tmp_path: Path) -> None:
        original, root = tmp_path / "original", tmp_path / "copy"
        (original / "venv").mkdir(parents=True)
        (root / "data").mkdir(parents=True)
        copy = WorkingCopy(original=original, root=root, cwd=root)

        words = [f"{original}/data", f"--data={original}/data/../new", f"{original}/venv", "data", f"{original}s", "-m"]

        expected = [f"{root}/data", f"--data={root}/new", f"{original}/venv", "data", f"{original}s", "-m"]
        assert expected == [copy.translate(word) for word in words]


class TestRefusals:
    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ([], "no command was given"),
            (["no-such-program"], "'no-such-program' was not found"),
            (["train.py"], "to run a script, write: python train.py"),
            (["./train.py"], "cannot be executed"),
        ],
    )
    def test_a_command_that_is_none(self, project: Project, command: list[str], message: str) -> None:
        folder = project("")

        with pytest.raises(WatchError, match=message):
            record_many(command, out=folder / "out", cwd=folder)
        assert ["train.py"] == [path.name for path in folder.iterdir()]

    def test_a_command_that_records_nothing(self, project: Project) -> None:
        folder = project("")

        with pytest.raises(
            WatchError, match=r"echo recorded nothing \(exit status 0, its last line of output: hello\)"
        ):
            record_many(["echo", "hello"], out=folder.parent / "out", cwd=folder)

    def test_arguments_of_the_caller(self, project: Project, tmp_path: Path) -> None:
        folder = project("")
        (tmp_path / "out" / "run2.tape").mkdir(parents=True)

        with pytest.raises(WatchError, match=r"run2\.tape exists already"):
            record_python(folder)
        with pytest.raises(WatchError, match="does not exist"):
            record_many(["echo"], out=tmp_path / "out", cwd=tmp_path / "absent")
        with pytest.raises(WatchError, match="does not hold the one the command runs in"):
            record_python(folder, workdir=tmp_path / "out")
        with pytest.raises(ValueError, match="at least 1"):
            record_python(folder, num_runs=0)


class TestRuns:
    def test_two_runs_differ_where_days_differ(self, project: Project, tmp_path: Path) -> None:
        folder = project("""
            import os, sys
            if os.path.exists("model.ckpt"):
                open("model.ckpt").read()
            os.listdir("data")
            names = {"ann", "bob", "cy", "dee"}
            ids = {name: i for i, name in enumerate(names)}
            open("model.ckpt", "w").write("state")
            assert not any("divergence" in entry for entry in sys.path)
            raise ValueError("after training")
        """)
        (folder / "data").mkdir()
        for name in "abcdefgh":
            (folder / "data" / name).touch()

        first, second = record_python(folder, config=Config(tape="", locate_orders=True), deadline=60)

        one, two = (load_run(recorded.tape).tapes["main"] for recorded in (first, second))
        assert (1, 1) == (first.status, second.status)
        assert "ValueError: after training" in first.tail
        assert one.end == two.end == "exception: ValueError: after training"
        assert ["w"] == [event.info["mode"] for event in one.of("file")]
        assert [("model.ckpt", "r"), ("model.ckpt", "w")] == [(e.name, e.info["mode"]) for e in two.of("file")]
        for kind, site in (("listing", "train.py:5:<module>"), ("order", "train.py:7:<module>")):
            (left,), (right,) = list(one.of(kind)), list(two.of(kind))
            assert left.site == right.site == site
            assert left.digest != right.digest
        assert {"data", "train.py"} == {path.name for path in folder.iterdir()}
        assert not list((tmp_path / "out").glob("*.work"))

    def test_a_killed_run_keeps_its_tape(self, project: Project) -> None:
        folder = project("""
            import os
            for number in range(5):
                open(f"out{number}", "w")
            os.kill(os.getpid(), 9)
        """)

        (recorded,) = record_python(folder, num_runs=1)

        tape = load_run(recorded.tape).tapes["main"]
        assert (-signal.SIGKILL, "cut") == (recorded.status, tape.end)
        assert {"out0", "out1"} <= {event.name for event in tape.of("file")}

    def test_a_deadline_ends_every_descendant(self, project: Project) -> None:
        folder = project("""
            import subprocess, time
            child = subprocess.Popen(["sleep", "60"], start_new_session=True)
            open("pid", "w").write(str(child.pid))
            time.sleep(60)
        """)

        (recorded,) = record_python(folder, num_runs=1, deadline=1, in_place=True)

        tape = load_run(recorded.tape).tapes["main"]
        assert recorded.timed_out
        assert (-signal.SIGTERM, "exception: SIGTERM") == (recorded.status, tape.end)
        assert is_over(int((folder / "pid").read_text()))


TORCH = """
import sys, torch
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self): return 24
    def __getitem__(self, i): return torch.rand(3) + i
def main():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(2):
        for batch in DataLoader(Rows(), batch_size=4, shuffle=True, num_workers=2):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    print("weights", torch.cat([p.flatten() for p in model.parameters()]).sum().item().hex())
if __name__ == "__main__":
    main()
"""

RANKS = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.ones(3) * dist.get_rank()
dist.all_reduce(x)
open(f"rank{dist.get_rank()}.txt", "w").write(str(x))
dist.destroy_process_group()
"""


@pytest.mark.slow
class TestTorch:
    def test_data_workers_have_tapes_and_no_bit_changes(self, project: Project) -> None:
        folder = project(TORCH)
        alone = subprocess.run([sys.executable, "train.py"], cwd=folder, capture_output=True, text=True, check=True)

        runs = record_python(folder, deadline=120)

        assert [alone.stdout] * 2 == [recorded.output.read_text() for recorded in runs]
        for recorded in runs:
            tapes = load_run(recorded.tape).tapes
            assert {"main", "main.1", "main.2", "main.3", "main.4"} == set(tapes)
            assert all(any(True for _ in tapes[f"main.{number}"].of("draw")) for number in range(1, 5))

    def test_every_rank_has_a_tape(self, project: Project) -> None:
        folder = project(RANKS)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]

        (recorded,) = record_many(command, out=folder.parent / "out", cwd=folder, num_runs=1, deadline=120)

        tapes = load_run(recorded.tape).tapes
        assert 0 == recorded.status, recorded.tail
        assert {"rank0", "rank1"} <= set(tapes)
        assert ["rank1.txt"] == [event.name for event in tapes["rank1"].of("file")]
        assert "exit" == tapes["rank1"].end

    def test_an_interruption_ends_the_run(self, project: Project) -> None:
        folder = project("import time; open('pid', 'w').write('x'); time.sleep(60)")
        program = """
            import sys
            from pathlib import Path
            from rectest.divergence.runs import record_many
            record_many([sys.executable, "train.py"], out=Path("../out"), cwd=Path.cwd(), in_place=True)
        """
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        parent = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)], cwd=folder, env=environ, stderr=subprocess.PIPE
        )
        for _ in range(200):
            if (folder / "pid").exists():
                break
            time.sleep(0.05)
        parent.send_signal(signal.SIGINT)
        _, error = parent.communicate(timeout=20)

        assert b"KeyboardInterrupt" in error
        assert "exception: SIGTERM" == load_run(folder.parent / "out" / "run1.tape").tapes["main"].end
