"""``rectest bench record FILE.json``: append what a run of benchmarks measured to the history of its environment class.

It is the only thing that writes histories, and only when called. Which runs are refused is decided here; the format and
the safety of the write are for `rectest.benchmarks.history`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console

if TYPE_CHECKING:
    from rectest.benchmarks.history import RecordedRun

__all__ = ["HISTORY", "command"]

HISTORY = typer.Option("--history", metavar="DIR", help="Folder of the histories, one file per environment class.")
DEFAULT = Path("baselines/bench")
"""`benchmarks.history.FOLDER`; a test holds them equal."""


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="What pytest --benchmark-json wrote.")],
    history: Annotated[Path, HISTORY] = DEFAULT,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Record a run of uncommitted changes; it is marked as such.")
    ] = False,
) -> None:
    """Append a run of benchmarks to the history of its environment class: one line, never changed again.

    Write the file with: pytest tests/bench --benchmark-enable --benchmark-only --benchmark-json=FILE.json
    """
    from rectest.benchmarks.history import append_run
    from rectest.benchmarks.pytest_json import read_benchmark_json

    runs = read_benchmark_json(file)
    for run in runs:
        _refuse(run, file, allow_dirty=allow_dirty)
    console = make_console()
    for run in runs:
        path, damaged = append_run(history, run)
        console.print(f"{len(run.benchmarks)} benchmarks of {run.label} appended to {path}", soft_wrap=True)
        console.print(f"  {run.environment.describe()}, fingerprint {run.environment.fingerprint}", soft_wrap=True)
        for line in damaged:
            console.print(f"  damaged: {line}; it was left as it is", soft_wrap=True)
    if os.environ.get("CI"):
        console.print("CI is set: this line is kept only if the job stores or commits the file", soft_wrap=True)


def _refuse(run: RecordedRun, file: Path, *, allow_dirty: bool) -> None:
    """Raise unless the run says which code it measured.

    Raises:
        RecordError: measured on uncommitted changes, or outside version control, and that was not allowed.
    """
    from rectest.errors import RecordError

    if allow_dirty or (run.commit is not None and not run.dirty):
        return
    found = "outside version control" if run.commit is None else f"on {run.commit[:12]} with uncommitted changes"
    msg = f"was measured {found}, so that no commit could be named for it; commit and measure again, or --allow-dirty"
    raise RecordError(msg, path=file)
