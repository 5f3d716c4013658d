"""The same call under torchrun: two agents on one machine, as two machines would be."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rectest.training.group_torchrun import under_torchrun


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def agent(node: int, port: int, folder: Path) -> subprocess.Popen[str]:
    rendezvous = ["--nnodes=2", f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *rendezvous, "--nproc-per-node=1"]
    environ = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(
        [*command, f"--log-dir={folder}", "-m", "fixtures.ranks", str(folder)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> list[dict[str, str]]:
    """What each of the two ranks wrote down."""
    folder, port = tmp_path_factory.mktemp("torchrun"), free_port()
    with agent(0, port, folder) as one, agent(1, port, folder) as other:
        agents = (one, other)
        try:
            said = [process.communicate(timeout=60)[0] for process in agents]
        finally:
            for process in agents:
                process.terminate()
    assert [process.returncode for process in agents] == [0, 0], "\n".join(said)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_every_rank_gets_the_results_of_all(told):
    first, second = (rank["where"] for rank in told)

    assert first == second
    assert "Group(rank=0, world_size=2, backend='gloo', device='cpu')" in first
    assert "Group(rank=1, world_size=2, backend='gloo', device='cpu')" in first
    assert first.count("'sum': 3.0") == 2


def test_a_result_may_be_larger_than_a_message_of_the_store(told):
    part = f"{9 * 2**20} bytes, of which {9 * 2**20} are 1"

    assert [rank["large"] for rank in told] == [f"[{part}, {part}]"] * 2


def test_the_rank_that_failed_is_named_on_all(told):
    expected = "ChildFailed: training fixtures.ranks:fails: rank 1 of 2 raised KeyError: 'target'"

    assert [rank["raises"].replace("__main__", "fixtures.ranks") for rank in told] == [expected] * 2
    assert all("rank 1 of 2 raised TypeError: the result, a Held, cannot" in rank["cannot be sent"] for rank in told)


def test_the_next_call_works_after_a_failure(told):
    assert all(rank["again"].count("'sum': 3.0") == 2 for rank in told)


def test_a_group_that_exists_is_used_and_stays(told):
    assert all(rank["in a group of one's own"].count("'sum': 3.0") == 2 for rank in told)
    assert [rank["which stays"] for rank in told] == ["True", "True"]


def test_another_number_of_ranks_is_refused(told):
    expected = "TrainingError: 3 ranks were asked for, and torchrun started 2; start it so that nodes times processes"

    assert all(rank["three"].startswith(expected) for rank in told)


def test_a_rank_of_which_there_is_no_word_is_named(told):
    problem = "rank 1 of 2 did not come past 'sleep', the other 1 wait for it; the deadline of 1 s"

    assert all(problem in rank["late"] for rank in told)


def test_this_process_is_none_of_its_workers(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    outside = under_torchrun()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("RANK", "0")

    assert (outside, under_torchrun()) == (False, True)
