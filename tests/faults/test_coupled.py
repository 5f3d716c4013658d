"""Programs whose rows are coupled: one process equals a naive loop; on real ranks controls agree and faults do not.

The exchanges of `rectest.faults.across_ranks` are tested by the same processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from multiprocessing.forkserver import set_forkserver_preload
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.multiprocessing import start_processes

from fixtures.coupled import PLANTS, SETTINGS, SHARES, WRAPPED, Program, Tensors, measure_ranks, start, whole_gradient
from fixtures.toy import ToySystem
from fixtures.worlds import tiny_world
from rectest.errors import TrainingError
from rectest.faults import coupled
from rectest.faults.across_ranks import SynchronisedBatchNorm, gather, num_ranks, own_rank, place
from rectest.seeding import SeedPlan
from rectest.systems.protocol import Batch
from rectest.training.group import PRELOADED
from rectest.training.program import planted

IN_BATCH = ("in_batch_gathered", "in_batch_detached", "in_batch_own_rows")
NORMS = ("batch_norm_synchronised", "batch_norm_per_rank")
CASES = [(system, num) for system in SETTINGS for num in SHARES]
WAYS = [(*case, "sum") for case in CASES] + [(system, WRAPPED, "ddp") for system in SETTINGS]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Tensors]]:
    """By number of ranks, what each rank left."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    set_forkserver_preload(PRELOADED)
    start_processes(measure_ranks, args=(folder,), nprocs=max(SHARES), start_method="forkserver")
    return {num: [dict(np.load(folder / f"{num}-{rank}.npz")) for rank in range(num)] for num in SHARES}


@pytest.fixture
def group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def part(found: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def apart(expected: Tensors, obtained: Tensors) -> float:
    """Relative error of the whole gradient."""
    assert expected.keys() == obtained.keys()
    difference = math.sqrt(sum(float(np.square(obtained[name] - v).sum()) for name, v in expected.items()))
    return difference / math.sqrt(sum(float(np.square(v).sum()) for v in expected.values()))


def naive_loss(program: Program, batch: Batch) -> float:
    """In-batch softmax, one number at a time, in plain Python."""
    model = program.model
    if "target" in batch.inputs:
        items = batch.inputs["target"].tolist()
        table = model.item.weight.detach().numpy()
        interests = model(batch.inputs["history"], batch.inputs["mask"]).detach().numpy()
        users = [max(own, key=lambda u, i=i: float(u @ table[i])) for own, i in zip(interests, items, strict=True)]
    else:
        items = batch.inputs["positives"][:, -1].tolist()
        table = model.item_embedding.weight.detach().numpy()
        users = list(model(batch.inputs["sequence"])[:, -1].detach().numpy())
    losses = []
    for row, user in enumerate(users):
        columns = [c for c in range(len(items)) if c == row or items[c] != items[row]]
        total = sum(math.exp(float(user @ table[items[c]])) for c in columns)
        losses.append(math.log(total) - float(user @ table[items[row]]))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("system", SETTINGS)
@pytest.mark.parametrize("plant", IN_BATCH)
def test_in_batch_negatives_alone_are_the_naive_loop(system: str, plant: str) -> None:
    program = start(system, plant)
    obtained = float(program(program.batch).detach())

    assert naive_loss(program, program.batch) == pytest.approx(obtained, rel=1e-12)


def test_repeated_targets_are_no_negatives_of_each_other() -> None:
    """All users want the same item: nothing is left to compare it with."""
    program = start("comirec", "in_batch_gathered")
    inputs = {**program.batch.inputs, "target": torch.full_like(program.batch.inputs["target"], 7)}
    batch = Batch(inputs=inputs, negatives=program.batch.negatives, shared=program.batch.shared)

    assert float(program(batch).detach()) == 0
    assert naive_loss(program, batch) == pytest.approx(0, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(sum(SHARES[2]))))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    program = start("comirec", "in_batch_gathered")
    inputs = {name: value[order] for name, value in program.batch.inputs.items()}
    shuffled = Batch(inputs=inputs, negatives=program.batch.negatives, shared=program.batch.shared)

    assert float(program(program.batch).detach()) == pytest.approx(float(program(shuffled).detach()), rel=1e-12)


@pytest.mark.parametrize("system", SETTINGS)
def test_alone_both_norms_are_the_same_and_normalise(system: str) -> None:
    programs = [start(system, plant) for plant in NORMS]
    first, second = (whole_gradient(program) for program in programs)
    vectors = normed_rows(programs[0])

    assert apart(first, second) == 0
    assert vectors.mean(0).abs().max() < 1e-9
    assert vectors.var(0, unbiased=False) == pytest.approx(1.0, rel=0.01)


def normed_rows(program: Program) -> torch.Tensor:
    """[rows, D] what the norm lets through."""
    seen: list[torch.Tensor] = []
    norm = next(module for module in program.model.modules() if isinstance(module, nn.BatchNorm1d))
    handle = norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        program(program.batch)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("system", SETTINGS)
def test_the_synchronised_norm_serves_by_its_running_statistics(system: str) -> None:
    program = start(system, "batch_norm_synchronised")
    for _ in range(200):
        trained = normed_rows(program)
    program.model.eval()
    served = normed_rows(program)

    assert trained.numpy() == pytest.approx(served.numpy(), abs=0.15)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("system", SETTINGS)
