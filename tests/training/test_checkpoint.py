"""Checkpoints: complete, strict, atomic, safe to open, and a way back to the plain model."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fixtures.adaptive_sasrec import SMALL, Run, start
from rectest.errors import RecordError
from rectest.training.checkpoint import Checkpoint, load_checkpoint, restore, rollback, save_checkpoint

FEATURES = {"adaptive": True, "similarity": ["dot", "cosine", "scaled", "bilinear"], "dropout": 0.2}


def saved(folder: Path, run: Run, *, step: int = 3, **changes: object) -> Path:
    values = {"model": run.model, "optimizer": run.optimizer, "settings": run.system.settings(), **changes}
    return save_checkpoint(folder / "run.pt", step=step, **values)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("checkpoint"), start(**FEATURES).steps(3))


@pytest.fixture
def checkpoint(path) -> Checkpoint:
    return load_checkpoint(path)


def test_everything_comes_back_bit_for_bit(tmp_path):
    run = start(**FEATURES).steps(3)
    obtained = load_checkpoint(saved(tmp_path, run, extra={"best": 0.5, "ids": torch.arange(3)}))

    assert obtained.step == 3
    assert obtained.extra["best"] == 0.5
    assert obtained.extra["ids"].tolist() == [0, 1, 2]
    assert obtained.differences(run.system.settings()) == {}
    assert set(obtained.settings) == set(run.system.settings()), "the whole configuration, defaults included"
    assert run.model.state_dict().keys() == obtained.model.keys()
    assert all(torch.equal(value, obtained.model[name]) for name, value in run.model.state_dict().items())


def test_training_goes_on_as_if_never_stopped(tmp_path):
    """Dropout masks included: the generators of modules are in the file."""
    whole = start(**FEATURES).steps(6)
    place = saved(tmp_path, start(**FEATURES).steps(3))
    resumed = start(seed=0, **FEATURES)
    checkpoint = load_checkpoint(place)
    restore(checkpoint, resumed.model, resumed.optimizer, settings=resumed.system.settings())
    for _ in range(checkpoint.step):
        next(resumed.stream)
    resumed.steps(3)

    assert whole.losses[3:] == resumed.losses
    assert all(torch.equal(value, resumed.parameters()[name]) for name, value in whole.parameters().items())


def test_resuming_puts_the_global_generators_back(tmp_path):
    run = start().steps(1)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    place = saved(tmp_path, run)
    expected = (random.random(), float(np.random.random()), float(torch.rand(())))  # noqa: NPY002
    restore(load_checkpoint(place), run.model, run.optimizer)

    assert expected == (random.random(), float(np.random.random()), float(torch.rand(())))  # noqa: NPY002


def test_weights_alone_leave_the_generators_alone(checkpoint):
    run = start(**FEATURES)
    before = torch.get_rng_state()
    restore(checkpoint, run.model)

    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, run.model.state_dict()[name]) for name, value in checkpoint.model.items())


def test_settings_that_differ_are_named(checkpoint):
    run = start(**{**FEATURES, "dropout": 0.1})
    with pytest.raises(RecordError, match=r"dropout is 0\.1 here and 0\.2 there"):
        restore(checkpoint, run.model, settings=run.system.settings())


def test_a_plain_model_does_not_take_a_richer_checkpoint(checkpoint):
    with pytest.raises(RecordError, match=r"unexpected similarity\.matrix_DD"):
        restore(checkpoint, start().model)


def test_a_richer_model_does_not_take_a_plain_checkpoint(tmp_path):
    place = saved(tmp_path, start().steps(1))
    with pytest.raises(RecordError, match=r"it lacks similarity\.matrix_DD"):
        restore(load_checkpoint(place), start(**FEATURES).model)


def test_shapes_that_differ_are_named(checkpoint):
    narrow = start(**FEATURES, embedding_size=8)
    with pytest.raises(RecordError, match=r"item_embedding\.weight is float32\[41, 16\], float32\[41, 8\] was needed"):
        restore(checkpoint, narrow.model)


def test_a_foreign_prefix_is_refused_and_not_skipped(tmp_path):
    """The classic: saved from a wrapper, every key is prefixed, and a lenient load matches nothing."""
    run = start()
    wrapped = nn.ModuleDict({"module": run.model})
    place = saved(tmp_path, run, model=wrapped, optimizer=None)
    before = run.parameters()
    with pytest.raises(RecordError, match=r"it lacks .*it has unexpected module\."):
        restore(load_checkpoint(place), run.model)

    assert all(torch.equal(value, run.parameters()[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("optimizer", "problem"),
    [
        (lambda model: torch.optim.SGD(model.parameters(), lr=0.1), "made with Adam, the optimizer here is SGD"),
        (lambda model: torch.optim.Adam([model.item_embedding.weight]), "parameters by group"),
    ],
    ids=["class", "parameters"],
)
def test_another_optimizer_is_refused_before_anything_changes(checkpoint, optimizer, problem):
    run = start(seed=1, **FEATURES)
    before = run.parameters()
    with pytest.raises(RecordError, match=problem):
        restore(checkpoint, run.model, optimizer(run.model))

    assert all(torch.equal(value, run.parameters()[name]) for name, value in before.items())


def test_no_optimizer_state_no_resuming(tmp_path):
    run = start()
    place = saved(tmp_path, run, optimizer=None)
    with pytest.raises(RecordError, match="holds no optimizer state"):
        restore(load_checkpoint(place), run.model, run.optimizer)


def test_rollback_gives_the_original_method_back(tmp_path):
    """Report 002: back to the original at once. The rolled-back model is the baseline's and scores by dot product."""
    rich = start(**FEATURES).steps(5)
    plain = start(seed=7)
    result = rollback(load_checkpoint(saved(tmp_path, rich)), plain.model)
    eval_set = plain.system.eval_set(plain.data, "test")
    plain.model.eval()
    with torch.no_grad():
        states = plain.model(eval_set.inputs["items"])[:, -1]

    expected = ["matrix_DD", "temperature", *(f"weight.{name}" for name in sorted(FEATURES["similarity"]))]
    assert [f"similarity.{name}" for name in expected] == list(result.dropped)
    assert set(result.kept) == set(start().model.state_dict())
    assert all(torch.equal(rich.model.state_dict()[name], plain.model.state_dict()[name]) for name in result.kept)
    np.testing.assert_allclose(
        (states @ plain.model.item_embedding.weight.T).detach().numpy(), plain.scores(), rtol=1e-4, atol=1e-6
    )


