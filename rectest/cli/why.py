"""``rectest why``: where do two runs of a command part, and which line does it.

This file owns the command line, progress and exit codes. Which runs are made is `rectest.divergence.investigate`, what
the answer says `rectest.divergence.answer`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from rectest.errors import RectestError, WatchError

if TYPE_CHECKING:
    from rectest.divergence.confirm import Confirmed
    from rectest.divergence.investigate import Compared, Investigation, Plan

__all__ = ["SETTINGS", "command"]

_COMMAND = "rectest.why.command"
_EXAMPLE = "rectest why -- python train.py --epochs 1"
_VARIANTS = 10_000
"""Tapes of other names are recorded under other hash seeds and listing orders, so that two of them can show either."""

_USAGE: Any = typer.BadParameter.__base__


class _Split(TyperCommand):
    """What follows the two dashes is the command to run, whatever it looks like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own, after = list(args), None
        if "--" in own:
            place = own.index("--")
            own, after = own[:place], own[place + 1 :]
        ctx.meta[_COMMAND] = after
        try:
            return super().parse_args(ctx, list(own))
        except _USAGE as e:
            if after is None and any(_is_program(word) for word in own):
                msg = f"{e.format_message()}; a command to run stands after two dashes: {_EXAMPLE}"
                raise _USAGE(msg, ctx) from e
            raise


SETTINGS: dict[str, Any] = {"cls": _Split, "options_metavar": "[OPTIONS]"}
"""How the frame has to register the command."""


def command(
    ctx: typer.Context,
    tapes: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[A.tape B.tape | -- COMMAND ARGS...]", help="Kept tapes to compare, or what to run."),
    ] = None,
    runs: Annotated[int, typer.Option(min=2, max=99, metavar="N", help="How often the command is run.")] = 2,
    fast: Annotated[bool, typer.Option("--fast", help="Do not watch random draws: stages, but no lines.")] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Run again with the cause held still, and see whether it is gone.")
    ] = False,
    steps: Annotated[int, typer.Option(min=0, metavar="N", help="End each run after N optimizer steps.")] = 0,
    sample: Annotated[int, typer.Option(min=0, metavar="N", help="Look at about N elements of each tensor.")] = 0,
    no_modules: Annotated[bool, typer.Option("--no-modules", help="Leave out outputs of inner modules.")] = False,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="A.tape", help="Run once and keep the tape there.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", file_okay=False, help="Keep tapes, outputs and copies.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", dir_okay=False, help="Write all details there.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", dir_okay=False, help="Write a page there.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Time that one run may take.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Copy nothing: run in this directory.")] = False,
    workdir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, exists=True, help="Directory to copy; the repository by default."),
    ] = None,
    copy_limit: Annotated[
        float, typer.Option(min=0, metavar="GIB", help="The largest directory that is copied for each run.")
    ] = 2.0,
) -> None:
    """Say where two runs of a training script part, and which line does it. The script needs no change.

    Runs the command twice in copies of the working directory, with other hash seeds and listing orders, and compares
    every step. Exit code 0: identical to the last bit; 1: they part; 2: that could not be told.
    """
    from rectest.divergence.inside.session import Config
    from rectest.divergence.investigate import Plan

    words = ctx.meta.get(_COMMAND)
    paths = tapes or []
    _check(words, paths, record=record, confirm=confirm)
    _check_places(json_path, html)
    output = _Output(json_path=json_path, html=html, keep=keep)
    with _expected_only(), _orderly_end(), _folder(keep) as out:
        config = Config(tape="", watch=not fast, modules=not no_modules, sample=sample, stop_after=steps)
        plan = Plan(
            command=tuple(words or ()),
            out=out,
            num_runs=runs,
            config=config,
            workdir=workdir,
            in_place=in_place,
            deadline=deadline,
            max_bytes=round(copy_limit * 1024**3),
            keep=keep is not None,
        )
        if record is not None:
            _record(plan, record)
            return
        code = _compare(paths, output) if paths else _investigate(plan, output, confirm=confirm)
    raise typer.Exit(code)


