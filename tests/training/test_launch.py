"""Children: a process each, and one clear message for each way in which one can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rectest.errors import ChildFailed
from rectest.record import RunSpec
from rectest.training.launch import Launch, launch, launch_many

PLAIN = RunSpec(system="fixtures.toy:plain_training", steps=3)
HOW = Launch(sys_path=[str(Path.cwd())], deadline=120)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Children work below a folder of this test, so that what they leave behind can be seen."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize(
    ("target", "reason", "problem"),
    [
        ("fixtures.toy:forgets", "raised", "recorded no step and no metric"),
        ("fixtures.toy:dies", "killed", "was killed by SIGKILL; on Linux that is mostly the out-of-memory killer"),
        ("fixtures.toy:nothing", "raised", "has no 'nothing'"),
    ],
)
def test_failures_are_named(own_folder, target, reason, problem):
    with pytest.raises(ChildFailed, match=problem) as caught:
        launch(PLAIN.with_(system=target), how=HOW)

    assert caught.value.reason == reason
    assert list(own_folder.iterdir()) == []


def test_a_hang_ends_at_the_deadline():
    with pytest.raises(ChildFailed, match=r"still running after its deadline of 1 s and was killed") as caught:
        launch(PLAIN.with_(system="fixtures.toy:hangs"), how=Launch(sys_path=HOW.sys_path, deadline=1))

    assert caught.value.reason == "deadline"


def test_user_errors_keep_their_traceback(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def train(run):\n    return {}['recall']\n")

    with pytest.raises(ChildFailed, match="raised KeyError: 'recall'") as caught:
        launch(RunSpec(system=f"{path}:train"), how=HOW)

    assert "mine.py" in (caught.value.log or "")


def test_running_out_of_memory_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\ndef train(run):\n    return np.ones(10**10)\n")
    how = Launch(sys_path=HOW.sys_path, memory_mib=8000)

    with pytest.raises(ChildFailed, match="ran out of memory") as caught:
        launch(RunSpec(system=f"{path}:train"), how=how)

    assert caught.value.reason == "memory"


def test_several_at_a_time_keep_their_order_and_one_failure_stops_nobody():
    seen = []
    specs = [PLAIN, PLAIN.with_(system="fixtures.toy:forgets"), PLAIN.with_(seed=1)]

    outcomes = launch_many(specs, how=lambda _: HOW, processes=2, done=lambda spec, _: seen.append(spec))

    assert [getattr(o, "spec", None) for o in outcomes] == [specs[0], None, specs[2]]
    assert isinstance(outcomes[1], ChildFailed)
    assert len(seen) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a child die with its parent")
def test_a_killed_parent_leaves_no_child_behind(tmp_path):
    """With a fresh interpreter; `test_warm` has the same for the others."""
    mark = tmp_path / "pid"
    path = tmp_path / "mine.py"
    path.write_text(
        f"import os, pathlib, time\ndef train(run):\n    pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    code = (
        "from rectest.record import RunSpec; from rectest.training.launch import Launch, launch;"
        f"launch(RunSpec(system={f'{path}:train'!r}), how=Launch(hash_seed=1))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(mark.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.parametrize("deadline", [0, -1])
def test_odd_deadlines_are_refused(deadline):
    with pytest.raises(ValueError, match="deadline must be positive"):
        Launch(deadline=deadline)
