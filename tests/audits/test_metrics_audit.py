"""The audit of metric tables: the reports' own, every true table green in every format, and each slip red."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.metric_files import FORMATS, REPORT_001, REPORT_003, REPORT_004, write_table
from fixtures.rankings import ranks_of_places
from fixtures.records import make_ranks
from rectest.audits.metrics_audit import Plan, Protocol, audit_metrics
from rectest.audits.report import Audit
from rectest.audits.theory import theory_of
from rectest.checks.result import CheckResult, Verdict
from rectest.metrics.ranking import evaluate
from rectest.metrics.ranks import rank_targets

NAMES = [f"{name}@{k}" for name in ("recall", "ndcg", "hit", "mrr", "precision") for k in (1, 3, 5, 10)]
EVERY = [*NAMES, "mrr", "mean_rank"]
SINGLE = Protocol(num_relevant=1)


def audit_text(text: str, name: str = "t.csv", protocol: Protocol = SINGLE, **more: object) -> Audit:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        return audit_metrics(path, protocol, **more)[0]  # type: ignore[arg-type]


def codes(audit: Audit) -> set[str]:
    return {result.check for result in audit.findings}


def find(audit: Audit, check: str) -> CheckResult:
    return next(result for result in audit.results if result.check == check)


def texts_of(table: dict[str, float], *, digits: int | None, unit: str) -> dict[str, str]:
    """The cells as a program writes them: rounded, as fractions, percentages, or with a percent sign."""
    texts = {}
    for name, value in table.items():
        scaled = value if unit == "fraction" or name == "mean_rank" else 100 * value
        places = digits if unit == "fraction" or name == "mean_rank" or digits is None else max(0, digits - 2)
        text = repr(scaled) if places is None else f"{scaled:.{places}f}"
        texts[name] = text + ("%" if unit == "signed" and name != "mean_rank" else "")
    return texts


def test_report_001_is_chance() -> None:
    audit = audit_text(REPORT_001, protocol=Protocol(num_candidates=100, num_users=938))

    assert codes(audit) == {"chance/joint"}
    assert find(audit, "chance/joint").verdict is Verdict.CHANCE
    assert "mean_rank 49.09 (z +1.50)" in find(audit, "chance/joint").outside


def test_report_003_is_coherent_and_not_told_from_chance_by_itself() -> None:
    assert codes(audit_text(REPORT_003, "r.md")) == set()
    assert codes(audit_text(REPORT_003.replace("0.045", "0.065"), "r.md")) == {"coherence/table"}


def test_report_004_is_impossible_and_gets_the_right_repair() -> None:
    plan = Plan(samples=147_894, batch_size=128, epochs=176, steps="203,455")
    audit = audit_text(REPORT_004, "r.md", plan=plan)
    finding = find(audit, "coherence/table")

    assert codes(audit) == {"coherence/table", "accounting/steps"}
    assert "one repair makes it possible: recall slipped by one cut-off from recall@10 on" in finding.detail
    assert "0.8915 belongs to recall@20, 0.9618 belongs to recall@50" in finding.detail
    assert "recall@10 [0.8308, 0.8417]" in finding.rows
    assert find(audit, "accounting/steps").outside == "-1 steps"


def test_without_a_word_on_relevant_items_report_004_is_a_note() -> None:
    audit = audit_text(REPORT_004, "r.md", protocol=Protocol())

    assert codes(audit) == set()
    assert any("would be impossible" in note and "--relevant 1" in note for note in audit.notes)


def test_a_learned_table_is_green() -> None:
    ranks = make_ranks(num_users=938, num_candidates=100, skill=1.0)
    texts = texts_of(evaluate(ranks, ["hit@5", "hit@10", "ndcg@10", "mrr", "mean_rank"]), digits=4, unit="fraction")
    text = ",".join(texts) + "\n" + ",".join(texts.values())
    audit = audit_text(text, protocol=Protocol(num_candidates=100, num_users=938, num_relevant=1))

    assert codes(audit) == set()
    assert find(audit, "chance/joint").verdict is Verdict.PASS


@settings(max_examples=50, deadline=None)
@given(
    places=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    digits=st.sampled_from([None, 2, 3, 4, 6]),
    unit=st.sampled_from(["fraction", "percent", "signed"]),
    name=st.sampled_from(sorted(FORMATS)),
    picked=st.sets(st.sampled_from(EVERY), min_size=1),
)
def test_no_true_table_of_one_item_is_red(
    places: list[int], digits: int | None, unit: str, name: str, picked: set[str]
) -> None:
    table = evaluate(ranks_of_places([(place,) for place in places], num_candidates=12), sorted(picked))
    texts = texts_of(table, digits=digits, unit=unit)
    # Percentages that are all at most 1 look like fractions, of which no file can tell; the unit is then to be said.
    seen = any(value > 0.01 for measure, value in table.items() if measure != "mean_rank")
    said = "percent" if unit == "percent" and not seen else "auto"
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(Path(folder), name, texts)
        audit, mended = audit_metrics(path, Protocol(num_users=len(places), num_relevant=1), unit=said)

    assert codes(audit) == set()
    assert mended == []


@settings(max_examples=40, deadline=None)
@given(
    places=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True), min_size=2, max_size=20),
    digits=st.sampled_from([None, 2, 4, 6]),
    unit=st.sampled_from(["fraction", "signed"]),
    name=st.sampled_from(sorted(FORMATS)),
    declared=st.booleans(),
)
def test_no_true_table_of_several_items_is_red(
    places: list[list[int]], digits: int | None, unit: str, name: str, declared: bool
) -> None:
    table = evaluate(ranks_of_places([tuple(sorted(user)) for user in places], num_candidates=12), EVERY)
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(Path(folder), name, texts_of(table, digits=digits, unit=unit))
        audit, _ = audit_metrics(path, Protocol(num_users=len(places), multi_positive=declared))

    assert codes(audit) == set()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.integers(2, 6), digits=st.sampled_from([None, 3, 4]))
def test_no_table_with_declared_ties_is_red(seed: int, levels: int, digits: int | None) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, size=(20, 13)).astype(float)
    ranks = rank_targets(scores, [[1 + user % 12] for user in range(20)])
    texts = texts_of(evaluate(ranks, EVERY), digits=digits, unit="fraction")
    audit = audit_text(
        "metric,value\n" + "".join(f"{n},{t}\n" for n, t in texts.items()),
        protocol=Protocol(num_relevant=1, num_users=20, ties=True),
    )

    assert codes(audit) == set()


def test_tables_of_random_rankings_are_chance_and_nothing_else() -> None:
    for seed in range(8):
        ranks = make_ranks(num_users=300, num_candidates=100, skill=0.0, seed=seed)
        table = evaluate(ranks, ["hit@5", "hit@10", "ndcg@5", "ndcg@10", "mrr", "mean_rank"])
        texts = texts_of(table, digits=4, unit="fraction")
        protocol = Protocol(num_candidates=100, num_users=300, num_relevant=1)
        audit = audit_text(",".join(texts) + "\n" + ",".join(texts.values()), protocol=protocol)

        assert codes(audit) == {"chance/joint"}


def epochs(skills: list[float]) -> str:
    names = ["hit@5", "ndcg@10", "mrr", "mean_rank"]
    rows = [
        evaluate(make_ranks(num_users=300, num_candidates=100, skill=skill, seed=seed), names)
        for seed, skill in enumerate(skills)
    ]
    lines = [f"{number},{','.join(f'{row[name]:.4f}' for name in names)}" for number, row in enumerate(rows)]
    return "\n".join([f"epoch,{','.join(names)}", *lines])


def test_a_curve_is_judged_once_by_its_best() -> None:
    protocol = Protocol(num_candidates=100, num_users=300, num_relevant=1)
    flat, learned = (audit_text(epochs(skills), protocol=protocol) for skills in ([0.0] * 12, [0.0, 0.2, 0.8]))

    assert codes(flat) == {"chance/joint"}
    assert codes(learned) == set()
    assert [result.check for result in learned.results].count("chance/joint") == 1


def test_columns_under_each_others_name_in_every_row() -> None:
    rows = ["epoch,recall@5,recall@10,ndcg@5,ndcg@10"]
    for epoch in range(4):
        table = evaluate(
            make_ranks(num_users=500, num_candidates=100, seed=epoch), ["ndcg@5", "ndcg@10", "hit@5", "hit@10"]
        )
        rows.append(f"{epoch}," + ",".join(f"{value:.4f}" for value in table.values()))
    finding = find(audit_text("\n".join(rows)), "coherence/table")

    assert finding.red
    assert "recall and ndcg stand under each other's name" in finding.detail
    assert "in the 4 broken rows" in finding.detail


def test_one_percentage_among_fractions_is_red_with_its_repair() -> None:
    finding = find(audit_text("recall@1,recall@5,recall@10,ndcg@5\n0.3012,0.5201,61.44,0.4210\n"), "coherence/table")

    assert finding.red
    assert "recall@10 = 61.44 has another unit than the rest and is 0.6144" in finding.detail


def test_an_ambiguous_repair_says_so_and_none_says_that() -> None:
    several = find(audit_text("hit@5,hit@10,mrr\n0.4000,0.3000,0.2000\n"), "coherence/table")
    none = find(audit_text("hit@1,hit@5,hit@10,hit@20,mrr\n0.9,0.7,0.5,0.3,1.4\n"), "coherence/table")

    assert "ambiguous" in several.detail
    assert "no single slip" in none.detail


def test_ranks_and_cut_offs_beyond_the_candidates_are_red() -> None:
    protocol = Protocol(num_candidates=20, num_relevant=1)

    assert codes(audit_text("mean_rank\n21.4\n", protocol=protocol)) == {"ranges/metric"}
    assert codes(audit_text("recall@50\n1.0\n", protocol=protocol)) == {"ranges/metric"}
    assert codes(audit_text("mean_rank\n19.4\n", protocol=protocol)) == set()


def test_a_nan_is_red() -> None:
    assert codes(audit_text("hit@5,mrr\nnan,0.2\n")) == {"coherence/table"}
    assert codes(audit_text('{"hit@5": NaN, "mrr": 0.2}', "t.json")) == {"coherence/table"}


def test_several_relevant_items_switch_rules_off_and_say_so() -> None:
    text = "recall@5,ndcg@5,recall@10,ndcg@10\n0.40,0.50,0.60,0.45\n"
    loose, strict = audit_text(text, protocol=Protocol(multi_positive=True)), audit_text(text)

    assert (codes(loose), codes(strict)) == (set(), {"coherence/table"})
    assert any("switched off are ndcg never falls with k" in note for note in loose.notes)


def test_popularity_is_a_floor(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["user_id\titem_id\ttimestamp"]
    for user in range(80):
        items = rng.permutation(np.unique(rng.zipf(1.6, size=12).clip(1, 50)))
        lines += [f"{user}\t{item}\t{time}" for time, item in enumerate(items)]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n")
    low, high = (
        audit_text(
            f"hit@5,mean_rank\n{cells}\n", interactions=tmp_path / "log.tsv", protocol=Protocol(num_candidates=20)
        )
        for cells in ("0.0100,18.20", "0.9900,1.10")
    )

    assert codes(low) == {"floor/popularity"}
    assert codes(high) == set()
    assert any("held out by time" in note for note in low.notes)


def test_users_of_training_are_not_those_that_were_counted() -> None:
    text = "train_hit@5,test_hit@5\n0.5500,0.5000\n"

    assert codes(audit_text(text, protocol=Protocol(num_users=10, num_relevant=1))) == set()
    assert codes(audit_text(text.replace("train", "valid"), protocol=Protocol(num_users=10))) == {"coherence/table"}


def test_what_was_left_out_and_not_asked_is_noted() -> None:
    audit = audit_text("hit@5,map@10,epoch\n0.5,0.2,1\n", protocol=Protocol())

    assert any("left out" in note and "map@10" in note for note in audit.notes)
    assert any("--candidates and --users" in note for note in audit.notes)
    assert json.loads(json.dumps(audit.to_dict()))["facts"]["tables"] == 1


def test_every_code_has_its_theory(tmp_path: Path) -> None:
    found = {
        *(
            result.check
            for result in audit_text(
                REPORT_004, "r.md", plan=Plan(samples=10, batch_size=2, epochs=1, steps="5")
            ).results
        ),
        *(
            result.check
            for result in audit_text(REPORT_001, protocol=Protocol(num_candidates=100, num_users=938)).results
        ),
        *("chance/hit@10", "floor/popularity", "floor/optimum", "coherence/ties", "coherence/recomputed"),
        *("ranges/loss", "ranges/num_users", "ranges/steps", "accounting/parameters", "accounting/early_stop"),
        "accounting/percent",
    }

    for code in found:
        theory = theory_of(code)
        assert min(len(theory.claim), len(theory.why), len(theory.red)) > 20


@pytest.mark.parametrize(
    ("settings_", "problem"),
    [
        ({"num_users": 0}, "num_users must be at least 1"),
        ({"num_candidates": 1}, "num_candidates must be at least 2"),
        ({"num_relevant": 1, "multi_positive": True}, "both declared"),
    ],
)
def test_bad_protocols_are_refused(settings_: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Protocol(**settings_)  # type: ignore[arg-type]
