"""Figure 4: the stability sheet: whole runs in pairs (red), and score maps of one image in pairs (blue)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle

from bench.record import MetricFacts
from reports.arrays import draws_of, paper_data_first, paper_first
from reports.figures.sheet import grid, show
from reports.figures.style import INK, Drawing, finish, house_style
from reports.frame import Frame
from reports.rows import Row, Run
from reports.table import Column, cell
from reports.tables.stability import METRIC_COLUMNS

NAME = "figure4"
RED, BLUE = "#D62728", "#0072B2"
MAPS = 4  # draws of a case, at most
_PAPER_DATASET = "refuge2"
COLUMNS = {column.key: column for column in METRIC_COLUMNS}
WHOLE, IMAGE = ("LPIPS/seg", "LPIPS/score"), ("PSNR/score", "SSIM/score", "MS-SSIM/score")
CAPTION = (
    "Score maps of {method} on {dataset} from different initial noise, a column for each of {shown} of {draws} draws. "
    "Red: whole runs are compared in pairs, LPIPS, the mean over all cases as in Table 5. Blue: maps of one image are "
    "compared in pairs, PSNR, SSIM and MS-SSIM of that image. Both are means over the pairs that protocol {protocol} "
    "takes. The cases are those of the least, the median and the greatest SSIM.{slices}"
)


Place = tuple[float, float]


class Sheet(NamedTuple):
    """What is shown: a run of a row, and the score maps (draws, H, W) by case."""

    row: Row
    run: Run
    maps: dict[str, np.ndarray]


def build(frame: Frame) -> Drawing | None:
    """The sheet of one data set, the paper's where it is there; None where no draws of a case are stored."""
    datasets = paper_data_first(frame, _PAPER_DATASET)
    sheets = (sheet for _, rows in datasets for row in paper_first(rows) if (sheet := _sheet(row)))
    return _drawn(shown) if (shown := next(sheets, None)) else None


def _sheet(row: Row) -> Sheet | None:
    for run in sorted(row.runs, key=lambda run: run.record.seed):
        if run.record.draws < 2 or run.scores is None:
            continue
        maps = {case: flat for case in _cases(run) if (flat := _flat(draws_of(run, case))) is not None}
        if maps:
            return Sheet(row, run, maps)
    return None


def _values(run: Run, metric: str) -> dict[str, float]:
    """A metric over draws by case, in its own unit."""
    assert run.scores is not None
    summary = run.scores.summary(metric, run.record.metrics.get(metric, MetricFacts()), single=False)
    return {str(case): float(value) for case, value in summary.every.items()}


def _cases(run: Run) -> list[str]:
    """The cases of least, median and greatest SSIM."""
    if run.scores is None or "SSIM/score" not in run.scores.metrics:
        return []
    values = {case: value for case, value in _values(run, "SSIM/score").items() if np.isfinite(value)}
    ordered = sorted(values, key=lambda case: (values[case], case))
    return list(dict.fromkeys(ordered[i] for i in (0, len(ordered) // 2, len(ordered) - 1))) if ordered else []


def _flat(maps: np.ndarray | None) -> np.ndarray | None:
    """Of maps (draws, L, *S) those of the label that shows most (draws, H, W); of volumes the slice that does."""
    if maps is None:
        return None
    label = int(np.argmax(maps.sum(axis=(0, *range(2, maps.ndim)))))
    maps = maps[:, label]
    return maps if maps.ndim == 3 else maps[:, int(np.argmax(maps.sum(axis=(0, 2, 3))))]


def _drawn(sheet: Sheet) -> Drawing:
    row, run, maps = sheet
    count = min(MAPS, run.record.draws)
    whole = ", ".join(_said(COLUMNS[key], row.agreement(key).mean) for key in WHOLE)
    with house_style(NAME):
        figure, axes = grid(len(maps), count + 1, inches=1.3, apart=0.09)
        said = [_line(axes[i], case, sheet, count) for i, case in enumerate(maps)]
        for draw in range(count):
            axes[0, draw].set_title(f"Run {draw + 1}", fontsize=9, color=RED if draw < 2 else INK, loc="center", pad=27)
        figure.draw_without_rendering()  # the frames below need the places of the panels
        _red(figure, axes, whole)
        caption = CAPTION.format(
            method=row.method, dataset=row.dataset, shown=count, draws=run.record.draws, protocol=run.record.protocol,
            slices=" Of volumes the slice with the most score." if run.record.dims == 3 else "",
        )  # fmt: skip
        alt = f"Score maps of repeated draws of {row.where}. Whole runs: {whole}. Single images: {'; '.join(said)}."
        return finish(figure, NAME, "Figure 4 \u00b7 How stability is measured", alt, caption)


def _said(column: Column, value: float) -> str:
    unit = f" {column.unit}" if column.unit else ""
    return f"{column.title} {cell(column, value)}{unit}"


def _line(axes: list[Axes], case: str, sheet: Sheet, count: int) -> str:
    for ax, picture in zip(axes, sheet.maps[case][:count], strict=False):
        show(ax, picture)
    for ax in axes[:2]:
        ax.add_patch(
            Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, edgecolor=BLUE, linewidth=2.5, zorder=3)
        )
    axes[0].figure.add_artist(_arrow((0.8, 0.12), (0.2, 0.12), BLUE, axes[:2]))
    values = [
        _said(COLUMNS[key], _values(sheet.run, key).get(case, float("nan")))
        for key in IMAGE
        if key in sheet.run.record.metrics
    ]
    text = "\n".join([case, *values])
    axes[-1].text(0.0, 0.5, text, transform=axes[-1].transAxes, va="center", ha="left", **_framed(BLUE))
    return f"{case}: {', '.join(values)}"


def _framed(ink: str) -> dict[str, Any]:
    """How numbers are written: in the ink of the page, which adapts, in a frame of the colour of their pairs."""
    return {"fontsize": 8, "bbox": {"boxstyle": "round", "facecolor": "none", "edgecolor": ink}}


def _arrow(start: Place, end: Place, ink: str, axes: Sequence[Axes] = ()) -> ConnectionPatch:
    """A double arrow between places in two panels, or in the figure."""
    first, last = (axes[0], axes[-1]) if len(axes) else (None, None)
    place = "axes fraction" if len(axes) else "figure fraction"
    return ConnectionPatch(start, end, place, axesA=first, axesB=last, arrowstyle="<->", color=ink, linewidth=1.6)


def _red(figure: Figure, axes: np.ndarray, text: str) -> None:
    """A frame around each of the first two columns, and an arrow between them with what whole runs agree on."""
    to_figure = figure.transFigure.inverted().transform_bbox
    boxes = [[to_figure(ax.get_window_extent()) for ax in axes[:, column]] for column in (0, 1)]
    tops = []
    for column in boxes:
        left, right = column[0].x0 - 0.006, column[0].x1 + 0.006
        low, high = column[-1].y0 - 0.015, column[0].y1 + 0.015
        figure.add_artist(Rectangle((left, low), right - left, high - low, fill=False, edgecolor=RED, linewidth=2.0))
        tops.append(((left + right) / 2, high + 0.022))
    figure.add_artist(_arrow(tops[0], tops[1], RED))
    figure.text(tops[1][0] + 0.1, tops[1][1], text, va="center", **_framed(RED))
