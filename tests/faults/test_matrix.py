"""The matrix: what is trained for a row, how a row is read, and that faults really turn red what they declare.

The quick part trains small systems in this process for faults that show within a few steps; the whole matrix, at the
systems' own settings and against the stored baselines, is marked slow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gear import SMALL as GEAR_SMALL
from fixtures.gram_c import SMALL as GRAM_C_SMALL
from fixtures.records import edit_facts
from fixtures.ur4rec import SMALL as UR4REC_SMALL
from fixtures.whole_records import watched_record
from rectest.checks.result import CheckResult, Verdict
from rectest.errors import ChildFailed
from rectest.faults.controls import HARMLESS, Control
from rectest.faults.fault import Fault
from rectest.faults.matrix import (
    FAMILIES,
    Row,
    all_faults,
    controls,
    judge_case,
    matrix_rows,
    of_one,
    trial_of,
    unproven,
)
from rectest.systems.registry import SYSTEMS
from rectest.training.program import run_spec

ROOT = Path(__file__).parents[2]

SMALL = {
    "adaptive_sasrec": {
        "embedding_size": 16,
        "max_length": 10,
        "batch_size": 32,
        "popular_ratio": 0.9,
        "popularity_power": 3.0,
    },
    "comirec": {"embedding_size": 8, "history_length": 12, "batch_size": 32, "neg_num": 1},
    "gear": GEAR_SMALL,
    "gram_c": GRAM_C_SMALL,
    "ur4rec": UR4REC_SMALL,
}
WORLDS = {"gear": "tiny-behaviours", "gram_c": "tiny-words", "ur4rec": "tiny-words"}

QUICK = {
    ("adaptive_sasrec", "padding_row_nonzero"): "embeddings/padding_row",
    ("adaptive_sasrec", "unseeded_negatives"): "reproducible",
    ("adaptive_sasrec", "evaluation_steals_rng"): "purity/schedule",
    ("adaptive_sasrec", "positives_as_negatives"): "effect/negatives/relative_popularity",
    ("adaptive_sasrec", "inert_smart_negatives"): "effect/negatives/relative_popularity",
    ("adaptive_sasrec", "serve_with_dot"): "effect/serving/overlap@10",
    ("adaptive_sasrec", "dropout_in_eval"): "purity/random",
    ("adaptive_sasrec", "optimizer_misses_table"): "embeddings/dead_rows",
    ("adaptive_sasrec", "nan_scores"): "training",
    ("adaptive_sasrec", "constant_scores"): "coherence/ties",
    ("adaptive_sasrec", "popularity_of_everything"): "leak/held_out",
    ("adaptive_sasrec", "state_outside_checkpoint"): "resume/bits",
    ("adaptive_sasrec", "batch_scaled_scores"): "invariance/blocks",
    ("adaptive_sasrec", "visible_padding"): "invariance/padding",
    ("adaptive_sasrec", "dead_setting"): "configuration/read",
    ("gear", "last_weights_tested"): "checkpoint/best",
    ("ur4rec", "scale_dominated_fusion"): "fusion/scale",
    ("ur4rec", "loss_weights_not_optimized"): "learning/optimized",
    ("ur4rec", "leaky_user_texts"): "leak/held_out",
    ("gram_c", "graph_sees_held_out"): "effect/graph/edges",
    ("comirec", "shared_global_rng"): "purity/random",
    ("comirec", "unseeded_iterator"): "reproducible",
    ("comirec", "unsorted_ids"): "effect/num_classes_out_of_order",
    ("comirec", "padding_row_trains"): "embeddings/padding_row",
}
"""What a few steps on a tiny world are enough to show."""


def train_small(spec):
    """The same training in small: a tiny world, few steps, and a schedule that differs where the spec's does."""
    config = {key: value for key, value in SMALL[spec.system].items() if key not in ("steps", "eval_every")}
    small = {"steps": 24, "eval_every": 6 if spec.eval_every else 12, "config": {**config, **spec.config}}
    cut = {"interrupted_at": 12} if spec.interrupted_at else {}
    return run_spec(spec.with_(world=WORLDS.get(spec.system, "tiny"), **small, **cut))


def case_of(system, name):
    return next(case for case in [*all_faults(), *controls()] if (case.system, case.name) == (system, name))


