"""Tests for the faults of ComiRec: each changes what it says and nothing else, and the healthy one does not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fixtures.worlds import tiny_world
from rectest.faults import comirec as faults
from rectest.faults.fault import Fault
from rectest.seeding import SeedPlan
from rectest.systems.comirec.batches import UserData
from rectest.systems.comirec.model import UserModel
from rectest.systems.comirec.system import ComiRec
from rectest.systems.protocol import Batch
from rectest.systems.registry import resolve

Planter = Callable[[ComiRec], ComiRec]


def healthy() -> ComiRec:
    return ComiRec.from_settings({"batch_size": 16, "neg_num": 1, "history_length": 12, "embedding_size": 8})


def prepared(system: ComiRec) -> tuple[UserData, UserModel]:
    seeds = SeedPlan(root=0)
    data = system.prepare(tiny_world(), seeds.child("data"))
    return data, system.build(data, seeds.child("init"))


def first_batches(system: ComiRec, num: int = 3) -> list[Batch]:
    return list(islice(system.batches(prepared(system)[0], SeedPlan(root=0)), num))


def users_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.inputs["user"].tolist() for batch in batches]


def negatives_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.negatives["item"].tolist() for batch in batches]


def stepped(system: ComiRec, *, steps: int = 5) -> UserModel:
    data, model = prepared(system)
    optimizer = system.make_optimizer(model)
    for batch in islice(system.batches(data, SeedPlan(root=0)), steps):
        system.step(model, optimizer, batch)
    return model.eval()


def loss_on(system: ComiRec, batch: Batch) -> float:
    return float(system.losses(prepared(healthy())[1], batch)["total"].detach())


@pytest.mark.parametrize("fault", faults.CATALOGUE, ids=lambda fault: fault.name)
def test_the_catalogue_names_planters_that_keep_the_settings(fault: Fault) -> None:
    planted = resolve(fault.plant)(healthy())

    assert isinstance(planted, ComiRec)
    assert fault.system == planted.name == "comirec"
    assert healthy().settings() == planted.settings()
    assert fault.turns_red


def test_the_catalogue_holds_every_planter_once() -> None:
    planters = [name for name in faults.__all__ if name.islower()]

    assert sorted(planters) == sorted(fault.name for fault in faults.CATALOGUE)


def test_another_system_is_refused() -> None:
    with pytest.raises(TypeError, match="made for ComiRec, got object"):
        faults.recall_drop(object())  # type: ignore[arg-type]


def draws_between(system: ComiRec, disturb: Callable[[], object]) -> list[list[int]]:
    batches = system.batches(prepared(system)[0], SeedPlan(root=0))
    found = [next(batches)]
    disturb()
    return users_of([*found, *islice(batches, 2)])


def many_draws() -> None:
    """So many that not all of them can fall on values that rejection sampling skips anyway."""
    for _ in range(50):
        random.random()


def test_a_shared_stream_is_moved_by_foreign_draws_and_the_own_stream_is_not() -> None:
    state = random.getstate()
    shared, own = faults.shared_global_rng(healthy()), healthy()
    calm, disturbed = ([draws_between(system, act) for system in (shared, own)] for act in (list, many_draws))
    random.setstate(state)

    assert calm[1] == disturbed[1]
    assert calm[0][0] == disturbed[0][0]
    assert calm[0][1:] != disturbed[0][1:]


def test_evaluation_draws_from_the_shared_stream() -> None:
    state = random.getstate()
    for system, moves in ((faults.shared_global_rng(healthy()), True), (healthy(), False)):
        data, model = prepared(system)
        before = random.getstate()
        with torch.no_grad():
            system.score(model, system.eval_set(data, "valid"), slice(0, 2))
        moved = random.getstate() != before
        assert moves == moved
    random.setstate(state)


@pytest.mark.parametrize(
    ("planter", "same_users", "same_negatives"),
    [(None, True, True), (faults.unseeded_iterator, False, True), (faults.unseeded_negatives, True, False)],
)
def test_an_unseeded_stream_differs_from_itself_and_leaves_the_other_alone(
    planter: Planter | None, same_users: bool, same_negatives: bool
) -> None:
    system = planter(healthy()) if planter else healthy()
    first, again = first_batches(system), first_batches(system)

    assert same_users == (users_of(first) == users_of(again))
    assert same_negatives == (negatives_of(first) == negatives_of(again))


def test_the_hashed_vocabulary_renames_items_and_nothing_else() -> None:
    data, good = prepared(faults.hash_order_vocab(healthy()))[0], prepared(healthy())[0]
    raw = [ids.items.decode(ids.sequences.items).tolist() for ids in (data, good)]

    assert raw[0] == raw[1]
    assert tuple(set(tiny_world().items.raws)) == data.items.raws
    assert good.items.raws == tiny_world().items.raws


@pytest.mark.slow
def test_the_hashed_vocabulary_depends_on_the_hash_seed() -> None:
    program = (
        "import sys; from rectest.data.worlds import load_world; from rectest.seeding import SeedPlan\n"
        "from rectest.faults.comirec import hash_order_vocab; from rectest.systems.comirec.system import ComiRec\n"
        "good = ComiRec.from_settings({'batch_size': 8})\n"
        "for system in (good, hash_order_vocab(good)):\n"
        "    data = system.prepare(load_world('tiny'), SeedPlan(root=0))\n"
        "    sys.stdout.write(data.items.digest() + '\\n')\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    (good, bad), (good_again, bad_again) = (process.communicate(timeout=60)[0].split() for process in running)

    assert good == good_again
    assert bad != bad_again


def test_the_log_q_faults_change_the_loss_by_sign_and_absence() -> None:
    (batch,) = first_batches(healthy(), 1)
    silent = Batch(inputs=batch.inputs, negatives={**batch.negatives, "log_expected": torch.zeros(41)})
    flipped = Batch(
        inputs=batch.inputs, negatives={**batch.negatives, "log_expected": -batch.negatives["log_expected"]}
    )
    expected = [loss_on(healthy(), changed) for changed in (silent, flipped)]
    obtained = [loss_on(plant(healthy()), batch) for plant in (faults.logq_missing, faults.logq_sign)]

    assert expected == obtained
    assert len({*obtained, loss_on(healthy(), batch)}) == 3


def test_unsorted_ids_are_not_in_order_of_popularity() -> None:
    good, bad = (prepared(system)[0] for system in (healthy(), faults.unsorted_ids(healthy())))

    assert list(range(1, 41)) == bad.sampler.order.tolist()
    assert good.num_classes_out_of_order == 0
    assert bad.num_classes_out_of_order > 10


def test_sampled_padding_is_in_nearly_every_sample_and_its_row_moves() -> None:
    system = faults.padding_sampled(healthy())

    assert 0 in np.concatenate(negatives_of(first_batches(system)))
    assert stepped(system).item.weight[0].any()
    assert not stepped(healthy()).item.weight[0].any()


def test_visible_padding_has_a_row_that_learns_and_counts() -> None:
    system = faults.padding_row_trains(healthy())
    before, after = prepared(system)[1].item.weight[0], stepped(system).item.weight[0]

    assert before.any()
    assert not torch.equal(before, after)
    assert [True, False] == [depends_on_padding(plant) for plant in (system, healthy())]


def depends_on_padding(system: ComiRec) -> bool:
    data, _ = prepared(system)
    model, users = stepped(system), system.eval_set(data, "test")
    cut = {name: value[:, : int(users.inputs["mask"][0].sum())] for name, value in users.inputs.items()}
    with torch.no_grad():
        wide = system.score(model, users, slice(0, 1))
        narrow = system.score(model, type(users)(**{**vars(users), "inputs": cut}), slice(0, 1))
    return not torch.allclose(wide, narrow, atol=1e-5)


def test_the_dummy_target_never_chooses() -> None:
    interests = torch.tensor([[[1.0] * 8, [-1.0] * 8]])
    table = torch.zeros(41, 8)
    table[5], table[6] = 1.0, -1.0

    def chosen(system: ComiRec) -> list[float]:
        return [float(system.readout(interests, table, torch.tensor([item]))[0, 0]) for item in (5, 6)]

    assert [1.0, -1.0] == chosen(healthy())
    assert [1.0, 1.0] == chosen(faults.dummy_target_readout(healthy()))


def test_every_seventh_user_is_served_what_is_meant_for_another() -> None:
    good, bad = (system.eval_set(prepared(system)[0], "test") for system in (healthy(), faults.recall_drop(healthy())))
    changed = [row for row in range(12) if not torch.equal(good.inputs["history"][row], bad.inputs["history"][row])]

    assert [0, 7] == changed
    assert [items.tolist() for items in good.relevant] == [items.tolist() for items in bad.relevant]


def test_the_halved_learning_rate_is_in_the_optimizer_only() -> None:
    system = faults.learning_rate_halved(healthy())
    (group,) = system.make_optimizer(nn.Linear(1, 1)).param_groups

    assert group["lr"] == system.config.learning_rate / 2
    assert healthy().make_optimizer(nn.Linear(1, 1)).param_groups[0]["lr"] == system.config.learning_rate


def test_the_shifted_mapping_serves_and_exports_the_row_before() -> None:
    system = faults.mapping_shift(healthy())
    data, model = prepared(system)
    model.eval()
    users = system.eval_set(data, "test")
    with torch.no_grad():
        good, bad = (each.score(model, users, slice(0, 4)) for each in (healthy(), system))
    table = system.tables(model)["item"].weight

    assert torch.equal(good[:, 1:-1], bad[:, 2:])
    assert torch.equal(good[:, [0, -1]], bad[:, :2])
    assert torch.equal(model.item.weight[1:-1], table[2:])
    assert not table[0].any()


def test_seen_items_are_left_in_the_ranking() -> None:
    data, _ = prepared(healthy())

    assert faults.seen_not_masked(healthy()).eval_set(data, "test").excluded is None
    assert healthy().eval_set(data, "test").excluded is not None


@pytest.mark.parametrize(("planter", "alike"), [(None, False), (faults.seed_ignored, True)])
def test_an_ignored_seed_gives_one_run_for_all_seeds(planter: Planter | None, alike: bool) -> None:
    system = planter(healthy()) if planter else healthy()
    data, _ = prepared(system)
    plans = [SeedPlan(root=seed) for seed in (0, 1)]
    models = [system.build(data, plan) for plan in plans]
    batches = [next(system.batches(data, plan)) for plan in plans]

    assert alike == torch.equal(models[0].item.weight, models[1].item.weight)
    assert alike == torch.equal(batches[0].inputs["user"], batches[1].inputs["user"])
    assert alike == torch.equal(batches[0].negatives["item"], batches[1].negatives["item"])


def test_the_truncated_vocabulary_does_not_know_the_last_items() -> None:
    data, _ = prepared(healthy())
    good, bad = (system.id_maps(data) for system in (healthy(), faults.truncated_vocabulary(healthy())))

    assert good["item"].raws[:35] == bad["item"].raws
    assert good["user"] == bad["user"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"plant": "no_colon"}, "plant must look like module:function, got 'no_colon'"),
        ({"turns_red": ()}, "turns_red must name at least one check"),
        ({"about": ""}, "about must not be empty"),
    ],
)
def test_a_fault_that_says_nothing_is_refused(changes: dict[str, Any], match: str) -> None:
    complete: dict[str, Any] = {
        "name": "x",
        "plant": "a.b:c",
        "system": "comirec",
        "turns_red": ("gate",),
        "about": "something is wrong",
    }
    with pytest.raises(ValueError, match=match):
        Fault(**{**complete, **changes})
