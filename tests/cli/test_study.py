"""Report 000's experiments: the specs of each arm, the judgement on hand-made records, and the whole command.

Training happens in this process, on the tiny world, instead of in children.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.records import edit_array, find, make_record, red_checks
from rectest.checks.result import Verdict
from rectest.cli import main
from rectest.cli.studies import REPORT_SEEDS, STUDIES
from rectest.errors import ChildFailed, ConfigError, RectestError, UnknownNameError
from rectest.record import RunRecord, RunSpec
from rectest.training.launch import Launch
from rectest.training.program import run_spec

SPEC = RunSpec(system="comirec", world="tiny", seed=5, config={"batch_size": 16})
METRIC = "valid/hit@10"
TINY = ("--world", "tiny", "--steps", "6", "--set", "eval_every=2", "--set", "batch_size=16", "--processes", "1")
UNSEEDED, SHARED, OWN = (
    "as reported: an unseeded generator",
    "as it was: the seeded global one",
    "after: a stream of its own",
)


def group(*seeds: int, **settings: object) -> list[RunRecord]:
    """One record a seed; equal seeds are repetitions."""
    return [make_record(seed=seed, replica=number, **settings) for number, seed in enumerate(seeds)]


def shaken(records: list[RunRecord]) -> list[RunRecord]:
    """The last of the records with another curve."""

    def shake(values: np.ndarray) -> np.ndarray:
        return values * 0.9

    return [*records[:-1], edit_array(records[-1], f"metric/{METRIC}", shake)]


class TestBeforeAfter:
    study = STUDIES["before-after"]

    def test_three_repetitions_of_one_seed_an_arm(self):
        arms = self.study.arms(SPEC)

        assert list(arms) == [UNSEEDED, SHARED, OWN]
        assert [[spec.replica for spec in specs] for specs in arms.values()] == [[0, 1, 2]] * 3
        assert [specs[0].plant.rpartition(":")[2] for specs in arms.values()] == [
            "unseeded_iterator",
            "shared_global_rng",
            "",
        ]
        assert all(SPEC == replace(s, plant="", replica=0) for specs in arms.values() for s in specs)

    def test_another_system_has_no_such_faults(self):
        with pytest.raises(RectestError, match="made for comirec, not for adaptive_sasrec; use --system comirec"):
            self.study.arms(SPEC.with_(system="adaptive_sasrec", config={}))

    def test_a_fix_that_works_is_green_and_says_against_what(self):
        records = {UNSEEDED: shaken(group(5, 5, 5)), SHARED: group(5, 5, 5), OWN: group(5, 5, 5)}

        results = self.study.judge(records, METRIC)

        assert red_checks(results) == set()
        assert [r.subject for r in results] == [f"toy/{UNSEEDED}", f"toy/{SHARED}"]
        assert [r.detail.partition(":")[0] for r in results] == [
            "the fix removed the fluctuation",
            "there was none before",
        ]

    def test_a_fix_that_leaves_some_of_it_is_red(self):
        records = {UNSEEDED: group(5, 5, 5), SHARED: group(5, 5, 5), OWN: shaken(group(5, 5, 5))}

        results = self.study.judge(records, METRIC)

        assert [result.verdict for result in results] == [Verdict.FAIL] * 2


class TestSeeds:
    def test_the_reports_seeds(self):
        arms = STUDIES["seeds"].arms(SPEC)

        assert {f"seed {seed}": [SPEC.with_(seed=seed)] for seed in REPORT_SEEDS} == arms

    def test_validation_and_test_are_judged(self):
        records = {f"seed {seed}": group(seed) for seed in REPORT_SEEDS}

        results = STUDIES["seeds"].judge(records, METRIC)

        assert [(r.check, r.subject) for r in results] == [
            ("fluctuation/seeds", "toy valid/hit@10"),
            ("fluctuation/seeds", "toy test/hit@10"),
        ]
        assert red_checks(results) == set()

    def test_seeds_that_reach_nothing_are_red(self):
        same = make_record(seed=1)
        records = {f"seed {s}": [replace(same, spec=same.spec.with_(seed=s))] for s in REPORT_SEEDS}

        assert red_checks(STUDIES["seeds"].judge(records, METRIC)) == {"fluctuation/seeds"}


class TestPhases:
    study = STUDIES["phases"]

    @pytest.mark.parametrize(
        ("asked", "every"),
        [({"steps": 600}, 10), ({"steps": 30}, 1), ({"config": {"steps": 120}}, 2), ({}, 6)],
    )
    def test_the_curve_reaches_the_late_phase(self, asked, every):
        arms = self.study.arms(RunSpec(system="comirec", **asked))
        config = arms["seed 19"][0].config

        assert len(arms) == 3
        assert (config["eval_every"], config["patience"]) == (every, None)
        assert arms["seed 19"][0].eval_every is None

    def test_an_interval_that_was_asked_for_is_kept(self):
        spec = SPEC.with_(config={"eval_every": 7, "patience": 2})

        assert self.study.arms(spec)["seed 42"][0].config == {"eval_every": 7, "patience": None}

    def test_a_phase_is_judged_where_curves_reach_it(self):
        records = {f"seed {seed}": group(seed, num_evaluations=12, num_steps=12) for seed in REPORT_SEEDS}

        results = self.study.judge(records, METRIC)

        assert [r.check for r in results] == ["fluctuation/early", "fluctuation/mid"]

    def test_repetitions_that_differ_are_red(self):
        records = {"seed 5": shaken(group(5, 5)), "seed 6": group(6)}

        assert red_checks(self.study.judge(records, METRIC)) == {"fluctuation/same_seed"}


class TestArmsBySeed:
    @pytest.mark.parametrize(
        ("config", "counts"), [({}, [1, 2, 4]), ({"neg_num": 8}, [4, 8, 16]), ({"neg_num": 1}, [1, 2])]
    )
    def test_half_and_twice_the_negatives(self, config, counts):
        arms = STUDIES["negatives"].arms(SPEC.with_(config=config))

        assert [f"neg_num {count}" for count in counts] == list(arms)
        assert [{s.config["neg_num"] for s in specs} for specs in arms.values()] == [{count} for count in counts]
        assert all(tuple(s.seed for s in specs) == REPORT_SEEDS for specs in arms.values())

    def test_random_and_fixed_order(self):
        arms = STUDIES["fixed-order"].arms(SPEC)

        assert {name: {s.config["order"] for s in specs} for name, specs in arms.items()} == {
            "random": {"random"},
            "fixed": {"fixed"},
        }

    @pytest.mark.parametrize(("study", "setting"), [("negatives", "neg_num"), ("fixed-order", "order")])
    def test_a_system_without_the_setting_is_refused(self, study, setting):
        with pytest.raises(ConfigError, match=f"setting '{setting}' does not exist; this study varies it"):
            STUDIES[study].arms(SPEC.with_(system="adaptive_sasrec", config={}))

    @pytest.mark.parametrize("study", ["negatives", "fixed-order"])
    def test_each_arm_is_judged_by_itself(self, study):
        same = make_record(seed=1)
        dead = [replace(same, spec=same.spec.with_(seed=seed)) for seed in REPORT_SEEDS]

        results = STUDIES[study].judge({"alive": group(*REPORT_SEEDS), "dead": dead}, METRIC)

        assert {r.subject: r.verdict for r in results} == {"toy/alive": Verdict.PASS, "toy/dead": Verdict.FAIL}


class TestDeterministicMode:
    study = STUDIES["deterministic-mode"]

    def test_two_repetitions_each_way(self):
        arms = self.study.arms(SPEC)

        assert [[(s.deterministic, s.replica) for s in specs] for specs in arms.values()] == [
            [(True, 0), (True, 1)],
            [(False, 0), (False, 1)],
        ]

    def test_the_mode_that_differs_is_named(self):
        records = {"deterministic mode": group(5, 5), "plain mode": shaken(group(5, 5))}

        results = self.study.judge(records, METRIC)

        assert find(results, "reproducible", "toy/deterministic mode").verdict is Verdict.PASS
        assert find(results, "reproducible", "toy/plain mode").verdict is Verdict.FAIL


@pytest.fixture
def launched(monkeypatch) -> list[tuple[RunSpec, Launch]]:
    """What would have been started in children; trained in this process."""
    asked: list[tuple[RunSpec, Launch]] = []

    def launch(spec: RunSpec, *, how: Launch) -> RunRecord:
        asked.append((spec, how))
        try:
            return run_spec(spec)
        except RectestError as e:
            raise ChildFailed(spec.describe(), reason="raised", detail=str(e)) from e

    monkeypatch.setattr("rectest.training.launch.launch", launch)
    return asked


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["study", *args])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


class TestCommand:
    def test_before_after_prints_every_run_and_what_it_means(self, run, launched):
        code, out, err = run("before-after", *TINY, "--seed", "3")
        lines = out.splitlines()
        rows = [line.split()[-6:] for line in lines if line.rstrip()[-1:].isdigit() and "0." in line]

        assert (code, err) == (0, "")
        assert [spec.seed for spec, _ in launched] == [3] * 9
        assert len({how.hash_seed for _, how in launched}) == 3
        assert len(rows) == 9
        assert len({tuple(row[1:4]) for row in rows[6:]}) == 1
        assert max(map(len, lines)) <= 80
        assert "2 properties: 2 PASS" in lines
        assert f"* same_seed [{SHARED}]: there was none before: the fix changed nothing" in " ".join(out.split())

    def test_red_is_exit_code_one(self, run, launched, monkeypatch):
        dead = make_record(seed=1)
        facts = {**dead.facts, "early_stopping": {"measure": "hit@10"}}
        monkeypatch.setattr("rectest.training.launch.launch", lambda spec, **_: replace(dead, spec=spec, facts=facts))
        code, out, _ = run("seeds", *TINY)

        assert code == 1
        assert "  FAIL  fluctuation/seeds [valid/hit@10]" in out
        assert "next: check that the seed of the spec" in out

    def test_a_system_in_a_file_beside_the_caller(self, run, launched, tmp_path):
        Path("mine.py").write_text("from fixtures.toy import ToySystem\nclass Mine(ToySystem): pass\n")
        code, out, _ = run("seeds", "--system", "mine.py:Mine", "--steps", "2")

        assert code == 0
        assert {spec.system for spec, _ in launched} == {f"{tmp_path.resolve()}/mine.py:Mine"}
        assert str(tmp_path.resolve()) in launched[0][1].sys_path
        assert f"{tmp_path.resolve()}/mine.py:Mine" in out.splitlines()


class TestMistakes:
    @pytest.mark.parametrize(
        ("args", "problem"),
        [
            (["seeds", "--system", "comirek"], "unknown system 'comirek' (did you mean 'comirec'?)"),
            (["seeds", "--system", "fixtures.toy:plain_training"], "a subclass of rectest.System was needed"),
            (["seeds", "--set", "neg_num"], "a setting is given as key=value, got 'neg_num'"),
            (["seeds", "--set", "neg_num=2", "--set", "neg_num=3"], "setting 'neg_num' is given twice"),
            (["seeds", "--set", "negnum=2"], "setting 'negnum' does not exist, did you mean 'neg_num'?"),
            (["negatives", "--set", "neg_num=many"], "setting 'neg_num' needs int, got 'many'"),
            (["negatives", "--system", "adaptive_sasrec"], "setting 'neg_num' does not exist; this study varies it"),
            (["before-after", "--system", "adaptive_sasrec"], "faults made for comirec, not for adaptive_sasrec"),
        ],
    )
    def test_they_are_named_before_anything_is_trained(self, run, launched, args, problem):
        code, out, err = run(*args)

        assert (code, out, launched) == (2, "", [])
        assert err.startswith("rectest: error: ")
        assert problem in err
        assert err.count("\n") == 1

    def test_the_first_failure_ends_the_study(self, run, launched):
        code, out, err = run("before-after", *TINY[2:], "--world", "tinny")

        assert (code, out) == (2, "")
        assert "unknown world 'tinny' (did you mean 'tiny'?)" in err
        assert len(launched) < 9

    @pytest.mark.parametrize("args", [["seeds", "--steps", "0"], ["seeds", "--processes", "0"], ["sedes"]])
    def test_wrong_usage(self, run, launched, args):
        code, _, err = run(*args)

        assert (code, launched) == (2, [])
        assert "Traceback" not in err

    def test_unknown_names_carry_what_is_known(self):
        with pytest.raises(UnknownNameError, match="known: adaptive_sasrec, comirec"):
            STUDIES["negatives"].arms(SPEC.with_(system="nothing"))
