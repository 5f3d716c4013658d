"""Optimizer steps on the tape: gradients, state, settings, parameters; for every way in which scripts take steps."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fixtures.recorded import first_difference, recorded, tape_of


def kinds(events: Any, *names: str) -> list[tuple[int, str, str]]:
    return [(event.step, event.kind, event.name) for event in events if event.kind in names]


def test_a_script_without_modules(tmp_path: Path) -> None:
    def script() -> None:
        weights = [torch.ones(3, requires_grad=True), torch.zeros(2, requires_grad=True)]
        optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.5}], lr=0.1)
        for _ in range(2):
            sum(weight.square().sum() for weight in weights).backward()
            optimizer.step()

    events = tape_of(tmp_path, script)

    assert ["group0[0]", "group1[0]"] == list(next(e.tensors for e in events if e.kind == "gradient"))
    assert [(1, "loss", "loss"), (1, "parameter", "optimizer0"), (2, "loss", "loss")] == kinds(
        events, "loss", "parameter"
    )[:3]
    assert ["train"] * len(events[1:]) == [event.phase for event in events[1:]]


def test_unused_frozen_and_tied_parameters(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.items, self.out = nn.Embedding(5, 2, sparse=True), nn.Linear(2, 5, bias=False)
            self.out.weight = self.items.weight
            self.unused, self.frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)

        def forward(self, items: torch.Tensor) -> torch.Tensor:
            return self.items(items).sum()

    def script() -> None:
        model = Tied()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.tensor([1, 1])).backward()
        optimizer.step()

    tensors = next(event.tensors for event in tape_of(tmp_path, script) if event.kind == "gradient")

    absent = {f"Tied.{name}": "0" * 16 for name in ("unused.weight", "unused.bias", "frozen.weight", "frozen.bias")}
    assert absent == {name: digest for name, digest in tensors.items() if name != "Tied.items.weight"}
    assert "0" * 16 != tensors["Tied.items.weight"]


def closures(optimizer: torch.optim.Optimizer, model: nn.Module) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(3, 2)).square().mean()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.SGD])
def test_a_closure_runs_before_its_gradients_are_read(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    def script() -> None:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = kind(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.step(closures(optimizer, model))

    events = tape_of(tmp_path, script)
    order = [event.kind for event in events if event.step == 1 and event.kind in ("loss", "gradient", "parameter")]

    assert "loss" == order[0]
    assert ["gradient", "parameter"] == order[-2:]
    assert {1, 2} == {event.step for event in events if event.kind == "parameter" and event.name == "optimizer0"}


def test_several_optimizers_each_take_steps_of_their_own(tmp_path: Path) -> None:
    def script() -> None:
        first, second = nn.Linear(2, 1), nn.Linear(2, 1)
        optimizers = [torch.optim.Adam(model.parameters()) for model in (first, second)]
        for model, optimizer in zip((second, first), reversed(optimizers), strict=True):
            model(torch.ones(2)).sum().backward()
            optimizer.step()

    events = tape_of(tmp_path, script)
    tables = {event.name: list(event.tensors) for event in events if event.kind == "gradient"}

    assert {
        "optimizer0": ["Linear.weight", "Linear.bias"],
        "optimizer1": ["Linear#2.weight", "Linear#2.bias"],
    } == tables


def test_a_step_within_a_step_is_a_part_of_it(tmp_path: Path) -> None:
    class Outer(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups, {})
            self.inner = inner

        def step(self, closure: Any = None) -> None:
            self.inner.step()

    def script() -> None:
        model = nn.Linear(2, 1)
        optimizer = Outer(torch.optim.SGD(model.parameters(), lr=0.1))
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer.inner, 1)
        for _ in range(2):
            model(torch.ones(2)).sum().backward()
            optimizer.step()
            scheduler.step()

    assert [(1, "gradient", "optimizer0"), (2, "gradient", "optimizer0")] == kinds(
        tape_of(tmp_path, script), "gradient"
    )


def test_a_step_that_the_scaler_skips_is_no_step(tmp_path: Path) -> None:
    def script() -> None:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        for factor in (math.inf, 1.0):
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(2)).sum() * factor).backward()
            scaler.step(optimizer)
            scaler.update()

    events = tape_of(tmp_path, script)

    assert [(1, "loss", "loss"), (1, "loss", "loss"), (1, "parameter", "optimizer0")] == kinds(
        events, "loss", "parameter"
    )
    assert math.inf == abs(next(event.info["value"] for event in events if event.kind == "loss"))


def test_a_step_that_raises_does_not_confuse_the_next(tmp_path: Path) -> None:
    def script() -> None:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)
        model(torch.ones(2)).sum().backward()
        optimizer.step()

    assert [(1, "parameter", "optimizer0")] == kinds(tape_of(tmp_path, script), "parameter")


def test_parameters_that_an_optimizer_gets_later(tmp_path: Path) -> None:
    def script() -> None:
        first, second = nn.Linear(2, 1), nn.Linear(2, 1)
        optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
        for step in range(2):
            (first(torch.ones(2)) + second(torch.ones(2))).backward()
            optimizer.step()
            if step == 0:
                optimizer.add_param_group({"params": list(second.parameters())})

    sizes = [len(event.tensors) for event in tape_of(tmp_path, script) if event.kind == "gradient"]

    assert [2, 4] == sizes


def test_state_that_is_no_parameter_is_seen_in_the_optimizer(tmp_path: Path) -> None:
    def script(bump: float) -> None:
        weight = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.1)
        for _ in range(2):
            weight.sum().backward()
            optimizer.step()
            optimizer.state[weight]["exp_avg"].mul_(bump)

    tapes = [tape_of(tmp_path / name, lambda bump=bump: script(bump)) for name, bump in (("a", 1.0), ("b", 1.001))]

    assert (2, "optimizer", "optimizer0") == first_difference(*tapes)


def test_a_sketch_is_small_and_at_fixed_places(tmp_path: Path) -> None:
    def script() -> None:
        weights = [torch.full((100,), float(number), requires_grad=True) for number in range(100)]
        optimizer = torch.optim.SGD(weights, lr=0.0)
        sum(weight.sum() for weight in weights).backward()
        optimizer.step()

    sketch = next(event for event in tape_of(tmp_path, script) if event.kind == "sketch")

    assert [float(number) for number in range(100)] == sketch.info["values"]


def test_steps_keep_no_parameter_alive(tmp_path: Path) -> None:
    with recorded(tmp_path):
        weight = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.Adam([weight])
        weight.sum().backward()
        optimizer.step()
        held = [weakref.ref(weight), weakref.ref(optimizer)]
        del weight, optimizer

        assert [None] == [reference() for reference in held[:1]]


def test_the_process_ends_after_the_step_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rectest.divergence.inside import session

    class Ended(BaseException):
        """In place of the end of this process."""

    def leave(status: int) -> None:
        raise Ended

    monkeypatch.setattr(session.os, "_exit", leave)
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def script() -> None:
        for _ in range(5):
            weight.sum().backward()
            optimizer.step()

    with recorded(tmp_path, stop_after=2), pytest.raises(Ended):
        script()

    assert torch.allclose(torch.full((3,), 1 - 0.1 - 0.2), weight)
