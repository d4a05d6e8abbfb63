"""How figures look: colours that colour-blind readers tell apart, marks that repeat them, ink that adapts."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

# Okabe and Ito, without the yellow that fades on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
LARGEST = 20  # methods of a data set: of more than so many a figure shows the best, a table has all
INK = "#1b2430"
FAINT = "#8a94a3"
# On the page the ink follows the reader's light or dark scheme.
_PAGE_STYLE = "<style>svg{color:#1b2430}@media (prefers-color-scheme: dark){svg{color:#dfe5ee}}</style>"
_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "svg.fonttype": "none",
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "grid.color": FAINT,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


@dataclass(frozen=True)
class Drawing:
    """A figure as files: SVG text and PNG bytes, with what a reader who cannot see it is told."""

    name: str
    title: str
    alt: str
    caption: str
    svg: str
    png: bytes

    def page_svg(self) -> str:
        """The SVG without background, its ink following the reader's colour scheme."""
        text = re.sub(re.escape(INK), "currentColor", self.svg, flags=re.IGNORECASE)
        return re.sub(r"(<svg [^>]*>)", lambda match: match.group(1) + _PAGE_STYLE, text, count=1)


@contextmanager
def house_style(name: str) -> Iterator[None]:
    """Draw with the settings of the house; `name` makes the ids inside an SVG its own and reproducible."""
    settings: Any = {**_SETTINGS, "svg.hashsalt": name}
    with mpl.rc_context(settings):
        yield


def panels(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with a titled plot for every name, two in a line."""
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(8.0, 3.5 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).ravel())
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(name)
        ax.set_xscale("log")
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    return figure, axes[: len(names)]


def label_axes(ax: Axes, x: str, y: str, legend: bool = True) -> None:
    """Names of the axes, a grid behind the marks and a legend."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid()
    ax.set_axisbelow(True)
    if legend:
        ax.legend(frameon=False, fontsize=9, loc="best")


def log_ticks(axis: Axis) -> None:
    """1, 2, 5, 10 and so on along a logarithmic axis; matplotlib's own formatter shows .005 and .01 both as 0.01."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def colour(index: int) -> str:
    """Colour of the index-th method."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Mark of the index-th method; with the colour it repeats only after 56 methods."""
    return MARKERS[index % len(MARKERS)]


def cut(caption: str, numbers: Iterable[int], most: int = LARGEST) -> str:
    """The caption, which says so where a data set has more methods than a figure shows."""
    left_out = [str(number) for number in numbers if number > most]
    return caption + (f" The best {most} of {', '.join(left_out)} methods by mean Dice are shown." if left_out else "")


def finish(figure: Figure, name: str, title: str, alt: str, caption: str) -> Drawing:
    """Render a figure inside `house_style`: SVG without date and background, PNG on white at 160 dpi."""
    svg, png = io.StringIO(), io.BytesIO()
    if layout := figure.get_layout_engine():
        layout.execute(figure)
    figure.set_layout_engine(None)  # places once found hold for both files; an engine would draw each of them twice
    figure.savefig(svg, format="svg", dpi=160, metadata={"Date": None}, transparent=True)
    figure.savefig(png, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return Drawing(name, title, alt, caption, svg.getvalue(), png.getvalue())
