"""Each planted fault of `GramCSystem` shows what its name says, and the clean system beside it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixtures.gram_c import SMALL, Run, start
from rectest.checks.table_signal import table_signal
from rectest.faults import gram_c, gram_c_data
from rectest.systems.gram_c.promises import consecutive_items
from rectest.systems.gram_c.steps import planned_rate
from rectest.systems.gram_c.system import GramCSystem
from rectest.systems.protocol import Batch
from rectest.systems.registry import make_system, resolve

MODULES = (gram_c, gram_c_data)
PLANTS = {fault.name: resolve(fault.plant) for module in MODULES for fault in module.CATALOGUE}
NAMES = sorted(PLANTS)
HELPERS = {"CATALOGUE", "planted", "entry"}

BROKEN = {
    "keys_of_another_format": {f"prefix/recent_share/{split}" for split in ("train", "valid", "test")},
    "flag_lost": {f"prefix/recent_share/{split}" for split in ("train", "valid", "test")},
    "graph_sees_held_out": {"graph/edges"},
    "separator_mismatch": {"passages/train", "passages/valid", "passages/test", "passages/words"},
    "history_not_reversed": {"passages/train", "passages/valid", "passages/test", "passages/words"},
    "trailing_space": {"matching/strict_as_normalised"},
    "artefact_newer_than_run": {"inputs/graph"},
    "id_collision": {"ids/distinct", "passages/train", "passages/valid", "passages/test", "passages/words"},
}
"""The promises of the prepared data that a fault breaks; no other fault breaks any."""


def faulty(name: str, **settings: object) -> Run:
    return start(system=PLANTS[name](GramCSystem.from_settings({**SMALL, **settings})))


def deviation(run: Run, *, num_steps: int) -> float:
    run.steps(num_steps)
    return run.scalars[-1]["accumulation/deviation"]


def test_the_catalogue_is_complete():
    public = {name for module in MODULES for name in module.__all__}

    assert public - HELPERS == set(NAMES)
    assert all(fault.system == "gram_c" for module in MODULES for fault in module.CATALOGUE)


@pytest.mark.parametrize("name", NAMES)
def test_planting_keeps_the_settings_that_are_not_the_fault(name):
    system = GramCSystem.from_settings({**SMALL, "dropout": 0.25})
    before = system.settings()
    planted = PLANTS[name](system)
    changed = {key for key, value in planted.settings().items() if value != before[key]}
    features = {"beam_too_small": {"decoding", "beam_size"}, "slow_learning_rate": {"learning_rate", "warmup"}}

    assert changed == features.get(name, set())
    assert system.settings() == before


@pytest.mark.parametrize("name", NAMES)
def test_other_systems_are_refused(name):
    with pytest.raises(TypeError, match="for gram_c, got ComiRec"):
        PLANTS[name](make_system("comirec"))


@pytest.mark.parametrize("name", NAMES)
def test_which_promises_a_fault_breaks(name):
    broken = set(faulty(name).broken())

    assert bool(broken) == (name in BROKEN)
    assert broken <= BROKEN.get(name, set())


@pytest.mark.parametrize("name", ["keys_of_another_format", "flag_lost"])
def test_prefixes_that_are_always_zero(name):
    run = faulty(name).steps(4)
    promised = run.system.input_facts(run.data)["expected_scalars"]

    assert (run.batches[0].inputs["recent_item_ids"] == 0).all()
    assert promised["prefix/recent_share"] > 0.7
    assert [scalars["prefix/in_logits"] for scalars in run.scalars] == [0.0] * 4
    assert promised["prefix/in_logits"] == 1.0 == start().steps(1).scalars[0]["prefix/in_logits"]
    assert run.system.config.collaborative_prefix


def test_noise_table():
    """Every check of report 003 passes: range, coverage, norms, standard deviation, zero row, no NaN."""
    clean, run = start(graph_steps=40), faulty("noise_table", graph_steps=40)
    pairs = np.array(consecutive_items(run.data))
    rows = run.data.graph[1:]

    assert (run.data.graph[0] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    assert rows.std() == pytest.approx(8**-0.5, rel=0.02)
    assert table_signal(run.data.graph, pairs).red
    assert not table_signal(clean.data.graph, pairs).red


def test_separator_mismatch():
    run = faulty("separator_mismatch")
    newest = run.data.parts["test"].newest

    assert (newest[:, 0] == 41).mean() > 0.9, "nobody's history is known, unless it is one item"
    assert (newest[:, 1:] == 0).all()


def test_history_not_reversed():
    run = faulty("history_not_reversed")
    samples, newest = run.data.parts["test"].samples, run.data.parts["test"].newest
    oldest = np.array([history[history > 0][0] for history in samples.histories])

    assert np.array_equal(newest[:, 0], oldest)
    assert np.array_equal(start().data.parts["test"].newest[:, 0], samples.histories[:, -1])


def test_trailing_space():
    """Nothing that is generated is anybody's id, so that items rank by number, the same for all users."""
    run = faulty("trailing_space").steps(3)

    assert (run.data.served_items() == 0).all()
    assert (start().data.served_items() > 0).all()
    assert (np.diff(run.scores()) < 0).all()