def _check(words: Sequence[str] | None, paths: Sequence[Path], *, record: Path | None, confirm: bool) -> None:
    """Refuse what is neither a command nor two tapes, with a sentence that helps."""
    problem = ""
    if record is not None and not words:
        problem = "--record needs a command: rectest why --record A.tape -- python train.py"
    elif words is None and not paths:
        problem = f"nothing to run and nothing to compare: write {_EXAMPLE}, or name two tapes"
    elif words is not None and not words:
        problem = f"no command after the two dashes: write {_EXAMPLE}"
    elif words and paths:
        problem = f"either a command is run or tapes are compared, got both ({paths[0]} before the two dashes)"
    elif record is not None and confirm:
        problem = "--record makes one run, and --confirm compares several: leave one of them out"
    elif paths and confirm:
        problem = "--confirm runs the command again, and tapes do not hold it: rectest why --confirm -- python train.py"
    elif paths and _is_program(str(paths[0])):
        problem = f"a command to run stands after two dashes: rectest why -- {' '.join(map(str, paths))}"
    elif len(paths) == 1:
        problem = f"two tapes are compared, got only {paths[0]}"
    elif twice := {str(path) for path in paths if [p.resolve() for p in paths].count(path.resolve()) > 1}:
        problem = f"{min(twice)} is named twice, and a tape agrees with itself: name tapes of different runs"
    elif record is not None and record.exists():
        problem = f"{record} exists already; name a new tape, or remove it"
    if problem:
        raise ValueError(problem)


def _check_places(*places: Path | None) -> None:
    """Refuse files that cannot be written before anything is run for minutes."""
    for place in filter(None, places):
        folder = next(parent for parent in place.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            msg = f"{place} cannot be written: {folder} is no folder that can be written to; name another place"
            raise ValueError(msg)


def _is_program(word: str) -> bool:
    """Whether a word looks like the start of a command and not like a tape."""
    path = Path(word)
    return path.suffix in (".py", ".sh") or (not path.is_dir() and shutil.which(word) is not None)


@contextmanager
def _expected_only() -> Iterator[None]:
    """Exit code 1 means that runs part: what nobody expected keeps its traceback and ends with 2."""
    try:
        yield
    except (RectestError, ValueError, OSError, typer.Exit, typer.Abort, _USAGE):
        raise
    except Exception:
        traceback.print_exc()
        raise typer.Exit(2) from None


@contextmanager
def _orderly_end() -> Iterator[None]:
    """A polite kill, as of a batch system or a closed terminal, ends the watched run and removes its copies, too."""

    def end(number: int, frame: Any) -> None:  # noqa: ARG001  the signature of handlers
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in numbers if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where runs go: the folder to keep, or one that is removed at the end."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="rectest-why-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _record(plan: Plan, target: Path) -> None:
    from rectest.divergence.investigate import Investigation

    variant = zlib.crc32(str(target.resolve()).encode()) % _VARIANTS
    run = Investigation(replace(plan, num_runs=1, variant=variant), say=_say).record()
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(run.tape, target)
    typer.echo(f"tape: {target}")


def _compare(paths: Sequence[Path], output: _Output) -> int:
    from rectest.divergence.investigate import compare_tapes

    return output.show(compare_tapes(paths))


def _investigate(plan: Plan, output: _Output, *, confirm: bool) -> int:
    from rectest.divergence.finding import DIVERGED
    from rectest.divergence.investigate import Investigation

    investigation = Investigation(plan, say=_say)
    try:
        compared = investigation.compare()
    except WatchError:
        _show_output(plan.out)
        raise
    confirmed = investigation.confirm(compared) if confirm and compared.finding.verdict == DIVERGED else None
    return output.show(compared, confirmed, investigation)


def _show_output(out: Path) -> None:
    """The end of what the last run printed before it turned out that nothing can be told."""
    from rectest.divergence.investigate import last_lines

    outputs = sorted(out.glob("run*.txt"))
    lines = last_lines(outputs[-1]) if outputs else []
    if lines:
        _say("\n".join(["its output ends with:", *(f"  {line}" for line in lines)]))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Output:
    """Where the answer goes besides the screen."""

    json_path: Path | None
    html: Path | None
    keep: Path | None

    def show(
        self, compared: Compared, confirmed: Confirmed | None = None, investigation: Investigation | None = None
    ) -> int:
        """Print the answer, write the files, and give the exit code."""
        from rectest.divergence.investigate import details_of

        plan = None if investigation is None else investigation.plan
        details = details_of(compared, confirmed, plan=plan, places=self._places())
        typer.echo("\n".join(details.answer))
        if self.json_path is not None:
            from rectest.divergence.details import write_details

            write_details(self.json_path, details)
        if self.html is not None:
            from rectest.report.why import write_why_page

            write_why_page(self.html, details)
        return compared.finding.exit_code

    def _places(self) -> str:
        named = [str(path) for path in (self.json_path, self.html) if path is not None]
        kept = [f"tapes and outputs in {self.keep}"] if self.keep is not None else []
        return "; ".join([*named, *kept])
