"""Why a `reproducible` check is red: the two runs are trained once more while they are watched, and the line is named.

This happens only after a test has failed, costs two trainings, and changes no verdict; `--rectest-no-why`
leaves it out.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rectest.plugin.options import Options

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.divergence.tapes import Run
    from rectest.plugin.train import Trainer
    from rectest.record import RunSpec

__all__ = ["EXPLAINED", "note_trained", "why_red"]

EXPLAINED = ("reproducible", "hash_sweep")
"""Families of checks whose red means that two runs of one spec parted."""

_TRAINED = pytest.StashKey["Sequence[tuple[Trainer, RunSpec]]"]()


def note_trained(item: pytest.Item | None, trainer: Trainer, specs: Sequence[RunSpec]) -> None:
    """Remember what a test trained, so that it can be trained again under watch."""
    if item is not None:
        item.stash[_TRAINED] = [*item.stash.get(_TRAINED, ()), *((trainer, spec) for spec in specs)]


def why_red(item: pytest.Item, red: Sequence[CheckResult]) -> list[str]:
    """One text a pair of repetitions that this test trained: where they part and which line did it.

    Empty when no red result is about reproducibility, when the test trained no repetition, or when it was not wanted.
    """
    if not any(result.check.partition("/")[0] in EXPLAINED for result in red):
        return []
    if not Options.of(item.config).why:
        return []
    subjects = {part for result in red for part in (result.subject, result.subject.partition("/")[0])}
    pairs = list(_pairs(item.stash.get(_TRAINED, ())))
    named = [pair for pair in pairs if pair[1].system in subjects]
    return [_explain(item, *pair) for pair in named or pairs]


def _pairs(trained: Sequence[tuple[Trainer, RunSpec]]) -> Iterator[tuple[Trainer, RunSpec, RunSpec]]:
    """Specs of which the test trained a repetition, each once."""
    seen: set[str] = set()
    for trainer, spec in trained:
        first = spec.with_(replica=0)
        repeated = [other for _, other in trained if other.replica and other.with_(replica=0) == first]
        if repeated and repr(first) not in seen:
            seen.add(repr(first))
            yield trainer, first, repeated[0]


def _explain(item: pytest.Item, trainer: Trainer, first: RunSpec, second: RunSpec) -> str:
    from rectest.divergence.answer import answer
    from rectest.divergence.compare import compare_runs
    from rectest.errors import RectestError

    trainer.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="why-", dir=trainer.folder))
    try:
        runs = [_watched(item, trainer, spec, folder / name) for spec, name in ((first, "1"), (second, "2"))]
        lines = answer(compare_runs(*runs), roots=[item.config.rootpath], can_confirm=False)
    except RectestError as e:
        lines = [f"COULD NOT TELL: {e}"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    what = f"{first.describe()}: trained twice more, watched (rectest why)"
    return "\n".join([what, *(f"  {line}" for line in lines)])


def _watched(item: pytest.Item, trainer: Trainer, spec: RunSpec, folder: Path) -> Run:
    """Train one spec in a fresh process that writes a tape."""
    from rectest.divergence.runs import STARTUP
    from rectest.divergence.tapes import load_run
    from rectest.training.launch import child_environ, launch

    how = trainer.how(spec)
    paths = [str(STARTUP), child_environ(spec, how)["PYTHONPATH"]]
    config = {"tape": str(folder), "root": str(item.config.rootpath)}
    environ = {**how.environ, "RECTEST_WHY": json.dumps(config), "PYTHONPATH": os.pathsep.join(paths)}
    launch(spec, how=replace(how, environ=environ))
    return load_run(folder)
