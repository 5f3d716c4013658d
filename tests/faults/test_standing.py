import importlib

import numpy as np
import pytest
import torch

from fixtures.toy import ToyConfig, ToySystem
from rectest.checks.result import CheckResult, Verdict
from rectest.data.worlds import load_world
from rectest.faults import standing
from rectest.faults.standing import STANDING, named_fault, standing_faults, surviving
from rectest.record import RunSpec
from rectest.seeding import SeedPlan
from rectest.systems.registry import SYSTEMS, make_system


def verdicts(**by_fault):
    """A gate that says this about each fault, and nothing else about the clean system."""

    def judge(spec, train):
        train([spec])
        name = spec.plant.rpartition(":")[2]
        return CheckResult(check="baseline/gate", subject="toy", verdict=by_fault[name], figure=name or "clean")

    return judge


def test_every_registered_system_has_standing_faults():
    assert STANDING.keys() == SYSTEMS.keys()


@pytest.mark.parametrize("fault", [fault for faults in STANDING.values() for fault in faults], ids=lambda f: f.name)
def test_each_can_be_planted_and_only_a_baseline_sees_it(fault):
    module, _, name = fault.plant.partition(":")
    clean = make_system(fault.system)

    faulty = getattr(importlib.import_module(module), name)(clean)

    assert fault.turns_red == ("baseline",)
    assert fault.about
    assert isinstance(faulty, type(clean))


class TestPlanters:
    def test_every_rate_of_a_configuration_is_a_quarter(self):
        clean = make_system("ur4rec", {"learning_rate": 0.04, "retriever_learning_rate": 0.02})

        slow = standing.slow_learning_rate(clean)

        assert (slow.config.learning_rate, slow.config.retriever_learning_rate) == (0.01, 0.005)
        assert clean.config.learning_rate == 0.04

    @pytest.mark.parametrize(
        ("planter", "every"),
        [
            (standing.half_of_users_confused, 2),
            (standing.third_of_users_confused, 3),
            (standing.eighth_of_users_confused, 8),
        ],
    )
    def test_one_user_in_so_many_gets_the_scores_of_the_one_before(self, planter, every):
        clean = ToySystem(ToyConfig())
        seeds = SeedPlan(root=1)
        data = clean.prepare(load_world("tiny"), seeds)
        model, users = clean.build(data, seeds), clean.eval_set(data, "test")
        expected = clean.score(model, users, slice(0, 20))

        obtained = planter(clean).score(model, users, slice(0, 20))

        moved = [row for row in range(20) if not torch.equal(expected[row], obtained[row])]
        assert set(moved) <= set(range(every - 1, 20, every))
        assert moved
        assert all(np.array_equal(obtained[row].detach(), expected[row - 1].detach()) for row in moved)


class TestSurviving:
    spec = RunSpec(system="toy", seed=3, steps=7)
    faults = (named_fault("toy", "m:one"), named_fault("toy", "m:two"))

    def test_only_what_the_gate_does_not_see(self):
        trained = []
        judge = verdicts(one=Verdict.FAIL, two=Verdict.PASS)

        found = list(surviving(self.spec, judge, lambda specs: trained.extend(specs) or [], faults=self.faults))

        assert [(fault.name, result.verdict) for fault, result in found] == [("two", Verdict.PASS)]
        assert [(spec.plant, spec.seed, spec.steps) for spec in trained] == [("m:one", 3, 7), ("m:two", 3, 7)]

    @pytest.mark.parametrize("verdict", Verdict)
    def test_other_bits_alone_do_not_see_a_fault(self, verdict):
        found = list(surviving(self.spec, verdicts(one=verdict), lambda _specs: [], faults=self.faults[:1]))

        assert (found == []) is (verdict in (Verdict.FAIL, Verdict.CHANCE, Verdict.SUSPICIOUS))


class TestNamed:
    def test_a_users_own_system_has_those_that_are_named(self):
        assert standing_faults("mine:Mine") == ()
        assert [fault.name for fault in standing_faults("mine:Mine", ["mine:broken"])] == ["broken"]
        assert [fault.name for fault in standing_faults("gear", ["mine:broken"])][-1] == "broken"

    def test_a_name_that_is_none_is_refused(self):
        with pytest.raises(ValueError, match="plant must look like module:function, got 'broken'"):
            standing_faults("mine:Mine", ["broken"])
