"""``rec_ranks`` in users' own test files: results by rank, parity in the report, and failures that name the rank."""

from __future__ import annotations

import json

import pytest

from fixtures.ranks import greet
from rectest.training.group import run_on_ranks

FUNCTIONS = """
import pytest
import torch
import torch.distributed as dist
from torch import nn

def place(start):
    value = torch.tensor(float(dist.get_rank() + start))
    dist.all_reduce(value)
    return dist.get_rank(), dist.get_world_size(), value.item()

def broken():
    if dist.get_rank() == 1:
        raise KeyError("absent")
    dist.barrier()

def hanging():
    if dist.get_rank() == 0:
        import time
        time.sleep(60)
    dist.barrier()

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.items = nn.Embedding(6, 3)

def build():
    return Model()

def loss(model, batch):
    return model.items(batch["items"]).square().sum(dim=1).mean()

def never(model, loss):
    return lambda batches: [loss(model, batch).backward() for batch in batches][1:] or None

BATCH = {"items": torch.tensor([1, 2, 2, 5])}
"""
GREEN = """
def test_results(rec_ranks):
    assert rec_ranks(place, 10) == [(0, 2, 21.0), (1, 2, 21.0)]
    assert rec_ranks(place, 0, world_size=1) == [(0, 1, 0.0)]

def test_parity(rec_ranks):
    results = rec_ranks.assert_gradient_parity(build, loss, BATCH, world_sizes=(2,))
    assert all(result.verdict == "PASS" for result in results)
"""
RED = """
def test_never_reduced(rec_ranks):
    rec_ranks.assert_gradient_parity(build, loss, BATCH, strategy=never, world_sizes=(2,))

def test_broken(rec_ranks):
    rec_ranks(broken)

def test_hanging(rec_ranks):
    rec_ranks(hanging, deadline=3)

def test_local(rec_ranks):
    rec_ranks(lambda: 1)

def test_no_gpu(rec_ranks):
    rec_ranks(place, 1, device="cuda")

def test_no_gpu_for_parity(rec_ranks):
    rec_ranks.assert_gradient_parity(build, loss, BATCH, device="cuda", world_sizes=(2,))

def test_empty(rec_ranks):
    rec_ranks.assert_gradient_parity(build, loss, {"items": torch.tensor([])})
"""


@pytest.fixture(scope="module", autouse=True)
def _server():
    """The fork server runs before a test hides the GPUs: ranks that come later have its environment."""
    assert run_on_ranks(greet, 1, world_size=1) == [1]


@pytest.mark.slow  # green by default is the parity example of README
@pytest.mark.parametrize("mode", ["importlib", "prepend"])
def test_green_in_a_file_that_pytest_imported(pytester, mode):
    folder = pytester.mkdir("checks")
    (folder / "test_mine.py").write_text(FUNCTIONS + GREEN)

    result = pytester.runpytest_subprocess(f"--import-mode={mode}", "--rectest-json=report.json")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*= rectest =*", "*environment cpu*", "*PASS*parity*"])
    report = json.loads((pytester.path / "report.json").read_text())
    assert report["verdict"] == "PASS"
    assert "parity/gradient" in {found["check"] for found in report["results"]}
    assert {found["subject"].rpartition(".")[2] for found in report["results"]} == {"build on 2 ranks"}


def test_red_says_what_is_wrong(pytester, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    pytester.makepyfile(FUNCTIONS + RED)

    result = pytester.runpytest_inprocess("--rectest-json=report.json")

    result.assert_outcomes(failed=7)
    result.stdout.fnmatch_lines(
        [
            "*FAIL parity/gradient: *build on 2 ranks*",
            "*never reduced*",
            "*NOT MEASURED: training broken: rank 1 of 2 raised KeyError: 'absent'*",
            "*--- what the rank last said ---*",
            "*NOT MEASURED: training hanging: rank 0 and rank 1 of 2 did not come past *hanging*deadline of 3 s*",
            "*NOT MEASURED: function cannot be sent to the ranks*top level of a module*",
            "*NOT MEASURED: asked for device 'cuda', found no GPU*",
            "*NOT MEASURED parity/gradient: *asked for 1 GPU, found 0*",
            "*NOT MEASURED: the batch is empty: items has 0 rows*",
        ]
    )
    report = json.loads((pytester.path / "report.json").read_text())
    assert report["verdict"] == "FAIL"
    assert report["counts"]["NOT MEASURED"] >= 6
