"""``rectest audit mapping``: an id map in a file, with interactions, a table and a second map where they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rectest.cli.audit_output import JSON, VERBOSE, finish

__all__ = ["command"]


def command(
    file: Annotated[Path, typer.Argument(metavar="MAP", help="JSON, JSON lines, CSV, TSV, Parquet, or one id a line.")],
    interactions: Annotated[
        list[Path] | None, typer.Option(metavar="LOG", help="Events whose ids the map must know; may be repeated.")
    ] = None,
    item: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of item ids in the interactions; repeatable.")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of user ids, for a map of users; repeatable.")
    ] = None,
    key_pattern: Annotated[
        str, typer.Option(metavar="asin|isbn|uuid|int|REGEX", help="What every raw id looks like.")
    ] = "",
    table: Annotated[Path | None, typer.Option(metavar="FILE", help="The table whose rows the indices are.")] = None,
    table_name: Annotated[str, typer.Option(metavar="TENSOR", help="Which tensor of the table's file.")] = "",
    same_as: Annotated[Path | None, typer.Option(metavar="MAP", help="A second map that must agree.")] = None,
    key: Annotated[str, typer.Option(metavar="NAME", help="Field of nested JSON, or column of raw ids.")] = "",
    index: Annotated[str, typer.Option(metavar="NAME", help="Column of indices.")] = "",
    first_index: Annotated[int | None, typer.Option(min=0, max=1, help="Where the indices begin.")] = None,
    padding: Annotated[int | None, typer.Option(metavar="INDEX", help="The index that nobody may have.")] = None,
    as_json: JSON = False,
    verbose: VERBOSE = False,
) -> None:
    """Judge an id map: a bijection without holes, one format of keys, every event known, no shift against the table."""
    from rectest.audits.mapping_audit import MapQuestions, audit_mapping_file

    questions = MapQuestions(
        interactions=tuple(interactions or ()),
        columns=(*(item or ()), *(user or ())),
        key_pattern=key_pattern or None,
        table=table,
        table_name=table_name or None,
        same_as=same_as,
        first_index=first_index,
        padding=padding,
    )
    audit = audit_mapping_file(file, key=key or None, index=index or None, questions=questions)
    finish([audit], as_json=as_json, verbose=verbose)
