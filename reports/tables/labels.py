"""Accuracy of every label by itself, where a data set has several: a mean over labels hides a bad one."""

from __future__ import annotations

from reports.frame import Frame
from reports.rows import Row, means, plain
from reports.table import Table

METRICS = ("Dice", "IoU")
_RANKED = ("comparison", "label", "convention")
COLUMNS = [
    *plain(dataset="terminal", method="terminal", label="terminal"),
    *means(*METRICS, within=_RANKED, sd=None, interval="page"),
    *plain("Dice", cases="terminal", undefined="terminal"),
    *plain(convention="page", seeds="csv"),
]
CAPTION = (
    "As Table 2, but of one label at a time: draws are averaged within a case, then training seeds, then cases. "
    "Undefined: single values (case, draw, seed) that are left out of the mean."
)


def build(frame: Frame) -> Table | None:
    """One row per data set of several labels, method, label and convention; None without such a data set."""
    rows = [
        one.fill(COLUMNS) for row in frame.rows for label in _several(row) for one in row.by_convention(METRICS, label)
    ]
    return Table("labels", "Accuracy by label", CAPTION, COLUMNS, rows) if rows else None


def _several(row: Row) -> list[str]:
    """The labels that were scored, in the data set's order; none where there is but one."""
    labels = {label for scores in row.scores for label in scores.labels("Dice")}
    known = [label for label in row.record.labels if label in labels]
    return [*known, *sorted(labels - {*known})] if len(labels) > 1 else []
