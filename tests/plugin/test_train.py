"""`rec_train`: once per test run whoever asks, and one clear message when training fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from rectest.plugin.train import target_name

MINE = """
import os, pathlib

def train(run):
    with open(pathlib.Path(__file__).with_name("trained.txt"), "a") as log:
        log.write(f"{run.spec.seed} {os.environ['PYTHONHASHSEED']} {os.getcwd()}\\n")
    rng = run.seeds.rng("noise")
    for _ in range(3):
        run.step(loss=float(rng.random()))
    run.metrics("test", {"recall@10": 0.3 + 0.001 * float(rng.random())})

def broken(run):
    raise KeyError("item 17")
"""
TESTS = """
import pytest
import mine

@pytest.mark.parametrize("copy", range(4))
def test_same_spec(rec_train, copy):
    assert rec_train(mine.train, seed=5).final("test/recall@10") > 0.3

def test_many(rec_train):
    records = rec_train.many([rec_train.spec(mine.train, seed=seed) for seed in (5, 6)])
    assert [record.spec.seed for record in records] == [5, 6]
"""


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["serial", "xdist"])
def test_each_spec_is_trained_once(pytester, workers):
    pytester.makepyfile(mine=MINE, test_mine=TESTS)

    result = pytester.runpytest_inprocess(*workers)

    result.assert_outcomes(passed=5)
    trained = (pytester.path / "trained.txt").read_text().splitlines()
    assert sorted(line.split()[0] for line in trained) == ["5", "6"]


def test_a_repetition_gets_another_hash_seed_and_folder(pytester):
    pytester.makepyfile(
        mine=MINE,
        test_mine="""
        import mine

        def test_twice(rec_train):
            first = rec_train(mine.train)
            second = rec_train(rec_train.spec(mine.train, replica=1))
            assert first.digest() == second.digest()
        """,
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1)
    lines = [line.split() for line in (pytester.path / "trained.txt").read_text().splitlines()]
    assert len({line[1] for line in lines}) == 2
    assert len({line[2] for line in lines}) == 2


def test_a_failed_training_is_one_message_and_not_repeated(pytester):
    pytester.makepyfile(
        mine=MINE,
        test_mine="""
        import mine
        import pytest

        @pytest.mark.parametrize("copy", range(3))
        def test_broken(rec_train, copy):
            rec_train(mine.broken)
        """,
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*training mine:broken, seed 0: raised KeyError: 'item 17'*", "*mine.py*in broken*"])
    result.stdout.fnmatch_lines(["*NOT MEASURED*training*", "1 property: 1 NOT MEASURED"])


def test_unknown_systems_and_worlds_are_named(pytester):
    pytester.makepyfile(
        """
        def test_system(rec_train):
            rec_train("comirek")
        """
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*unknown system 'comirek' (did you mean 'comirec'?)*"])


def test_target_names():
    assert target_name(target_name)[0] == "rectest.plugin.train:target_name"
    assert target_name(test_target_names)[0].endswith("test_train:test_target_names")


@pytest.mark.parametrize("target", [lambda: None, 3, "".join])
def test_odd_targets_are_refused(target):
    with pytest.raises(TypeError, match="a function or a class at the top level"):
        target_name(target)


def test_functions_in_test_folders_are_found_under_any_import_mode(pytester):
    folder = pytester.mkdir("deep")
    (folder / "test_inside.py").write_text(
        "def train(run):\n    run.metrics('test', {'hit@5': 0.5})\n\n"
        "def test_it(rec_train):\n    assert rec_train(train).final('test/hit@5') == 0.5\n"
    )

    result = pytester.runpytest_inprocess("--import-mode=importlib")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("rec_train('comirec', sed=3)", "*NOT MEASURED*sed*"),
        ("rec_train('comirec', seed=-1)", "*NOT MEASURED: seed must be an integer of at least 0*"),
        ("rec_train.many([])", "*NOT MEASURED: rec_train.many was given nothing to train*"),
        ("rec_train(lambda run: None)", "*NOT MEASURED: cannot train*"),
    ],
)
def test_mistakes_are_one_message(pytester, call, problem):
    pytester.makepyfile(f"def test_it(rec_train):\n    {call}\n")

    result = pytester.runpytest_inprocess()

    assert result.ret == 1
    result.stdout.fnmatch_lines([problem])
    result.stdout.no_fnmatch_line("*rectest/plugin/train.py*")


def test_an_interrupt_ends_the_children_and_the_run(pytester):
    pytester.makepyfile(
        """
        import pathlib, time

        def slow(run):
            pathlib.Path(__file__).with_name(f"started{run.spec.seed}").touch()
            time.sleep(300)

        def test_it(rec_train):
            rec_train.many([rec_train.spec(slow, seed=seed) for seed in range(3)])
        """
    )
    silent = subprocess.DEVNULL
    run = pytester.popen([sys.executable, "-m", "pytest", "-q"], stdout=silent, stderr=silent)
    deadline = time.monotonic() + 60
    while not (pytester.path / "started0").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)

    assert run.wait(timeout=30) == pytest.ExitCode.INTERRUPTED
    assert not (pytester.path / "started2").exists()
