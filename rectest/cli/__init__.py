"""The command ``rectest``: the jobs that are not tests.

One file per command group; each defines ``app`` (or one ``command``), imports its heavy parts inside its commands, and
is named in `GROUPS` (or `COMMANDS`). This file owns the frame: building the application, and turning expected errors
into one line and exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from rectest.errors import RectestError

if TYPE_CHECKING:
    import typer

__all__ = ["GROUPS", "build_app", "main"]

GROUPS: tuple[str, ...] = ("audit", "baseline", "bench", "checkpoint", "data", "faults", "gate", "study")
"""Command groups in the order of the help text; ``baseline`` is ``rectest.cli.baseline:app``."""

COMMANDS: tuple[str, ...] = ("attribute", "compare", "parity", "report", "reports", "train", "why")
"""Single commands; ``train`` is ``rectest.cli.train:command``."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code: 0 done, 2 wrong usage or a known error.

    An unexpected exception keeps its traceback: it is a bug in rectest.
    """
    app = build_app()
    try:
        app(args=None if args is None else list(args), prog_name="rectest")
    except (RectestError, ValueError) as e:
        sys.stderr.write(f"rectest: error: {e}\n")
        sys.exit(2)
    except OSError as e:
        sys.stderr.write(f"rectest: error: {e.filename or 'a file'}: {e.strerror or e}\n")
        sys.exit(2)


def build_app() -> typer.Typer:
    """The typer application with all command groups."""
    import typer

    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    app.command("version")(_version)
    for name in COMMANDS:
        module = import_module(f"rectest.cli.{name}")
        app.command(name, **getattr(module, "SETTINGS", {}))(module.command)
    for name in GROUPS:
        app.add_typer(import_module(f"rectest.cli.{name}").app, name=name)
    return app


def _root() -> None:
    """Training regression tests for recommenders: the jobs that are not tests."""


def _version() -> None:
    """Print the version."""
    import typer

    typer.echo(f"rectest {metadata.version('rectest')}")