def test_id_collision():
    run = faulty("id_collision").steps(3)
    served = run.data.served_items()
    scores = run.scores()

    assert len(served) == 39
    assert 1 not in served
    assert (scores[:, 1] <= scores[:, 1:].min(axis=1)).all(), "the one that is never served ranks last"


def test_artefact_newer_than_run():
    """The same run to the bit; only what would be verified afterwards is other bytes."""
    clean, run = start().steps(2), faulty("artefact_newer_than_run").steps(2)

    assert clean.losses == run.losses
    assert clean.data.manifest.graph != run.data.manifest.graph
    assert clean.data.manifest.ids == run.data.manifest.ids


def test_graph_sees_held_out():
    clean, run = start(), faulty("graph_sees_held_out")

    assert run.data.num_edges - clean.data.num_edges == 240, "two more for each of 120 users"
    assert not np.array_equal(clean.data.graph, run.data.graph)


@pytest.mark.parametrize("name", [pytest.param("no_causal_mask", marks=pytest.mark.slow), "targets_not_shifted"])
def test_targets_that_can_be_read(name):
    """The loss falls to nothing, and what is learned is not to be had when the target is not."""
    clean, run = start(steps=80).steps(80), faulty(name, steps=80).steps(80)

    assert np.mean(run.losses[-10:]) < 0.25 * np.mean(clean.losses[-10:])
    assert run.recall(k=5) < clean.recall(k=5) - 0.05


def test_decoder_not_loaded():
    clean, run = start(), faulty("decoder_not_loaded")
    untrained = run.scores()
    for trained in (clean, run):
        trained.steps(20)
    decoder = {name: value for name, value in start().parameters().items() if name.startswith("decoder.")}
    with torch.no_grad():
        for name, value in clean.model.named_parameters():
            value.copy_(decoder.get(name, value))

    assert not np.array_equal(untrained, run.scores()), "the rest was loaded"
    np.testing.assert_array_equal(clean.scores(), run.scores())


def test_beam_too_small():
    """A wide beam ranks exactly the same ten first, the report's does not."""
    share = {}
    for beam_size in (40, 10):
        system = start(decoding="beam", beam_size=beam_size, num_codes=16, num_levels=2).system
        run = start(system=system if beam_size == 40 else PLANTS["beam_too_small"](system)).steps(4)
        share[beam_size] = np.mean([scalars["decoding/overlap@10"] for scalars in run.scalars])

    assert share[40] == 1.0
    assert share[10] < 1.0


def test_loss_not_divided():
    """Four micro-batches: four times the gradient, which clipping and Adam then hide from the loss."""
    assert deviation(start(accumulation=4), num_steps=2) == 0.0
    assert deviation(faulty("loss_not_divided", accumulation=4), num_steps=2) == pytest.approx(3.0, abs=0.05)


def test_tail_divided_by_full_count():
    """A step of 16 of 32 samples has two micro-batches instead of four."""
    clean, run = start(accumulation=4), faulty("tail_divided_by_full_count", accumulation=4)
    whole = next(run.stream)
    tail = Batch(inputs={name: value[:16] for name, value in whole.inputs.items()})
    found = []
    for each in (clean, run):
        for batch in (whole, tail, whole):
            each.model.train()
            each.system.step(each.model, each.optimizer, batch)
            found.append(each.system.scalars(each.model)["accumulation/deviation"])

    assert found == pytest.approx([0, 0, 0, 0, 0.5, 0.5])


def test_slow_learning_rate():
    """A tenth of the rate, and the warm-up takes twice as long."""
    clean, run = (each.steps(6) for each in (start(warmup=0.2), faulty("slow_learning_rate", warmup=0.2)))
    rates = [[scalars["schedule/learning_rate"] for scalars in each.scalars] for each in (clean, run)]

    assert rates[0] == [1e-2 * planned_rate(step, num_steps=30, warmup=0.2) for step in range(1, 7)]
    np.testing.assert_allclose(np.array(rates[0]) / 20, rates[1], rtol=1e-9)
