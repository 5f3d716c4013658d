"""The warm server: its children are what fresh interpreters are, end as they do, and nothing outlives anybody."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rectest.errors import ChildFailed
from rectest.record import RunSpec
from rectest.training import warm, warm_server
from rectest.training.launch import Launch, child_environ, launch, launch_many, stop_children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every child is a fresh interpreter")

HOW = Launch(sys_path=[str(Path.cwd())], deadline=120)
FRESH = replace(HOW, environ={"ANY": "value"})
MINE = """
import json, os, random, subprocess, sys, threading, time, warnings
from pathlib import Path

import numpy as np
import torch

DRAWN = {"python": random.random(), "numpy": np.random.random(), "torch": float(torch.rand(()))}

def tell(run, **what):
    path = Path(__file__).with_name(f"told{run.spec.seed}.json")
    path.with_suffix(".part").write_text(json.dumps(what))
    path.with_suffix(".part").rename(path)

def look(run):
    import torch._inductor.config
    here = os.getcwd()
    tell(
        run,
        drawn=DRAWN,
        empty=os.listdir("."),
        path=["HERE" if entry == here else entry for entry in sys.path],
        argv=[sys.argv[0], os.path.basename(sys.argv[1])],
        environ={k: v for k, v in os.environ.items() if k not in ("ANY", "TORCHINDUCTOR_CACHE_DIR")},
        hashed=hash("word"),
        leads=os.getsid(0) == os.getpid() == os.getpgrp(),
        threads=threading.active_count(),
        open=sorted(os.listdir("/proc/self/fd"), key=int)[:3],
        input=sys.stdin.read(),
        filters=[repr(entry) for entry in warnings.filters if "dynamo" not in repr(entry)],
        inductor=torch._inductor.config.deterministic,
        parent=os.getppid(),
        dynamo="torch._dynamo.eval_frame" in sys.modules,
    )
    run.metrics("test", {"recall@10": 0.5})

def leaves(run):
    tell(run, child=subprocess.Popen(["sleep", "600"]).pid)
    run.metrics("test", {"recall@10": 0.5})

def waits(run):
    tell(run, child=os.getpid(), server=os.getppid(), grandchild=subprocess.Popen(["sleep", "600"]).pid)
    time.sleep(600)

def leaves_early(run):
    print("so long")
    raise SystemExit(7)

def orphans(run):
    mark = Path(__file__).with_name("orphaned")
    if not mark.exists():
        mark.touch()
        Path("left.txt").touch()
        os.kill(os.getppid(), 9)
        time.sleep(600)
    assert not Path("left.txt").exists()
    run.metrics("test", {"recall@10": 0.25})
"""


class Mine:
    """A module of training functions in a folder of its own, and what they told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mine.py"
        self.path.write_text(MINE)

    def spec(self, name, seed=0):
        return RunSpec(system=f"{self.path}:{name}", seed=seed)

    def told(self, seed=0):
        path, deadline = self.path.with_name(f"told{seed}.json"), time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return json.loads(path.read_text())


@pytest.fixture
def mine(tmp_path):
    return Mine(tmp_path)


def servers():
    return [server.process.pid for server in warm._SERVERS.values() if server.usable()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids):
    deadline = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.mark.slow  # the gate trains each system in both, too
def test_a_fork_gives_the_bits_of_a_fresh_interpreter():
    """Two at once, before the server has learned that optimizers need the compiler, and one after."""
    spec = RunSpec(system="fixtures.toy:ToySystem")
    warm.stop_servers()
    fresh = launch(spec, how=replace(HOW, hash_seed=77))
    forked = [*launch_many([spec, spec], how=lambda _: HOW, processes=2), launch(spec, how=HOW)]

    def facts(record):
        return {key: value for key, value in record.facts.items() if key != "timing"}

    assert len(servers()) == 1
    for record in forked:
        assert fresh.digest() == record.digest()
        assert facts(fresh) == facts(record)
        assert fresh.environment == record.environment
    assert fresh.environment.threads == 1


def test_a_child_sees_what_a_fresh_interpreter_sees(mine):
    launch(mine.spec("look", seed=1), how=FRESH)
    for seed in (2, 3):
        launch(mine.spec("look", seed=seed), how=HOW)
    fresh, first, second = (mine.told(seed) for seed in (1, 2, 3))
    drawn = [told.pop("drawn") for told in (fresh, first, second)]
    parents = [told.pop("parent") for told in (fresh, first, second)]

    assert fresh == first == second
    assert fresh["empty"] == []
    assert fresh["leads"]
    assert fresh["environ"]["PYTHONHASHSEED"] == "0"
    assert os.getpid() == parents[0]
    assert parents[1] == parents[2] in servers()
    for generator in ("python", "numpy", "torch"):
        assert len({values[generator] for values in drawn}) == 3


