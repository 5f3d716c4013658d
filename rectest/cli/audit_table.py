"""``rectest audit table``: an embedding table in a file, with its id map and interactions where they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rectest.cli.audit_output import JSON, VERBOSE, finish

__all__ = ["command"]


def command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="A table, a checkpoint, or parts of one.")],
    name: Annotated[str, typer.Option(metavar="TENSOR", help="Which tensor, where a file holds several tables.")] = "",
    padding: Annotated[int | None, typer.Option(metavar="ROW", help="The row that promises to be zero.")] = None,
    unit_norm: Annotated[bool, typer.Option("--unit-norm", help="Every row promises length 1.")] = False,
    norm: Annotated[float | None, typer.Option(help="The length that every row promises.")] = None,
    mapping: Annotated[Path | None, typer.Option(metavar="MAP", help="The row of each raw id.")] = None,
    interactions: Annotated[
        Path | None, typer.Option(metavar="LOG", help="Users and items: tells signal from noise, names popular items.")
    ] = None,
    user: Annotated[str, typer.Option(metavar="COLUMN", help="Column of users in the interactions.")] = "",
    item: Annotated[str, typer.Option(metavar="COLUMN", help="Column of items.")] = "",
    time: Annotated[str, typer.Option(metavar="COLUMN", help="Column of times.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads that read the table; they change no result.")] = 1,
    as_json: JSON = False,
    verbose: VERBOSE = False,
) -> None:
    """Judge an embedding table: lengths, padding, broken and repeated rows, hubs, collapse, signal against noise.

    Formats: .npy, .safetensors, .pt (weights only), a tensor in a checkpoint (--name), parts of a sharded one.
    """
    from rectest.audits.table_audit import audit_table_files

    if unit_norm and norm is not None:
        msg = "--unit-norm promises length 1 and --norm another one; give one of them"
        raise ValueError(msg)
    audit = audit_table_files(
        files,
        name=name or None,
        padding=padding,
        norm=1.0 if unit_norm else norm,
        mapping=mapping,
        interactions=interactions,
        user=user or None,
        item=item or None,
        time=time or None,
        threads=threads,
    )
    finish([audit], as_json=as_json, verbose=verbose)
