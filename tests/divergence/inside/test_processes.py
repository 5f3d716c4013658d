"""Names of child processes, and queues that several of them feed."""

from __future__ import annotations

import multiprocessing
import os
import queue as threads_queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rectest.divergence.inside import processes, turns
from rectest.divergence.inside.queues import Tagged
from rectest.divergence.inside.session import Config, Session, active
from rectest.divergence.inside.start import finish
from rectest.divergence.inside.turns import Turns
from rectest.divergence.tapes import load_run

FORK = multiprocessing.get_context("fork")
Watch = Callable[..., Session]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Start a recording of processes with these pins."""
    sessions: list[Session] = []

    def begin(*pins: str) -> Session:
        session = Session(Config(tape=str(tmp_path), root=str(tmp_path), pins=pins), process="main", header={})
        session.start()
        processes.install(session)
        sessions.append(session)
        return session

    yield begin
    for session in sessions:
        session.close("exit")


def produce(results: Any, name: str, seconds: list[float]) -> None:
    """Put numbered objects, each after a while."""
    for number, pause in enumerate(seconds):
        time.sleep(pause)
        results.put((name, number))
    finish(active(), "exit")


def two_producers(results: Any) -> list[Any]:
    """Start a slow and a quick producer and take everything."""
    parts = [("slow", [0.06, 0.02]), ("quick", [0.0, 0.0])]
    children = [FORK.Process(target=produce, args=(results, *part)) for part in parts]
    for child in children:
        child.start()
    taken = [results.get() for _ in range(4)]
    for child in children:
        child.join()
    return taken


class TestNames:
    def test_forked_children_record_under_names_in_order(self, watch: Watch, tmp_path: Path) -> None:
        session = watch()
        for number in (1, 2):
            pid = os.fork()
            if pid == 0:
                session.event("hash", f"in child {number}")
                finish(session, "exit")
                os._exit(0)
            os.waitpid(pid, 0)
        session.close("exit")

        tapes = load_run(tmp_path).tapes

        assert {"main", "main.1", "main.2"} == set(tapes)
        assert ["main.1", "main.2"] == [event.name for event in tapes["main"].of("process")]
        assert [("in child 2", "main")] == [
            (event.name, tapes["main.2"].header["parent"]) for event in tapes["main.2"].events
        ]

    def test_programs_get_their_name_and_the_mapping_stays(
        self, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import subprocess

        monkeypatch.setenv("RECTEST_WHY_PROCESS", "main.child")
        session = watch()
        own = {"RECTEST_WHY_PROCESS": "x", "PATH": os.defpath}
        command = ["sh", "-c", "echo $RECTEST_WHY_PROCESS"]

        obtained = [subprocess.check_output(command, text=True, env=env).strip() for env in (None, own, {})]

        session.close("exit")
        assert ["main.1", "main.2", ""] == obtained
        assert ("x", "main.child") == (own["RECTEST_WHY_PROCESS"], os.environ["RECTEST_WHY_PROCESS"])
        assert ["Popen"] * 3 == [event.info["how"] for event in load_run(tmp_path).tapes["main"].events]


class TestQueues:
    @pytest.mark.parametrize("make", [FORK.Queue, FORK.SimpleQueue, FORK.JoinableQueue])
    def test_the_order_of_arrival_is_noted(self, watch: Watch, tmp_path: Path, make: Callable[[], Any]) -> None:
        session = watch()
        results = make()

        taken = two_producers(results)

        session.close("exit")
        (event,) = load_run(tmp_path).tapes["main"].of("queue")
        assert ["quick", "quick", "slow", "slow"] == sorted(name for name, _ in taken)
        assert {"count": 4, "producers": 2} == dict(event.info)
        assert "test_processes.py" in event.name

    @pytest.mark.parametrize("make", [FORK.Queue, FORK.SimpleQueue])
    def test_the_pin_takes_turns(self, watch: Watch, make: Callable[[], Any]) -> None:
        watch("queue")

        taken = two_producers(make())

        assert [("slow", 0), ("quick", 0), ("slow", 1), ("quick", 1)] == taken

    def test_objects_come_out_as_they_went_in_after_the_end(self, watch: Watch) -> None:
        session = watch()
        results = FORK.SimpleQueue()
        results.put({"a": [1]})
        session.close("exit")

        assert {"a": [1]} == results.get()
        assert type(results).put.__qualname__ == "SimpleQueue.put"


class TestTurns:
    @pytest.fixture
    def results(self, watch: Watch) -> Iterator[Any]:
        watch("queue")
        results = FORK.Queue()
        yield results
        results.close()
        results.join_thread()

    @staticmethod
    def put(results: Any, *producers: str) -> None:
        for number, producer in enumerate(producers):
            multiprocessing.queues.Queue.put.__wrapped__(results, Tagged(number, producer))  # type: ignore[attr-defined]
        time.sleep(0.05)

    def test_time_limits_hold(self, results: Any) -> None:
        started = time.monotonic()

        with pytest.raises(threads_queue.Empty):
            results.get(timeout=0.1)
        with pytest.raises(threads_queue.Empty):
            results.get_nowait()

        assert 0.09 < time.monotonic() - started < 1

    def test_what_waits_still_counts_as_in_the_queue(self, results: Any) -> None:
        self.put(results, "main.2", "main.10", "main.10", "main.2")

        assert [0, 1, 3] == [results.get() for _ in range(3)]
        assert not results.empty()
        assert 1 == results.qsize()
        assert 2 == results.get(timeout=0.2)
        assert results.empty()

    def test_a_silent_producer_is_no_deadlock(self, results: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.1)
        self.put(results, "main.1", "main.2", "main.2", "main.2")

        assert [0, 1, 2, 3] == [results.get() for _ in range(4)]

    def test_names_are_ordered_by_number(self, results: Any) -> None:
        order = Turns(results, {"main.10": lambda: None, "main.9": lambda: None})

        assert ["main.9", "main.10"] == order._after_last()
