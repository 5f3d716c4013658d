"""``rectest bench``: speed and memory, base against head in one job; and the history of both.

``rectest bench --against REV`` is short for ``rectest bench compare --against REV``. Each command has a file of its
own, ``bench_<name>.py``, and is named in `COMMANDS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["COMMANDS", "app"]

COMMANDS: tuple[str, ...] = ("compare", "export", "history", "record")

_DEFAULT = "compare"


class _ComparesByDefault(TyperGroup):
    """A group whose first argument may be anything that `compare` takes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, cls=_ComparesByDefault)


@app.callback()
def _group() -> None:
    """Compare speed and memory with another commit, record them, and show and export their history."""


for _name in COMMANDS:
    app.command(_name)(import_module(f"rectest.cli.bench_{_name}").command)
