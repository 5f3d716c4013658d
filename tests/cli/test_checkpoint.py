"""``rectest checkpoint``: what is shown, and a rollback from a trained feature to the plain model."""

from __future__ import annotations

import pytest
import torch

from rectest.cli import main
from rectest.record import RunSpec
from rectest.training.checkpoint import load_checkpoint
from rectest.training.program import run_spec

BLEND = {"adaptive": True, "similarity": ["dot", "cosine"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of a run with a learned similarity."""
    folder = tmp_path_factory.mktemp("checkpoints")
    config = {**BLEND, "eval_every": 2, "batch_size": 16}
    run_spec(RunSpec(system="adaptive_sasrec", world="tiny", steps=4, config=config), checkpoint_dir=folder)
    return folder


@pytest.fixture
def run(capsys):
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["checkpoint", *map(str, args)])
        return leaving.value.code or 0, *capsys.readouterr()

    return run


def test_show_prints_settings_and_tensors(run, folder):
    code, out, _ = run("show", folder / "last.pt")

    assert code == 0
    assert "step 4, a run can be resumed from it" in out
    assert "adaptive" in out
    assert "item_embedding.weight" in out
    assert "weights only" in run("show", folder / "best.pt")[1]


def test_a_feature_is_rolled_back(run, folder, tmp_path):
    plain = tmp_path / "plain.pt"
    change = ("--set", "adaptive=false", "--set", 'similarity=["dot"]')
    code, out, _ = run(
        "rollback", folder / "best.pt", "--system", "adaptive_sasrec", "--world", "tiny", "--out", plain, *change
    )
    before, after = load_checkpoint(folder / "best.pt"), load_checkpoint(plain)

    assert code == 0
    assert "dropped similarity." in out
    assert after.settings["adaptive"] is False
    assert set(after.model) < set(before.model)
    assert all(torch.equal(value, before.model[name]) for name, value in after.model.items())


def test_mistakes_are_one_line(run, folder, tmp_path):
    system = ("--system", "adaptive_sasrec", "--world", "tiny")
    nothing = run("rollback", folder / "best.pt", *system, "--out", tmp_path / "a.pt")
    over = run("rollback", folder / "best.pt", *system, "--out", folder / "best.pt", "--set", "adaptive=false")
    absent = run("show", tmp_path / "none.pt")

    assert [result[0] for result in (nothing, over, absent)] == [2, 2, 2]
    assert "nothing is rolled back" in nothing[2]
    assert "never writes over a file" in over[2]
    assert "no such checkpoint" in absent[2]
