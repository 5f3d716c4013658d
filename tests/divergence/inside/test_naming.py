"""Names: of models and parts however they are called, of parameters, and of the leaves of batches."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from rectest.divergence.inside.naming import Roots, argument_leaves, leaves, local


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(5, 2)
        self.blocks = nn.ModuleList([nn.Linear(2, 2)])
        self.loss = nn.MSELoss()

    def forward(self, history: torch.Tensor, *rest: int, weight: float = 1.0) -> torch.Tensor:
        return self.items(history) * weight + sum(rest)


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.tower = inner


def names_of(roots: Roots, *modules: nn.Module) -> list[str]:
    return [roots.place(module).name for module in modules]


def test_models_are_named_by_class_and_number() -> None:
    one, other = Tower(), Tower()
    roots = Roots()

    assert ["Tower", "Tower#2", "Tower"] == names_of(roots, one, other, one)
    assert ["MSELoss", "MSELoss"] == names_of(roots, nn.MSELoss(), nn.MSELoss())


def test_a_part_is_named_within_the_outermost_model_that_holds_it() -> None:
    roots = Roots()
    handle = register_module_module_registration_hook(lambda holder, _, part: roots.adopt(holder, part))
    outer = Outer(Tower())
    handle.remove()

    assert ["Outer.tower.blocks.0", "Outer.tower", "Outer", "Outer.tower.loss"] == names_of(
        roots, outer.tower.blocks[0], outer.tower, outer, outer.tower.loss
    )
    assert roots.place(outer).root is roots.place(outer.tower).root


def test_a_part_outlives_the_model_that_held_it() -> None:
    roots, part = Roots(), Tower()
    outer = Outer(part)
    roots.adopt(outer, part)
    names = names_of(roots, part)
    del outer

    assert ["Outer.tower", "Tower"] == [*names, *names_of(roots, part)]


def test_a_part_that_was_taken_out_is_no_part() -> None:
    roots, part = Roots(), Tower()
    outer = Outer(part)
    roots.adopt(outer, part)
    outer.tower = None

    assert ["Tower"] == names_of(roots, part)


def test_a_wrapper_is_looked_through() -> None:
    model = Tower()
    wrapped = nn.DataParallel(model)
    roots = Roots()

    assert ["Tower", "Tower", "Tower.items"] == names_of(roots, wrapped, model, model.items)
    assert ("history",) == roots.place(wrapped).arguments


def test_parameters_are_named_by_their_model_or_by_their_group() -> None:
    model, loose = Tower(), nn.Parameter(torch.ones(2))
    roots = Roots()
    roots.place(model)
    parameters = [model.items.weight, loose]

    assert ["Tower.items.weight", "group0[1]"] == roots.parameter_names(parameters, ["group0[0]", "group0[1]"])
    model.late = nn.Linear(1, 1, bias=False)
    assert ["Tower.late.weight"] == roots.parameter_names([model.late.weight], ["group0[0]"])


def test_a_module_that_is_no_registered_part() -> None:
    model, hidden = Tower(), nn.ReLU()
    root = Roots().place(model).root

    assert "Tower.blocks.0.ReLU" == root.name_of(hidden, "Tower.blocks.0")
    model.act = nn.Tanh()
    assert "Tower.act" == root.name_of(model.act, "Tower")


def test_names_keep_nothing_alive() -> None:
    model = Tower()
    held = [weakref.ref(model), weakref.ref(model.items.weight)]
    roots = Roots()
    root = roots.place(model).root
    gc.disable()
    try:
        del model

        assert [None, None] == [reference() for reference in held]
    finally:
        gc.enable()
    assert [] == root.tensors(buffers=True)
    assert [] == root.parts()


def test_arguments_are_named_as_forward_names_them() -> None:
    place = Roots().place(Tower())
    found = list(argument_leaves(place, (torch.ones(1), 2, 3), {"weight": 0.5}))

    assert ["Tower.history", "Tower[1]", "Tower[2]", "Tower.weight"] == [name for name, _ in found]
    assert [2, 3, 0.5] == [value for _, value in found][1:]


def test_leaves_of_batches() -> None:
    @dataclass
    class Batch:
        users: torch.Tensor
        names: list[str]

    pair = namedtuple("pair", ["a", "b"])
    one = torch.ones(1)
    cases: list[tuple[Any, list[str]]] = [
        (one, ["batch"]),
        (3, ["batch"]),
        ({"user": one, "item": {"id": one}}, ["batch.user", "batch.item.id"]),
        ([one, (one, 2)], ["batch[0]", "batch[1][0]", "batch[1][1]"]),
        (pair(one, np.ones(2)), ["batch.a", "batch.b"]),
        ([1, 2, 3], ["batch"]),
        ([one] * 100, ["batch"]),
        (Batch(one, ["a", "b"]), ["batch.users", "batch.names"]),
        (object(), []),
        (nn.Linear(1, 1), []),
        (Tower, []),
    ]
    for value, expected in cases:
        assert expected == [name for name, _ in leaves(value, "batch")]


def test_leaves_of_a_batch_that_holds_itself_end() -> None:
    batch: dict[str, Any] = {"user": torch.ones(1)}
    batch["self"] = batch

    assert "batch.user" in [name for name, _ in leaves(batch, "batch")]


def test_the_snapshot_of_variables_holds_nothing() -> None:
    tensor = torch.ones(1)
    held = weakref.ref(tensor)
    frame = sys._getframe()

    assert tensor is local(frame, "tensor")
    del tensor
    assert held() is None
