"""``rectest bench history``: the recorded benchmarks over time, with the commits at which they stepped.

It reads, asks `rectest.benchmarks.changes` and prints; the page is `rectest.report.bench_history`. The exit code is 1
where a history holds lines that are no run, since what they held is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from rectest.cli.bench_record import DEFAULT, HISTORY
from rectest.cli.console import make_console, size_of

if TYPE_CHECKING:
    from rich.console import Console

    from rectest.benchmarks.changes import Change, Series
    from rectest.benchmarks.history import BenchHistory

__all__ = ["command"]

Changes: TypeAlias = "Mapping[tuple[str, str, str, str], tuple[Change, ...]]"


def command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Only benchmarks with this in their name.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plot of one benchmark's time.")] = None,
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the last N runs of each class.")] = None,
    history: Annotated[Path, HISTORY] = DEFAULT,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the permutations.")] = 0,
) -> None:
    """Show the recorded benchmarks over time and the commits at which they changed, for information only.

    Times and memory are compared on one machine and fingerprint only; ratios between contenders everywhere.
    """
    from rectest.benchmarks.changes import changes_in, series_of

    histories = _read(history, last)
    series = [each for found in histories for each in series_of(found) if _wanted(each.benchmark, names)]
    if not series:
        _raise_unknown(histories, names)
    changes = changes_in(series, seed=seed)
    console = make_console()
    for found in histories:
        _print_class(console, found, [each for each in series if each.env_class == found.env_class], changes)
    _print_changes(console, changes)
    _print_promise(console, series)
    damaged = [line for found in histories for line in found.damaged]
    for line in damaged:
        console.print(f"DAMAGED {line}", soft_wrap=True)
    if html is not None:
        _write_page(html, histories, series, changes)
        console.print(f"page: {html}", soft_wrap=True)
    if svg is not None:
        _write_plot(svg, series, changes)
        console.print(f"plot: {svg}", soft_wrap=True)
    if damaged:
        raise typer.Exit(1)


def _read(folder: Path, last: int | None) -> list[BenchHistory]:
    """The histories that hold anything.

    Raises:
        RecordError: nothing is recorded.
    """
    from rectest.benchmarks.history import read_histories
    from rectest.errors import RecordError

    found = [each for each in read_histories(folder) if each.runs or each.damaged]
    if not found:
        msg = "no run is recorded there; record one with: rectest bench record FILE.json"
        raise RecordError(msg, path=folder)
    return found if last is None else [replace(each, runs=each.runs[-last:]) for each in found]


def _wanted(name: str, parts: Sequence[str] | None) -> bool:
    return not parts or any(part in name for part in parts)


def _raise_unknown(histories: Sequence[BenchHistory], names: Sequence[str] | None) -> None:
    from rectest.errors import RecordError, UnknownNameError

    known = {name for found in histories for run in found.runs for name in run.benchmarks}
    if known:
        raise UnknownNameError("benchmark", " ".join(names or ()), known)
    msg = "; ".join(line for found in histories for line in found.damaged) or "holds no benchmark"
    raise RecordError(msg)


def _print_class(console: Console, history: BenchHistory, series: Sequence[Series], changes: Changes) -> None:
    from rectest.benchmarks.changes import latest_by_benchmark

    runs = history.runs
    if not runs:
        return
    span = runs[0].date[:10] if len(runs) == 1 else f"{runs[0].date[:10]} to {runs[-1].date[:10]}"
    machines = len({run.series for run in runs})
    where = "" if machines == 1 else f", on {machines} machines or environments"
    console.print(f"{history.env_class}: {len(runs)} run{'s' if len(runs) != 1 else ''}, {span}{where}", style="bold")
    shown = [each for each in latest_by_benchmark(series, runs[-1]) if each.measure != "cpu seconds"]
    for name in dict.fromkeys(each.benchmark for each in shown):
        console.print(name, soft_wrap=True)
        for each in shown:
            if each.benchmark == name:
                console.print(_row(each, changes), soft_wrap=True)
    gone = sorted({each.benchmark for each in series} - {each.benchmark for each in shown})
    if gone:
        console.print(f"not in the last run: {', '.join(gone)}", soft_wrap=True)
    console.print()


def _row(series: Series, changes: Changes) -> str:
    from rectest.baseline.trend import sparkline

    num, steps = len(series.values), ", ".join(_percent(each.change) for each in changes.get(series.key, ()))
    value = _value(series.values[-1], series.measure)
    line = f"  {sparkline(series.values):<16} {value:>10}  {series.measure} ({num} run{'s' if num != 1 else ''})"
    return f"{line}  {steps}" if steps else line


def _print_changes(console: Console, changes: Changes) -> None:
    for each in (change for found in changes.values() for change in found):
        where = each.series
        code = "; both are runs of one commit: not the code changed" if each.same_code else ""
        console.print(
            f"STEP {where.benchmark} {where.measure} {_percent(each.change)} at {each.range}, the run before was of "
            f"{each.before} (p = {each.p:.2g}, level {each.level:.2g}){code}",
            soft_wrap=True,
        )


def _print_promise(console: Console, series: Sequence[Series]) -> None:
    from rectest.benchmarks.changes import CHANGE_ALPHA, SMALLEST_CHANGE, runs_needed

    judged = sum(each.judged for each in series)
    needed = runs_needed(max(1, judged))
    console.print(
        f"{judged} of {len(series)} series are long enough to be looked at; in {needed} runs a step can show. "
        f"Information only: of histories in which nothing changed at most {100 * CHANGE_ALPHA:g} % show any step, "
        f"where runs are independent. Steps below {100 * SMALLEST_CHANGE:g} % are not shown.",
        soft_wrap=True,
    )


def _write_page(path: Path, histories: Sequence[BenchHistory], series: Sequence[Series], changes: Changes) -> None:
    from rectest.report.bench_history import write_history_page

    write_history_page(path, histories, series, changes)


def _write_plot(path: Path, series: Sequence[Series], changes: Changes) -> None:
    """Raises ValueError unless exactly one benchmark is left."""
    from rectest.record import atomic_write
    from rectest.report.bench_history import standalone_plot

    names = sorted({each.benchmark for each in series})
    if len(names) != 1:
        msg = f"--svg draws one benchmark, {len(names)} fit; name it, or write a page with --html"
        raise ValueError(msg)
    atomic_write(path, standalone_plot([each for each in series if each.measure == "seconds"], changes).encode())


def _percent(change: float) -> str:
    return f"{100 * change:+.3g} %"


def _value(value: float, measure: str) -> str:
    if measure.startswith("bytes"):
        return size_of(round(value))
    if measure.startswith("ratio"):
        return f"{value:.4g}"
    unit, factor = next(pair for pair in (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9)) if _fits(value, pair))
    return f"{value * factor:.4g} {unit}"


def _fits(value: float, pair: tuple[str, float]) -> bool:
    return value * pair[1] >= 1 or pair[0] == "ns"
