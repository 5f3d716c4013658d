"""Versions and flags: plain, equal while nothing changes, and noted again when something does."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fixtures.recorded import tape_of
from rectest.divergence.inside.torch_environment import describe


def test_what_is_described_is_plain_and_repeats_itself() -> None:
    found = describe(torch)

    assert found == json.loads(json.dumps(describe(torch)))
    assert torch.__version__ == found["torch"]
    assert torch.get_num_threads() == found["threads"]


def test_a_flag_that_changes_is_noted_at_the_next_step(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()

    def script() -> None:
        weight = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for step in range(4):
            torch.set_float32_matmul_precision("high" if step >= 2 else "highest")
            weight.sum().backward()
            optimizer.step()

    try:
        events = [event for event in tape_of(tmp_path, script) if event.kind == "environment"]
    finally:
        torch.set_float32_matmul_precision(before)

    assert [1, 3] == [event.step for event in events]
    assert ["highest", "high"] == [event.info["matmul_precision"] for event in events]
