"""``rectest gate``: why a gate said what it said, and the proof that gates can fail.

Each command has a file of its own, ``gate_<name>.py``, and is named in `COMMANDS`.
"""

from __future__ import annotations

from importlib import import_module

import typer

__all__ = ["COMMANDS", "app"]

COMMANDS: tuple[str, ...] = ("explain", "rules", "selftest", "trend")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Explain the verdict of a gate, test the gate itself, compare its rules with others."""


for _name in COMMANDS:
    app.command(_name)(import_module(f"rectest.cli.gate_{_name}").command)
