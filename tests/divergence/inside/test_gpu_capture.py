"""Recording a training on a GPU: digests made there, bits left alone, atomics found and named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import rectest
from fixtures.recorded import tape_of
from rectest.divergence.inside.lanes import lanes_of

pytestmark = pytest.mark.gpu


def train(*, bag: bool = False, num_steps: int = 4) -> torch.Tensor:
    """A table under many repeated ids; `bag` takes EmbeddingBag(mode="max"), whose backward adds atomically."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    table = nn.EmbeddingBag(50, 64, mode="max") if bag else nn.Linear(64, 64)
    model = nn.Sequential(table, nn.Dropout(0.1), nn.Linear(64, 8)).to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(num_steps):
        ids = torch.randint(0, 50, (8192, 20), generator=generator)
        rows = ids if bag else torch.rand(512, 64, generator=generator)
        loss = model(rows.to("cuda")).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model[2].weight.detach().cpu()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_the_device_digests_as_the_processor_does(kind: torch.dtype) -> None:
    value = (torch.arange(3_000_001) % 251).to(kind)

    assert torch.equal(lanes_of(torch, value), lanes_of(torch, value.to("cuda")).cpu())


def test_recording_changes_no_bit_and_two_recordings_are_identical(tmp_path: Path) -> None:
    plain = train()
    for name in "ab":
        with rectest.capture(tmp_path / name):
            assert torch.equal(plain, train())

    finding = rectest.why(tmp_path / "a", tmp_path / "b").finding

    assert finding.verdict == "identical"
    assert finding.num_steps == (4, 4)


def test_every_stage_on_the_device_has_a_digest(tmp_path: Path) -> None:
    events = tape_of(tmp_path, train)

    found = {event.kind for event in events if event.digest}
    assert {"init", "input", "forward", "loss", "gradient", "optimizer", "parameter", "rng"} <= found
    assert {"cuda:0", "torch"} <= {event.name for event in events if event.kind == "rng"}
    devices = {e.info.get("device") for e in events if e.kind == "environment" and e.name == "torch"}
    assert torch.cuda.get_device_name() in devices


def test_an_atomic_backward_is_a_kernel_of_torchs_own_list(tmp_path: Path) -> None:
    """If the atomics happen to add in one order in all ten pairs, nothing was measured and the test says so."""
    for number in range(10):
        for name in "ab":
            with rectest.capture(tmp_path / f"{name}{number}"):
                train(bag=True)
        finding = rectest.why(tmp_path / f"a{number}", tmp_path / f"b{number}").finding
        if finding.exit_code == 1:
            break
    else:
        pytest.skip("ten pairs of atomic backwards were bit-equal on this GPU")

    assert finding.stage == "backward"
    assert finding.nature == "other arithmetic"
    assert finding.causes[0].kind == "kernel"
    assert "EmbeddingBag" in finding.causes[0].what
