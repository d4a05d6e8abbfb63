"""Tables 2 and 3: Dice and IoU per data set and method, over cases, beside the published numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL, median_interval
from reports.frame import Frame
from reports.published import numbers_of_paper, published_rows, same_dataset
from reports.rows import Row, means, of, plain
from reports.summary import reliability_notes
from reports.table import Column, Table

METRICS = ("Dice", "IoU")
_RANKED = ("comparison", "convention")
COLUMNS = [
    *plain(dataset="terminal", method="terminal"),
    *means(*METRICS, within=_RANKED, sd="page", interval="terminal"),
    Column("Dice_median", "Median Dice", level="page"),
    Column("Dice_median_interval", "Median interval", level="csv"),
    Column("Dice_q1", "First quartile", level="csv"),
    Column("Dice_q3", "Third quartile", level="csv"),
    Column("Dice_p5", "5th percentile", level="page"),
    *plain("Dice", cases="terminal", excluded="page", undefined="terminal"),
    *plain(draws="csv", seeds="terminal", convention="page", fidelity="csv", profile="csv", protocol="csv"),
    Column("IoU_cases", "IoU cases", level="csv", value=of("IoU", "cases")),
    Column("IoU_undefined", "IoU undefined", level="csv", value=of("IoU", "undefined")),
]
CAPTION = (
    "Mean over test cases: labels are averaged within a case, then draws, then training seeds, then cases. SD over "
    "cases; 95 % interval of the mean over cases: the farther of t and BCa bootstrap (9,999 resamples, cases of one"
    " group together; none below 10 groups). Excluded: cases without any defined value. Undefined: single values "
    "(case, label, draw, seed) that are undefined and left out of the mean."
)


def build(frame: Frame) -> Table:
    """One row per data set, method and convention, but for data sets that the paper has in Table 3 alone."""
    # Table 4 prints the Dice of diffusion methods that Table 2 leaves out.
    return of_tables(frame, "table2", "Table 2 · Accuracy", "24", lambda tables: tables != {"3"})


def of_tables(frame: Frame, name: str, title: str, printed: str, wanted: Callable[[set[str]], bool]) -> Table:
    """Accuracy on the data sets that are `wanted`, told by which of Tables 2 to 4 the paper has them in.

    What the paper prints in the tables `printed` follows the rows of each data set.
    """
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    small: list[tuple[str, Summary]] = []
    ledger = [entry for entry in numbers_of_paper(frame.ledger, "234") if entry.metric in METRICS]
    for dataset, members in frame.by_dataset():
        if not wanted({entry.table for entry in ledger if same_dataset(dataset, entry.dataset)}):
            continue
        for member in members:
            rows += measured_rows(member, notes, small)
        protocols = {run.record.protocol for member in members for run in member.runs}
        shown = [entry for entry in ledger if entry.table in printed]
        published = published_rows(dataset, shown, notes, protocols=protocols)
        rows += sorted(published, key=lambda row: row["method"])
    return Table(name, title, CAPTION, COLUMNS, rows, reliability_notes(small) + notes)


def measured_rows(row: Row, notes: list[str], small: list[tuple[str, Summary]]) -> list[dict[str, Any]]:
    """A row of cells per convention; what needs saying goes to `notes` and `small`."""
    by_convention = row.by_convention(METRICS)
    if not by_convention:
        notes.append(f"{row.where}: no Dice or IoU was scored.")
    rows = []
    for one in by_convention or [row]:
        rows.append(one.fill(COLUMNS) | _spread(one.summary("Dice")))
        small += _small(one)
        notes += _case_notes(one)
    return rows


def _spread(dice: Summary) -> dict[str, Any]:
    """What a mean hides: the median, and how bad the bad cases are."""
    if not dice.cases or dice.infinite:
        return {}
    interval = median_interval(dice.per_case.tolist(), dice.groups)
    row: dict[str, Any] = {"Dice_median": interval.estimate}
    if dice.units >= SMALLEST_INTERVAL:
        row["Dice_median_interval"] = (interval.low, interval.high)
    percentiles = np.quantile(dice.per_case, [0.05, 0.25, 0.75])
    return row | dict(zip(("Dice_p5", "Dice_q1", "Dice_q3"), percentiles.tolist(), strict=True))


def _small(row: Row) -> list[tuple[str, Summary]]:
    summaries = {metric: row.summary(metric) for metric in METRICS}
    sizes = {summary.units for summary in summaries.values()}
    if len(sizes) == 1 and min(sizes) >= SMALLEST_INTERVAL:
        return [(row.where, summaries["Dice"])]
    return [(f"{row.where}, {metric}", summary) for metric, summary in summaries.items()]


def _case_notes(row: Row) -> list[str]:
    notes = []
    dice, iou = (row.summary(metric) for metric in METRICS)
    if (dice.cases, dice.undefined) != (iou.cases, iou.undefined):
        notes.append(f"{row.where}: IoU rests on {iou.cases} cases with {iou.undefined} undefined values.")
    scored = [one for one in row.scores if row.convention in one.conventions("Dice")]
    cases = [one.values("Dice", row.facts("Dice"), row.convention).values.index for one in scored]
    if any(not of_run.equals(cases[0]) for of_run in cases):
        notes.append(
            f"{row.where}: the seeds were scored on different cases; each case is averaged over its own seeds."
        )
    return notes
