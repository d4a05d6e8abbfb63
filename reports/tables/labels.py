"""Accuracy of every label by itself, where a data set has several: a mean over labels hides a bad one."""

from __future__ import annotations

from typing import Any

from reports.frame import Frame, Run
from reports.table import Column, Table

METRICS = ("Dice", "IoU")
_RANKED = ("comparison", "label", "convention")
COLUMNS = [
    Column("dataset", "Data set"),
    Column("method", "Method"),
    Column("label", "Label"),
    *(
        column
        for metric in METRICS
        for column in (
            Column(metric, metric, better="higher", within=_RANKED),
            Column(f"{metric}_interval", "95 % interval", level="page"),
        )
    ),
    Column("cases", "Cases"),
    Column("undefined", "Undefined"),
    Column("convention", "Convention", level="page"),
    Column("seeds", "Seeds", level="csv"),
]
CAPTION = (
    "As Table 2, but of one label at a time: draws are averaged within a case, then training seeds, then cases. "
    "Undefined: single values (case, draw, seed) that are left out of the mean."
)


def build(frame: Frame) -> Table | None:
    """One row per data set of several labels, method, label and convention; None without such a data set."""
    rows = [
        row
        for dataset, method, runs in frame.cells()
        for label in _several(frame, runs)
        for row in _rows(frame, dataset, method, runs, label)
    ]
    return Table("labels", "Accuracy by label", CAPTION, COLUMNS, rows) if rows else None


def _several(frame: Frame, runs: list[Run]) -> list[str]:
    """The labels that were scored, in the data set's order; none where there is but one."""
    labels, order = sorted(frame.labels(runs, "Dice")), runs[0].record.labels
    return (
        sorted(labels, key=lambda name: order.index(name) if name in order else len(order)) if len(labels) > 1 else []
    )


def _rows(frame: Frame, dataset: str, method: str, runs: list[Run], label: str) -> list[dict[str, Any]]:
    rows = []
    for convention in sorted({name for metric in METRICS for name in frame.conventions(runs, metric)}):
        summaries = {metric: frame.summary(runs, metric, convention, label) for metric in METRICS}
        dice = summaries["Dice"]
        row: dict[str, Any] = {"dataset": dataset, "method": method, "label": label, "convention": convention}
        for metric, summary in summaries.items():
            row |= {metric: summary.mean, f"{metric}_interval": summary.interval}
        row |= {"cases": dice.cases, "undefined": dice.undefined, "comparison": runs[0].comparison}
        rows.append(row | {"seeds": ", ".join(str(run.record.seed) for run in runs)})
    return rows