def row_of(case, **verdicts):
    """A row with one result for each ``family__check=verdict``."""
    results = tuple(
        CheckResult(check=name.replace("__", "/"), subject="toy", verdict=verdict, figure="")
        for name, verdict in verdicts.items()
    )
    return Row(case=case, results=results)


def fault(*turns_red):
    return Fault(name="broken", plant="a.b:c", system="comirec", turns_red=turns_red, about="it is wrong")


CLEAN = Control(name="clean", system="comirec", about="nothing is wrong")


@pytest.mark.parametrize(("system", "name"), QUICK, ids=lambda value: str(value))
def test_a_fault_turns_its_check_red_within_a_few_steps(system, name):
    row = judge_case(case_of(system, name), train_small, num_seeds=2)

    assert QUICK[system, name] in row.caught_by


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("adaptive_sasrec", "clean"),
        ("adaptive_sasrec", "clean_smart_negatives"),
        ("comirec", "clean"),
        pytest.param("gear", "clean", marks=pytest.mark.slow),
        pytest.param("gram_c", "clean", marks=pytest.mark.slow),
        pytest.param("ur4rec", "clean", marks=pytest.mark.slow),
    ],
)
def test_the_clean_system_turns_none_of_these_red(system, name):
    row = judge_case(case_of(system, name), train_small, num_seeds=2)
    judged = {check for (owner, _), check in QUICK.items() if owner == system}

    assert judged & set(row.caught_by) == set()


def test_every_system_has_faults_and_controls_and_every_fault_is_declared():
    faults, harmless = all_faults(), controls()

    assert set(SYSTEMS) == {case.system for case in faults} == {case.system for case in harmless}
    assert len({(case.system, case.name) for case in [*faults, *harmless]}) == len(faults) + len(harmless)
    assert all(name.partition("/")[0] in FAMILIES for case in faults for name in case.turns_red)


def test_every_setting_that_a_fault_needs_has_a_clean_run_of_its_own():
    needed = {case.spec.with_(plant="").key for case in all_faults()}

    assert needed <= {case.spec.key for case in controls()}


def test_the_runs_of_a_row():
    """A fault is trained as often as its checks need, a control as often as the gate trains."""
    inert, unseeded, drop, leaky, forgetful, clean = (
        trial_of(case_of("adaptive_sasrec", name))
        for name in (
            "inert_smart_negatives",
            "unseeded_negatives",
            "recall_drop",
            "popularity_of_everything",
            "state_outside_checkpoint",
            "clean",
        )
    )
    first = clean.seeds[0]

    assert [spec.config for spec in inert.specs] == [{"smart_negatives": True}]
    assert unseeded.specs == (*unseeded.seeds[:1], unseeded.seeds[0].with_(replica=1))
    assert [0, 1, 2] == [spec.seed for spec in drop.specs]
    assert leaky.edited.plant == f"{leaky.seeds[0].plant},rectest.faults.controls:held_out_edited"
    assert forgetful.interrupted.interrupted_at == 125
    assert clean.repeated == first.with_(replica=1)
    assert clean.rescheduled == first.with_(eval_every=25)
    assert len(clean.specs) == 7
    assert trial_of(case_of("comirec", "clean")).edited is None
    assert len(trial_of(case_of("comirec", "foreign_draws")).specs) == 5


def test_a_failed_training_is_a_red_row():
    def fails(spec):
        raise ChildFailed(spec.describe(), reason="raised", detail="a score is not finite")

    row = judge_case(fault("training"), fails)

    assert row.caught_by == ["training"]
    assert row.holes == []
    assert "not finite" in row.results[0].figure


def test_a_run_is_asked_everything_but_what_its_system_may_lack():
    """A fact that is missing is red; only a score of one part is not asked for its parts."""
    record = edit_facts(watched_record(), "parameters", value={})
    alone = edit_facts(record, "probes", "components", value={})
    verdicts = {result.check: result.verdict for result in of_one(record)}
    told = {check.partition("/")[0] for check in verdicts}

    assert Verdict.NOT_MEASURED in {verdict for check, verdict in verdicts.items() if check.startswith("learning/")}
    assert {check.partition("/")[0] for check in (result.check for result in of_one(alone))} == told - {"fusion"}
    assert {"checkpoint", "accounting", "fusion"} <= told


