"""``rectest report``: the page and the Markdown summary, made later from what ``--rectest-json`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", dir_okay=False, exists=True, help="Written by --rectest-json.")
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", dir_okay=False, help="Write the page there.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", dir_okay=False, help="Append the summary there.")
    ] = None,
) -> None:
    """Make the HTML page or the Markdown summary of a test run from its JSON report."""
    from rectest.report.machine import read_report

    if html is None and markdown is None:
        msg = "nothing to write: give --html FILE, --markdown FILE or both"
        raise ValueError(msg)
    report = read_report(file)
    if html is not None:
        from rectest.report.html import write_page

        typer.echo(f"html report: {write_page(html, report)}")
    if markdown is not None:
        from rectest.report.github import append_summary

        typer.echo(f"markdown report: {append_summary(markdown, report)}")
