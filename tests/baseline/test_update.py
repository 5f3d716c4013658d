import shutil
from pathlib import Path

import numpy as np
import pytest

from fixtures.baselines import PROVENANCE, make_baseline, make_environment, make_record, make_records
from rectest.baseline.judge import judge_ensemble, judge_exact
from rectest.baseline.store import BaselineStore
from rectest.baseline.update import (
    Action,
    State,
    accept,
    build_baseline,
    compare_candidates,
    extend_baseline,
    plan_update,
    refuse_in_ci,
    state_of,
)
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import CorruptBaseline, NoBaseline, UnknownNameError, UpdateRefused


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines")


@pytest.fixture
def candidates(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "candidates")


def test_the_story_of_one_baseline(store, candidates):
    """Absent is red with the command; recorded passes; changed is red; accepted passes."""
    with pytest.raises(NoBaseline, match="pytest -m gate --rectest-update=new"):
        store.load("toy", "cpu")

    store.save(make_baseline())
    clean = make_records([0, 1, 2])
    results = [result for run in clean for result in judge_exact(run, store.load("toy", "cpu"))]
    results += judge_ensemble(clean, store.load("toy", "cpu"))

    assert {result.verdict for result in results} == {Verdict.PASS}
    assert plan_update("failed", state_of(results)) is Action.KEEP

    changed = make_records([0, 1, 2], recall=0.17)
    results = [*judge_exact(changed[0], store.load("toy", "cpu")), *judge_ensemble(changed, store.load("toy", "cpu"))]

    assert [result.check for result in results if result.red] == [
        "baseline/exact",
        "baseline/test/recall@10",
        "baseline/valid/recall@10/late",
    ]
    assert plan_update("failed", state_of(results)) is Action.RECORD

    candidates.save(make_baseline(recall=0.17))
    accept(candidates.root, store, reason="smaller model on purpose")
    accepted = store.load("toy", "cpu")
    results = [*judge_exact(changed[0], accepted), *judge_ensemble(changed, accepted)]

    assert {result.verdict for result in results} == {Verdict.PASS}
    assert accepted.provenance.reason == "smaller model on purpose"


class TestPlan:
    @pytest.mark.parametrize(
        ("mode", "acts"),
        [
            ("new", {State.ABSENT: Action.RECORD, State.UNCALIBRATED: Action.EXTEND}),
            ("failed", {State.FAILED: Action.RECORD, State.CORRUPT: Action.RECORD}),
            ("all", dict.fromkeys(State, Action.RECORD)),
        ],
    )
    def test_every_state_has_one_action(self, mode, acts):
        for state in State:
            assert plan_update(mode, state) is acts.get(state, Action.KEEP)

    def test_an_unknown_mode_is_named(self):
        with pytest.raises(UnknownNameError, match=r"unknown update mode 'fail'.*did you mean 'failed'"):
            plan_update("fail", State.FAILED)

    @pytest.mark.parametrize(
        ("verdicts", "state"),
        [
            ({}, State.FAILED),
            ({"baseline/exact": Verdict.PASS}, State.PASSED),
            ({"baseline/exact": Verdict.UNCALIBRATED, "baseline/loss/late": Verdict.PASS}, State.UNCALIBRATED),
            ({"baseline/exact": Verdict.UNCALIBRATED, "baseline/loss/late": Verdict.FAIL}, State.FAILED),
            ({"baseline/exact": Verdict.PASS, "baseline/test/mrr": Verdict.UNCALIBRATED}, State.PASSED),
            ({"baseline/test/mrr": Verdict.NOT_MEASURED}, State.FAILED),
            ({"reproducible": Verdict.PASS}, State.FAILED),
        ],
    )
    def test_state_of_results(self, verdicts, state):
        results = [CheckResult(check=c, subject="toy", verdict=v, figure="") for c, v in verdicts.items()]

        assert state_of(results) is state

    @pytest.mark.parametrize("value", ["true", "1", "yes", "woodpecker"])
    def test_ci_never_writes(self, value):
        with pytest.raises(UpdateRefused, match=rf"not written in CI \(CI={value}\).*rectest baseline accept"):
            refuse_in_ci({"CI": value})

    @pytest.mark.parametrize("environ", [{}, {"CI": ""}, {"CI": "false"}, {"CI": "0"}])
    def test_elsewhere_it_may(self, environ):
        refuse_in_ci(environ)


