"""Groups in which something goes wrong: the rank that failed by itself is named, and nothing of the group is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fixtures import ranks
from rectest.errors import ChildFailed
from rectest.training.group import run_on_ranks, stop_ranks
from rectest.training.group_failure import died
from rectest.training.launch import Launch


@pytest.fixture(scope="module", autouse=True)
def server():
    """The fork server runs before a test moves the temporary folder, in which its socket lies."""
    assert run_on_ranks(ranks.greet, 1, world_size=1) == [1]


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Launches leave their files below a folder of this test, so that what stays behind can be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


FAILURES = {
    "raises": ("raised", "rank 1 of 2 raised KeyError: 'target'$"),
    "names it": ("raised", "rank 1 of 2 raised loss of step 3 is not finite$"),
    "exits": ("raised", r"rank 1 of 2 called sys.exit\(0\) and left no result"),
    "exits with text": ("raised", r"rank 1 of 2 called sys.exit\('no data'\) and left no result"),
    "vanishes": ("start", "rank 1 of 2 ended with exit code 0 and no result after 'step 2'; it last said: about to go"),
    "vanishes with 7": ("start", "rank 1 of 2 ended with exit code 7 and no result after 'step 2'"),
    "is killed": ("killed", "rank 1 of 2 was killed by SIGKILL after 'step 2' .on Linux .* out-of-memory killer"),
    "aborts": ("killed", "rank 1 of 2 was killed by SIGABRT after 'step 2'; it last said: Fatal Python error: Aborted"),
    "crashes": ("killed", "rank 1 of 2 was killed by SIGSEGV after 'step 2'; it last said: Fatal Python error: Segm"),
    "out of memory": ("memory", "rank 1 of 2 ran out of memory .Unable to allocate"),
}


@pytest.mark.parametrize("trouble", FAILURES)
def test_the_rank_that_failed_is_named_and_nothing_stays(own_folder, tmp_path, trouble, caplog):
    reason, problem = FAILURES[trouble]
    start = time.monotonic()

    with pytest.raises(ChildFailed, match=f"training fixtures.ranks:fails: {problem}") as caught:
        run_on_ranks(ranks.fails, trouble, (1,), str(tmp_path), world_size=2)

    assert time.monotonic() - start < 5.0
    assert caught.value.reason == reason
    assert "Traceback" in caught.value.log or reason in ("killed", "start")
    assert "_end_with_launcher" not in caught.value.log
    assert list(own_folder.iterdir()) == []
    assert ranks.gone(tmp_path)
    assert caplog.records == []


def test_an_abort_says_what_was_thrown():
    log = "some line\n  what():  48 vs 8. Received data size doesn't match\nFatal Python error: Aborted\n\nThread 1"

    error = died("mine", 1, 2, -6, stages=["reduce"], log=log)

    assert str(error).endswith("after 'reduce'; it last said: what():  48 vs 8. Received data size doesn't match")


def test_one_rank_that_vanishes_is_noticed():
    with pytest.raises(ChildFailed, match="rank 0 of 1 ended with exit code 0 and no result after 'step 2'"):
        run_on_ranks(ranks.fails, "vanishes", (0,), world_size=1)


def test_without_trouble_nothing_stays_either(own_folder, tmp_path):
    assert run_on_ranks(ranks.fails, "nothing", (1,), str(tmp_path), world_size=2) == ["done", "done"]
    assert list(own_folder.iterdir()) == []
    assert ranks.gone(tmp_path)


def test_the_first_of_several_is_named():
    with pytest.raises(ChildFailed, match=r"rank [02] of 3 raised KeyError"):
        run_on_ranks(ranks.fails, "raises", (0, 2), world_size=3)


@pytest.mark.parametrize(("hanging", "names"), [((1,), "rank 1"), ((0, 2), "rank 0 and rank 2")])
def test_the_deadline_names_the_ranks_furthest_behind(own_folder, tmp_path, hanging, names):
    problem = (
        f"my run: {names} of 3 did not come past 'before', the other {3 - len(hanging)} wait for (it|them); the dead"
    )

    with pytest.raises(ChildFailed, match=problem) as caught:
        run_on_ranks(ranks.waits, hanging, str(tmp_path), world_size=3, subject="my run", how=Launch(deadline=1))

    assert caught.value.reason == "deadline"
    assert f"rank {hanging[0]}:" in caught.value.log
    assert "in _hangs" in caught.value.log
    assert list(own_folder.iterdir()) == []
    assert ranks.gone(tmp_path)


def test_a_rank_that_only_lost_its_connection_is_named_where_nobody_else_failed():
    problem = "rank 0 of 2 raised RuntimeError: .*; rank 1 had returned by then, so it may wait in a collective"

    with pytest.raises(ChildFailed, match=problem) as caught:
        run_on_ranks(ranks.fails, "returns early", (1,), world_size=2, how=Launch(deadline=1.5))

    assert caught.value.reason == "raised"


def test_a_rank_that_says_it_lost_its_connection_is_not_blamed_for_a_crash():
    with pytest.raises(ChildFailed, match="rank 1 of 2 raised KeyError"):
        run_on_ranks(ranks.lost_before, world_size=2)


def test_an_interrupt_ends_all_ranks(own_folder, tmp_path):
    def interrupt() -> None:
        while len(list(tmp_path.glob("ready-*"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_on_ranks(ranks.hangs_with_helper, str(tmp_path), world_size=2)
    thread.join()

    assert list(own_folder.iterdir()) == []
    assert ranks.gone(tmp_path)


def test_ranks_that_another_thread_waits_for_can_be_stopped(tmp_path):
    with ThreadPoolExecutor(max_workers=1) as pool:
        call = pool.submit(run_on_ranks, ranks.hangs_with_helper, str(tmp_path), world_size=2)
        while len(list(tmp_path.glob("ready-*"))) < 2:
            time.sleep(0.02)
        stop_ranks()
        with pytest.raises(ChildFailed, match="was killed by SIGKILL"):
            call.result()

    assert ranks.gone(tmp_path)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    """Ranks run the script once more, to find functions in it."""
    script = tmp_path / "script.py"
    script.write_text(
        "from fixtures.ranks import greet\n"
        "from rectest.training.group import run_on_ranks\n"
        "print(run_on_ranks(greet, 1, world_size=1))\n"
    )
    environ = os.environ | {"PYTHONPATH": str(Path.cwd())}
    found = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, timeout=60)

    assert found.returncode == 1
    assert "a script that starts ranks needs its work under `if __name__" in found.stderr.splitlines()[-1]


@pytest.mark.parametrize("how", ["forked", pytest.param("fresh", marks=pytest.mark.slow)])
def test_no_rank_outlives_a_killed_launcher(tmp_path, how):
    """Nor does what it started, whether the ranks are children of a fork server or of the launcher."""
    script = f"import sys; from fixtures.ranks import launch_and_hang; launch_and_hang(sys.argv[1], {how!r})"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with tempfile.TemporaryDirectory(prefix="r") as short:  # a fork server's socket has to fit below it
        environ = os.environ | {"PYTHONPATH": str(Path.cwd()), "TMPDIR": short}
        with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as launcher:
            while len(list(tmp_path.glob("ready-*"))) < 2:
                assert launcher.poll() is None
                time.sleep(0.02)
            launcher.kill()

        assert ranks.gone(tmp_path)
