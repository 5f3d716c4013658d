"""The looks that the figures of the pages share, and how a drawing becomes inline SVG; what is drawn is for others.

Figures are drawn 360 px wide, so that their text can be read on a phone; the page puts them side by side where there is
room. Colours are names of the page's CSS, so that one figure serves light and dark. Equal input gives equal bytes:
matplotlib's settings of the user, its ids and its metadata have no part in them.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BAD", "GRID", "INK", "MUTED", "NEW", "STORED", "WIDTH", "axes_of", "svg_of"]

WIDTH = 360
"""Of every figure, in px as the heights are."""

_LEFT, _RIGHT = 46, 10

INK, MUTED, GRID = "#010101", "#010102", "#010103"
"""Text and what it points at, text of less weight, and lines behind the values."""
STORED, NEW, BAD = "#010104", "#010105", "#010106"
"""What was there before, what is judged, and what is wrong with it."""
_COLOURS = {INK: "ink", MUTED: "muted", GRID: "line", STORED: "stored", NEW: "new", BAD: "bad"}
"""Stand-ins that matplotlib writes, and the CSS variable that replaces each."""

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rectest",
    "font.size": 10.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "text.parse_math": False,
    "path.simplify": False,
    "axes.unicode_minus": True,
}


def axes_of(figure: Figure, height: int, *, top: int, bottom: int) -> Axes:
    """Axes over the width of a figure, with room for the labels of y on their left and horizontal lines behind.

    Args:
        height: of the figure, px.
        top: what is left free above the axes, px.
        bottom: likewise below them; labels of x and their title take 34.
    """
    box = (_LEFT / WIDTH, bottom / height, 1 - (_LEFT + _RIGHT) / WIDTH, 1 - (top + bottom) / height)
    axes = figure.add_axes(box)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=5)
    axes.tick_params(length=3)
    return axes


@contextmanager
def _own_settings() -> Iterator[None]:
    """Matplotlib at its defaults and ours, whatever the user's ``matplotlibrc`` says; afterwards as it was."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def svg_of(draw: Callable[[Any], None], height: int, *, ident: str, label: str) -> str:
    """What `draw` puts into an empty matplotlib figure, as one ``<svg>`` element that may stand in a page.

    Texts inside are escaped by matplotlib, the label here.

    Args:
        draw: draws into the figure that it is given, in the colours of this module.
        height: of the figure, px.
        ident: begins every id in the figure, so that figures of one page do not share any.
        label: says what is to be seen, for those who cannot.
    """
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
