"""Ranks: real processes that exchange gradients, and a named rank for each way in which one can fail."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rectest.errors import ChildFailed, TrainingError
from rectest.record import RunSpec
from rectest.systems.gram_c.runner import REPORT_003, Reduction
from rectest.training.launch import Launch
from rectest.training.rank_child import choose_backend
from rectest.training.ranks import RanksJob, RanksOutcome, run_jobs, run_ranks

HERE = str(Path.cwd())
HOW = Launch(sys_path=[HERE], deadline=120)
SPEC = RunSpec(system="fixtures.toy:ToySystem", world="tiny")

BAD_RANK = '''
import os, time
from fixtures.toy import ToySystem

class Bad(ToySystem):
    """Goes wrong on rank 1, in its second step."""
    steps_seen = 0
    def losses(self, model, batch):
        import torch.distributed as dist
        Bad.steps_seen += model.training or 1
        if dist.get_rank() == 1 and Bad.steps_seen == 4:
            {trouble}
        return super().losses(model, batch)
'''


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Ranks work below a folder of this test, so that what they leave behind can be seen."""
    folder = tmp_path / "ranks"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def outcomes() -> dict[str, RanksOutcome]:
    jobs = {
        "plain": RanksJob(num_steps=3),
        "report": RanksJob(reduction=REPORT_003),
        "never": RanksJob(reduction=Reduction(forward="module")),
        "dropout": RanksJob(training_mode=True, num_steps=1),
    }
    return run_jobs(SPEC, jobs, world_size=2, how=HOW)


@pytest.fixture(scope="module")
def two_ranks() -> dict[str, RanksOutcome]:
    return outcomes()


@pytest.fixture(scope="module")
def single() -> RanksOutcome:
    return run_ranks(SPEC, RanksJob(num_steps=3), world_size=1, how=HOW)


def test_two_ranks_give_the_gradient_of_one_process(two_ranks, single):
    (expected,) = single.records
    for name in ("plain", "report"):
        for record in two_ranks[name].records:
            for key in ("grad/last.weight", "grad/next.weight"):
                np.testing.assert_allclose(record[key], expected[key], atol=1e-7)


def test_replicas_stay_equal_with_reduction_and_part_without(two_ranks):
    equal = {
        name: np.array_equal(*(record["replicas/tensors"] for record in outcome.records))
        for name, outcome in two_ranks.items()
    }

    assert equal == {"plain": True, "report": True, "never": False, "dropout": True}
    assert two_ranks["plain"].records[0]["replicas/tensors"].shape == (4, 2, 2)
    assert two_ranks["plain"].records[0].facts["replicas"]["names"] == ["last.weight", "next.weight"]


def test_the_logged_loss_is_the_mean_over_ranks(two_ranks, single):
    first, second = two_ranks["plain"].records

    np.testing.assert_allclose((first["loss/total"] + second["loss/total"]) / 2, first["loss/reduced"])
    np.testing.assert_allclose(first["loss/reduced"], single.records[0]["loss/total"], rtol=1e-6)


def test_local_gradients_average_to_the_whole_and_are_left_out_under_dropout(two_ranks, single):
    first, second = two_ranks["plain"].records

    mean = (first["local/next.weight"] + second["local/next.weight"]) / 2
    np.testing.assert_allclose(mean, single.records[0]["grad/next.weight"], atol=1e-7)
    assert two_ranks["dropout"].records[0].names("local/") == []


def test_records_say_who_they_are(two_ranks, single):
    facts = two_ranks["never"].records[1].facts["parallel"]

    assert (facts["rank"], facts["world_size"], facts["backend"]) == (1, 2, "gloo")
    assert facts["loss_terms"] == [32.0]
    assert RanksJob.from_dict(facts["job"]) == two_ranks["never"].job
    assert single.records[0].facts["parallel"]["backend"] == "none"
    assert single.world_size == 1


@pytest.mark.parametrize(
    ("trouble", "reason", "problem"),
    [
        ("raise KeyError('target')", "raised", r"rank 1 of 2 raised KeyError: 'target'"),
        ("os.kill(os.getpid(), 9)", "killed", r"rank 1 of 2 was killed by SIGKILL after 'job: forward'"),
        pytest.param(
            "os._exit(7)", "start", r"rank 1 of 2 ended with exit code 7 and no record", marks=pytest.mark.slow
        ),
    ],
)
def test_the_rank_that_failed_is_named(own_folder, tmp_path, trouble, reason, problem):
    path = tmp_path / "bad.py"
    path.write_text(BAD_RANK.format(trouble=trouble))

    with pytest.raises(ChildFailed, match=problem) as caught:
        run_ranks(SPEC.with_(system=f"{path}:Bad"), RanksJob(num_steps=4), world_size=2, how=HOW)

    assert caught.value.reason == reason
    assert list(own_folder.iterdir()) == []


@pytest.mark.slow
def test_a_hang_ends_at_the_deadline_and_nobody_is_left(own_folder, tmp_path):
    path = tmp_path / "bad.py"
    trouble = f"open({str(tmp_path)!r} + '/pid', 'w').write(str(os.getpid())); time.sleep(600)"
    path.write_text(BAD_RANK.format(trouble=trouble))
    how = Launch(sys_path=[HERE], deadline=25)
    problem = r"rank 1 of 2 did not come past 'job: forward', the other 1 wait for it; the deadline of 25 s"

    with pytest.raises(ChildFailed, match=problem) as caught:
        run_ranks(SPEC.with_(system=f"{path}:Bad"), RanksJob(num_steps=4), world_size=2, how=how)

    assert caught.value.reason == "deadline"
    assert list(own_folder.iterdir()) == []
    assert _ended(int((tmp_path / "pid").read_text()))


def _ended(pid: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, signal.SIG_DFL)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [({"world_size": 0}, "at least one process"), ({"world_size": 2, "backend": "mpi"}, "backend must be")],
)
def test_odd_requests_are_refused(kwargs, problem):
    with pytest.raises(ValueError, match=problem):
        run_ranks(SPEC, how=HOW, **kwargs)


def test_odd_jobs_are_refused():
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        RanksJob(num_steps=0)


def test_the_backend_fits_the_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)

    found = [choose_backend("auto", device, ranks) for device, ranks in (("cpu", 2), ("cuda", 2), ("cuda", 4))]

    assert found == ["gloo", "nccl", "gloo"]
    assert choose_backend("gloo", "cuda", 2) == "gloo"
    with pytest.raises(TrainingError, match="a GPU for each of 4 ranks"):
        choose_backend("nccl", "cuda", 4)


@pytest.mark.gpu
def test_two_ranks_on_the_gpu(single):
    """One GPU for each rank, or a shared one: the gradient is that of one process there."""
    spec = SPEC.with_(device="cuda")
    (expected,) = run_ranks(spec, world_size=1, how=HOW).records
    records = run_ranks(spec, world_size=2, how=HOW).records

    for record in records:
        np.testing.assert_allclose(record["grad/next.weight"], expected["grad/next.weight"], atol=1e-6)
    np.testing.assert_array_equal(*(record["replicas/tensors"] for record in records))
