"""`rectest.capture` and `rectest.why`: a piece of one's own process on tape, and nothing left behind."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

import rectest
from rectest.divergence.inside.session import active
from rectest.divergence.tapes import load_run
from rectest.errors import TapeError, WatchError


def train(*, rng: np.random.Generator | None = None, steps: int = 3) -> list[float]:
    """A few steps of a tiny retrieval model; `rng` draws the negatives."""
    torch.manual_seed(0)
    rng = rng or np.random.default_rng(0)
    model = nn.Embedding(20, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    values = []
    for step in range(steps):
        user = model(torch.arange(8) + step)
        negatives = model(torch.from_numpy(rng.integers(0, 20, 8)))
        loss = (user * negatives).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    return values


def _train_and_fail() -> None:
    train(steps=2)
    msg = "division by zero"
    raise ZeroDivisionError(msg)


def test_two_equal_recordings_are_identical(tmp_path):
    for name in "ab":
        with rectest.capture(tmp_path / f"{name}.tape"):
            train()

    obtained = rectest.why(tmp_path / "a.tape", tmp_path / "b.tape")

    assert obtained.finding.verdict == "identical"
    assert obtained.finding.num_steps == (3, 3)
    assert str(obtained).startswith("IDENTICAL")


def test_an_unseeded_generator_is_named_with_its_line(tmp_path):
    for name in "ab":
        with rectest.capture(tmp_path / f"{name}.tape"):
            train(rng=np.random.default_rng())
    line = sys._getframe().f_lineno - 1

    obtained = rectest.why(tmp_path / "a.tape", tmp_path / "b.tape")

    assert obtained.finding.exit_code == 1
    assert obtained.finding.step == 1
    assert obtained.finding.causes[0].site.endswith(
        f"test_recording.py:{line}:test_an_unseeded_generator_is_named_with_its_line"
    )
    assert f"test_recording.py:{line}" in str(obtained)


def test_recording_changes_no_bit_and_leaves_everything_as_it_was(tmp_path):
    before = [random.sample, np.random.default_rng, torch.randint, torch.autograd.backward, torch.Generator, hash]
    plain = train()
    states = (random.getstate()[1][:3], torch.get_rng_state().sum())
    with rectest.capture(tmp_path / "a.tape"):
        watched = train()

    assert plain == watched
    assert states == (random.getstate()[1][:3], torch.get_rng_state().sum())
    after = [random.sample, np.random.default_rng, torch.randint, torch.autograd.backward, torch.Generator, hash]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert active() is None


def test_an_exception_keeps_the_tape_up_to_there(tmp_path):
    with pytest.raises(ZeroDivisionError), rectest.capture(tmp_path / "a.tape"):
        _train_and_fail()

    tape = load_run(tmp_path / "a.tape").tapes["main"]
    assert tape.num_steps == 2
    assert tape.end == "exception: ZeroDivisionError: division by zero"


def test_a_tape_is_never_written_over(tmp_path):
    with rectest.capture(tmp_path / "a.tape"):
        pass

    with pytest.raises(TapeError, match="exists already"), rectest.capture(tmp_path / "a.tape"):
        pass


def test_recordings_do_not_nest(tmp_path):
    with (
        rectest.capture(tmp_path / "a.tape"),
        pytest.raises(WatchError, match="recorded already"),
        rectest.capture(tmp_path / "b.tape"),
    ):
        pass

    assert active() is None


def test_a_missing_tape_is_named(tmp_path):
    with pytest.raises(TapeError, match="does not exist"):
        rectest.why(tmp_path / "a.tape", tmp_path / "b.tape")
