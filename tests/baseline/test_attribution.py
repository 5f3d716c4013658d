"""Causes of a red gate from hand-made runs: each one alone, several at once, and what must not be claimed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import PROVENANCE, make_environment, make_record, make_records
from rectest.baseline.apart import Apart, pair_of
from rectest.baseline.attribution import Attribution, Case, Cause, Side, attribute
from rectest.baseline.build import ROUNDING, build_baseline
from rectest.baseline.gating import look
from rectest.baseline.sidecar import build_sidecar
from rectest.baseline.store import BaselineStore
from rectest.checks.result import Verdict
from rectest.record import RunRecord, RunSpec

MOVED = make_environment(torch="2.14.0")
SPEC = RunSpec(system="toy")
FLOATS = ("loss/", "metric/", "grad/", "table/")


def rounded(record: RunRecord, by: float = 1e-9) -> RunRecord:
    """The same run with another rounding."""
    changed = {key: value * (1 + by) for key, value in record.arrays.items() if key.startswith(FLOATS)}
    return replace(record, arrays={**record.arrays, **changed})


def other_batches(record: RunRecord) -> RunRecord:
    return record.with_arrays(tape__batch=record["tape/batch"] + np.uint64(1))


@pytest.fixture(scope="module", params=[True, False], ids=["twins", "no twins"])
def store(request, tmp_path_factory) -> BaselineStore:
    """One baseline of sixteen seeds, as a System (with twins) and as a training function (without) would have it."""
    records = make_records(range(16))
    twins = [
        replace(rounded(record, 1e-7), spec=record.spec.with_(plant=ROUNDING)) for record in records if request.param
    ]
    made = BaselineStore(tmp_path_factory.mktemp("baselines"))
    baseline = build_baseline(records, twins=twins, reason="first", provenance=PROVENANCE)
    made.save(baseline, sidecar=build_sidecar(records, twins))
    return made


def side(store, *, first=0, change=lambda record: record, **settings) -> Side:
    def train(specs):
        return [change(make_record(spec.seed, **settings)) for spec in specs]

    records, judged = look(store, SPEC.with_(seed=first), train, max_runs=5)
    return Side(records=records, judged=judged)


def case(store, tree: Side, base: Side, *, same_code=True, **rest) -> Case:
    baseline = store.load("toy", "cpu")
    return Case(baseline=baseline, sidecar=store.sidecar(baseline), tree=tree, base=base, same_code=same_code, **rest)


def answered(store, tree: Side, base: Side, **rest) -> Attribution:
    """The answer after what the case asked for was trained: a clean repetition, fresh seeds like the tree's."""
    made = case(store, tree, base, **rest)
    if made.wants_repeat and made.repeat is None:
        made = replace(made, repeat=base.records[0])
    return attribute(made)


