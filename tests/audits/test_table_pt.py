"""Checkpoints of torch, in both of its formats, are read without torch and without running what they name."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rectest.audits.tables import open_table, table_names
from rectest.errors import DataError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(40, 6), torch.nn.Linear(6, 1))


def _save(content: object, path: Path, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def _same(expected: torch.Tensor, path: Path, name: str | None = None) -> None:
    table = open_table(path, name=name)
    wanted = expected.detach().float().numpy() if expected.dtype == torch.bfloat16 else expected.detach().numpy()
    np.testing.assert_array_equal(wanted, np.concatenate([rows.copy() for _, rows in table.chunks(7)]))
    np.testing.assert_array_equal(wanted[[3, 39, 4]], table.take(np.array([3, 39, 4])))
    assert str(expected.dtype) == f"torch.{table.stored}"


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_bare_tensor(tmp_path: Path, zipped: bool, dtype: torch.dtype) -> None:
    values = torch.randn(40, 6).to(dtype)

    _same(values, _save(values, tmp_path / "x.pt", zipped))


@FORMATS
def test_nested_checkpoints_by_dotted_names(tmp_path: Path, model: torch.nn.Module, zipped: bool) -> None:
    path = _save({"epoch": 3, "state_dict": model.state_dict(), "more": [model[0].weight]}, tmp_path / "x.ckpt", zipped)

    assert ["state_dict.0.weight", "state_dict.1.weight"] == table_names(path)
    _same(model[0].weight, path, "state_dict.0.weight")
    _same(model[0].weight, path, "more.0")


@FORMATS
def test_a_whole_module(tmp_path: Path, model: torch.nn.Module, zipped: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # that source could not be saved
        path = _save(model, tmp_path / "model.pth", zipped)

    _same(model[0].weight, path, "0.weight")


@FORMATS
def test_views_and_transposes(tmp_path: Path, zipped: bool) -> None:
    wide = torch.randn(50, 20)

    _same(wide[5:45, 3:9], _save(wide[5:45, 3:9], tmp_path / "view.pt", zipped))
    turned = torch.randn(6, 40).t()
    _same(turned, _save(turned, tmp_path / "turned.pt", zipped))
    strided = torch.randn(80, 12)[::2, ::2]
    _same(strided, _save(strided, tmp_path / "strided.pt", zipped))
    repeated = torch.randn(1, 6).expand(40, 6)
    _same(repeated, _save(repeated, tmp_path / "expanded.pt", zipped))


@FORMATS
def test_optimizer_state_is_no_candidate_and_found_by_name(tmp_path: Path, zipped: bool) -> None:
    table = torch.nn.Embedding(40, 6)
    optimizer = torch.optim.Adam(table.parameters())
    table(torch.arange(5)).sum().backward()
    optimizer.step()
    content = {"model": table.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    path = _save(content, tmp_path / "x.ckpt", zipped)

    assert ["model.weight"] == table_names(path)
    _same(optimizer.state[table.weight]["exp_avg"], path, "optimizer_states.0.state.0.exp_avg")


def test_tied_weights_are_one_candidate(tmp_path: Path) -> None:
    weight = torch.randn(40, 6)
    path = _save({"item.weight": weight, "output.weight": weight}, tmp_path / "x.pt", True)

    assert ["item.weight"] == table_names(path)
    _same(weight, path, "output.weight")


def test_parts_of_a_table_in_several_checkpoints(tmp_path: Path) -> None:
    weight = torch.randn(40, 6)
    for rank in range(2):
        _save({"weight": weight[20 * rank : 20 * rank + 20].clone()}, tmp_path / f"rank{rank}.pt", True)

    _same(weight, tmp_path)


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, command: tuple[object, tuple[object, ...]]) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.command


@FORMATS
@pytest.mark.parametrize("runner", [os.system, subprocess.run, eval, exec], ids=["system", "run", "eval", "exec"])
def test_a_pickle_made_to_run_a_command_is_refused_and_not_run(tmp_path: Path, zipped: bool, runner: object) -> None:
    witness = tmp_path / "witness"
    touch = f"touch {witness}"
    text = f"open({str(witness)!r}, 'w')" if runner in (eval, exec) else touch
    path = _save({"weight": torch.randn(40, 6), "x": Evil((runner, (text,)))}, tmp_path / "evil.pt", zipped)

    with pytest.raises(DataError, match=r"its pickle names \w+\.\w+, .*nothing of it was run"):
        open_table(path)
    assert not witness.exists()


@FORMATS
def test_settings_of_unknown_classes_are_passed_over_and_not_made(tmp_path: Path, zipped: bool) -> None:
    witness = tmp_path / "witness"
    weight = torch.randn(40, 6)
    held = {"settings": argparse.Namespace(lr=0.1), "path": tmp_path, "x": Evil((Path.touch, (witness,)))}
    path = _save({**held, "weight": weight}, tmp_path / "x.pt", zipped)

    _same(weight, path)
    assert not witness.exists()


@FORMATS
def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = _save({"weight": torch.randn(40, 6)}, tmp_path / "x.pt", zipped)
    whole = path.read_bytes()

    for size in [0, 1, 3, 50, len(whole) // 3, len(whole) // 2, len(whole) - 30]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            open_table(path)


def test_files_that_torch_did_not_write(tmp_path: Path) -> None:
    import pickle
    import zipfile

    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a/readme.txt", "x")
    (tmp_path / "text.pt").write_text("hello")

    for name, match in (("plain", "did not write"), ("zip", "no data.pkl"), ("text", "neither a zip archive")):
        with pytest.raises(DataError, match=match):
            open_table(tmp_path / f"{name}.pt")


def test_quantised_sparse_and_integer_tensors_are_named_and_not_taken(tmp_path: Path) -> None:
    content = {"ids": torch.zeros(4, 2, dtype=torch.int64), "sparse": torch.eye(3).to_sparse()}

    with pytest.raises(DataError, match=r"no floating-point table .*ids int64 \[4, 2\]"):
        open_table(_save(content, tmp_path / "x.pt", True))


def test_torch_is_not_needed(tmp_path: Path) -> None:
    path = _save({"weight": torch.randn(40, 6)}, tmp_path / "x.pt", True)
    program = (
        "import sys; from rectest.audits.tables import open_table; "
        f"open_table({str(path)!r}).take(__import__('numpy').array([1])); assert 'torch' not in sys.modules"
    )

    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode
