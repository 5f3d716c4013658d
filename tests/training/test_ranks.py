"""Jobs on ranks: what each rank's record holds, and how a system's failure on one rank is told."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from rectest.errors import ChildFailed
from rectest.record import RunSpec
from rectest.training.launch import Launch
from rectest.training.ranks import RanksJob, RanksOutcome, run_jobs, run_ranks
from rectest.training.reduction import REPORT_003, Reduction

HOW = Launch(sys_path=[str(Path.cwd())], deadline=120)
SPEC = RunSpec(system="fixtures.toy:ToySystem", world="tiny")
NAMES = ("last.weight", "next.weight")

BAD_RANK = '''
import os, time
from fixtures.toy import ToySystem

class Bad(ToySystem):
    """Goes wrong on rank 1, in its second step."""
    steps_seen = 0
    def losses(self, model, batch):
        import torch.distributed as dist
        Bad.steps_seen += 1
        if dist.get_rank() == 1 and Bad.steps_seen == 6:
            {trouble}
        return super().losses(model, batch)
'''

JOBS = {
    "plain": RanksJob(num_steps=3),
    "report": RanksJob(reduction=REPORT_003),
    "never": RanksJob(reduction=Reduction(forward="module")),
    "accumulated": RanksJob(reduction=Reduction(accumulation=2), shares=(3, 1)),
    "unweighed": RanksJob(reduction=Reduction(weigh_shares=False), shares=(3, 1)),
    "apart": RanksJob(own_init=True),
    "same": RanksJob(same_rows=True),
    "sparse": RanksJob(sparse=True, optimizer="sgd"),
}


@pytest.fixture(scope="module")
def two_ranks() -> dict[str, RanksOutcome]:
    return run_jobs(SPEC, JOBS, world_size=2, how=HOW)


@pytest.fixture(scope="module")
def single() -> RanksOutcome:
    return run_ranks(SPEC, RanksJob(num_steps=3), world_size=1, how=HOW)


def test_two_ranks_give_the_gradient_of_one_process(two_ranks, single):
    (expected,) = single.records
    for name in ("plain", "report", "accumulated", "sparse"):
        for record in two_ranks[name].records:
            for key in NAMES:
                np.testing.assert_allclose(record[f"grad/{key}"], expected[f"grad/{key}"], atol=1e-7)


def test_replicas_stay_equal_with_reduction_and_part_without(two_ranks):
    equal = {
        name: np.array_equal(*(record["replicas/tensors"] for record in outcome.records))
        for name, outcome in two_ranks.items()
    }

    assert [name for name, same in equal.items() if not same] == ["never"]
    assert two_ranks["plain"].records[0]["replicas/tensors"].shape == (4, 2, 2)
    assert two_ranks["plain"].records[0].facts["replicas"]["names"] == list(NAMES)


def test_what_was_built_apart_is_told_from_what_is_trained(two_ranks):
    first, second = two_ranks["apart"].records

    assert not np.array_equal(first["replicas/built"], second["replicas/built"])
    assert np.array_equal(first["replicas/tensors"][0], first["replicas/built"])
    assert np.array_equal(second["replicas/tensors"][0], first["replicas/built"])


def test_the_optimizer_state_is_digested(two_ranks):
    first, second = two_ranks["never"].records
    names = first.facts["replicas"]["optimizer"]

    assert "last.weight/exp_avg" in names
    assert first["replicas/optimizer"].shape == (2, len(names), 2)
    assert not np.array_equal(first["replicas/optimizer"], second["replicas/optimizer"])
    assert two_ranks["sparse"].records[0]["replicas/optimizer"].shape == (2, 0, 2)


def test_the_logged_loss_is_the_mean_over_ranks(two_ranks, single):
    first, second = two_ranks["plain"].records

    np.testing.assert_allclose((first["loss/total"] + second["loss/total"]) / 2, first["loss/reduced"])
    np.testing.assert_allclose(first["loss/reduced"], single.records[0]["loss/total"], rtol=1e-6)


@pytest.mark.parametrize("name", ["plain", "accumulated", "unweighed", "never"])
def test_local_gradients_add_up_to_the_whole_however_they_are_reduced(two_ranks, single, name):
    records = two_ranks[name].records
    shares = [record[f"local/{key}"] for record in records for key in record.names("local/") if "next" in key]

    np.testing.assert_allclose(sum(shares), single.records[0]["grad/next.weight"], atol=1e-7)
    assert len(shares) == 2 * JOBS[name].reduction.accumulation


def test_equal_shares_are_kept_where_shares_differ(two_ranks):
    """Of 48 and 16 rows: weighed they count 3/4 and 1/4, equally they would count a half each."""
    first, second = two_ranks["unweighed"].records

    assert two_ranks["plain"].records[0].names("equal/") == []
    np.testing.assert_allclose(first["equal/0/next.weight"] * 1.5, first["local/0/next.weight"], atol=1e-7)
    np.testing.assert_allclose(second["equal/0/next.weight"] * 0.5, second["local/0/next.weight"], atol=1e-7)


def test_each_row_is_digested_and_shared_rows_are_seen(two_ranks, single):
    def rows(name):
        return [tuple(row) for record in two_ranks[name].records for row in record["rows/digest"].tolist()]

    whole = [tuple(row) for row in single.records[0]["rows/digest"].tolist()]
    assert rows("plain") == rows("accumulated") == whole
    assert rows("same") == whole[:32] * 2


def test_collectives_are_noted_with_their_place(two_ranks, single):
    def reductions(name):
        calls = two_ranks[name].records[1].facts["parallel"]["comm"]
        return [(c["phase"], c["micro"]) for c in calls if c["op"] == "allreduce_" and c["numel"] > 100]

    assert set(reductions("plain")) == {("backward", 1)}
    assert set(reductions("report")) == {("reduce", 1)}
    assert reductions("never") == []
    assert set(reductions("accumulated")) == {("backward", 2)}


def test_records_say_who_they_are(two_ranks, single):
    facts = two_ranks["accumulated"].records[1].facts["parallel"]

    assert (facts["rank"], facts["world_size"], facts["backend"], facts["device"]) == (1, 2, "gloo", "cpu")
    assert (facts["terms"], facts["num_rows"]) == ({"total": [8.0, 8.0]}, [8, 8])
    assert (facts["dtype"], facts["random_loss"], facts["frozen"]) == ("float32", False, [])
    assert RanksJob.from_dict(facts["job"]) == two_ranks["accumulated"].job
    assert two_ranks["sparse"].records[0].facts["parallel"]["sparse"] == ["last.weight"]
    assert two_ranks["plain"].records[0].facts["tables"] == {name: {"rows": True} for name in NAMES}
    assert single.world_size == 1


@pytest.mark.parametrize(
    ("trouble", "reason", "problem"),
    [
        ("raise KeyError('target')", "raised", r"rank 1 of 2 raised KeyError: 'target'"),
        ("os.kill(os.getpid(), 9)", "killed", r"rank 1 of 2 was killed by SIGKILL after 'job: forward'"),
        ("time.sleep(600)", "deadline", r"rank 1 of 2 did not come past 'job: forward', the other 1 waits? for it"),
    ],
)
def test_the_rank_that_failed_is_named(tmp_path, monkeypatch, trouble, reason, problem):
    folder = tmp_path / "ranks"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = tmp_path / "bad.py"
    path.write_text(BAD_RANK.format(trouble=trouble))
    how = Launch(sys_path=[str(Path.cwd())], deadline=4 if reason == "deadline" else 120)

    with pytest.raises(ChildFailed, match=problem) as caught:
        run_ranks(SPEC.with_(system=f"{path}:Bad"), RanksJob(num_steps=4), world_size=2, how=how)

    assert caught.value.reason == reason
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [({"world_size": 0}, "at least one process"), ({"world_size": 2, "backend": "mpi"}, "backend must be")],
)
def test_odd_requests_are_refused(kwargs, problem):
    with pytest.raises(ValueError, match=problem):
        run_ranks(SPEC, how=HOW, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"optimizer": "adam"}, "optimizer must be own or sgd"),
    ],
)
def test_odd_jobs_are_refused(kwargs, problem):
    with pytest.raises(ValueError, match=problem):
        RanksJob(**kwargs)


def test_no_job_is_refused():
    with pytest.raises(ValueError, match="at least one job"):
        run_jobs(SPEC, {}, world_size=2, how=HOW)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["plain", "report", "accumulated"])
def test_two_ranks_on_the_gpu(name):
    """One GPU for each rank, or a shared one: the gradient is that of one process there."""
    spec = SPEC.with_(device="cuda")
    (expected,) = run_ranks(spec, world_size=1, how=HOW).records
    records = run_ranks(spec, JOBS[name], world_size=2, how=HOW).records

    for record in records:
        np.testing.assert_allclose(record["grad/next.weight"], expected["grad/next.weight"], atol=1e-6)
    np.testing.assert_array_equal(*(record["replicas/tensors"] for record in records))
