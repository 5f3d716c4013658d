"""A red `reproducible` check names the line: the pair is trained once more under watch, and no verdict changes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rectest.checks.result import CheckResult, Verdict
from rectest.plugin import why
from rectest.record import RunSpec

MINE = """
import numpy as np
import torch
from torch import nn

def train(run):
    torch.manual_seed(run.spec.seed)
    model = nn.Embedding(50, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.start(model)
    rng = np.random.default_rng(RNG)
    for _ in range(6):
        items = torch.from_numpy(rng.integers(0, 50, 16))
        loss = model(items).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.step(loss=loss, batch=items, model=model)
    run.metrics("test", {"recall@10": 0.3})
"""
TESTS = """
import mine
from rectest.checks.reproducible import reproducible

def test_twice(rec_train, rec_check):
    spec = rec_train.spec(mine.train)
    first, second = rec_train.many([spec, spec.with_(replica=1)])
    rec_check(reproducible(first, second), of=spec.system)
"""


@pytest.mark.slow
def test_the_stray_line_stands_in_the_failure(pytester):
    pytester.makepyfile(mine=MINE.replace("RNG", ""), test_mine=TESTS)

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*reproducible*", "*trained twice more, watched*", "*DIVERGED*", "*mine.py:10 in train*"]
    )


@pytest.mark.slow
def test_a_seeded_training_is_green_and_nothing_is_trained_again(pytester):
    pytester.makepyfile(mine=MINE.replace("RNG", "run.spec.seed"), test_mine=TESTS)

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*trained twice more*")


def _item(*, wanted: bool = True) -> SimpleNamespace:
    return SimpleNamespace(stash=pytest.Stash(), config=SimpleNamespace(wanted=wanted))


@pytest.fixture
def explained(monkeypatch):
    """Which pairs would have been trained again."""
    pairs = []
    monkeypatch.setattr(why, "_explain", lambda _item, _trainer, *pair: pairs.append(pair) or "text")
    monkeypatch.setattr(why.Options, "of", lambda config: SimpleNamespace(why=config.wanted))
    return pairs


def _red(check: str = "reproducible", subject: str = "a") -> CheckResult:
    return CheckResult(check=check, subject=subject, verdict=Verdict.FAIL, figure="x")


A, B = RunSpec(system="a"), RunSpec(system="b")


def test_the_pair_of_the_red_system_is_explained_once(explained):
    item = _item()
    why.note_trained(item, None, [A, A.with_(replica=1), B, B.with_(replica=1), A])

    texts = why.why_red(item, [_red(), _red("hash_sweep/id_maps", "a/item")])

    assert texts == ["text"]
    assert explained == [(A, A.with_(replica=1))]


def test_a_subject_that_names_no_system_explains_every_pair(explained):
    item = _item()
    why.note_trained(item, None, [A, A.with_(replica=1), B, B.with_(replica=1)])

    assert len(why.why_red(item, [_red(subject="mymodel")])) == 2


@pytest.mark.parametrize(
    ("red", "trained", "wanted"),
    [
        ([_red("chance")], [A, A.with_(replica=1)], True),
        ([_red()], [A, A.with_(seed=7)], True),
        ([_red()], [], True),
        ([_red()], [A, A.with_(replica=1)], False),
    ],
    ids=["another check", "no repetition", "nothing trained", "not wanted"],
)
def test_nothing_is_trained_again_without_need(explained, red, trained, wanted):
    item = _item(wanted=wanted)
    why.note_trained(item, None, trained)

    assert why.why_red(item, red) == []
    assert explained == []
