"""Figures of one gate as inline SVG: curves with the stored seeds, features between their limits, the paired prefix.

What each of them shows is here; how they look, and how a drawing becomes SVG, is in `svg`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rectest.baseline.evidence import Curve, FeatureEvidence, PrefixEvidence
from rectest.baseline.features import WINDOWS, higher_is_better, window
from rectest.report.svg import BAD, GRID, INK, MUTED, NEW, STORED, WIDTH, axes_of, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curve_figure", "feature_figure", "percent_text", "prefix_figure"]

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)))
_ROW, _AXIS = 50, 23
_MOST_POINTS = 80
"""More points than this have no room in a figure; they are drawn as means over neighbours."""

_FURTHEST = 3.0
"""Limits are drawn at about -1 and 1; whatever is further out than this is drawn here, with an arrow."""


def percent_text(change: float | None, *, signed: bool = True, digits: int = 3) -> str:
    """A relative change with a real minus sign.

    >>> percent_text(-0.0123), percent_text(0.0944, signed=False, digits=2), percent_text(None)
    ('−1.23 %', '9.4 %', '–')
    """
    if change is None or not math.isfinite(change):
        return "–"
    return f"{100 * change:{'+' if signed else ''}.{digits}g} %".replace("-", "−")


def curve_figure(curve: Curve, seeds: Sequence[int], *, ident: str, height: int = 210) -> str:
    """A measure over training: every stored seed, their range, and the new runs on top; empty without a finite value.

    Args:
        seeds: of the new runs.
        ident: begins every id in the figure, so that figures of one page do not share any.
    """
    every = max(1, -(-len(curve.steps) // _MOST_POINTS))
    stored, new = _rows(curve.stored, len(curve.steps), every), _rows(curve.new, len(curve.steps), every)
    if not any(math.isfinite(value) for row in (*stored, *new) for value in row):
        return ""

    def draw(figure: Figure) -> None:
        axes = axes_of(figure, height, top=16, bottom=34)
        steps = [_mean(part) for part in _blocks(curve.steps, every)]
        columns = [[row[k] for row in stored if math.isfinite(row[k])] for k in range(len(steps))]
        low = [min(column, default=math.nan) for column in columns]
        high = [max(column, default=math.nan) for column in columns]
        axes.fill_between(steps, low, high, color=STORED, alpha=0.22, linewidth=0)
        x = [value for _ in stored for value in (*steps, math.nan)]
        axes.plot(x, [value for row in stored for value in (*row, math.nan)], color=STORED, alpha=0.55, linewidth=0.6)
        for place, row in enumerate(new):
            mark = "o" if sum(map(math.isfinite, row)) <= 40 else None
            style: dict[str, Any] = {"linestyle": _DASHES[place % len(_DASHES)], "marker": mark, "markersize": 2.6}
            style["linewidth"] = 1.3 if every > 1 or mark is None else 1.7
            axes.plot(steps, row, color=NEW, **style)
        _mark_windows(axes, curve.steps)
        axes.set_xlabel("step")

    few = ", ".join(map(str, seeds))
    label = f"{curve.name} over {len(curve.steps)} steps: {len(stored)} stored seeds and new runs of seed {few}"
    return svg_of(draw, height, ident=ident, label=label)


def feature_figure(features: Sequence[FeatureEvidence], *, ident: str) -> str:
    """One strip per feature, worse to the left: stored seeds, what is noise, and the new runs with their mean."""
    if not features:
        return ""
    height = 26 + _ROW * len(features)

    def draw(figure: Figure) -> None:
        strips = [_Strip(feature) for feature in features]
        far = min(_FURTHEST, max(1.45, *(1.12 * abs(x) for strip in strips for x in strip.reach)))
        axes = figure.add_axes((12 / WIDTH, 0, 1 - 24 / WIDTH, 1))
        axes.set_xlim(-far, far)
        axes.set_ylim(height, 0)
        axes.axis("off")
        for x, text, side in ((-far, "← worse", "left"), (0, "stored mean", "center"), (far, "better →", "right")):
            axes.text(x, 10, text, ha=side, va="center", color=MUTED, fontsize=9.8)
        axes.plot([0, 0], [18, height - 8], color=GRID, linewidth=0.8)
        tops = [26 + _ROW * place for place in range(len(strips))]
        known = [(strip, top + _AXIS) for strip, top in zip(strips, tops, strict=True) if strip.ends]
        bands = [(strip.ends, (y, y)) for strip, y in known]
        _segments(axes, bands, color=STORED, alpha=0.22, linewidth=14, solid_capstyle="butt")
        ends = [((end, end), (y - 8, y + 8)) for strip, y in known for end in strip.ends]
        _segments(axes, ends, color=MUTED, linewidth=1.2)
        rows = zip(strips, tops, strict=True)
        ticks = [((x, x), (top + _AXIS - 5, top + _AXIS + 5)) for strip, top in rows for x in strip.stored]
        _segments(axes, ticks, color=STORED, linewidth=1)
        for strip, top in zip(strips, tops, strict=True):
            strip.draw(axes, top, far)

    alarms = [feature.name for feature in features if feature.alarm]
    told = f"outside: {', '.join(alarms)}" if alarms else "none outside"
    return svg_of(draw, height, ident=ident, label=f"{len(features)} features between their limits; {told}")


class _Strip:
    """One feature in units of its limit for the worse, turned so that worse is left."""

    def __init__(self, feature: FeatureEvidence) -> None:
        self.feature = feature
        logs = [math.log(value) for value in feature.stored if value > 0]
        self._middle = sum(logs) / len(logs) if logs else 0.0
        self._sign = 1 if higher_is_better(feature.name) else -1
        ends = [] if feature.lowest is None or feature.highest is None else [feature.lowest, feature.highest]
        shifts = sorted(self._sign * math.log1p(end) for end in ends if end > -1)
        widest = max((abs(value - self._middle) for value in logs), default=0.0)
        self._unit = (abs(shifts[0]) if shifts else 2 * widest) or 1.0
        self.ends: list[float] = [shift / self._unit for shift in shifts]
        self.texts = [percent_text(end) for end in (ends if self._sign > 0 else ends[::-1])]
        self.stored = [self._place(value) for value in feature.stored if value > 0]
        self.new = [self._place(value) for value in feature.new if value is not None and value > 0]
        change = feature.change
        self.mean = None if change is None or change <= -1 else self._sign * math.log1p(change) / self._unit

    @property
    def reach(self) -> list[float]:
        return [*self.stored, *self.new, *self.ends]

    def _place(self, value: float) -> float:
        return self._sign * (math.log(value) - self._middle) / self._unit

    def draw(self, axes: Axes, top: float, far: float) -> None:
        feature, y = self.feature, top + _AXIS
        colour = BAD if feature.alarm else INK
        change = percent_text(feature.change) if feature.change is not None else "not compared"
        axes.text(-far, top + 7, feature.name, ha="left", va="center")
        axes.text(far, top + 7, f"{'ALARM ' if feature.alarm else ''}{change}", ha="right", va="center", color=colour)
        for end, text in zip(self.ends, self.texts, strict=True):
            axes.text(end, y + 15, text, ha="center", va="center", color=MUTED, fontsize=9.5)
        for value in self.new:
            shape = "o" if abs(value) <= far else ("<" if value < 0 else ">")
            axes.plot([max(-far, min(far, value))], [y], shape, color=NEW, markersize=4, markerfacecolor="none")
        if self.mean is not None:
            at = max(-far, min(far, self.mean))
            axes.plot([at], [y], "X" if feature.alarm else "D", color=BAD if feature.alarm else NEW, markersize=7)


def prefix_figure(prefix: PrefixEvidence, *, ident: str, height: int = 180) -> str:
    """How far the first losses lie from the stored run of the same seed, beside what rounding explains; log scale.

    Equal losses have no place on a logarithmic axis: they are drawn at its foot.
    """
    known = [value for value in (*prefix.difference, *prefix.envelope) if value is not None and value > 0]
    if not known:
        return ""
    foot = min(known) / 10
    equal = sum(value == 0 for value in prefix.difference)
    outside = {
        place + 1
        for place, (value, most) in enumerate(zip(prefix.difference, prefix.envelope, strict=False))
        if value is None or value > most
    }

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator

        axes = axes_of(figure, height, top=8, bottom=34)
        axes.set_yscale("log")
        steps = range(1, len(prefix.envelope) + 1)
        axes.fill_between(
            steps, foot / 3, [max(most, foot) for most in prefix.envelope], color=STORED, alpha=0.25, lw=0
        )
        axes.plot(steps, [max(most, foot) for most in prefix.envelope], color=MUTED, linewidth=1.1)
        points = [(step, max(value, foot)) for step, value in enumerate(prefix.difference, 1) if value is not None]
        inside = [(x, y) for x, y in points if x not in outside]
        _segments(
            axes, [((x - 0.01, x + 0.01), (y, y)) for x, y in inside], color=NEW, linewidth=3.4, solid_capstyle="round"
        )
        crosses = [point for point in points if point[0] in outside]
        axes.plot([x for x, _ in crosses], [y for _, y in crosses], "X", color=BAD, markersize=5)
        axes.set_ylim(foot / 3, max(known) * 4)
        axes.set_xlabel("step")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-")))
        axes.minorticks_off()

    told = f"{len(outside)} of {len(prefix.difference)} outside, {equal} equal"
    label = f"relative difference of the loss from the stored run of seed {prefix.seed}: {told}"
    return svg_of(draw, height, ident=ident, label=label)


def _segments(axes: Axes, segments: Iterable[tuple[Sequence[float], Sequence[float]]], **style: Any) -> None:
    """Many short lines as one path, which is what keeps a page small."""
    drawn = list(segments)
    if drawn:
        axes.plot(*([value for line in drawn for value in (*line[k], math.nan)] for k in (0, 1)), **style)


def _rows(rows: Iterable[Sequence[float | None]], size: int, every: int) -> list[list[float]]:
    """Rows of one length, with NaN for what is missing, as means over `every` neighbours."""
    found = [[math.nan if value is None else value for value in row[:size]] for row in rows]
    padded = [row + [math.nan] * (size - len(row)) for row in found]
    return [[_mean(part) for part in _blocks(row, every)] for row in padded]


def _blocks(row: Sequence[float], every: int) -> list[Sequence[float]]:
    return [row[start : start + every] for start in range(0, len(row), every)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mark_windows(axes: Axes, steps: Sequence[int]) -> None:
    """The thirds that windows are means over."""
    if len(steps) < len(WINDOWS):
        return
    for part in WINDOWS:
        place = window(part, len(steps))
        if part != WINDOWS[0]:
            axes.axvline((steps[place.start - 1] + steps[place.start]) / 2, color=GRID, linewidth=0.8, dashes=(2, 2))
        middle = (steps[place.start] + steps[place.stop - 1]) / 2
        where = axes.get_xaxis_transform()
        axes.text(middle, 1.02, part, transform=where, ha="center", va="bottom", color=MUTED, fontsize=9.5)
