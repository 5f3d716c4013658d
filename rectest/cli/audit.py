"""``rectest audit``: tables, id maps, metrics, data and records, judged as files.

Each command has a file of its own, ``audit_<name>.py``, and is named in `COMMANDS`; it reads, asks `rectest.audits`
and ends in `rectest.cli.audit_output.finish`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Annotated

import typer

from rectest.cli.audit_output import wrapped

__all__ = ["COMMANDS", "app"]

COMMANDS: tuple[str, ...] = ("data", "mapping", "metrics", "record", "table")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def _explain(code: str) -> str:
    if code:
        typer.echo("\n".join(_theory_lines(code)))
        raise typer.Exit
    return code


@app.callback()
def _group(
    _explained: Annotated[
        str,
        typer.Option(
            "--explain",
            metavar="CODE",
            callback=_explain,
            is_eager=True,
            help="Tell the theory behind a check, such as embeddings/norm; 'all' lists the codes.",
        ),
    ] = "",
) -> None:
    """Judge a file: an embedding table, an id map, a table of metrics, a data set, a run record.

    Exit codes: 0 all in order, 1 something found or not measured, 2 wrong usage or an unreadable file.
    """


def _theory_lines(code: str) -> Iterator[str]:
    from rectest.audits.theory import theories, theory_of

    if code == "all":
        width = max(map(len, theories()))
        yield from (f"{name:<{width}}  {theory.claim}" for name, theory in theories().items())
        return
    theory = theory_of(code)
    yield code
    for name, text in (("claim", theory.claim), ("why", theory.why), ("red", theory.red), ("exempt", theory.exempt)):
        if text:
            yield from wrapped(f"  {name:<7} ", text)


for _name in COMMANDS:
    app.command(_name)(import_module(f"rectest.cli.audit_{_name}").command)
