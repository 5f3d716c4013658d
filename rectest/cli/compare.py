"""``rectest compare``: two run records side by side, or the reasons why they must not be.

Report 004 sets a validation figure among 100 candidates beside test figures of other models on other data; here such
a comparison is refused, and what may be compared is compared user by user.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rectest.record import RunRecord

__all__ = ["command"]

Record = Annotated[Path, typer.Argument(metavar="RECORD", help="Written by rectest train --out.")]


def command(first: Record, second: Record) -> None:
    """Compare the test metrics of two runs; exit code 1 when data, split or protocol differ."""
    from rectest.checks.inputs import comparable_runs
    from rectest.record import RunRecord
    from rectest.report.terminal import summary_lines

    records = [RunRecord.load(path) for path in (first, second)]
    console = make_console()
    for path, record in zip((first, second), records, strict=True):
        console.print(f"{path}: {record.spec.describe()}", soft_wrap=True)
    console.print("")
    results = comparable_runs(*records)
    if any(result.red for result in results):
        for line in summary_lines(results, width=console.width, verbose=True):
            console.print(line, soft_wrap=True)
        raise typer.Exit(1)
    rows = _rows(*records)
    print_table(console, ["test", "first", "second", "difference", "standard error"], rows, numbers=["first", "second"])
    console.print("\ndifferences are paired over the users of the test split; seeds are another noise: rectest study")


def _rows(first: RunRecord, second: RunRecord) -> list[list[str]]:
    import math

    from rectest.checks.chance import ranks_of
    from rectest.metrics.ranking import per_user

    ranks = [ranks_of(record, "test") for record in (first, second)]
    rows = []
    for name in [name for name in first.metrics("test") if name in second.metrics("test")]:
        apart = per_user(ranks[1], name) - per_user(ranks[0], name)
        scored = apart[[math.isfinite(value) for value in apart]]
        error = float(scored.std(ddof=1)) / math.sqrt(len(scored)) if len(scored) > 1 else math.nan
        values = [first.final(f"test/{name}"), second.final(f"test/{name}")]
        rows.append([name, *(f"{v:.4f}" for v in values), f"{values[1] - values[0]:+.4f}", f"{error:.4f}"])
    return rows