class TestBuild:
    def test_what_is_stored(self):
        baseline = build_baseline(make_records([3, *range(7, 20)]), reason="why", provenance=PROVENANCE)

        assert baseline.ensemble.seeds == (3, *range(7, 20))
        assert baseline.ensemble.num_scored == {"test": 1000, "valid": 1000}
        assert list(baseline.exact[baseline.ensemble.fingerprint].seeds) == ["3", "7", "8", "9", "10"]
        assert baseline.world_digest == "blake2b:5eed"
        assert baseline.name == "toy"

    def test_the_order_of_the_records_does_not_matter(self):
        records = make_records(range(8))

        assert build_baseline(records, reason="a", provenance=PROVENANCE) == build_baseline(
            records[::-1], reason="a", provenance=PROVENANCE
        )

    def test_provenance_is_collected_by_default(self):
        baseline = build_baseline(make_records(range(8)), reason="why not")

        assert baseline.provenance.reason == "why not"
        assert baseline.provenance.date.endswith("Z")

    @pytest.mark.parametrize(
        ("odd", "problem"),
        [
            (make_record(7, steps=3), "different specs"),
            (make_record(7, plant="m:f"), "planted m:f: a run with a planted fault never becomes a baseline"),
            (make_record(7, environment=make_environment(threads=2)), "different environments.*threads differ"),
            (make_record(7, world="blake2b:other"), "different worlds"),
            (make_record(0, replica=1), "seeds are repeated"),
            (make_record(7, gate={"metrics": ["recall@10"], "loss": False}), "declare different features"),
            (make_record(7).with_arrays(**{"metric/test/recall@10": np.array([np.nan])}), "needed a finite number"),
            (make_record(7).with_arrays(**{"metric/test/recall@10": np.array([0.0])}), "above zero"),
            (make_record(7).with_arrays(**{"metric/test/recall@10": None}), "has no 'metric/test/recall@10'"),
        ],
    )
    def test_what_must_not_become_a_baseline(self, odd, problem):
        with pytest.raises(UpdateRefused, match=problem):
            build_baseline([*make_records(range(7)), odd], reason="why")

    def test_a_value_that_is_not_judged_must_be_finite_too(self):
        odd = make_record(0).with_arrays(**{"metric/test/mrr": np.array([np.inf])})

        with pytest.raises(UpdateRefused, match="test/mrr is inf"):
            build_baseline([odd, *make_records(range(1, 8))], reason="why")

    @pytest.mark.parametrize("num", [0, 7])
    def test_too_few_seeds(self, num):
        with pytest.raises(UpdateRefused, match=r"no records|7 seeds cannot carry a gate, at least 8 are needed"):
            build_baseline(make_records(range(num)), reason="why")

    def test_a_blank_reason(self):
        with pytest.raises(ValueError, match="needs a reason"):
            build_baseline(make_records(range(8)), reason=" ")


class TestExtend:
    def test_another_environment_is_added_and_judged_exactly(self):
        environment = make_environment(threads=2)
        old, runs = make_baseline(), make_records([0, 1], environment=environment)
        new = extend_baseline(old, runs, reason="two threads", provenance=PROVENANCE)

        assert new.ensemble == old.ensemble
        assert new.provenance == old.provenance
        assert judge_exact(runs[1], new)[0].verdict is Verdict.PASS

    def test_a_further_seed_joins_the_stored_ones(self):
        new = extend_baseline(make_baseline(), make_records([9]), reason="more", provenance=PROVENANCE)

        assert sorted(new.exact[new.ensemble.fingerprint].seeds) == ["0", "1", "2", "3", "4", "9"]

    def test_stored_bits_are_never_overwritten(self):
        with pytest.raises(UpdateRefused, match="other bits are stored for seed 1 of toy: record it anew"):
            extend_baseline(make_baseline(), make_records([1], recall=0.3), reason="x", provenance=PROVENANCE)

    @pytest.mark.parametrize(
        "change",
        [
            {"steps": 3},
            {"world": "blake2b:other"},
            {"system": "other"},
            {"environment": make_environment(device="cuda", compute_capability="9.0")},
        ],
    )
    def test_another_training_does_not_extend(self, change):
        with pytest.raises(UpdateRefused, match="do not extend the baseline of toy"):
            extend_baseline(make_baseline(), make_records([0], **change), reason="x", provenance=PROVENANCE)


class TestAccept:
    def test_only_the_named_systems(self, store, candidates):
        for system in ("one", "two"):
            candidates.save(make_baseline(system=system))
        changes = accept(candidates.root, store, ["two"], reason="why")

        assert [change.name for change in changes] == ["two"]
        assert [name.system for name in store.entries()] == ["two"]

    def test_one_bad_candidate_and_nothing_is_written(self, store, candidates):
        candidates.save(make_baseline(system="a"))
        candidates.save(make_baseline(system="z")).write_text('{"schema": 1}')

        with pytest.raises(CorruptBaseline, match=r"z\.json"):
            accept(candidates.root, store, reason="why")

        assert store.entries() == []

    def test_a_corrupt_stored_file_is_replaced_and_said_so(self, store, candidates):
        candidates.save(make_baseline())
        store.save(make_baseline()).write_text("{")
        (change,) = accept(candidates.root, store, reason="why")

        assert change.unreadable
        assert store.load("toy", "cpu").provenance.reason == "why"

    def test_bits_of_other_environments_stay_when_only_bits_are_added(self, store, candidates):
        old = make_baseline()
        runs = {n: make_records([0], environment=make_environment(threads=n)) for n in (2, 3)}
        here, there = (extend_baseline(old, runs[n], reason="x", provenance=PROVENANCE) for n in (2, 3))
        store.save(here)
        candidates.save(there)
        (change,) = accept(candidates.root, store, reason="why")

        assert len(store.load("toy", "cpu").exact) == 3
        assert [line for line in change.bits if "dropped" in line] == []

    def test_bad_requests(self, store, candidates, tmp_path):
        with pytest.raises(UpdateRefused, match="no candidates in"):
            accept(candidates.root, store, reason="why")
        candidates.save(make_baseline())
        with pytest.raises(UnknownNameError, match=r"unknown candidate 'tyo'.*did you mean 'toy'"):
            accept(candidates.root, store, ["tyo"], reason="why")
        with pytest.raises(ValueError, match="needs a reason"):
            accept(candidates.root, store, reason=" ")
        with pytest.raises(ValueError, match="not candidates"):
            accept(candidates.root, candidates, reason="why")

    def test_comparing_writes_nothing(self, store, candidates):
        candidates.save(make_baseline())
        ((name, new, change),) = compare_candidates(candidates, store)

        assert (name.system, new.system, change.is_new) == ("toy", "toy", True)
        assert not store.root.exists()

    def test_candidates_may_be_copied_around(self, store, candidates, tmp_path):
        candidates.save(make_baseline())
        shutil.copytree(candidates.root, tmp_path / "download")

        assert len(accept(tmp_path / "download", store, reason="why")) == 1
