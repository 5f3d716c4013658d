"""``rectest audit data``: logs, the split between them, what was lost before, and what was made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rectest.cli.audit_output import JSON, VERBOSE, finish

__all__ = ["command"]

_Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="TRAIN [VALID] [TEST]",
        help="Files of events: RecBole .inter, CSV or TSV with a header, Parquet, or a line for each user.",
    ),
]


def command(
    files: _Files,
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the user.")] = None,
    item: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the item.")] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the time.")] = None,
    stage: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="The log before it was split; several, the rawest first: who was lost?"),
    ] = None,
    candidates: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Candidate sets of the test file (.npy, JSON, JSON lines, text), or twice: of valid and test.",
        ),
    ] = None,
    counts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Popularity of items: a table with an item and a count column.")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What the split is meant to be: ordered, leave-last-out, temporal, random or users."
        ),
    ] = "",
    as_json: JSON = False,
    verbose: VERBOSE = False,
) -> None:
    """Judge a data set: times, ties, repeats; splits that overlap or run back in time; lost users; candidate sets."""
    from time import time as clock

    from rectest.audits.data_audit import DataFiles, audit_data
    from rectest.checks.splits import PROTOCOLS
    from rectest.errors import UnknownNameError

    if protocol and protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    wanted = DataFiles(
        parts=tuple(files),
        stages=tuple(stage or ()),
        candidates=tuple(candidates or ()),
        counts=counts,
        user=user,
        item=item,
        time=time,
    )
    finish([audit_data(wanted, now=clock(), protocol=protocol)], as_json=as_json, verbose=verbose)