def test_variables_that_are_read_late_reach_the_child(mine, monkeypatch):
    launch(mine.spec("look"), how=HOW)
    before = servers()
    monkeypatch.setenv("RECTEST_ANYTHING", "7")
    launch(mine.spec("look", seed=1), how=HOW)

    assert "RECTEST_ANYTHING" not in mine.told()["environ"]
    assert mine.told(1)["environ"]["RECTEST_ANYTHING"] == "7"
    assert before == servers()


def test_children_that_end_otherwise_are_named(mine):
    """As those of fresh interpreters are, and the server stays."""
    launch(mine.spec("leaves"), how=HOW)
    before = servers()
    with pytest.raises(ChildFailed, match="ended with exit code 7 and no record; it last said: so long"):
        launch(mine.spec("leaves_early"), how=HOW)
    with pytest.raises(ChildFailed, match="was killed by SIGKILL"):
        launch(RunSpec(system="fixtures.toy:dies"), how=HOW)

    assert before == servers()


def test_what_a_child_started_ends_with_it(mine):
    launch(mine.spec("leaves"), how=HOW)
    with pytest.raises(ChildFailed, match="still running after its deadline of 2 s and was killed"):
        launch(mine.spec("waits", seed=1), how=replace(HOW, deadline=2))

    assert gone([mine.told()["child"], mine.told(1)["child"], mine.told(1)["grandchild"]])


def test_a_killed_parent_leaves_neither_server_nor_child(mine):
    code = (
        "from rectest.record import RunSpec; from rectest.training.launch import launch;"
        f"launch(RunSpec(system={mine.spec('waits').system!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    pids = mine.told()
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    assert pids["server"] != parent.pid
    assert gone(pids.values())


def test_a_dead_server_is_done_without(mine, monkeypatch):
    """It dies while its child trains, which is then trained anew; the next one is not even asked of it."""
    monkeypatch.setenv("OF_THIS_TEST", "1")
    before, spec = set(servers()), mine.spec("orphans")
    record = launch(spec, how=HOW)
    another = warm.start_forked(Path("job"), environ=child_environ(spec, HOW), cwd=Path(), log=0)

    assert record.final("test/recall@10") == 0.25
    assert another is None
    assert set(servers()) <= before


def test_stopping_ends_what_other_threads_wait_for(mine):
    failures = []

    def one():
        with pytest.raises(ChildFailed, match="was killed by SIGKILL") as caught:
            launch(mine.spec("waits"), how=HOW)
        failures.append(caught.value)

    thread = threading.Thread(target=one)
    thread.start()
    pids = mine.told()
    stop_children()
    thread.join(30)

    assert ["killed"] == [failure.reason for failure in failures]
    assert gone([pids["child"], pids["grandchild"]])


class Fresh(Exception):
    pass


class Forked(Exception):
    pass


@pytest.mark.parametrize(
    ("spec", "how", "expected"),
    [
        ({}, {}, Forked),
        ({"seed": 3, "plant": "a:b"}, {}, Forked),
        ({"replica": 1}, {}, Fresh),
        ({"device": "cuda"}, {}, Fresh),
        ({"threads": 2}, {}, Fresh),
        ({"deterministic": False}, {}, Fresh),
        ({}, {"hash_seed": 1}, Fresh),
        ({}, {"environ": {"A": "b"}}, Fresh),
        ({}, {"memory_mib": 4000}, Fresh),
    ],
)
def test_only_plain_children_are_forked(monkeypatch, spec, how, expected):
    def raising(error):
        def start(*_, **__):
            raise error

        return start

    monkeypatch.setattr("rectest.training.launch.start_forked", raising(Forked))
    monkeypatch.setattr("rectest.training.launch.subprocess.Popen", raising(Fresh))

    with pytest.raises(expected):
        launch(RunSpec(system="a:b", **spec), how=replace(HOW, **how))


def test_an_idle_server_makes_room_for_another_environment(monkeypatch):
    class Pretended:
        def __init__(self, environ):
            self.name, self.is_idle = environ["NAME"], environ["NAME"] == "b"

        def idle(self):
            return self.is_idle

        def stop(self):
            stopped.append(self.name)

        def fork(self, *_, optimizes):
            return self.name

    stopped: list[str] = []
    monkeypatch.setattr(warm, "_SERVERS", {})
    monkeypatch.setattr(warm._Server, "start", Pretended)
    monkeypatch.setattr(Pretended, "usable", lambda _: True, raising=False)

    def ask(name):
        return warm.start_forked(Path("job"), environ={"NAME": name, "COLUMNS": name}, cwd=Path(), log=0)

    assert ["a", "b", "a", "c", None, "c"] == [ask(name) for name in ("a", "b", "a", "c", "b", "c")]
    assert stopped == ["b"]


def test_a_process_with_threads_is_not_forked():
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait)
    thread.start()
    try:
        obtained = warm_server._forked()
    finally:
        ends.set()
        thread.join()

    assert obtained == -1


def test_the_server_loads_nothing_of_the_users():
    loaded = [name for name in warm_server.PRELOADED if not re.match(r"(torch|rectest)(\.|$)", name)]

    assert loaded == []
