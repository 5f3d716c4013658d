"""Each planted fault shows what its name says, and the clean system beside it does not."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fixtures.gear import Run, start
from rectest.checks.effect import effects
from rectest.errors import MetricError
from rectest.faults import gear, gear_evaluation
from rectest.record import RunSpec
from rectest.systems.registry import make_system, resolve
from rectest.training.evaluate import count_ranks
from rectest.training.program import run_spec

FAULTS = {fault.name: fault for fault in (*gear.CATALOGUE, *gear_evaluation.CATALOGUE)}
SWITCHES = {"only_target_ignored": {"predict_only_target"}}
QUICK = {"embedding_size": 16, "max_length": 10, "batch_size": 32, "eval_candidates": 15}


def faulty(name: str, **settings: object) -> Run:
    return start(system=resolve(FAULTS[name].plant)(start(**settings).system))


def record_of(name: str):
    plant = "" if name == "clean" else FAULTS[name].plant
    return run_spec(RunSpec(system="gear", world="tiny-behaviours", plant=plant, steps=16, eval_every=8, config=QUICK))


def red(record) -> set[str]:
    return {result.check for result in effects(record) if result.red}


def test_the_catalogues_are_complete():
    for module in (gear, gear_evaluation):
        plants = set(module.__all__) - {"CATALOGUE", "as_fault", "planted"}

        assert plants == {fault.name for fault in module.CATALOGUE}


@pytest.mark.parametrize("name", FAULTS)
def test_planting_keeps_the_settings_that_are_not_the_fault(name):
    system = start(learning_rate=0.004).system
    before = system.settings()
    planted = resolve(FAULTS[name].plant)(system)
    changed = {key for key, value in planted.settings().items() if value != before[key]}

    assert changed <= SWITCHES.get(name, set())
    assert system.settings() == before


@pytest.mark.parametrize("name", FAULTS)
def test_other_systems_are_refused(name):
    with pytest.raises(TypeError, match="for gear, got ComiRec"):
        resolve(FAULTS[name].plant)(make_system("comirec"))


def test_nothing_is_red_on_the_clean_system():
    assert red(record_of("clean")) == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_causal_mask", {"effect/causality/leak"}),
        ("untied_head", {"effect/model/parameters"}),
        ("gaps_of_wrong_row", {"effect/valid_rows", "effect/test_rows"}),
        ("stale_candidates", {"effect/valid_candidates_seen", "effect/test_candidates_seen"}),
        ("positives_among_candidates", {"effect/valid_candidates_seen", "effect/test_candidates_seen"}),
        ("target_among_inputs", {"effect/valid_rows", "effect/test_rows"}),
    ],
)
def test_promises_that_a_fault_breaks(name, expected):
    assert expected == red(record_of(name))


@pytest.mark.parametrize("name", ["clean", "padding_visible"])
def test_padding_visible(name):
    run = (start() if name == "clean" else faulty(name)).steps(2)
    eval_set = run.system.eval_set(run.data, "test")
    run.model.eval()
    with torch.no_grad():
        wider = run.system.score(run.model, run.system.left_padded(eval_set, 3), slice(None)).numpy()
    apart = np.abs(run.scores() - wider).max()

    assert (apart < 1e-4) == (name == "clean")
    assert bool((run.model.item_embedding.weight[0] == 0).all()) == (name == "clean")


def test_no_causal_mask_sees_the_future():
    batch = start().steps(1).batches[0]
    known = batch.inputs["items"][:, :-1], batch.inputs["behaviours"], batch.inputs["elapsed"]

    assert start().model.future_leak(*known) == 0.0
    assert faulty("no_causal_mask").model.future_leak(*known) > 0.01


def test_fully_masked_rows_are_nan():
    assert np.isnan(faulty("fully_masked_rows").steps(1).losses[0])


def test_untied_head_trains_another_table_than_it_serves():
    run = faulty("untied_head").steps(3)

    assert not torch.equal(run.model.head.weight, run.model.item_embedding.weight)
    assert torch.equal(faulty("untied_head").model.head.weight, start().model.item_embedding.weight)


def test_only_target_ignored():
    settings = {"predict_only_target": True}
    shares = [
        run.steps(1).system.scalars(run.model)["items/target_share"]
        for run in (start(**settings), faulty("only_target_ignored", **settings))
    ]

    assert shares[0] == 1.0
    assert shares[1] < 0.6


def order_of_behaviours(hash_seed: int) -> str:
    script = (
        "from fixtures.gear import start; from rectest.faults.gear import behaviours_by_hash as plant;"
        "run = start(system=plant(start().system)); print(','.join(run.data.behaviours.raws))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_behaviours_by_hash():
    """Three hash seeds, more than one order, and every row still has the behaviour that it had."""
    assert len({order_of_behaviours(seed) for seed in (0, 1, 2)}) > 1


def test_behaviours_by_hash_renames_consistently():
    clean, run = start(), faulty("behaviours_by_hash")
    names = [[r.data.behaviours.raw(code) for code in r.data.rows.behaviours.tolist()] for r in (clean, run)]

    assert names[0] == names[1]
    assert run.data.behaviours.raw(run.data.target) == "buy"


def test_gaps_of_wrong_row():
    clean, run = start(), faulty("gaps_of_wrong_row")
    gaps = [np.diff(r.data.rows.elapsed[: r.data.rows.offsets[1]]) for r in (clean, run)]

    assert gaps[0][1:].tolist() == gaps[1][:-1].tolist()


def test_held_out_rows_trained():
    for name in ("clean", "held_out_rows_trained"):
        run = start(max_length=20, window_probability=0.0) if name == "clean" else faulty(name, max_length=20)
        longest = max(int((batch.inputs["items"] > 0).sum(1).max()) for batch in run.steps(4).batches)
        held = 0 if name == "clean" else 2

        assert longest == run.data.rows.lengths.max() - 2 + held


def test_windows_always_newest():
    settings = {"max_length": 4, "window_probability": 0.5}
    drawn = [
        sum(int(batch.inputs["random_window"].sum()) for batch in run.steps(4).batches)
        for run in (start(**settings), faulty("windows_always_newest", **settings))
    ]

    assert drawn[0] > 20
    assert drawn[1] == 0


def test_stale_candidates_are_those_of_others():
    clean, run = start(), faulty("stale_candidates")
    rows = [r.system.eval_set(r.data, "test").candidates for r in (clean, run)]

    assert clean.system.cache_class is not run.system.cache_class
    assert (np.sort(rows[0], axis=1) != np.sort(rows[1], axis=1)).any(axis=1).mean() > 0.9


def test_target_twice():
    run = faulty("target_twice")
    eval_set = run.system.eval_set(run.data, "test")
    with pytest.raises(MetricError, match="stands 2 times"):
        ranks_of(run, eval_set)


def test_candidates_by_hash_are_untouched_items():
    """Nothing in one process gives it away: only another hash seed does."""
    assert red(record_of("candidates_by_hash")) == set()


def test_one_user_squeezed_alone():
    run = faulty("one_user_squeezed").steps(2)
    clean = start().steps(2)

    np.testing.assert_array_equal(clean.scores(), run.scores())
    assert not np.allclose(run.scores(rows=slice(0, 1)), run.scores()[:1], atol=1e-3)
    np.testing.assert_allclose(clean.scores(rows=slice(0, 1)), clean.scores()[:1], atol=1e-5)


def ranks_of(run: Run, eval_set=None):
    eval_set = eval_set or run.system.eval_set(run.data, "test")
    run.model.eval()
    score = run.system.score
    return count_ranks(
        lambda rows: score(run.model, eval_set, rows),
        len(eval_set),
        eval_set.relevant,
        candidates=eval_set.candidates,
    )


def test_low_precision_scores_are_ties():
    clean, run = (ranks_of(r.steps(5)) for r in (start(), faulty("scores_in_bfloat16")))

    assert (clean.optimistic == clean.pessimistic).all()
    assert (run.optimistic < run.pessimistic).mean() > 0.3


def test_nan_and_constant_scores():
    with pytest.raises(MetricError):
        ranks_of(faulty("nan_scores"))
    ranks = ranks_of(faulty("constant_scores"))

    assert (ranks.optimistic == 1).all()
    assert (ranks.pessimistic == 16).all()


def test_what_is_reported_and_selected():
    """The hooks of the trainer, one by one: the shifted column, means of means, the direction, the weights."""
    values = {"ndcg@10": 0.5, "recall@5": 0.1, "recall@10": 0.2, "recall@20": 0.3, "recall@50": 0.4}
    shifted = faulty("recall_column_shifted").system.reported("test", values, lambda _: np.zeros(1))
    per_user = np.array([0.0] * 32 + [1.0])
    mean = faulty("batch_means").system.reported("test", {"ndcg@10": 1 / 33}, lambda _: per_user)
    best, last = {"a": torch.zeros(1)}, {"a": torch.ones(1)}

    assert shifted == {"ndcg@10": 0.5, "recall@5": 0.1, "recall@10": 0.3, "recall@20": 0.4, "recall@50": 0.4}
    assert mean == {"ndcg@10": 0.5}
    assert faulty("lowest_is_best").system.is_better(0.1, 0.2, higher_is_better=True)
    assert faulty("last_weights_tested").system.weights_to_test(best, last) is last
    assert start().system.weights_to_test(best, last) is best
