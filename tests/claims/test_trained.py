"""Claims that train: hand-made runs of known effect, so that each verdict is seen to follow the measurement.

Each case names what the trainings give and the verdict that must come out; two verdicts for every claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fixtures.records import make_environment
from rectest.claims.catalogue import BOOKS, chosen
from rectest.claims.claim import Finding, NotHere
from rectest.claims.r002_runs import mean_auc
from rectest.claims.r004_runs import stopped_at
from rectest.claims.runs import Runs
from rectest.errors import ChildFailed
from rectest.record import RunRecord, RunSpec

NUM_STEPS, NUM_EVALUATIONS, NUM_USERS = 125, 5, 200
CONFIRMED, REFUTED, UNDECIDABLE = Finding.CONFIRMED, Finding.REFUTED, Finding.UNDECIDABLE

Change = Callable[[RunSpec, dict[str, Any], dict[str, Any]], None]


def record_of(spec: RunSpec, change: Change) -> RunRecord:
    """A run of a toy program, equal for equal seeds, as `change` makes it."""
    rng = np.random.default_rng([spec.seed, 7])
    metrics = {"recall@20": 0.4, "recall@10": 0.4, "ndcg@10": 0.5, "hit@5": 0.3}
    arrays: dict[str, Any] = {
        "loss/total": np.linspace(1.3863, 0.5, NUM_STEPS) + 1e-4 * rng.normal(size=NUM_STEPS),
        "tape/batch": rng.integers(0, 2**40, (NUM_STEPS, 2)).astype(np.uint64),
        "ranks/test/expected": rng.integers(1, 100, NUM_USERS).astype(np.float64),
        "ranks/test/num_candidates": np.full(NUM_USERS, 100, dtype=np.int64),
        "counter/negatives/relative_popularity": np.full(NUM_STEPS, 1.5),
        "counter/serving/overlap@10": np.full(NUM_STEPS, 1.0),
    }
    for name, level in metrics.items():
        level *= 1 + 0.002 * rng.normal()
        arrays[f"metric/valid/{name}"] = level * np.linspace(0.6, 1.0, NUM_EVALUATIONS)
        arrays[f"metric/test/{name}"] = np.array([level])
    facts: dict[str, Any] = {
        "timing": {"trained": 10.0 + 0.01 * rng.normal()},
        "inputs": {"expected_scalars": {"negatives/relative_popularity": 1.5}},
        "probes": {
            "components": {part: {"recall@10": 0.6, "spread": 1.0} for part in ("sasrec", "retriever", "fused")},
        },
        "parameters": {"named": {"retriever.weight": {"moved": 0.5}, "sasrec.weight": {"moved": 0.5}}},
    }
    change(spec, arrays, facts)
    return RunRecord(spec=spec, environment=make_environment(), arrays=arrays, facts=facts)


def runs_with(change: Change, rows: Sequence[Any] = ()) -> Runs:
    found = {row.variant.name: row for row in rows}

    def measure_ranks(system: str, num_ranks: int, names: Sequence[str]) -> list[Any]:
        return [found.get(name) or row_of(name) for name in names]

    return Runs(lambda specs: [record_of(spec, change) for spec in specs], measure_ranks)


def row_of(name: str, *, red: bool = False) -> Any:
    """One measured way of combining gradients."""
    return SimpleNamespace(
        variant=SimpleNamespace(name=name),
        scale=2.0 if red else 1.0,
        error=1.0 if red else 1e-7,
        replicas_agree=not red,
        caught_by=["parity/gradient"] if red else [],
    )


def nothing(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
    """As it is."""


def replicas_differ(spec, arrays, facts):
    rng = np.random.default_rng([spec.seed, spec.replica, len(spec.plant)])
    arrays["tape/batch"] = rng.integers(0, 2**40, (NUM_STEPS, 2)).astype(np.uint64)


def foreign_draws_matter(spec, arrays, facts):
    if "foreign" in spec.plant:
        arrays["tape/batch"] = arrays["tape/batch"] + np.uint64(1)


def planted_runs_fluctuate(spec, arrays, facts):
    if spec.plant:
        arrays["metric/valid/recall@20"] = arrays["metric/valid/recall@20"] * (1 + 0.1 * spec.replica)


def gain_of(share: float, *, where: Callable[[RunSpec], bool] = lambda spec: bool(spec.config)) -> Change:
    """Runs of the second arm are better by a share, in every metric."""

    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        if where(spec):
            for key in [key for key in arrays if key.startswith("metric/")]:
                arrays[key] = arrays[key] * (1 + share)
            ranks = arrays["ranks/test/expected"]
            arrays["ranks/test/expected"] = 1 + (ranks - 1) * (1 - share)

    return change


def spread_of(first: float, second: float, *, is_second: Callable[[RunSpec], bool]) -> Change:
    """Validation values that vary over the runs of an arm by a given sd."""

    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        sd = second if is_second(spec) else first
        place = spec.seed + spec.replica
        values = np.array([-1.3, 0.7, 1.1, -0.6, 0.4, -0.3])
        arrays["metric/valid/recall@20"] = 0.4 * (1 + sd * values[place % 6]) * np.ones(NUM_EVALUATIONS)

    return change


def slower(factor: float) -> Change:
    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        facts["timing"] = {"trained": (factor if spec.deterministic else 1.0) * (10 + 0.01 * spec.replica)}

    return change


def counter_at(name: str, value: float) -> Change:
    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        arrays[f"counter/{name}"] = np.full(NUM_STEPS, value)

    return change


def fused_at(value: float) -> Change:
    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        facts["probes"]["components"]["fused"]["recall@10"] = value

    return change


def still(spec, arrays, facts):
    facts["parameters"]["named"]["retriever.weight"]["moved"] = 0.0


def hits_by(value: Callable[[RunSpec], float]) -> Change:
    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        arrays["metric/test/hit@5"] = np.array([value(spec)])

    return change


def first_loss_at(value: float) -> Change:
    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        arrays["loss/total"] = np.full(NUM_STEPS, value)

    return change


def best_in_the_middle(*, kept_is_last: bool) -> Change:
    def change(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        arrays["metric/valid/ndcg@10"] = np.array([0.3, 0.5, 0.6, 0.55, 0.5])
        if kept_is_last and spec.plant:
            arrays["metric/test/ndcg@10"] = arrays["metric/test/ndcg@10"] * 0.9

    return change


def late_best(spec, arrays, facts):
    arrays["metric/valid/ndcg@10"] = np.array([0.5, 0.4, 0.3, 0.2, 0.6])


def is_many(spec: RunSpec) -> bool:
    return spec.config.get("neg_num") == 3


def is_fixed(spec: RunSpec) -> bool:
    return spec.config.get("order") == "fixed"


def is_changed(spec: RunSpec) -> bool:
    return set(spec.config) > {"steps"}


def is_iterator(spec: RunSpec) -> bool:
    return spec.plant.endswith("unseeded_iterator")


CASES: dict[str, list[tuple[Change, Finding]]] = {
    "000.1": [(nothing, REFUTED), (replicas_differ, CONFIRMED)],
    "000.2": [(nothing, REFUTED), (planted_runs_fluctuate, CONFIRMED)],
    "000.3": [(nothing, CONFIRMED), (foreign_draws_matter, REFUTED)],
    "000.7": [
        (spread_of(0.30, 0.01, is_second=is_many), CONFIRMED),
        (spread_of(0.01, 0.30, is_second=is_many), REFUTED),
        (spread_of(0.02, 0.02, is_second=is_many), UNDECIDABLE),
    ],
    "000.9": [(slower(1.5), CONFIRMED), (slower(1.0), REFUTED)],
    "000.10": [(nothing, CONFIRMED), (gain_of(0.5, where=lambda spec: spec.seed == 3), REFUTED)],
    "000.11": [
        (spread_of(0.01, 0.30, is_second=is_iterator), CONFIRMED),
        (spread_of(0.30, 0.01, is_second=is_iterator), REFUTED),
    ],
    "000.12": [(gain_of(-0.1, where=is_fixed), CONFIRMED), (gain_of(0.1, where=is_fixed), REFUTED)],
    "001.20": [(fused_at(0.6), CONFIRMED), (fused_at(0.1), REFUTED)],
    "001.21": [(nothing, REFUTED), (still, CONFIRMED)],
    "001.22": [
        (hits_by(lambda spec: 0.06 if spec.config else 0.45), REFUTED),
        (hits_by(lambda spec: 0.45 - 0.001 * spec.seed), CONFIRMED),
    ],
    "002.11": [(nothing, CONFIRMED), (first_loss_at(2.5), REFUTED)],
    "002.12": [(gain_of(0.02), CONFIRMED), (gain_of(0.0), REFUTED)],
    "002.13": [(gain_of(0.03), CONFIRMED), (gain_of(-0.05), REFUTED)],
    "002.14": [(nothing, CONFIRMED), (gain_of(0.2), REFUTED)],
    "002.15": [(nothing, CONFIRMED), (counter_at("negatives/relative_popularity", 1.0), REFUTED)],
    "002.16": [(nothing, CONFIRMED), (counter_at("serving/overlap@10", 0.6), REFUTED)],
    "004.19": [(nothing, CONFIRMED), (gain_of(-0.1, where=is_changed), REFUTED)],
    "004.20": [(gain_of(0.02, where=is_changed), CONFIRMED), (gain_of(0.2, where=is_changed), REFUTED)],
    "004.21": [
        (best_in_the_middle(kept_is_last=True), REFUTED),
        (best_in_the_middle(kept_is_last=False), CONFIRMED),
        (nothing, UNDECIDABLE),
    ],
    "004.22": [(nothing, CONFIRMED), (late_best, REFUTED)],
}
TRAINED = [claim.number for book in BOOKS for claim in book.claims if claim.needs_training]
ON_RANKS = {"003.20", "003.21"}
ON_A_GPU = {"004.18"}


@pytest.mark.parametrize(
    ("number", "change", "expected"),
    [(number, change, expected) for number, cases in CASES.items() for change, expected in cases],
)
def test_the_verdict_follows_the_runs(number, change, expected):
    (claim,) = chosen([number])
    measured = claim.judge(runs_with(change))

    assert not measured.figure.startswith("not measured")
    assert expected == measured.verdict


def test_every_trained_claim_has_two_verdicts():
    """A claim without a case here could be a constant."""
    assert set(TRAINED) == {*CASES, *ON_RANKS, *ON_A_GPU}
    assert {number: len({verdict for _, verdict in cases}) for number, cases in CASES.items() if len(cases) > 3} == {}
    assert all(len({verdict for _, verdict in cases}) >= 2 for cases in CASES.values())


@pytest.mark.parametrize("red", [False, True])
def test_gradients_of_ranks(red):
    names = ("ddp_divided_sum", "report_003", "report_003_accumulation", "never_reduced")
    runs = runs_with(nothing, [row_of(name, red=red) for name in names])
    twice, repair = (chosen([number])[0].judge(runs) for number in sorted(ON_RANKS))

    assert (CONFIRMED if red else REFUTED) == twice.verdict
    assert (REFUTED if red else CONFIRMED) == repair.verdict


@pytest.mark.parametrize("number", [n for n in TRAINED if n not in ON_RANKS | ON_A_GPU])
def test_what_is_needed_is_named_before_training(number):
    """All specs of a claim are known at once, so that they can be trained together."""
    (claim,) = chosen([number])
    runs = runs_with(nothing)
    runs.prepare(claim.specs())
    num_named = runs.num_trained
    claim.judge(runs)

    assert num_named > 0
    assert num_named == runs.num_trained


class TestRuns:
    SPEC = RunSpec(system="toy")

    def test_each_spec_is_trained_once(self):
        asked: list[str] = []

        def train_all(specs: Sequence[RunSpec]) -> list[RunRecord]:
            asked.extend(spec.key for spec in specs)
            return [record_of(spec, nothing) for spec in specs]

        runs = Runs(train_all)
        specs = [self.SPEC, self.SPEC.with_(seed=1), self.SPEC]
        records = runs.train(specs)
        runs.train(specs[:1])

        assert [0, 1, 0] == [record.spec.seed for record in records]
        assert len(asked) == 2

    def test_a_failure_is_raised_where_it_is_asked_for(self):
        failed = ChildFailed("toy", reason="raised", detail="it broke")
        runs = Runs(lambda specs: [failed for _ in specs])
        runs.prepare([self.SPEC])

        with pytest.raises(ChildFailed, match="it broke"):
            runs.train([self.SPEC])

    def test_ranks_without_training(self):
        with pytest.raises(NotHere, match="left out"):
            Runs().ranks("toy", 2, ["ddp"])


def test_the_kept_weights_are_compared_for_one_training_only():
    """A plant that changes training too would be credited with what training did."""

    def also_trains_otherwise(spec: RunSpec, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        best_in_the_middle(kept_is_last=True)(spec, arrays, facts)
        if spec.plant:
            arrays["metric/valid/ndcg@10"] = arrays["metric/valid/ndcg@10"] * 0.9

    measured = chosen(["004.21"])[0].judge(runs_with(also_trains_otherwise))

    assert measured.verdict is UNDECIDABLE
    assert "differ in more than the weights" in measured.figure


def test_auc_by_hand():
    record = record_of(RunSpec(system="toy"), nothing).with_arrays(
        ranks__test__expected=np.array([1.0, 3.0, 2.0]), ranks__test__num_candidates=np.array([3, 3, 3])
    )

    assert mean_auc(record) == pytest.approx(0.5)


@pytest.mark.parametrize(("patience", "expected"), [(1, 0), (3, 0), (4, 4)])
def test_stopping_early_by_hand(patience, expected):
    assert expected == stopped_at([0.5, 0.4, 0.3, 0.2, 0.6], patience)