def test_rollback_never_invents_a_part(tmp_path):
    place = saved(tmp_path, start().steps(1))
    with pytest.raises(RecordError, match="it lacks similarity"):
        rollback(load_checkpoint(place), start(**FEATURES).model)


def test_absent_file(tmp_path):
    with pytest.raises(RecordError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 1, 100, -200])
def test_truncated_file(path, tmp_path, keep):
    place = tmp_path / "cut.pt"
    place.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RecordError, match="not a readable checkpoint"):
        load_checkpoint(place)


def test_other_torch_files_are_refused(tmp_path):
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(RecordError, match="not a rectest checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


def test_other_schemas_are_refused(path, tmp_path):
    content = torch.load(path, weights_only=True)
    torch.save({**content, "schema": 2}, tmp_path / "later.pt")
    with pytest.raises(RecordError, match="checkpoint schema 2, this version reads 1"):
        load_checkpoint(tmp_path / "later.pt")


class _Payload:
    def __reduce__(self):
        return print, ("a checkpoint ran code",)


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    buffer = io.BytesIO()
    torch.save({"format": "rectest.checkpoint", "extra": _Payload()}, buffer)
    (tmp_path / "evil.pt").write_bytes(buffer.getvalue())
    with pytest.raises(RecordError, match="more than plain tensors"):
        load_checkpoint(tmp_path / "evil.pt")

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "changes", [{"extra": {"path": Path("x")}}, {"settings": {"when": {1, 2}}}, {"settings": {"rate": float("nan")}}]
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, changes):
    with pytest.raises(ValueError, match="plain"):
        saved(tmp_path, start(), **changes)

    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    place = saved(tmp_path, start(), step=1)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        saved(tmp_path, start(), step=2)
    monkeypatch.undo()

    assert load_checkpoint(place).step == 1
    assert [place] == list(tmp_path.iterdir())


def test_differences_count_absent_settings(checkpoint):
    here = {**checkpoint.settings, "new": 1}
    del here["dropout"]

    assert checkpoint.differences(here) == {"new": (1, None), "dropout": (None, 0.2)}


def test_tuples_and_lists_are_one_setting(checkpoint):
    settings = dict(checkpoint.settings)
    settings["similarity"] = tuple(settings["similarity"])

    assert checkpoint.differences(settings) == {}
    assert SMALL["embedding_size"] == checkpoint.settings["embedding_size"]


def test_errors_name_the_file(tmp_path):
    with pytest.raises(RecordError, match=re.escape(str(tmp_path / "none.pt"))):
        load_checkpoint(tmp_path / "none.pt")
