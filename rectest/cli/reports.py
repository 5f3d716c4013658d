"""``rectest reports``: the incident reports claim by claim, with what this repository measures of each.

Every figure is computed when the command runs. ``--no-training`` leaves out what takes trainings and is done in
seconds; with them it takes minutes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table
from rectest.cli.options import import_path

if TYPE_CHECKING:
    from rectest.claims.claim import Claim, Measured
    from rectest.claims.runs import Runs
    from rectest.errors import ChildFailed
    from rectest.record import RunRecord, RunSpec

__all__ = ["atomic_text", "command", "markdown"]


def command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[REPORT|CLAIM]...", help="Reports (003) or claims (003.2); all.")
    ] = None,
    training: Annotated[bool, typer.Option("--training/--no-training", help="Whether claims may train.")] = True,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", dir_okay=False, help="Also write everything there.")
    ] = None,
    markdown_path: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", dir_okay=False, help="Also write the tables there.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
    detail: Annotated[bool, typer.Option("--detail", help="Also print where and how each figure is measured.")] = False,
) -> None:
    """Hold the incident reports to what is measured: confirmed, refuted or undecidable here, claim by claim."""
    from rectest.claims.catalogue import BOOKS, chosen

    claims = chosen(names or ())
    runs = _runs(training=training, processes=processes)
    if training:
        runs.prepare(spec for claim in claims for spec in claim.specs())
    outcomes = [(claim, claim.judge(runs)) for claim in claims]
    if json_path is not None:
        _write(json_path, outcomes)
    if markdown_path is not None:
        atomic_text(markdown_path, markdown(outcomes))
    for book in BOOKS:
        own = [(claim, measured) for claim, measured in outcomes if claim.report == book.report]
        if own:
            _print_report(f"report {book.report}: {book.title}" if book.report.isdigit() else book.title, own, detail)


def _runs(*, training: bool, processes: int) -> Runs:
    from rectest.claims.runs import Runs, in_children, on_ranks

    if not training:
        return Runs()

    def say(spec: RunSpec, _outcome: RunRecord | ChildFailed) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"trained {spec.describe()}\n")

    path = import_path()
    return Runs(in_children(processes=processes, sys_path=path, done=say), on_ranks(sys_path=path))


def _print_report(title: str, outcomes: Sequence[tuple[Claim, Measured]], detail: bool) -> None:
    console = make_console()
    console.print(title)
    rows = [[claim.number, measured.verdict.upper(), claim.said, measured.figure] for claim, measured in outcomes]
    print_table(console, ["claim", "verdict", "said", "measured"], rows)
    console.print("")
    for line in _explanations(outcomes, detail=detail):
        console.print(line, soft_wrap=True)
    counts = Counter(str(measured.verdict) for _, measured in outcomes)
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    console.print(f"{len(outcomes)} claims: {told}\n")


def _explanations(outcomes: Sequence[tuple[Claim, Measured]], *, detail: bool) -> Iterator[str]:
    """What is true instead, and with `detail` where and how it was measured."""
    for claim, measured in outcomes:
        if measured.truth:
            yield f"{claim.number}  {measured.truth}"
        if detail:
            yield f"  by: {measured.where or 'nothing'}"
            yield f"  again: {measured.command}"


def markdown(outcomes: Sequence[tuple[Claim, Measured]]) -> str:
    """A table for each report: what was said, what is measured, the verdict."""
    from rectest.claims.catalogue import BOOKS

    parts = []
    for book in BOOKS:
        own = [(claim, measured) for claim, measured in outcomes if claim.report == book.report]
        if not own:
            continue
        counts = Counter(str(measured.verdict) for _, measured in own)
        told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        title = f"Report {book.report}: {book.title}" if book.report.isdigit() else book.title.capitalize()
        rows = [
            f"| {claim.number} | {claim.said} | {measured.figure} | {measured.verdict} |".replace("\n", " ")
            for claim, measured in own
        ]
        head = ["| claim | said | measured | verdict |", "|---|---|---|---|"]
        summary = f"<details><summary>{title} ({told})</summary>"
        parts.append("\n".join([summary, "", *head, *rows, "", "</details>"]))
    return "\n\n".join(parts) + "\n"


def atomic_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    from rectest.record import atomic_write

    atomic_write(path, text.encode())


def _write(path: Path, outcomes: Sequence[tuple[Claim, Measured]]) -> None:
    import json

    found = [
        {"claim": claim.number, "report": claim.report, "said": claim.said, **measured.to_dict()}
        for claim, measured in outcomes
    ]
    atomic_text(path, f"{json.dumps(found, indent=2, ensure_ascii=False)}\n")
