"""Groups of processes: what each rank is given, what comes back, and the name of the rank for every way to fail."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import ranks
from rectest.errors import ChildFailed, TrainingError
from rectest.training.group import Group, choose_backend, current_group, run_on_ranks, say
from rectest.training.group_child import place_of
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


def here() -> int:
    """A function of the test module itself."""
    return current_group().rank


def test_each_rank_knows_where_it_stands_and_can_reach_the_others():
    found = run_on_ranks(ranks.where, world_size=2)

    assert [rank["group"] for rank in found] == [
        Group(rank=0, world_size=2, backend="gloo", device="cpu"),
        Group(rank=1, world_size=2, backend="gloo", device="cpu"),
    ]
    assert [rank["sum"] for rank in found] == [3.0, 3.0]
    assert [rank["environ"]["RANK"] + rank["environ"]["LOCAL_RANK"] for rank in found] == ["00", "11"]
    assert {rank["environ"]["WORLD_SIZE"] for rank in found} == {"2"}
    assert {rank["threads"] for rank in found} == {1}
    assert {rank["session"] for rank in found} == {True}
    assert {rank["folder"] for rank in found} == {str(Path.cwd())}


def test_one_rank_is_a_group_too():
    (found,) = run_on_ranks(ranks.where, world_size=1)

    assert found["group"] == Group(rank=0, world_size=1, backend="gloo", device="cpu")
    assert found["sum"] == 1.0


def test_results_come_back_by_rank():
    array = np.arange(3.0)

    first, second = run_on_ranks(ranks.trains, 3, world_size=2)
    greetings = run_on_ranks(ranks.greet, {"array": array, "tensor": torch.ones(2)}, world_size=2)

    assert first.tolist() == second.tolist() == [[0.5, 0.5, 0.5]]
    np.testing.assert_array_equal(array, greetings[1]["array"])
    assert greetings[1]["tensor"].tolist() == [1.0, 1.0]


def test_a_function_of_a_test_module_can_be_run():
    assert run_on_ranks(here, world_size=2) == [0, 1]


def test_every_rank_of_every_launch_draws_its_own_numbers():
    drawn = [*run_on_ranks(ranks.draws, world_size=2), *run_on_ranks(ranks.draws, world_size=2)]

    for of_one_generator in zip(*drawn, strict=True):
        assert len(set(of_one_generator)) == 4


def test_the_environment_is_that_of_this_process_and_what_was_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("RECTEST_IN_RANKS", "1")
    monkeypatch.delenv("HOME", raising=False)
    how = Launch(environ={"FOR_RANKS": "2"}, sys_path=[str(tmp_path)])

    names = ("RECTEST_IN_RANKS", "HOME", "FOR_RANKS", "PYTEST_CURRENT_TEST", "TORCHELASTIC_RUN_ID")
    ((variables, _, first_entry),) = run_on_ranks(ranks.environment, *names, world_size=1, how=how)

    assert variables == ["1", None, "2", None, None]
    assert first_entry == str(tmp_path)
    assert "FOR_RANKS" not in os.environ


def test_a_launch_after_the_first_is_quick():
    took = []
    for _ in range(3):
        start = time.monotonic()
        run_on_ranks(ranks.greet, 1, world_size=2)
        took.append(time.monotonic() - start)

    assert min(took) < 1.0


def test_another_hash_seed_takes_fresh_interpreters(own_folder):
    """The path that CUDA takes, too."""
    script = "print(hash('rectest'))"
    command = [sys.executable, "-S", "-c", script]
    expected = subprocess.run(command, env={"PYTHONHASHSEED": "5"}, capture_output=True, text=True, check=True).stdout

    found = run_on_ranks(ranks.environment, "RANK", world_size=2, how=Launch(hash_seed=5))

    assert [hashed for _, hashed, _ in found] == [int(expected)] * 2
    assert [variables for variables, _, _ in found] == [["0"], ["1"]]
    assert list(own_folder.iterdir()) == []


@pytest.mark.slow
def test_a_temporary_folder_with_a_long_name(tmp_path):
    """The socket of a fork server in it could not have a name."""
    folder = tmp_path / "a space" / ("x" * 100)
    folder.mkdir(parents=True)
    script = tmp_path / "launch.py"
    script.write_text(
        "from fixtures.ranks import greet\n"
        "from rectest.training.group import run_on_ranks\n"
        "if __name__ == '__main__':\n"
        "    assert run_on_ranks(greet, 'hello', world_size=2) == ['hello'] * 2\n"
    )

    environ = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, str(script)], env=environ, check=True, timeout=100)

    assert list(folder.iterdir()) == []


def test_two_launches_at_once_do_not_meet():
    with ThreadPoolExecutor(max_workers=2) as pool:
        calls = [pool.submit(run_on_ranks, ranks.where, world_size=size) for size in (2, 3)]
        found = [call.result() for call in calls]

    assert [[rank["sum"] for rank in launch] for launch in found] == [[3.0] * 2, [6.0] * 3]


def test_signals_stay_with_the_test_run():
    def handler(number: int, frame: object) -> None:
        """Never called."""

    before = signal.signal(signal.SIGTERM, handler)
    try:
        run_on_ranks(ranks.greet, 1, world_size=1)

        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_that_goes_on_does_not_keep_the_group():
    assert run_on_ranks(ranks.leaves_a_thread, world_size=1, how=Launch(deadline=10)) == ["returned"]


def test_a_memory_limit_holds_for_each_rank():
    with pytest.raises(ChildFailed, match="rank 0 of 1 ran out of memory") as caught:
        run_on_ranks(ranks.takes_memory, 2**34, world_size=1, how=Launch(memory_mib=8192))

    assert caught.value.reason == "memory"


def test_results_that_cannot_travel_are_the_rank_s_error():
    with pytest.raises(
        ChildFailed, match=r"rank 1 of 2 raised TypeError: the result, a Held, cannot be pickled .*lock"
    ):
        run_on_ranks(ranks.held, world_size=2)
    with pytest.raises(ChildFailed, match="rank 0 of 1 returned what this process cannot load"):
        run_on_ranks(ranks.unloadable, world_size=1)


def test_what_cannot_be_sent_is_refused_before_anything_starts():
    @dataclass
    class Local:
        value: int

    hint = "define it, or its class, at the top level of a module"
    with pytest.raises(TypeError, match=f"the function .*<lambda> cannot be sent to other processes .*{hint}"):
        run_on_ranks(lambda: 1, world_size=1)
    with pytest.raises(TypeError, match=r"argument 2 \(a Local\) cannot be sent"):
        run_on_ranks(ranks.greet, 1, Local(2), world_size=1)
    with pytest.raises(TypeError, match=r"argument 1 \(a Held\) cannot be sent"):
        run_on_ranks(ranks.greet, ranks.Held(), world_size=1)


def test_a_module_that_ranks_cannot_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def work():\n    return 'worked'\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    monkeypatch.undo()

    problem = (
        "rank 0 of 1 could not load only_here:work .* .ModuleNotFoundError: No module named 'only_here'.; define it"
    )
    with pytest.raises(ChildFailed, match=problem) as caught:
        run_on_ranks(only_here.work, world_size=1)
    assert caught.value.reason == "start"
    assert run_on_ranks(only_here.work, world_size=1, how=Launch(sys_path=[str(tmp_path)])) == ["worked"]
    del sys.modules["only_here"]


def test_logs_stay_where_they_were_asked_for(own_folder, tmp_path):
    logs = tmp_path / "logs"

    with pytest.raises(ChildFailed, match="what it printed is in") as caught:
        run_on_ranks(ranks.says_much, world_size=1, log_dir=logs)

    (folder,) = logs.glob("ranks_*/attempt_0/0")
    assert caught.value.detail.endswith(str(folder))
    assert (folder / "stdout.log").read_text() == "to stdout\n"
    assert (folder / "stderr.log").read_text().count("line ") > 40
    assert caught.value.log.splitlines()[0] == "line 15"
    assert "KeyError: 'target'" in caught.value.log
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"world_size": 0}, "at least one process"),
        ({"world_size": 2, "backend": "mpi"}, "backend must be auto, gloo or nccl"),
        ({"world_size": 2, "device": "gpu"}, "device must be cpu, cuda"),
        ({"world_size": 2, "device": "mps"}, "device must be cpu, cuda"),
    ],
)
def test_odd_requests_are_refused(kwargs, problem):
    with pytest.raises(ValueError, match=problem):
        run_on_ranks(ranks.greet, 1, **kwargs)


def test_a_taken_port_is_named_and_a_free_one_is_given_back():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TrainingError, match=f"port {port} is taken .*; port 0 takes a free one"):
            run_on_ranks(ranks.greet, 1, world_size=2, port=port)
    for _ in range(2):
        assert run_on_ranks(ranks.greet, 1, world_size=2, port=port) == [1, 1]


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_no_failure_of_a_rank():
    with pytest.raises(TrainingError, match=r"device 'cuda' needs a GPU .* found 0; use device 'cpu'"):
        run_on_ranks(ranks.greet, 1, world_size=1, device="cuda")


def test_ranks_take_gpus_in_turn_or_the_one_that_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert [place_of("cuda", rank) for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert (place_of("cuda:1", 0), place_of("cpu", 1)) == ("cuda:1", "cpu")
    with pytest.raises(TrainingError, match=r"device 'cuda:2' needs a GPU .* found 2"):
        place_of("cuda:2", 0)


def test_nccl_without_gpus_is_refused():
    with pytest.raises(TrainingError, match="nccl needs device cuda and a GPU for each of 2 ranks, found device 'cpu'"):
        run_on_ranks(ranks.greet, 1, world_size=2, backend="nccl")


def test_the_backend_fits_the_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)

    found = [choose_backend("auto", device, size) for device, size in (("cpu", 2), ("cuda", 2), ("cuda", 4))]

    assert found == ["gloo", "nccl", "gloo"]
    assert choose_backend("gloo", "cuda", 2) == "gloo"
    with pytest.raises(TrainingError, match="a GPU for each of 4 ranks"):
        choose_backend("nccl", "cuda", 4)


@pytest.mark.gpu
@pytest.mark.parametrize("world_size", [1, 2])
def test_ranks_on_gpus(world_size):
    """One GPU for each rank, or a shared one."""
    found = run_on_ranks(ranks.adds_on_device, world_size=world_size, device="cuda")

    own = torch.cuda.device_count() >= world_size
    assert [rank["backend"] for rank in found] == ["nccl" if own else "gloo"] * world_size
    assert [rank["sum"].item() for rank in found] == [sum(range(1, world_size + 1))] * world_size
    assert {rank["sum"].device.type for rank in found} == {"cpu"}


def test_outside_of_a_rank_there_is_no_group():
    say("nobody listens")

    assert current_group() is None
