"""What all command groups print with: one console, tables of plain text, sizes for people.

Colours follow ``NO_COLOR`` and are absent in pipes; a pipe is 80 columns wide. Text from files is never markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["make_console", "print_table", "size_of"]


def make_console() -> Console:
    """A console on the standard output of this moment."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def print_table(
    console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()
) -> None:
    """Print a table without frames; the columns named in `numbers` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, safe_box=True)
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def size_of(num_bytes: int) -> str:
    """A file size for people.

    >>> size_of(900), size_of(1_979_173)
    ('900 B', '1.9 MiB')
    """
    size, units = float(num_bytes), ["B", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
