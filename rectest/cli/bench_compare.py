"""``rectest bench compare --against REV``: what became slower or fatter, measured beside the base in one job.

This file owns the options, the worktree of the base, the printing and the exit code. The comparison itself is
`rectest.benchmarks.runner`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table
from rectest.cli.options import import_path

if TYPE_CHECKING:
    from rectest.benchmarks.child import How
    from rectest.benchmarks.results import Report
    from rectest.benchmarks.runner import Effort
    from rectest.benchmarks.settings import Settings

__all__ = ["command"]


def command(
    against: Annotated[str, typer.Option("--against", metavar="REV", help="The base: any name git has for a commit.")],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATHS]...", help="Files and folders with benchmarks.")
    ] = None,
    expression: Annotated[
        str, typer.Option("-k", metavar="EXPR", help="Only benchmarks that fit, as pytest's -k.")
    ] = "",
    own: Annotated[
        bool, typer.Option("--own", help="Each side runs its own benchmark files, not both those of the head.")
    ] = False,
    limit: Annotated[
        float | None, typer.Option(min=0.001, max=10, help="Relative slowdown that must not pass; 0.05 by default.")
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(min=1e-9, max=0.2, help="Probability that an unchanged head is called slower.")
    ] = 1e-3,
    max_pairs: Annotated[int, typer.Option(min=2, max=200, help="Pairs of processes at most.")] = 30,
    budget: Annotated[float, typer.Option(min=1, help="Seconds after which no pair is begun.")] = 3600.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of OpenMP and BLAS libraries.")] = 1,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds that a process may say nothing.")] = 600.0,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", dir_okay=False)] = None,
    markdown_path: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", dir_okay=False)] = None,
) -> None:
    """Compare the benchmarks of the working tree with those of another commit, in turn on this machine.

    Benchmarks are tests with pytest-benchmark's fixture. Exit codes: 0 nothing became slower or fatter, 1 something
    did, vanished, or could not be measured, 2 wrong usage, or nothing to compare.
    """
    from rectest.benchmarks.child import How
    from rectest.benchmarks.runner import Effort
    from rectest.benchmarks.settings import Settings
    from rectest.benchmarks.trees import project_in
    from rectest.training.worktree import Repository

    repository = Repository.containing(Path.cwd())
    commit = repository.commit(against)
    project = project_in(Path.cwd(), repository.root)
    settings = Settings.read(project).with_limit(limit)
    effort = Effort(alpha=false_alarms, max_pairs=max_pairs, budget=budget, say=_say)
    with tempfile.TemporaryDirectory(prefix="rectest-bench-") as folder:
        how = How(folder=Path(folder), expression=expression, threads=threads, deadline=deadline)
        asked = [_in_project(path, project) for path in paths or ()]
        report = _compared(
            repository.root, commit, project=project, how=how, settings=settings, paths=asked, effort=effort, own=own
        )
    _write(report, json_path=json_path, markdown_path=markdown_path)
    _print(report)
    raise typer.Exit(int(report.red))


def _compared(
    root: Path,
    commit: str,
    *,
    project: Path,
    how: How,
    settings: Settings,
    paths: list[str],
    effort: Effort,
    own: bool,
) -> Report:
    from rectest.benchmarks.results import Report
    from rectest.benchmarks.runner import compared
    from rectest.benchmarks.trees import Tree
    from rectest.errors import RectestError
    from rectest.training.worktree import Repository, worktree

    repository, began = Repository(root), time.monotonic()
    places = import_path()
    head = Tree.of("head", root, repository=root, project=project, import_path=places)
    with worktree(repository, commit) as folder:
        base = Tree.of("base", folder, repository=root, project=project, import_path=places)
        for tree in (base, head) if settings.build else ():
            _say(f"building the {tree.side}")
            tree.build(settings.build, deadline=how.deadline)
        found, notes, rule = compared(
            base, head, how, settings=settings, paths=paths, effort=effort, own=own, rng=Random()
        )
    if not found:
        msg = (
            "no benchmark fits: needed tests with the benchmark fixture, in PATHS or the paths of [tool.rectest.bench]"
        )
        raise RectestError(msg)
    return Report(
        base=commit,
        head=f"{repository.commit('HEAD')}{'+' if repository.changed('HEAD') else ''}",
        comparisons=tuple(found),
        alpha=rule.alpha,
        beta=rule.beta,
        seconds=time.monotonic() - began,
        machine=_machine(),
        notes=tuple(notes),
    )


def _machine() -> dict[str, str]:
    """What the figures belong to; the ratios belong to less."""
    import platform

    from rectest.environment import cpu_model

    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "cpu": cpu_model(),
        "cores": str(os.cpu_count()),
        "load": load,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _in_project(path: str, project: Path) -> str:
    """A path of the command line, relative to the project; a node id keeps its names.

    Raises:
        ValueError: it does not exist, or lies elsewhere.
    """
    place, colons, names = path.partition("::")
    found = Path(os.path.abspath(place))  # noqa: PTH100
    if not found.exists() or not found.is_relative_to(project):
        what = f"lies outside of {project}" if found.exists() else "does not exist"
        msg = f"{place} {what}; give files or folders of the project"
        raise ValueError(msg)
    return f"{found.relative_to(project)}{colons}{names}"


def _write(report: Report, *, json_path: Path | None, markdown_path: Path | None) -> None:
    from rectest.benchmarks.text import markdown
    from rectest.record import atomic_write

    if json_path is not None:
        atomic_write(json_path, report.to_json().encode())
    if markdown_path is not None:
        atomic_write(markdown_path, markdown(report).encode())


def _print(report: Report) -> None:
    from rectest.benchmarks.text import COLUMNS, NUMBERS, row, summary, told

    console = make_console()
    if not console.is_terminal:
        console.width = 200
    print_table(console, COLUMNS, [row(found) for found in report.comparisons], numbers=NUMBERS)
    console.print()
    for text in (*told(report), *(f"note: {note}" for note in report.notes)):
        console.print(text, soft_wrap=True)
    console.print(summary(report), soft_wrap=True)


def _say(text: str) -> None:
    sys.stderr.write(f"rectest bench: {text}\n")
    sys.stderr.flush()
