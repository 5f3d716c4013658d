"""``rectest audit record``: every check of the gate that one saved run can answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rectest.cli.audit_output import JSON, VERBOSE, finish

__all__ = ["command"]


def command(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="Written by rectest train --out.")],
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORD",
            help="A second run: equal bits for one spec, other draws for another seed, else one task.",
        ),
    ] = None,
    as_json: JSON = False,
    verbose: VERBOSE = False,
) -> None:
    """Judge a run record: tables, id maps, ranges, coherence, chance and floors, learning, evaluation, settings."""
    from rectest.audits.record_audit import audit_record

    finish([audit_record(record, against=against)], as_json=as_json, verbose=verbose)
