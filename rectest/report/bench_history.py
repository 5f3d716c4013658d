"""The page and the plot of ``rectest bench history``: one self-contained file, no script, equal input equal bytes.

The template owns the words between the values and the looks; this file makes plain texts and figures of series. What
came from outside is escaped by the template; only the figures are not, and those escape their texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rectest.baseline.trend import sparkline
from rectest.record import atomic_write
from rectest.report.figures import percent_text
from rectest.report.svg import BAD, MUTED, NEW, STORED, axes_of, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rectest.benchmarks.changes import Change, Series
    from rectest.benchmarks.history import BenchHistory

__all__ = ["history_page", "series_figure", "standalone_plot", "write_history_page"]

Changes: TypeAlias = "Mapping[tuple[str, str, str, str], tuple[Change, ...]]"

_TEMPLATES = Path(__file__).with_name("templates")
_HEIGHT = 190
_UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9))
_SIZES = (("GiB", 2.0**-30), ("MiB", 2.0**-20), ("KiB", 2.0**-10), ("B", 1.0))
_MARKS = ("o", "s", "^", "D", "v")
_SPARK = 24


def history_page(histories: Sequence[BenchHistory], series: Sequence[Series], changes: Changes) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    steps = [_step(change) for found in changes.values() for change in found]
    return templates.get_template("bench.html").render(
        headline=f"{len(steps)} step{'s' if len(steps) != 1 else ''} found" if steps else "No step found",
        tone="warn" if steps else "good",
        steps=steps,
        classes=[
            _class(found, [each for each in series if each.env_class == found.env_class], changes, place)
            for place, found in enumerate(histories, start=1)
            if found.runs
        ],
        damaged=[line for found in histories for line in found.damaged],
        css="".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "bench.css")),
        version=metadata.version("rectest"),
    )


def write_history_page(
    path: Path, histories: Sequence[BenchHistory], series: Sequence[Series], changes: Changes
) -> Path:
    """Write the page in one atomic step."""
    page = history_page(histories, series, changes)
    return atomic_write(path, page.encode("utf-8", "backslashreplace"))


def series_figure(series: Sequence[Series], changes: Changes, *, ident: str, height: int = _HEIGHT) -> str:
    """One measure of one benchmark over its runs; each machine has marks and a line of its own.

    Args:
        series: Of one benchmark and measure; the one of the latest run is drawn on top.
        ident: Begins every id in the figure, so that figures of one page do not share any.
    """
    series = sorted(series, key=lambda each: each.dates[-1])
    dates = sorted({date for each in series for date in each.dates})
    place = {date: number for number, date in enumerate(dates)}
    unit, factor = _unit(max(max(each.values) for each in series), series[0].measure)

    def draw(figure: Figure) -> None:
        axes = axes_of(figure, height, top=32, bottom=34)
        for number, each in enumerate(series):
            newest = number == len(series) - 1
            x, y = [place[date] for date in each.dates], [factor * value for value in each.values]
            style: dict[str, Any] = {"color": NEW if newest else STORED, "linewidth": 1.3 if newest else 0.8}
            mark = _MARKS[(len(series) - 1 - number) % len(_MARKS)]
            axes.plot(x, y, marker=mark, markersize=3 if len(dates) <= 60 else 1.6, **style)
            for row, change in enumerate(changes.get(each.key, ())):
                _mark_step(axes, x[change.place] - 0.5, change, row=row % 2)
        _limits(axes, [factor * value for each in series for value in each.values], len(dates))
        axes.text(-0.13, 1.02, unit, transform=axes.transAxes, ha="left", va="bottom", color=MUTED)
        axes.set_xticks([0, len(dates) - 1] if len(dates) > 1 else [0])
        axes.set_xticklabels([dates[0][:10], dates[-1][:10]] if len(dates) > 1 else [dates[0][:10]])
        axes.get_xticklabels()[0].set_horizontalalignment("left")
        axes.get_xticklabels()[-1].set_horizontalalignment("right" if len(dates) > 1 else "left")

    found = [change for each in series for change in changes.get(each.key, ())]
    told = "; ".join(f"{percent_text(change.change)} at {change.since}" for change in found) or "no step"
    label = f"{series[0].benchmark}, {series[0].measure}, {len(dates)} runs: {told}"
    return svg_of(draw, height, ident=ident, label=label)


def standalone_plot(series: Sequence[Series], changes: Changes) -> str:
    """A figure as a file of its own, with the colours of light and dark that the page would give it.

    Raises:
        ValueError: no series, or of several benchmarks.
    """
    if len({each.benchmark for each in series}) != 1:
        msg = f"a plot is of one benchmark, got {sorted({each.benchmark for each in series})}"
        raise ValueError(msg)
    css = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    colours = css[: css.index("* { box-sizing")]
    style = f"<style>{colours}svg {{ background: var(--paper); font-family: system-ui, sans-serif; }}</style>"
    figure = series_figure(series, changes, ident="plot")
    end = figure.index(">") + 1
    return f"{figure[:end]}{style}{figure[end:]}\n"


def _mark_step(axes: Axes, x: float, change: Change, *, row: int) -> None:
    axes.axvline(x, color=BAD, linewidth=1.1, dashes=(4, 2))
    where = axes.get_xaxis_transform()
    text = f"{change.since[:8]} {percent_text(change.change)}"
    axes.text(x, 1.02 + 0.1 * row, text, transform=where, ha="center", va="bottom", color=BAD, fontsize=9.5)


def _limits(axes: Axes, values: Sequence[float], num: int) -> None:
    """Around the values, never below zero; a constant lies in the middle."""
    low, high = min(values), max(values)
    room = max(0.15 * (high - low), 0.02 * abs(high), 1e-12)
    axes.set_ylim(max(0.0, low - room) if low >= 0 else low - room, high + room)
    axes.set_xlim(-0.5, max(0.5, num - 0.5))
    axes.tick_params(axis="y", labelcolor=MUTED)


def _class(history: BenchHistory, series: Sequence[Series], changes: Changes, number: int) -> dict[str, Any]:
    newest = history.runs[-1]
    names = sorted({each.benchmark for each in series})
    groups = [[each for each in series if each.benchmark == name] for name in names]
    return {
        "name": history.env_class,
        "facts": f"{len(history.runs)} runs, {history.runs[0].date[:10]} to {newest.date[:10]}",
        "machines": sorted(
            {
                f"{run.environment.describe()}, fingerprint {run.environment.fingerprint}, "
                f"{run.machine.get('cpu', 'processor unknown')}"
                for run in history.runs
            }
        ),
        "benchmarks": [_benchmark(group, changes, newest.date, f"c{number}b{k}") for k, group in enumerate(groups)],
    }


def _benchmark(group: Sequence[Series], changes: Changes, newest: str, ident: str) -> dict[str, Any]:
    times = [each for each in group if each.measure == "seconds"]
    rows = sorted(group, key=lambda each: (each.measure != "seconds", each.measure, each.dates[-1]))
    return {
        "name": group[0].benchmark,
        "figure": series_figure(times, changes, ident=ident) if times else "",
        "machines": len(times),
        "gone": not any(each.dates[-1] == newest for each in group),
        "rows": [_row(each, changes) for each in rows],
    }


def _row(series: Series, changes: Changes) -> dict[str, Any]:
    found = changes.get(series.key, ())
    return {
        "measure": series.measure,
        "spark": sparkline(series.values, width=_SPARK),
        "last": _text(series.values[-1], series.measure),
        "runs": str(len(series.values)),
        "steps": "; ".join(f"{percent_text(change.change)} at {change.since}" for change in found),
        "looked": series.judged,
    }


def _step(change: Change) -> dict[str, str]:
    return {
        "benchmark": change.series.benchmark,
        "measure": change.series.measure,
        "class": change.series.env_class,
        "change": percent_text(change.change),
        "since": change.range,
        "before": change.before,
        "p": f"{change.p:.2g}",
        "note": "both are runs of one commit: not the code changed" if change.same_code else "",
    }


def _unit(largest: float, measure: str) -> tuple[str, float]:
    if measure.startswith("ratio"):
        return "", 1.0
    units = _SIZES if measure.startswith("bytes") else _UNITS
    return next(((unit, factor) for unit, factor in units if largest * factor >= 1), units[-1])


def _text(value: float, measure: str) -> str:
    unit, factor = _unit(value, measure)
    return f"{value * factor:.4g} {unit}".strip()