def test_a_group_of_one_is_like_none(system: str, plant: str, request: pytest.FixtureRequest) -> None:
    alone = whole_gradient(start(system, plant))
    request.getfixturevalue("group_of_one")

    assert (num_ranks(), own_rank(), place(4, torch.device("cpu"))) == (1, 0, (0, 4))
    assert apart(alone, whole_gradient(start(system, plant))) == 0


@pytest.mark.parametrize(("system", "num", "kind"), WAYS)
def test_controls_compute_what_one_process_does(
    system: str, num: int, kind: str, measured: dict[int, list[Tensors]]
) -> None:
    for planter in coupled.CONTROLS:
        expected = whole_gradient(start(system, planter.__name__))
        for rank in measured[num]:
            obtained = part(rank, f"{kind}/{system}/{planter.__name__}/")

            assert apart(expected, obtained) < 1e-9, planter.__name__


@pytest.mark.parametrize(("system", "num", "kind"), WAYS)
def test_faults_compute_something_else(system: str, num: int, kind: str, measured: dict[int, list[Tensors]]) -> None:
    for planter in coupled.FAULTS:
        expected = whole_gradient(start(system, planter.__name__))
        obtained = part(measured[num][0], f"{kind}/{system}/{planter.__name__}/")

        assert apart(expected, obtained) > 0.01, planter.__name__


@pytest.mark.parametrize(("system", "num"), CASES)
def test_one_table_is_wrong_and_nothing_else(system: str, num: int, measured: dict[int, list[Tensors]]) -> None:
    expected = whole_gradient(start(system, "table_times_one"))
    table = "item.weight" if system == "comirec" else "item_embedding.weight"
    for plant, factor in (("frozen_on_ranks", 0), ("table_unused_on_ranks", 0), ("table_scaled", 1 / num)):
        obtained = part(measured[num][0], f"sum/{system}/{plant}/")
        right = {name: value * (factor if name == table else 1) for name, value in expected.items()}

        assert apart(right, obtained) < 1e-9, plant


@pytest.mark.parametrize(("system", "num"), CASES)
def test_only_the_synchronised_norm_keeps_its_statistics_equal(
    system: str, num: int, measured: dict[int, list[Tensors]]
) -> None:
    shared, own = ([part(rank, f"buffer/{system}/{plant}/") for rank in measured[num]] for plant in NORMS)
    alone = start(system, NORMS[0])
    for _ in range(2 if num == WRAPPED else 1):  # so often have the ranks evaluated the loss
        alone(alone.batch)
    running = {name: v.numpy() for name, v in alone.model.named_buffers() if "running" in name}

    assert len(running) == 2
    for name, value in running.items():
        assert value == pytest.approx(shared[0][name], rel=1e-9)
        assert all(np.array_equal(shared[0][name], rank[name]) for rank in shared)
        assert np.abs(own[0][name] - own[1][name]).max() > 1e-4 * np.abs(value).max()


def test_gathered_rows_stand_in_order_of_rank(measured: dict[int, list[Tensors]]) -> None:
    expected = list(range(sum(SHARES[2])))

    assert all(expected == rank["gathered"].tolist() for ranks in measured.values() for rank in ranks)
    assert torch.equal(torch.arange(3), gather(torch.arange(3), 0, 3))


def test_other_negatives_are_other_than_those_of_the_first_rank_only() -> None:
    plan = SeedPlan(root=5)
    seeds = [coupled._RankSeeds(root=5, path="", rank=rank) for rank in range(3)]
    draws = {name: [s.rng(name).integers(1 << 30) for s in seeds] for name in ("negatives", "batches")}

    assert draws["negatives"][0] == plan.rng("negatives").integers(1 << 30)
    assert len(set(draws["negatives"])) == 3
    assert set(draws["batches"]) == {plan.rng("batches").integers(1 << 30)}


def test_plants_add_up_and_keep_the_settings() -> None:
    program = start("comirec", "in_batch_gathered")
    both = planted(program.system, "rectest.faults.coupled:batch_norm_synchronised,rectest.faults.coupled:table_scaled")
    data = both.prepare(tiny_world(), SeedPlan(root=0))
    model = both.build(data, SeedPlan(root=0))

    assert program.system.settings() == both.settings()
    assert any(isinstance(module, SynchronisedBatchNorm) for module in model.modules())
    assert both.losses(model, next(iter(both.batches(data, SeedPlan(root=0)))))["total"] > 0


def test_drawn_negatives_are_not_counted_where_none_are_used() -> None:
    program = start("comirec", "in_batch_gathered")
    used = program.system.used_rows(program.batch)["item"]
    inputs = program.batch.inputs

    assert inputs["history"].numel() + inputs["target"].numel() == used.numel()


@pytest.mark.parametrize("plant", [*IN_BATCH, *NORMS])
def test_a_system_without_these_vectors_is_refused(plant: str) -> None:
    with pytest.raises(TypeError, match="made for ComiRec, AdaptiveSASRec, got ToySystem"):
        PLANTS[plant](ToySystem())


def test_a_system_without_negatives_is_refused() -> None:
    system = coupled.negatives_per_rank(ToySystem())
    data = system.prepare(tiny_world(), SeedPlan(root=0))

    with pytest.raises(TrainingError, match="toy draws no negatives"):
        next(iter(system.batches(data, SeedPlan(root=0))))


def test_a_system_without_a_table_is_refused() -> None:
    class Tableless(ToySystem):
        def tables(self, model: nn.Module) -> dict[str, object]:
            return {}

    with pytest.raises(TrainingError, match="toy has no embedding table that learns"):
        coupled._learned_table(Tableless(), nn.Linear(2, 2))