class TestOneCause:
    def test_nothing(self, store):
        found = answered(store, side(store), side(store))

        assert found.causes == (Cause.NOTHING,)
        assert "nothing to attribute" in found.figure

    def test_code_that_is_worse(self, store):
        found = answered(store, side(store, recall=0.16), side(store))

        assert found.causes == (Cause.CODE,)
        assert "first to differ: metrics" in " ".join(found.evidence)
        assert "random streams: the first batches and negatives are the same" in " ".join(found.evidence)
        assert "test/recall@10 -20 %" in " ".join(found.evidence)

    def test_code_that_draws_other_batches(self, store):
        found = answered(store, side(store, change=other_batches), side(store))

        assert found.causes == (Cause.CODE,)
        assert "first to differ: batches" in " ".join(found.evidence)
        assert "random streams: the batches of the first 50 steps are others" in " ".join(found.evidence)

    def test_code_that_only_rounds(self, store):
        tree = side(store, change=rounded)
        found = answered(store, tree, side(store))

        if tree.green:
            assert found.causes == (Cause.NOTHING,), "with twins the gate itself knows rounding"
        else:
            assert found.causes == (Cause.CODE,)
            assert "another rounding" in found.figure

    def test_code_by_a_default(self, store):
        def slower(record):
            return replace(record, facts={**record.facts, "settings": {"learning_rate": 0.01, "same": 1}})

        def before(record):
            return replace(record, facts={**record.facts, "settings": {"learning_rate": 0.05, "same": 1}})

        found = answered(store, side(store, recall=0.16, change=slower), side(store, change=before))

        assert "settings in force: learning_rate 0.05 -> 0.01" in " ".join(found.evidence)

    def test_code_that_changes_its_own_environment(self, store):
        """More threads than the base uses are a matter of code, however the fingerprint differs."""
        found = answered(store, side(store, recall=0.16, environment=make_environment(threads=8)), side(store))

        assert found.causes == (Cause.CODE,)
        assert "the commits run in other environments: threads 1 -> 8" in " ".join(found.evidence)

    def test_environment(self, store):
        moved = side(store, recall=0.16, environment=MOVED)
        fresh = side(store, first=16, recall=0.16, environment=MOVED)
        assert case(store, moved, moved).wants_fresh

        found = answered(store, moved, moved, fresh=fresh)

        assert found.causes == (Cause.ENVIRONMENT,)
        assert "torch '2.13.0' -> '2.14.0'" in found.evidence[0]

    def test_environment_that_the_fingerprint_does_not_hold(self, store):
        moved, fresh = side(store, recall=0.16), side(store, first=16, recall=0.16)

        assert answered(store, moved, moved, fresh=fresh).causes == (Cause.ENVIRONMENT,)

    def test_environment_that_changes_only_numbers(self, store):
        moved = side(store, change=other_batches)
        assert not case(store, moved, moved).wants_fresh, "fresh seeds say nothing about bits"

        assert answered(store, moved, moved).causes == (Cause.ENVIRONMENT,)

    def test_data_that_came_with_the_code(self, store):
        found = answered(store, side(store, world="blake2b:0ther", recall=0.16), side(store))

        assert found.causes == (Cause.DATA,)
        assert "changed with the working tree" in found.figure

    def test_data_that_moved_under_both(self, store):
        moved = side(store, world="blake2b:0ther", recall=0.16)

        found = answered(store, moved, moved)

        assert found.causes == (Cause.DATA,)
        assert "under both commits" in found.figure

    def test_seeds(self, store):
        unlucky, fresh = side(store, recall=0.16, environment=MOVED), side(store, first=16, environment=MOVED)

        found = answered(store, unlucky, unlucky, fresh=fresh)

        assert found.causes == (Cause.SEED,)
        assert "declared rate is 0.1 %" in found.figure
        assert any(line.startswith("fresh seeds  16") for line in found.evidence)

    def test_seeds_whose_stored_bits_alarm(self, store):
        """The first stored seeds are outliers among the others; nothing moved at all."""
        green = side(store)
        head = replace(green.head, verdict=Verdict.FAIL)
        both = replace(green, judged=replace(green.judged, results=(head, *green.judged.results[1:])))

        found = answered(store, both, both, fresh=side(store, first=16, recall=0.16))

        assert found.causes == (Cause.SEED,)
        assert "every bit is the stored one" in found.figure


class TestSeveral:
    def test_environment_and_code(self, store):
        found = answered(
            store, side(store, recall=0.12, environment=MOVED), side(store, recall=0.16, environment=MOVED)
        )

        assert found.causes == (Cause.ENVIRONMENT, Cause.CODE)

    def test_data_and_environment(self, store):
        base = side(store, recall=0.16, environment=MOVED)
        found = answered(store, side(store, world="blake2b:0ther", environment=MOVED), base)

        assert found.causes == (Cause.DATA, Cause.ENVIRONMENT)

    def test_data_and_code(self, store):
        tree = side(store, world="blake2b:0ther", change=other_batches)

        assert answered(store, tree, side(store, world="blake2b:0ther")).causes == (Cause.DATA, Cause.CODE)

    def test_data_twice(self, store):
        found = answered(store, side(store, world="blake2b:1"), side(store, world="blake2b:2"))

        assert found.causes == (Cause.DATA,)
        assert "again" in found.figure


