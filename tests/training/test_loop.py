"""The loop: what it records, what it restores, and what it refuses, on the toy system."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixtures.toy import ToySystem
from fixtures.worlds import hand_world, tiny_world
from rectest.environment import Environment
from rectest.errors import TrainingError, WorldError
from rectest.metrics.measure import Measure
from rectest.record import STAGES, RunRecord, RunSpec
from rectest.training.determinism import deterministic
from rectest.training.loop import EarlyStopping, train_system
from rectest.training.recorder import Recorder

SPEC = RunSpec(system="fixtures.toy:ToySystem")


def train(system=None, *, world=None, seed=0, **settings) -> RunRecord:
    system = system or ToySystem.from_settings(settings)
    with deterministic(seed) as environment:
        run = Recorder(SPEC.with_(seed=seed), environment)
        train_system(system, world or tiny_world(), run)
        return run.finish()


@pytest.fixture(scope="module")
def record():
    return train()


def test_the_record_has_what_checks_need(record):
    assert record["eval/steps"].tolist() == [10, 20, 30, 40]
    assert record["metric/valid/recall@10"].shape == (4,)
    assert record["metric/test/ndcg@10"].shape == (1,)
    assert record["loss/total"].shape == (40,)
    assert record["counter/first_weight"].shape == (40,)
    assert record["tape/parameters/tensors"].shape == (40, 2, 2)
    assert record.facts["tape"]["gradients"] == ["last.weight", "next.weight"]
    assert {f"tape/{stage}" for stage in STAGES} <= set(record.arrays)
    assert record["idmap/item"][0] == ""
    assert record.facts["protocol"]["test"]["kind"] == "full"
    assert record.facts["evaluation"] == {"drew": [], "changed_model": False, "count": 7, "repeatable": True}


def test_it_learns_and_the_floors_are_in_order(record):
    floors = record.facts["floors"]["test/recall@10"]

    assert record["loss/total"][-5:].mean() < record["loss/total"][:5].mean()
    assert floors["chance"] < floors["popularity"] < floors["optimum"]


def test_used_rows_are_counted(record):
    assert record["rows/last"].sum() == 40 * 64
    assert record["rows/last"][0] == 0


def test_first_gradients_are_kept(record):
    assert record["grad/last.weight"].shape == record["table/last"].shape
    assert np.abs(record["grad/last.weight"]).max() > 0
    assert not np.array_equal(record["table/last"], record["table_init/last"])


def test_equal_specs_are_bit_equal_and_seeds_differ(record):
    assert train().digest("tape/", "metric/", "table/") == record.digest("tape/", "metric/", "table/")
    assert train(seed=1).digest("tape/init") != record.digest("tape/init")
    assert train(seed=1).digest("tape/batch") != record.digest("tape/batch")


def test_how_often_one_evaluates_changes_nothing(record):
    often = train(eval_every=4)

    assert often.digest("tape/") == record.digest("tape/")


def test_block_size_of_the_evaluation_changes_no_metric(record):
    assert train(eval_block=7).digest("ranks/", "metric/") == record.digest("ranks/", "metric/")


def test_best_weights_are_the_tested_ones():
    class Worsening(ToySystem):
        """Throws its weights away after step 20."""

        def step(self, model, optimizer, batch):
            losses = super().step(model, optimizer, batch)
            self.count = getattr(self, "count", 0) + 1
            if self.count > 20:
                with torch.no_grad():
                    model["next"].weight.zero_()
            return losses

    record = train(Worsening.from_settings({"steps": 31}))

    valid = record["metric/valid/recall@10"]

    assert record.facts["best_step"] == 10 * (1 + int(valid.argmax())) <= 20
    assert valid[2:].max() < valid[:2].max()
    assert record.final("test/recall@10") > record.facts["floors"]["test/recall@10"]["chance"]


def test_patience_stops_training():
    record = train(patience=1, steps=400, eval_every=5)
    stop = record.facts["early_stopping"]

    assert stop["stopped_early"]
    assert stop["last_step"] < 400
    assert record.facts["best_step"] == stop["last_step"] - 5


def test_evaluation_that_draws_is_reported_and_changes_nothing(record):
    class Draws(ToySystem):
        """Draws from the global generator while scoring."""

        def score(self, model, eval_set, rows):
            torch.rand(3)
            return super().score(model, eval_set, rows)

    found = train(Draws())

    assert found.facts["evaluation"]["drew"] == ["torch"]
    assert found.digest("tape/") == record.digest("tape/")


def test_evaluation_that_changes_the_model_is_reported():
    class Moves(ToySystem):
        """Adds to a parameter while scoring, so two evaluations differ."""

        def score(self, model, eval_set, rows):
            model["last"].weight[1:] += torch.linspace(0, 1, model["last"].weight.shape[1])
            return super().score(model, eval_set, rows)

    facts = train(Moves()).facts["evaluation"]

    assert facts["changed_model"]
    assert not facts["repeatable"]


def test_nan_loss_is_refused():
    with pytest.raises(TrainingError, match=r"loss 'total' is (nan|inf) at step \d+"):
        train(learning_rate=1e30)


def test_batches_that_end_are_refused():
    class Ends(ToySystem):
        """Has three batches."""

        def batches(self, data, seeds):
            source = super().batches(data, seeds)
            return (next(source) for _ in range(3))

    with pytest.raises(TrainingError, match="ran out after 3 of 40 steps"):
        train(Ends())


def test_nobody_to_evaluate_is_refused():
    class Nobody(ToySystem):
        """Holds nothing out."""

        def eval_set(self, data, split):
            found = super().eval_set(data, split)
            return type(found)(
                split=split,
                users=found.users,
                histories=found.histories,
                relevant=[np.array([], np.int64)] * len(found),
                inputs=found.inputs,
            )

    with pytest.raises(WorldError, match="nothing can be scored"):
        train(Nobody(), world=hand_world())


@pytest.mark.parametrize(
    ("values", "best", "stopped_after"), [([1, 2, 2, 2], 2, 4), ([0, 0, 0], 1, 3), ([3, 4, 5], 3, None)]
)
def test_early_stopping_by_hand(values, best, stopped_after):
    stopping = EarlyStopping(measure=Measure.parse("recall@10"), patience=2)
    ended = None
    for step, value in enumerate(values, start=1):
        stopping.improved(step, value)
        ended = ended or (step if stopping.exhausted else None)

    assert stopping.best_step == best
    assert ended == stopped_after


def test_mean_rank_is_better_when_lower():
    stopping = EarlyStopping(measure=Measure.parse("mean_rank"), patience=None)

    assert stopping.improved(1, 50.0)
    assert stopping.improved(2, 40.0)
    assert not stopping.improved(3, 45.0)


def test_environment_is_in_the_record(record):
    assert isinstance(record.environment, Environment)
    assert record.environment.threads == 1
