"""Planted slips are found, and the true table is among the repairs; report 004's recall column is moved back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fixtures.metric_files import NDCG_004, RECALL_004
from fixtures.records import make_ranks
from rectest.checks.metric_repair import Repair, Rules, repairs, repairs_of_all
from rectest.metrics.coherence import coherence_violations
from rectest.metrics.ranking import evaluate

CUT_OFFS = (1, 5, 10, 20, 50)
NAMES = [f"{family}@{k}" for family in ("recall", "ndcg") for k in CUT_OFFS]
REPORT = NDCG_004 | RECALL_004
CORRECT = NDCG_004 | {
    "recall@1": 0.62,
    "recall@5": 0.7803,
    "recall@10": 0.836,
    "recall@20": 0.8915,
    "recall@50": 0.9618,
}
NUM_TABLES = 8

Table = dict[str, float]
Slip = Callable[[Table, np.random.Generator], Table]


def rules(table: Table, **changes: object) -> Rules:
    return Rules(**{"single_relevant": True, "decimals": dict.fromkeys(table, 4), **changes})  # type: ignore[arg-type]


def true_table(seed: int) -> Table:
    """A table of 938 users whose model has some skill, rounded to four digits."""
    skill = float(np.random.default_rng(seed).uniform(0.3, 2.5))
    ranks = make_ranks(num_users=938, num_candidates=100, seed=seed, skill=skill)
    return {name: round(value, 4) for name, value in evaluate(ranks, NAMES).items()}


def shifted(table: Table, rng: np.random.Generator) -> Table:
    family, first = rng.choice(["recall", "ndcg"]), int(rng.integers(3))
    pairs = zip(CUT_OFFS[first:], CUT_OFFS[first + 1 :], strict=False)
    return table | {f"{family}@{a}": table[f"{family}@{b}"] for a, b in pairs}


def shifted_by_two(table: Table, rng: np.random.Generator) -> Table:
    family = rng.choice(["recall", "ndcg"])
    return table | {f"{family}@{a}": table[f"{family}@{b}"] for a, b in ((5, 20), (10, 50))}


def swapped(table: Table, rng: np.random.Generator) -> Table:
    one, other = rng.choice(NAMES, 2, replace=False)
    return table | {one: table[other], other: table[one]}


def renamed(table: Table, rng: np.random.Generator) -> Table:
    other = {"recall": "ndcg", "ndcg": "recall"}
    return {f"{other[name.partition('@')[0]]}@{name.partition('@')[2]}": value for name, value in table.items()}


def in_percent(table: Table, rng: np.random.Generator) -> Table:
    name = rng.choice(NAMES)
    return table | {name: table[name] * 100}


def mistyped(table: Table, rng: np.random.Generator) -> Table:
    name, place = rng.choice(NAMES), int(rng.integers(2, 4))
    text = f"{table[name]:.4f}"
    digit = rng.choice([one for one in "0123456789" if one != text[place]])
    return table | {name: float(f"{text[:place]}{digit}{text[place + 1 :]}")}


def test_report_004_has_one_repair_and_it_is_the_slipped_column() -> None:
    (repair,) = repairs(REPORT, rules(REPORT))

    assert repair.kind == "shift"
    assert "0.8915 belongs to recall@20, 0.9618 belongs to recall@50" in repair.text
    assert repair.unknown.keys() == {"recall@10"}
    assert 0.8307 <= repair.unknown["recall@10"][0] <= repair.unknown["recall@10"][1] <= 0.843
    assert repair.cells()["recall@20"] == "0.8915"


def test_a_possible_table_needs_none() -> None:
    assert repairs(CORRECT, rules(CORRECT)) == []


def test_a_table_that_no_single_slip_explains_has_none() -> None:
    table = {"hit@1": 0.9, "hit@5": 0.7, "hit@10": 0.5, "hit@20": 0.3, "mrr": 1.4, "ndcg@5": -0.2}

    assert repairs(table, rules(table)) == []


@pytest.mark.parametrize(
    ("slip", "red", "listed"),
    [
        (shifted, 8, 8),
        (shifted_by_two, 8, 8),
        (swapped, 7, 7),
        (renamed, 8, 8),
        (in_percent, 8, 8),
        (mistyped, 7, 7),
    ],
)
def test_planted_slips_are_red_and_the_true_table_is_listed(slip: Slip, red: int, listed: int) -> None:
    num_red = num_listed = 0
    for seed in range(NUM_TABLES):
        truth = true_table(seed)
        planted = slip(truth, np.random.default_rng([seed, 1]))
        num_red += bool(coherence_violations(planted, single_relevant=True, num_users=938, decimals=4))
        num_listed += any(same(repair, truth) for repair in repairs(planted, rules(planted, num_users=938)))

    assert num_red >= red
    assert num_listed >= listed


def same(repair: Repair, truth: Table) -> bool:
    within = all(low - 1e-4 <= truth[name] <= high + 1e-4 for name, (low, high) in repair.unknown.items())
    return (
        within
        and repair.table.keys() <= truth.keys()
        and all(truth[name] == pytest.approx(value, abs=1e-9) for name, value in repair.table.items())
    )


def test_every_repair_makes_the_whole_table_possible() -> None:
    for seed in range(6):
        planted = mistyped(true_table(seed), np.random.default_rng(seed))
        for repair in repairs(planted, rules(planted)):
            digits = dict.fromkeys(repair.table, 6 if repair.kind == "percent" else 4)

            assert not coherence_violations(repair.table, single_relevant=True, decimals=digits)


def test_repairs_come_smallest_first() -> None:
    planted = CORRECT | {"recall@10": 0.863}
    found = repairs(planted, rules(planted))
    sizes = [len(repair.changed) for repair in found]

    assert sizes == sorted(sizes)
    assert found[0].kind == "transposed"
    assert found[0].table["recall@10"] == 0.836


def test_rows_of_a_file_must_share_the_slip() -> None:
    tables = [renamed(true_table(seed), np.random.default_rng(0)) for seed in range(3)]
    together = repairs_of_all(tables, [rules(table) for table in tables])
    mixed = [tables[0], swapped(true_table(5), np.random.default_rng(5))]

    assert [repair.kind for repair in together] == ["names"]
    assert repairs_of_all(mixed, [rules(table) for table in mixed]) == []


def test_the_search_is_bounded() -> None:
    calls = repairs(REPORT, rules(REPORT), max_tries=3)

    assert calls == []


def test_nothing_to_mend_in_nothing() -> None:
    assert repairs_of_all([], []) == []
