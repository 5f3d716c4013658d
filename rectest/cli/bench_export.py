"""``rectest bench export``: a recorded run in the formats of pytest-benchmark, github-action-benchmark and Bencher.

The formats are made in `rectest.benchmarks.exports`; this file chooses the run and writes.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.bench_record import DEFAULT, HISTORY

if TYPE_CHECKING:
    from rectest.benchmarks.history import BenchHistory, RecordedRun

__all__ = ["Format", "command"]


class Format(StrEnum):
    """The keys of `benchmarks.exports.FORMATS`, which costs imports; a test holds them equal."""

    PYTEST_BENCHMARK = "pytest-benchmark"
    GITHUB_ACTION_BENCHMARK = "github-action-benchmark"
    BENCHER = "bencher"


def command(
    form: Annotated[Format, typer.Option("--format", help="Whose format.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Where to; standard output by default. In a folder every run is a file, oldest first.",
        ),
    ] = None,
    commit: Annotated[str, typer.Option(metavar="HASH", help="The last run of this commit; the last of all.")] = "",
    env_class: Annotated[str, typer.Option("--class", metavar="NAME", help="Environment class, e.g. cpu.")] = "",
    history: Annotated[Path, HISTORY] = DEFAULT,
) -> None:
    """Write a recorded run in another tool's format.

    A folder of pytest-benchmark files is a storage: pytest-benchmark --storage=DIR compare reads it.
    """
    from rectest.benchmarks.exports import FORMATS
    from rectest.record import atomic_write

    found = _history(history, env_class)
    for line in found.damaged:
        typer.echo(f"damaged: {line}", err=True)
    runs = _chosen(found, commit)
    render = FORMATS[form]
    if out is not None and out.is_dir():
        for number, run in enumerate(runs, start=1):
            atomic_write(out / f"{number:04}_{_file_label(run)}.json", _text(render(run)).encode())
        typer.echo(f"{len(runs)} runs in {out}")
    elif out is not None:
        atomic_write(out, _text(render(runs[-1])).encode())
        typer.echo(f"{runs[-1].label} in {out}")
    else:
        typer.echo(_text(render(runs[-1])), nl=False)


def _history(folder: Path, env_class: str) -> BenchHistory:
    """The history of the wanted class, or the only one.

    Raises:
        RecordError: no run is recorded there, or of several classes none was asked for.
        UnknownNameError: no history of that class.
    """
    from rectest.benchmarks.history import read_histories
    from rectest.errors import RecordError, UnknownNameError

    histories = {found.env_class: found for found in read_histories(folder)}
    if env_class and env_class not in histories:
        raise UnknownNameError("environment class", env_class, histories)
    if env_class:
        histories = {env_class: histories[env_class]}
    if len(histories) > 1:
        msg = f"there are histories of {', '.join(histories)}; choose one with --class"
        raise RecordError(msg, path=folder)
    for found in histories.values():
        if found.runs:
            return found
    msg = "no run is recorded there; record one with: rectest bench record FILE.json"
    raise RecordError(msg, path=folder)


def _chosen(found: BenchHistory, commit: str) -> list[RecordedRun]:
    from rectest.errors import UnknownNameError

    runs = [run for run in found.runs if (run.commit or "").startswith(commit)]
    if not runs:
        raise UnknownNameError("commit", commit, {run.commit or "none" for run in found.runs})
    return runs


def _file_label(run: RecordedRun) -> str:
    return (run.commit or "unversioned")[:12] + ("-dirty" if run.dirty else "")


def _text(values: object) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
