"""What all audit commands end in: the printing, the JSON and the exit code.

0 everything is in order, 1 something was found or could not be looked at, 2 (raised elsewhere) wrong usage or a file
that cannot be read.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rectest.audits.report import Audit
    from rectest.checks.result import CheckResult

__all__ = ["JSON", "VERBOSE", "finish", "wrapped"]

JSON = Annotated[bool, typer.Option("--json", help="Print JSON, with all rows concerned.")]
VERBOSE = Annotated[bool, typer.Option("--verbose", "-v", help="Print what is in order as well.")]

_WIDTH = 110


def finish(audits: Sequence[Audit], *, as_json: bool, verbose: bool) -> None:
    """Print audits, and leave with the worst of their exit codes."""
    if as_json:
        typer.echo(json.dumps([audit.to_dict() for audit in audits], indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo("\n\n".join("\n".join(_lines(audit, verbose=verbose)) for audit in audits))
    raise typer.Exit(max((audit.exit_code for audit in audits), default=1))


def _lines(audit: Audit, *, verbose: bool) -> Iterator[str]:
    facts = ", ".join(f"{name} {value}" for name, value in audit.facts.items())
    yield from wrapped("", f"{audit.kind} {audit.subject}" + (f": {facts}" if facts else ""), indent="  ")
    findings = audit.findings
    for result in findings:
        yield from _finding_lines(result)
    for result in audit.results if verbose else ():
        if result not in findings:
            yield from wrapped("  ok           ", f"{result.check} [{result.subject}]: {result.figure}")
    for note in audit.notes:
        yield from wrapped("  note         ", note)
    num_ok = len(audit.results) - len(findings)
    yield f"  {len(findings)} found, {num_ok} of {len(audit.results)} properties in order" + (
        "; rectest audit --explain CODE tells the theory" if findings else ""
    )


def _finding_lines(result: CheckResult) -> Iterator[str]:
    from rectest.audits.report import severity_of

    head = f"{result.check} [{result.subject}]: {result.figure}"
    yield from wrapped(f"  {severity_of(result):<12} ", head)
    parts = ("worst", "expected", "limit", "outside", "detail", "advice")
    names = {"detail": "why", "advice": "next"}
    for part in parts:
        if text := getattr(result, part):
            yield from wrapped(f"  {'':<12}   {names.get(part, part):<9}", text)


def wrapped(head: str, text: str, *, indent: str | None = None) -> list[str]:
    """Lines of `text` under a hanging `head`; words are never broken."""
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head) if indent is None else indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [head.rstrip()]
