"""Resuming: a run that is interrupted and taken up by another process is, to the bit, the run that was not."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.toy import ToySystem
from fixtures.worlds import tiny_world
from rectest.checks.reproducible import reproducible
from rectest.errors import ChildFailed, RecordError
from rectest.metrics.measure import Measure
from rectest.record import RunSpec
from rectest.systems.layers import Dropout
from rectest.systems.protocol import Table
from rectest.training.determinism import deterministic
from rectest.training.launch import LAST, Launch, launch
from rectest.training.loop import Halted, train_system
from rectest.training.recorder import Recorder
from rectest.training.resume import EarlyStopping

SPEC = RunSpec(system="fixtures.toy:ToySystem")


class Noisy(ToySystem):
    """Draws dropout masks from a generator of its model, and weights from the global one."""

    def build(self, data, seeds):
        model = super().build(data, seeds)
        model["dropout"] = Dropout(0.3, seeds.seed("dropout"))
        return model

    def losses(self, model, batch):
        losses = super().losses(model, batch)
        noise = model["dropout"](torch.ones(4)).mean() * torch.rand(())
        return {"total": losses["total"] * (1 + noise)}

    def tables(self, model):
        return {name: Table(weight=model[name].weight) for name in ("last", "next")}


class Forgetful(Noisy):
    """Keeps something that training depends on where no checkpoint looks."""

    def losses(self, model, batch):
        self.calls = getattr(self, "calls", 0) + 1
        return {"total": super().losses(model, batch)["total"] * (1 + 0.01 * self.calls)}


def run(kind=Noisy, *, seed=0, spec=SPEC, settings=None, **how):
    with deterministic(seed) as environment:
        recorder = Recorder(spec.with_(seed=seed), environment)
        train_system(kind.from_settings(settings or {}), tiny_world(), recorder, **how)
        return recorder.finish()


def halted_then_resumed(folder: Path, kind=Noisy, *, at=20):
    with pytest.raises(Halted):
        run(kind, checkpoint_dir=folder, halt_after=at)
    return run(kind, checkpoint_dir=folder, resume=folder / LAST)


@pytest.mark.parametrize("at", [1, 10, 20, 35])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, at):
    full, resumed = run(), halted_then_resumed(tmp_path, at=at)

    assert {"PASS"} == {str(result.verdict) for result in reproducible(full, resumed)}
    assert full.digest() == resumed.digest()
    assert full.facts["evaluation"] == resumed.facts["evaluation"]


def test_state_outside_the_model_shows(tmp_path):
    """The planted fault: a counter that no checkpoint holds starts again at zero."""
    full, resumed = run(Forgetful), halted_then_resumed(tmp_path, Forgetful)

    assert np.array_equal(full["loss/total"][:20], resumed["loss/total"][:20])
    assert not np.array_equal(full["loss/total"][20:], resumed["loss/total"][20:])


def test_a_run_that_had_ended_is_only_evaluated(tmp_path):
    settings = {"patience": 1, "learning_rate": 1e-9}
    full = run(settings=settings, checkpoint_dir=tmp_path)
    again = run(settings=settings, resume=tmp_path / LAST)

    assert full.facts["early_stopping"]["stopped_early"]
    assert full.digest() == again.digest()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(checkpoint_dir=tmp_path)
    last = tmp_path / LAST

    with pytest.raises(RecordError, match="of another run: seed is 1 here and 0 there"):
        run(seed=1, resume=last)
    with pytest.raises(RecordError, match=r"learning_rate is 0\.5 here and 0\.05 there"):
        run(settings={"learning_rate": 0.5}, resume=last)
    with pytest.raises(RecordError, match="weights only"):
        run(resume=tmp_path / "best.pt")
    with pytest.raises(RecordError, match="no such checkpoint"):
        run(resume=tmp_path / "none.pt")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run(checkpoint_dir=tmp_path)
    cut = tmp_path / "cut.pt"
    shutil.copy(tmp_path / LAST, cut)
    cut.write_bytes(cut.read_bytes()[:-500])

    with pytest.raises(RecordError, match="not a readable checkpoint"):
        run(resume=cut)


def test_a_spec_can_ask_for_an_interruption(tmp_path):
    """Two processes, one record, the same bits; and the folder of checkpoints stays where it was asked for."""
    how = Launch(sys_path=[str(Path.cwd())], deadline=120, checkpoint_dir=tmp_path)
    full = launch(SPEC, how=dataclasses.replace(how, checkpoint_dir=None))
    parts = launch(SPEC.with_(interrupted_at=20), how=how)

    assert full.digest() == parts.digest()
    assert (tmp_path / LAST).is_file()


def test_an_interruption_that_never_comes_is_an_error():
    how = Launch(sys_path=[str(Path.cwd())], deadline=120)

    with pytest.raises(ChildFailed, match="ended before step 4000"):
        launch(SPEC.with_(interrupted_at=4000), how=how)


def test_who_is_better_is_the_systems_decision():
    class Backwards(ToySystem):
        def is_better(self, value, best, *, higher_is_better):
            return value < best

    stopping = EarlyStopping(measure=Measure.parse("recall@10"), patience=None, system=Backwards())

    assert [stopping.improved(step, value) for step, value in ((1, 0.3), (2, 0.2), (3, 0.4))] == [True, True, False]