class TestNotClaimed:
    def test_a_base_with_other_data_is_no_control(self, store):
        found = answered(store, side(store, recall=0.16), side(store, world="blake2b:0ther"))

        assert found.causes == (Cause.UNDECIDED,)
        assert "no control" in found.figure

    def test_a_training_that_does_not_repeat_itself(self, store):
        """Bits say nothing then; what the gate finds worse over seeds still is worse."""
        again = other_batches(make_record(0))
        bits = side(store, change=rounded)
        worse = answered(store, side(store, recall=0.16), side(store), repeat=again)

        assert worse.causes == (Cause.CODE,)
        assert "does not repeat itself" in worse.figure
        if not bits.green:
            changed = answered(store, side(store, change=other_batches), side(store), repeat=again)
            assert changed.causes == (Cause.UNDECIDED,)
        moved = side(store, recall=0.16)
        both = answered(store, moved, moved, repeat=again, fresh=side(store, first=16, recall=0.16))
        assert both.causes == (Cause.UNDECIDED,)

    def test_code_from_before_the_base_is_not_taken_for_the_environment(self, store):
        moved, fresh = side(store, recall=0.16), side(store, first=16, recall=0.16)

        here = answered(store, moved, moved, fresh=fresh, same_code=False)
        assert here.causes == (Cause.UNDECIDED,)
        assert "--base" in here.advice

        elsewhere, fresh = side(store, recall=0.16, environment=MOVED), side(store, first=16, recall=0.16)
        found = answered(store, elsewhere, elsewhere, fresh=fresh, same_code=False)
        assert found.causes == (Cause.ENVIRONMENT,)
        assert "unless code did before the base" in found.figure

    def test_code_in_two_steps_is_code(self, store):
        found = answered(store, side(store, recall=0.12), side(store, recall=0.16), same_code=False)

        assert found.causes == (Cause.CODE,)
        assert "before the base as well" in found.figure

    def test_a_metric_that_vanished_with_the_tree(self, store):
        def lost(record):
            return record.with_arrays(**{"metric__test__recall@10": None})

        assert answered(store, side(store, change=lost), side(store)).causes == (Cause.CODE,)

    def test_a_training_that_names_no_data(self, tmp_path):
        records = make_records(range(16), world="")
        plain = BaselineStore(tmp_path)
        plain.save(build_baseline(records, reason="first", provenance=PROVENANCE), sidecar=build_sidecar(records))
        found = answered(plain, side(plain, world="", recall=0.16), side(plain, world=""))

        assert "a change of data looks like a change of code here" in " ".join(found.evidence)


def test_the_answer_is_plain_json(store):
    found = answered(store, side(store, recall=0.16), side(store)).to_dict()

    assert json.loads(json.dumps(found)) == found
    assert found["causes"] == ["code"]


class TestPair:
    def test_equal_and_not_a_bit_less(self, store):
        baseline = store.load("toy", "cpu")
        one = make_records(range(3))

        assert pair_of(one, one, baseline, store.sidecar(baseline)).apart is Apart.EQUAL
        moved = [*one[:2], rounded(one[2])]
        assert pair_of(one, moved, baseline, store.sidecar(baseline)).apart is Apart.ROUNDING

    @settings(max_examples=20, deadline=None)
    @given(shift=st.floats(1e-14, 1e-8), seed=st.integers(0, 40), recall=st.floats(0.1, 0.4))
    def test_rounding_is_rounding_wherever_the_base_lies(self, store, shift, seed, recall):
        """The base may be far from the stored runs, on a seed that is not stored: only the distance counts."""
        baseline = store.load("toy", "cpu")
        base = make_record(seed, recall=recall)

        found = pair_of([base], [rounded(base, shift)], baseline, store.sidecar(baseline))
        assert found.apart is Apart.ROUNDING
        assert found.first == "losses"

        other = pair_of([base], [make_record(seed, recall=recall, noise=1)], baseline, store.sidecar(baseline))
        assert other.apart is Apart.BEYOND

    def test_no_common_seed(self, store):
        with pytest.raises(ValueError, match="no seed in common"):
            pair_of(make_records([0]), make_records([1]), store.load("toy", "cpu"), None)

    def test_runs_without_a_loss(self, store):
        """Nothing to tell rounding by: beyond, and said so."""
        baseline = store.load("toy", "cpu")
        base = make_record(0).with_arrays(loss__total=None)
        found = pair_of([base], [rounded(base)], baseline, store.sidecar(baseline))

        assert found.apart is Apart.BEYOND
        assert "one of them has no loss curve" in " ".join(found.lines)
