"""Models, losses and batches on the tape: each stage's planted difference is seen there first; torch is left alone."""

from __future__ import annotations

import copy
import gc
import io
import random
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from fixtures.recorded import first_difference, recorded, tape_of
from fixtures.small_training import Counting, Plan, Tower
from rectest.divergence.inside.torch_hooks import install


def scale_gradient(model: nn.Module) -> None:
    model.out.weight.register_hook(lambda gradient: gradient * (1 + 2**-20))


def change_outside(model: nn.Module, step: int) -> None:
    if step == 2:
        model.items.weight.data[3] += 1e-6


@pytest.fixture
def hidden_counter() -> Iterator[None]:
    yield
    Counting.hidden = 0.0


def test_every_stage_of_a_step_in_order(tmp_path: Path) -> None:
    events = tape_of(tmp_path, Plan(num_steps=2))
    first = [(event.phase, event.kind, event.name) for event in events if event.step == 1]
    again = [event.kind for event in events if event.step == 2]

    assert [
        ("setup", "batch", "loader0[0]"),
        ("setup", "batch", "loader0[1]"),
        ("setup", "environment", "torch"),
        ("setup", "init", "Tower"),
        ("train", "input", "Tower.history"),
        ("train", "input", "Tower.weight"),
        ("train", "forward", "Tower.items"),
        ("train", "forward", "Tower.block.0"),
        ("train", "forward", "Tower.block.1"),
        ("train", "forward", "Tower.block.2"),
        ("train", "forward", "Tower.block"),
        ("train", "forward", "Tower.out"),
        ("train", "forward", "Tower"),
        ("train", "loss", "loss"),
        ("train", "gradient", "optimizer0"),
        ("train", "optimizer", "optimizer0"),
        ("train", "parameter", "optimizer0"),
        ("train", "rng", "random"),
        ("train", "rng", "numpy"),
        ("train", "rng", "torch"),
        ("train", "sketch", "parameters"),
    ] == [row for row in first if row[1] != "output"]
    assert ["batch", "batch", "weights", "input"] == again[:4]
    assert "init" not in again


def test_details_of_events(tmp_path: Path) -> None:
    obtained: dict[str, Any] = {}
    events = tape_of(tmp_path, lambda: obtained.update(Plan(num_steps=1)()))
    by_kind = {event.kind: event for event in events}

    assert {"dtype": "int64", "shape": [4, 5], "grad": False} == next(e.info for e in events if e.kind == "input")
    assert obtained["losses"][0] == by_kind["loss"].info["value"]
    assert obtained["losses"][0] == by_kind["sketch"].info["loss"]
    assert "Linear" == next(e.info["type"] for e in events if e.name == "Tower.out")
    names = ["items.weight", "block.0.weight", "block.0.bias", "out.weight", "out.bias"]
    assert [f"Tower.{name}" for name in names] == list(by_kind["gradient"].tensors)
    assert [*(f"Tower.{name}" for name in names), "settings"] == list(by_kind["optimizer"].tensors)
    assert all(len(digest) == 16 for digest in by_kind["parameter"].tensors.values())


def test_equal_trainings_give_equal_tapes(tmp_path: Path) -> None:
    assert first_difference(tape_of(tmp_path / "a", Plan()), tape_of(tmp_path / "b", Plan())) is None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (Plan(on_model=lambda model: model.out.bias.data.add_(1e-6)), (1, "init", "Tower")),
        (Plan(batch_seed=1), (1, "batch", "loader0[0]")),
        (Plan(loss_scale=1 + 2**-20), (1, "loss", "loss")),
        (Plan(on_model=scale_gradient), (1, "gradient", "optimizer0")),
        (Plan(lr=0.01 + 1e-9), (1, "optimizer", "optimizer0")),
        (Plan(after_step=lambda *_: random.random()), (2, "rng", "random")),
        (Plan(after_step=change_outside), (3, "weights", "Tower")),
        (Plan(num_steps=4), (4, "batch", "loader0[0]")),
    ],
    ids=["init", "batch", "loss", "gradient", "settings", "generator", "parameter from outside", "length"],
)
def test_a_planted_difference_is_seen_first_where_it_was_planted(
    tmp_path: Path, changed: Plan, expected: tuple[int, str, str]
) -> None:
    random.seed(0)
    before = tape_of(tmp_path / "a", Plan())
    random.seed(0)
    after = tape_of(tmp_path / "b", changed)

    assert expected == first_difference(before, after)


def test_a_hidden_counter_is_seen_at_the_module_that_reads_it(tmp_path: Path, hidden_counter: None) -> None:
    before = tape_of(tmp_path / "a", Plan())

    def bump(model: nn.Module, step: int) -> None:
        Counting.hidden = 1e-3 if step == 2 else Counting.hidden

    assert (3, "forward", "Tower.block.2") == first_difference(before, tape_of(tmp_path / "b", Plan(after_step=bump)))


def test_the_training_is_bit_identical_with_and_without_recording(tmp_path: Path) -> None:
    plain = Plan()()
    with recorded(tmp_path):
        watched = Plan()()

    assert plain["losses"] == watched["losses"]
    assert torch.equal(plain["rng"], watched["rng"])
    for name, tensor in plain["state"].items():
        assert torch.equal(tensor, watched["state"][name])


def test_everything_is_as_it_was_afterwards(tmp_path: Path) -> None:
    from torch.optim import optimizer as optim
    from torch.utils.data import dataloader

    def state() -> list[Any]:
        hooks = [name for name in vars(torch_module) if name.startswith("_global_") and "hooks" in name]
        found: list[Any] = [dict(getattr(torch_module, name)) for name in sorted(hooks)]
        found += [dict(optim._global_optimizer_pre_hooks), dict(optim._global_optimizer_post_hooks)]
        found += [torch.autograd.backward, torch.autograd.grad, vars(dataloader._BaseDataLoaderIter)["__next__"]]
        return [*found, *vars(torch.distributed).values(), *vars(torch.distributed.distributed_c10d).values()]

    before = state()
    with recorded(tmp_path) as session:
        install(session)
        inside = state()
        Plan()()
    after = state()

    assert not all(one is other or one == other for one, other in zip(before[:11], inside[:11], strict=True))
    assert len(before) == len(after)
    assert all(
        one is other or (isinstance(one, dict) and one == other) for one, other in zip(before, after, strict=True)
    )


def test_no_batch_and_no_model_is_kept_alive(tmp_path: Path) -> None:
    batch = torch.ones(4, 5, dtype=torch.long)
    model = Tower()
    held = [weakref.ref(batch), weakref.ref(model), weakref.ref(model.items.weight)]
    gc.disable()
    try:
        with recorded(tmp_path):
            model(batch, weight=1.0).sum().backward()
            del model, batch
            obtained = [reference() for reference in held]
    finally:
        gc.enable()

    assert [None, None, None] == obtained


def test_pickles_and_copies_are_those_of_an_unwatched_model(tmp_path: Path) -> None:
    def saved(model: nn.Module) -> bytes:
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        return buffer.getvalue()

    torch.manual_seed(0)
    model = Tower()
    before, places = saved(model), sorted(vars(model))
    with recorded(tmp_path):
        model(torch.ones(2, 5, dtype=torch.long))
        twin = copy.deepcopy(model)
        twin(torch.ones(2, 5, dtype=torch.long))

        assert before == saved(model)
    assert places == sorted(vars(model)) == sorted(vars(twin))
