"""Probes: what a trained model does when mode, company or padding change, and what its score is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixtures.toy import ToySystem
from fixtures.worlds import tiny_world
from rectest.record import RunSpec
from rectest.systems.layers import Dropout
from rectest.systems.protocol import Table
from rectest.training.determinism import deterministic
from rectest.training.loop import train_system
from rectest.training.recorder import Recorder


def facts_of(kind=ToySystem, *, config=None):
    with deterministic(0) as environment:
        spec = RunSpec(system="fixtures.toy:ToySystem", config=config or {})
        run = Recorder(spec, environment)
        train_system(kind.from_settings(config or {}), tiny_world(), run)
        return run.finish().facts


@pytest.fixture(scope="module")
def facts():
    return facts_of()


class FastPathNan(ToySystem):
    def score(self, model, eval_set, rows):
        scores = super().score(model, eval_set, rows)
        return scores if torch.is_grad_enabled() or model.training else scores.clone().fill_diagonal_(torch.nan)


class Company(ToySystem):
    """Divides by the largest score of the block, as a distance scaled by its batch does."""

    def score(self, model, eval_set, rows):
        scores = super().score(model, eval_set, rows)
        return scores / scores.abs().max()


class TwoParts(ToySystem):
    def components(self, model, eval_set, rows):
        scores = super().score(model, eval_set, rows)
        return {"signal": scores, "noise": 100 * torch.sin(1e4 * scores)}


class Stateful(ToySystem):
    """Scoring in training mode draws masks and counts calls."""

    def build(self, data, seeds):
        model = super().build(data, seeds)
        model["dropout"] = Dropout(0.5, seeds.seed("dropout"))
        model["dropout"].register_buffer("calls", torch.zeros(()))
        self.model = model
        return model

    def tables(self, model):
        return {name: Table(weight=model[name].weight) for name in ("last", "next")}

    def score(self, model, eval_set, rows):
        if model.training:
            model["dropout"].calls += 1
        return super().score(model, eval_set, rows) * model["dropout"](torch.ones(1)).sum()


def test_a_healthy_model_is_the_same_everywhere(facts):
    probes = facts["probes"]

    assert probes["modes"].keys() == {"train/grad", "train/no_grad", "eval/grad", "eval/no_grad", "num_scores"}
    assert sum(value for key, value in probes["modes"].items() if key != "num_scores") == 0
    assert probes["blocks"]["max_difference"] <= 1e-6 * probes["blocks"]["scale"]
    assert "padding" not in probes
    assert "components" not in probes


def test_nan_of_one_mode_is_seen_in_that_mode():
    class Late(FastPathNan):
        """Healthy while the loop evaluates, so that training comes to its end."""

        def score(self, model, eval_set, rows):
            small = len(range(len(eval_set))[rows]) == 48
            return super().score(model, eval_set, rows) if small else ToySystem.score(self, model, eval_set, rows)

    modes = facts_of(Late)["probes"]["modes"]

    assert modes["eval/no_grad"] > 0
    assert modes["eval/grad"] == modes["train/no_grad"] == 0


def test_company_changes_scores_of_a_batch_dependent_model():
    blocks = facts_of(Company)["probes"]["blocks"]

    assert blocks["max_difference"] > 0.1 * blocks["scale"]


def test_parts_are_measured_apart():
    parts = facts_of(TwoParts)["probes"]["components"]

    assert list(parts) == ["signal", "noise", "fused"]
    assert parts["noise"]["spread"] > 10 * parts["signal"]["spread"]
    assert parts["signal"]["recall@10"] > parts["fused"]["recall@10"]


def test_the_model_is_left_as_it_was():
    system = Stateful()
    with deterministic(0) as environment:
        run = Recorder(RunSpec(system="fixtures.toy:ToySystem"), environment)
        train_system(system, tiny_world(), run)

    assert float(system.model["dropout"].calls) == 0
    assert run.facts["evaluation"]["changed_model"] is False


def test_parameters_are_followed(facts):
    named = facts["parameters"]["named"]

    assert set(named) == {"last.weight", "next.weight"}
    assert all(values["optimized"] and values["trainable"] and values["moved"] > 0.1 for values in named.values())
    assert facts["parameters"]["total"] == sum(values["numel"] for values in named.values())


def test_a_parameter_without_optimizer_or_gradient_shows():
    class Misses(ToySystem):
        def make_optimizer(self, model):
            return torch.optim.Adam([model["last"].weight], lr=self.config.learning_rate)

    named = facts_of(Misses)["parameters"]["named"]

    assert named["next.weight"] == {**named["next.weight"], "optimized": False, "moved": 0.0}
    assert named["last.weight"]["moved"] > 0


def test_settings_that_nobody_reads_are_named():
    read = facts_of(config={"flavour": "sweet", "learning_rate": 0.02})["settings_read"]

    assert read["given"] == ["flavour", "learning_rate"]
    assert read["unread"] == ["flavour"]
    assert set(read["never_read"]) == {"flavour", "widths"}


def test_the_best_weights_are_evaluated_again(facts):
    with deterministic(0) as environment:
        run = Recorder(RunSpec(system="fixtures.toy:ToySystem"), environment)
        train_system(ToySystem(), tiny_world(), run)
        record = run.finish()
    best = record["eval/steps"].tolist().index(record.facts["best_step"])
    expected = {name: float(record[f"metric/valid/{name}"][best]) for name in record.facts["best_again"]}

    assert expected == record.facts["best_again"]
    assert np.isfinite(list(expected.values())).all()
