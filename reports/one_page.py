"""The report on one page as a PDF: verdicts, the main table, one figure, and where the numbers come from."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import matplotlib.image as mpimg
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from reports.figures.style import FAINT, INK, Drawing, house_style
from reports.frame import Frame
from reports.provenance import commit, device, versions
from reports.table import Table, cell
from reports.variants import unflagged

NAME = "summary.pdf"
_ROWS = 26  # of the main table; more are in table2.md
_A4 = (8.27, 11.69)
_LINE = 0.0145  # of the page's height
_SHOWN = ("dataset", "method", "Dice", "Dice_interval", "IoU", "cases", "undefined", "seeds")
_FIGURES = ("figure_accuracy", "figure_ranking", "figure_cost")


def render_summary(frame: Frame, tables: list[Table], drawings: list[Drawing]) -> bytes:
    """The page as PDF, the same bytes for the same runs."""
    by_name = {table.name: table for table in tables}
    with house_style(NAME):
        figure = Figure(figsize=_A4)
        top = _text(figure, 0.965, "Segmentation benchmark: summary", size=15, weight="bold")
        top = _text(figure, top - 0.006, _provenance(frame), size=7, color=FAINT)
        for line in _verdicts(by_name.get("ranking")):
            top = _text(figure, top - 0.003, line, size=8.5)
        if "table2" in by_name:
            top = _table(figure, top - 0.015, by_name["table2"])
        drawn = {drawing.name: drawing for drawing in drawings}
        chosen = next((drawn[name] for name in _FIGURES if name in drawn), None)
        if chosen is not None and top > 0.2:
            _picture(figure, top - 0.02, chosen)
        file = io.BytesIO()
        figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Title": "Segmentation benchmark: summary"})
    return file.getvalue()


def _text(figure: Figure, top: float, text: str, size: float, **look: Any) -> float:
    """Write text below `top`; returns where it ends."""
    lines = textwrap.wrap(text, int(920 / size), break_long_words=True) or [""]
    figure.text(0.06, top, "\n".join(lines), va="top", fontsize=size, **look)
    return top - len(lines) * _LINE * size / 9


def _provenance(frame: Frame) -> str:
    records = [run.record for run in frame.all_runs]
    parts = (device, versions, commit)
    said = ["; ".join(sorted({of(record) for record in records})) for of in parts]
    profiles = ", ".join(sorted({record.profile for record in records}))
    return f"{len(records)} runs, profile {profiles}. " + ". ".join(said) + "." if records else "No runs."


def _verdicts(ranking: Table | None) -> list[str]:
    """A line per data set: who is first, and what the cases say of the others."""
    by_dataset: dict[str, dict[str, list[str]]] = {}
    for row in ranking.rows if ranking else ():
        by_dataset.setdefault(row["dataset"], {}).setdefault(row["verdict"], []).append(unflagged(row["method"]))
    lines = []
    for dataset, verdicts in by_dataset.items():
        first = ", ".join(verdicts.pop("first", []))
        if first:
            said = [f"{verdict}: {', '.join(names)}" for verdict, names in verdicts.items()]
            lines.append(f"{dataset}: first {first}; " + "; ".join(said) + ".")
    return lines or ["No two methods were scored on the same cases, so nothing is ranked."]


def _table(figure: Figure, top: float, table: Table) -> float:
    columns = [column for column in table.columns if column.key in _SHOWN]
    best = table.best()
    measured = [(index, row) for index, row in enumerate(table.rows) if not row.get("published")]
    body = [[textwrap.shorten(cell(c, row.get(c.key)), 34, placeholder="…") for c in columns] for _, row in measured]
    body, left = body[:_ROWS], len(body) - _ROWS
    if not body:
        return _text(figure, top, "No accuracy was measured.", size=8.5)
    height = _LINE * (len(body) + 1)
    ax = figure.add_axes((0.06, top - height, 0.88, height))
    ax.axis("off")
    widths = [max(len(row[i]) for row in [[c.heading for c in columns], *body]) for i in range(len(columns))]
    drawn = ax.table(
        body,
        colLabels=[column.heading for column in columns],
        colWidths=[width / sum(widths) for width in widths],
        bbox=Bbox.unit(),
        edges="horizontal",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    for (line, number), one in drawn.get_celld().items():
        one.set_edgecolor(FAINT)
        one.set_linewidth(0.3)
        text = one.get_text()
        text.set_horizontalalignment("left" if table.is_text(columns[number]) else "right")
        if line == 0 or (measured[line - 1][0], columns[number].key) in best:
            text.set_fontweight("bold")
    bottom = top - height - 0.004
    more = f" {left} more rows are in table2.md." if left > 0 else ""
    return _text(figure, bottom, f"{table.title}. Bold: best of those that may be compared.{more}", size=7, color=INK)


def _picture(figure: Figure, top: float, drawing: Drawing) -> None:
    image = mpimg.imread(io.BytesIO(drawing.png), format="png")
    height, width = image.shape[:2]
    room = (0.88 * _A4[0], (top - 0.05) * _A4[1])
    scale = min(room[0] / width, room[1] / height)
    size = (width * scale / _A4[0], height * scale / _A4[1])
    ax: Axes = figure.add_axes((0.5 - size[0] / 2, top - size[1], *size))
    ax.imshow(image, interpolation="antialiased", aspect="auto")
    ax.axis("off")