def test_only_the_defaults_are_held_against_what_is_stored():
    """A baseline of other settings says nothing; asked about them, the gate would only say that they changed."""
    asked = []

    def judge_seeds(records):
        asked.append(records[0].spec.config)
        return [CheckResult(check="baseline/loss", subject="comirec", verdict=Verdict.FAIL, figure="")]

    def train(spec):
        return records[spec.seed, spec.replica, spec.eval_every]

    case = case_of("comirec", "foreign_draws")
    records = {(s.seed, s.replica, s.eval_every): train_small(s) for s in trial_of(case, num_seeds=2).specs}
    with_settings = Control(name="x", system="comirec", about="x", changes={"config": {"neg_num": 1}})
    rows = [judge_case(c, train, judge_seeds=judge_seeds, num_seeds=2) for c in (case, with_settings)]

    assert ["baseline/loss" in row.red for row in rows] == [True, False]
    assert len(asked) == 1


def test_windows_of_another_evaluation_schedule_are_not_held_against_the_stored_ones():
    """A mean over other steps of a rising curve is another number; the final value and the loss still count."""

    def judge_seeds(records):
        names = ("baseline/valid/recall@20/early", "baseline/test/recall@20")
        return [CheckResult(check=name, subject="comirec", verdict=Verdict.FAIL, figure="") for name in names]

    rows = [
        judge_case(case_of("comirec", name), train_small, judge_seeds=judge_seeds, num_seeds=2)
        for name in ("other_eval_every", "foreign_draws")
    ]

    assert [False, True] == ["baseline/valid/recall@20/early" in row.red for row in rows]
    assert ["baseline/test/recall@20" in row.red for row in rows] == [True, True]


def test_a_red_check_of_any_subject_counts_and_families_cover_their_checks():
    row = row_of(
        fault("baseline", "chance"), baseline__loss=Verdict.PASS, baseline__recall=Verdict.FAIL, ranges=Verdict.PASS
    )

    assert row.caught_by == ["baseline/recall"]
    assert row.holes == ["chance"]
    assert row.false_alarms == []


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.NOT_MEASURED])
def test_anything_red_on_a_control_is_a_false_alarm(verdict):
    row = row_of(CLEAN, purity__model=verdict, ranges=Verdict.PASS)

    assert row.false_alarms == ["purity/model"]
    assert row.holes == []


def test_the_table():
    verdicts = {"purity__model": Verdict.FAIL, "baseline__loss": Verdict.FAIL, "ranges": Verdict.PASS}
    rows = [row_of(fault("purity", "chance"), **verdicts), row_of(CLEAN, **verdicts)]
    cells = [dict(zip(FAMILIES, line[1:], strict=True)) for line in matrix_rows(rows)]

    assert [line[0] for line in matrix_rows(rows)] == ["broken", "clean"]
    assert {"purity": "X", "chance": "HOLE", "baseline": "x", "ranges": ".", "mapping": ""}.items() <= cells[0].items()
    assert {"purity": "ALARM", "baseline": "ALARM", "ranges": "."}.items() <= cells[1].items()


def test_a_family_that_no_fault_turns_red_is_named():
    """Red on a control proves nothing: that is a false alarm."""
    verdicts = {"purity__model": Verdict.FAIL, "ranges": Verdict.PASS}
    rows = [row_of(fault("purity"), **verdicts), row_of(CLEAN, ranges=Verdict.FAIL, chance__x=Verdict.PASS)]

    assert ["ranges", "chance"] == unproven(rows)


@settings(max_examples=50, deadline=None)
@given(
    declared=st.lists(st.sampled_from(FAMILIES), min_size=1, unique=True),
    red=st.lists(st.sampled_from(FAMILIES), unique=True),
)
def test_a_hole_is_what_was_declared_and_is_not_red(declared, red):
    results = {f"{name}__x": Verdict.FAIL if name in red else Verdict.PASS for name in FAMILIES}
    row = row_of(fault(*declared), **results)
    (cells,) = matrix_rows([row])

    assert set(row.holes) == set(declared) - set(red)
    assert cells[1:].count("HOLE") == len(row.holes)
    assert cells[1:].count("X") + cells[1:].count("x") == len(red)


@pytest.mark.slow
@pytest.mark.parametrize("system", sorted({case.system for case in all_faults()}))
def test_the_whole_matrix_has_no_hole_and_no_false_alarm(system):
    """Minutes: every fault and control in children, three seeds each, against the baselines of this repository."""
    assert len(HARMLESS) >= 5
    command = f"from rectest.cli import main; main(['faults', 'matrix', '--detail', '--system', '{system}'])"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, env=environ, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
