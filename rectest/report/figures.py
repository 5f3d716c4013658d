"""Figures of one gate as inline SVG: curves with the stored seeds, features between their limits, the paired prefix.

Figures are drawn 360 px wide, so that their text can be read on a phone; the page puts them side by side where there is
room. Colours are names of the page's CSS, so that one figure serves light and dark. Equal input gives equal bytes:
matplotlib's settings of the user, its ids and its metadata have no part in them.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rectest.baseline.evidence import Curve, FeatureEvidence, PrefixEvidence
from rectest.baseline.features import WINDOWS, higher_is_better, window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curve_figure", "feature_figure", "percent_text", "prefix_figure"]

WIDTH = 360
_LEFT, _RIGHT = 46, 10

_INK, _MUTED, _GRID = "#010101", "#010102", "#010103"
_STORED, _NEW, _BAD = "#010104", "#010105", "#010106"
_COLOURS = {_INK: "ink", _MUTED: "muted", _GRID: "line", _STORED: "stored", _NEW: "new", _BAD: "bad"}
"""Stand-ins that matplotlib writes, and the CSS variable that replaces each."""

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rectest",
    "font.size": 10.5,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "text.color": _INK,
    "text.parse_math": False,
    "path.simplify": False,
    "axes.unicode_minus": True,
}
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
        axes = _axes(figure, height, top=16, bottom=34)
        steps = [_mean(part) for part in _blocks(curve.steps, every)]
        columns = [[row[k] for row in stored if math.isfinite(row[k])] for k in range(len(steps))]
        low = [min(column, default=math.nan) for column in columns]
        high = [max(column, default=math.nan) for column in columns]
        axes.fill_between(steps, low, high, color=_STORED, alpha=0.22, linewidth=0)
        x = [value for _ in stored for value in (*steps, math.nan)]
        axes.plot(x, [value for row in stored for value in (*row, math.nan)], color=_STORED, alpha=0.55, linewidth=0.6)
        for place, row in enumerate(new):
            mark = "o" if sum(map(math.isfinite, row)) <= 40 else None
            style: dict[str, Any] = {"linestyle": _DASHES[place % len(_DASHES)], "marker": mark, "markersize": 2.6}
            style["linewidth"] = 1.3 if every > 1 or mark is None else 1.7
            axes.plot(steps, row, color=_NEW, **style)
        _mark_windows(axes, curve.steps)
        axes.set_xlabel("step")

    few = ", ".join(map(str, seeds))
    label = f"{curve.name} over {len(curve.steps)} steps: {len(stored)} stored seeds and new runs of seed {few}"
    return _svg(draw, height, ident=ident, label=label)


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
            axes.text(x, 10, text, ha=side, va="center", color=_MUTED, fontsize=9.8)
        axes.plot([0, 0], [18, height - 8], color=_GRID, linewidth=0.8)
        tops = [26 + _ROW * place for place in range(len(strips))]
        known = [(strip, top + _AXIS) for strip, top in zip(strips, tops, strict=True) if strip.ends]
        bands = [(strip.ends, (y, y)) for strip, y in known]
        _segments(axes, bands, color=_STORED, alpha=0.22, linewidth=14, solid_capstyle="butt")
        ends = [((end, end), (y - 8, y + 8)) for strip, y in known for end in strip.ends]
        _segments(axes, ends, color=_MUTED, linewidth=1.2)
        rows = zip(strips, tops, strict=True)
        ticks = [((x, x), (top + _AXIS - 5, top + _AXIS + 5)) for strip, top in rows for x in strip.stored]
        _segments(axes, ticks, color=_STORED, linewidth=1)
        for strip, top in zip(strips, tops, strict=True):
            strip.draw(axes, top, far)

    alarms = [feature.name for feature in features if feature.alarm]
    told = f"outside: {', '.join(alarms)}" if alarms else "none outside"
    return _svg(draw, height, ident=ident, label=f"{len(features)} features between their limits; {told}")


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
        colour = _BAD if feature.alarm else _INK
        change = percent_text(feature.change) if feature.change is not None else "not compared"
        axes.text(-far, top + 7, feature.name, ha="left", va="center")
        axes.text(far, top + 7, f"{'ALARM ' if feature.alarm else ''}{change}", ha="right", va="center", color=colour)
        for end, text in zip(self.ends, self.texts, strict=True):
            axes.text(end, y + 15, text, ha="center", va="center", color=_MUTED, fontsize=9.5)
        for value in self.new:
            shape = "o" if abs(value) <= far else ("<" if value < 0 else ">")
            axes.plot([max(-far, min(far, value))], [y], shape, color=_NEW, markersize=4, markerfacecolor="none")
        if self.mean is not None:
            at = max(-far, min(far, self.mean))
            axes.plot([at], [y], "X" if feature.alarm else "D", color=_BAD if feature.alarm else _NEW, markersize=7)


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

        axes = _axes(figure, height, top=8, bottom=34)
        axes.set_yscale("log")
        steps = range(1, len(prefix.envelope) + 1)
        axes.fill_between(
            steps, foot / 3, [max(most, foot) for most in prefix.envelope], color=_STORED, alpha=0.25, lw=0
        )
        axes.plot(steps, [max(most, foot) for most in prefix.envelope], color=_MUTED, linewidth=1.1)
        points = [(step, max(value, foot)) for step, value in enumerate(prefix.difference, 1) if value is not None]
        inside = [(x, y) for x, y in points if x not in outside]
        _segments(
            axes, [((x - 0.01, x + 0.01), (y, y)) for x, y in inside], color=_NEW, linewidth=3.4, solid_capstyle="round"
        )
        crosses = [point for point in points if point[0] in outside]
        axes.plot([x for x, _ in crosses], [y for _, y in crosses], "X", color=_BAD, markersize=5)
        axes.set_ylim(foot / 3, max(known) * 4)
        axes.set_xlabel("step")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-")))
        axes.minorticks_off()

    told = f"{len(outside)} of {len(prefix.difference)} outside, {equal} equal"
    label = f"relative difference of the loss from the stored run of seed {prefix.seed}: {told}"
    return _svg(draw, height, ident=ident, label=label)


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


def _axes(figure: Figure, height: int, *, top: int, bottom: int) -> Axes:
    box = (_LEFT / WIDTH, bottom / height, 1 - (_LEFT + _RIGHT) / WIDTH, 1 - (top + bottom) / height)
    axes = figure.add_axes(box)
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=5)
    axes.tick_params(length=3)
    return axes


def _mark_windows(axes: Axes, steps: Sequence[int]) -> None:
    """The thirds that windows are means over."""
    if len(steps) < len(WINDOWS):
        return
    for part in WINDOWS:
        place = window(part, len(steps))
        if part != WINDOWS[0]:
            axes.axvline((steps[place.start - 1] + steps[place.start]) / 2, color=_GRID, linewidth=0.8, dashes=(2, 2))
        middle = (steps[place.start] + steps[place.stop - 1]) / 2
        where = axes.get_xaxis_transform()
        axes.text(middle, 1.02, part, transform=where, ha="center", va="bottom", color=_MUTED, fontsize=9.5)


@contextmanager
def _own_settings() -> Iterator[None]:
    """Matplotlib at its defaults and ours, whatever the user's ``matplotlibrc`` says; afterwards as it was."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def _svg(draw: Callable[[Any], None], height: int, *, ident: str, label: str) -> str:
    from html import escape

    with _own_settings():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        written = io.StringIO()
        figure.savefig(written, format="svg")
    body = _cleaned(written.getvalue(), ident)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">{body}</svg>'


def _cleaned(text: str, ident: str) -> str:
    """The content of matplotlib's SVG without what varies, what only it needs, and digits that nobody sees."""
    text = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    named = dict.fromkeys(re.findall(r'(?:url\(|href=")#([\w-]+)', text))
    names = {old: f"{ident}-{number}" for number, old in enumerate(named)}
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", text)
    text = re.sub(r"(url\(|href=\")#([\w-]+)", lambda m: f"{m[1]}#{names[m[2]]}", text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text)
    text = re.sub(r' (?:d|x|y|transform|width|height)="[^"]*"', _rounded, text)
    for colour, name in _COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    return re.sub(r">\s+<", "><", text).strip()


def _rounded(match: re.Match[str]) -> str:
    text = re.sub(r"-?\d+\.\d+", lambda m: f"{round(float(m[0]), 1):g}", match[0])
    name, _, value = re.sub(r"\s+", " ", text).partition('"')
    return f'{name}"{re.sub(r"(?<=[A-Za-z]) | (?=[A-Za-z])", "", value)}'.replace(' "', '"')
