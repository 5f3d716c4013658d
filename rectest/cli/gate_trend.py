"""``rectest gate trend``: whether the results of many nights or merges stepped; it never turns anything red."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from rectest.baseline.trend import FeatureTrend, Point, Trend
    from rectest.report.machine import RunReport

__all__ = ["command"]

_Labelled = tuple[str, "RunReport"]


def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Reports of --rectest-json, oldest first; in a .jsonl file one on each line."
        ),
    ],
    system: Annotated[str, typer.Option("--system", metavar="NAME", help="Only this system.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the permutations.")] = 0,
) -> None:
    """Look for a step in the results of many nights or merges, for information only: the exit code is 0 either way.

    Reports that all have a date are put in its order, others are taken as given.
    """
    from rectest.baseline.trend import trend_of

    reports = [each for file in files for each in _read(file)]
    dated = all(report.origin.date for _, report in reports)
    if dated:
        reports.sort(key=lambda each: str(each[1].origin.date))
    series = _series(reports, system)
    trends = [trend_of(points, seed=seed) for points in series.values()]
    console = make_console()
    for trend in trends:
        _print_trend(console, trend)
    console.print(f"{_count(len(reports), 'report')} in the order {'of their dates' if dated else 'given'}.")
    silent = [label for label, report in reports if not report.gates]
    if silent:
        console.print(f"Without gates: {', '.join(silent)}.")
    for words in _promise():
        console.print(words)


def _read(path: Path) -> list[_Labelled]:
    """The reports of one file and what people call them: commit, date or place.

    Raises:
        RecordError: a damaged file or another kind of file.
        OSError: the file cannot be opened.
    """
    from rectest.errors import RecordError
    from rectest.report.machine import RunReport, read_report

    if path.suffix != ".jsonl":
        report = read_report(path)
        return [(_label(report, path.name), report)]
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            report = RunReport.from_dict(json.loads(line))
        except (ValueError, RecursionError) as e:
            msg = f"line {number} is not JSON, or cut off ({e}); needed a report of --rectest-json on each line"
            raise RecordError(msg, path=path) from e
        except RecordError as e:
            msg = f"line {number}: {e.problem}"
            raise RecordError(msg, path=path) from e
        found.append((_label(report, f"{path.name}:{number}"), report))
    return found


def _label(report: RunReport, place: str) -> str:
    origin = report.origin
    if origin.commit:
        return origin.commit[:12] + ("+" if origin.dirty else "")
    return origin.date or place


def _series(reports: Sequence[_Labelled], system: str) -> dict[tuple[str, str], list[Point]]:
    """The gates of each system in each environment class.

    Raises:
        RecordError: no gates at all, or several of one system in one report.
        UnknownNameError: no gates of the wanted system.
    """
    from rectest.baseline.trend import Point
    from rectest.errors import RecordError, UnknownNameError

    found: dict[tuple[str, str], list[Point]] = {}
    for label, report in reports:
        kinds = [(evidence.name, evidence.env_class) for evidence in report.gates]
        twice = [name for name, env_class in kinds if kinds.count((name, env_class)) > 1]
        if twice:
            msg = f"{label}: several gates of {twice[0]} in one report; which of them the series is of is not known"
            raise RecordError(msg)
        for kind, evidence in zip(kinds, report.gates, strict=True):
            found.setdefault(kind, []).append(Point(label=label, evidence=evidence))
    if not found:
        msg = (
            f"no gates in {_count(len(reports), 'report')}: nothing was gated, or there was no baseline; "
            "write reports with: pytest -m gate --rectest-json=FILE"
        )
        raise RecordError(msg)
    if system and system not in {name for name, _ in found}:
        raise UnknownNameError("system", system, {name for name, _ in found})
    return {kind: points for kind, points in sorted(found.items()) if system in ("", kind[0])}


def _print_trend(console: Console, trend: Trend) -> None:
    from rectest.baseline.trend import MIN_POINTS, points_needed

    repeats = trend.num_reports - trend.num_points
    counted = f"{_count(trend.num_points, 'point')}" + (f", {repeats} more repeat the one before" if repeats else "")
    console.print(f"{trend.name} ({trend.env_class}): {counted}", style="bold")
    if trend.features:
        columns = ("feature", "trend", "split before", "change", "p")
        print_table(console, columns, [_row(each) for each in trend.features], numbers=("change", "p"))
        console.print()
    for each in (each for each in trend.features if each.steps):
        side = "for the worse" if each.worse else "for the better"
        console.print(
            f"STEP {each.name} {_change(each)} ({side}) before {each.since}: |t| = {each.t:.3g}, p = {each.p:.2g}, "
            f"level {each.level:.2g}"
        )
    needed = points_needed(trend.features[0].level) if trend.features else 0
    if trend.features and not any(each.steps for each in trend.features):
        weak = f"; fewer than {needed} points cannot show any" if trend.num_points < needed else ""
        console.print(f"no step{weak}")
    if trend.too_short:
        few = ", ".join(f"{name} ({num})" for name, num in trend.too_short.items())
        console.print(f"fewer than {MIN_POINTS} points, not looked at: {few}")
    if not trend.seeds:
        console.print("no seed is in every report: averages over other seeds differ by seed noise as well")
    if trend.moves:
        console.print(f"another environment than before, which may be a cause: {', '.join(trend.moves)}")
    console.print()


def _row(each: FeatureTrend) -> list[str]:
    from rectest.baseline.trend import sparkline

    mark = " *" if each.steps else ""
    return [each.name, sparkline([*each.logs]), each.since, _change(each), f"{each.p:.2g}{mark}"]


def _change(each: FeatureTrend) -> str:
    return f"{100 * each.change:+.3g} %"


def _promise() -> list[str]:
    from rectest.baseline.trend import DELAY, MEASURED, TREND_ALPHA

    rates = ", ".join(f"{100 * rate:.2g} % at {num}" for num, rate in MEASURED.items())
    delays = " and ".join(f"{delay} points if {num} came before" for num, delay in DELAY.items())
    return [
        f"Information only. Of series in which nothing changed at most {100 * TREND_ALPHA:g} % show a step, all "
        f"features together, where each point is a new draw (measured on noise: {rates} points).",
        f"Where ten features share that, a step of two run-to-run sds shows after a median of {delays}.",
    ]


def _count(num: int, what: str) -> str:
    return f"{num} {what}{'s' if num != 1 else ''}"
