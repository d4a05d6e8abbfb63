"""Later numbers: what other papers print on the data sets of the runs, with source, split and caveat."""

from __future__ import annotations

from typing import Any

from reports.frame import Frame
from reports.published import SDSEG_PAPER, Published, lint, same_dataset
from reports.published.rows import marks
from reports.rows import plain
from reports.table import Column, Table

METRICS = ("Dice", "IoU")
COLUMNS = [
    *plain(dataset="page", method="page"),
    *(Column(metric, metric, level="page") for metric in METRICS),
    *plain(source="page", split="page"),
    Column("n", "Cases", level="page"),
    *plain(mark="page", caveat="page"),
]
CAPTION = (
    "Numbers of later papers, repositories and result sheets. No two sources share split, training and rules, so no "
    "row may be set against a run or against another source. Marks: impossible, a mean IoU below D/(2 - D) of the mean "
    "Dice D over the same items; derived, equal to it as far as the digits show (all pixels pooled, or computed from "
    "the mean Dice); contradicted, the source prints two values of one thing."
)


def build(frame: Frame) -> Table | None:
    """A row per source, split and method on the data sets of the frame; None where there is none."""
    datasets = [dataset for dataset, _ in frame.by_dataset()]
    later = [e for e in frame.ledger if e.source != SDSEG_PAPER and e.metric in METRICS]
    here = [e for e in later if any(same_dataset(ours, e.dataset) for ours in datasets)]
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in here:
        key = entry.dataset, entry.source, entry.split, entry.method
        rows.setdefault(key, _row(entry, here))[entry.metric] = entry.as_measured
    if not rows:
        return None
    return Table("later", "Later numbers · What others print", CAPTION, COLUMNS, list(rows.values()))


def _row(entry: Published, entries: list[Published]) -> dict[str, Any]:
    own = [e for e in entries if (e.dataset, e.source, e.split) == (entry.dataset, entry.source, entry.split)]
    return {
        "dataset": entry.dataset,
        "method": entry.method,
        "source": entry.source,
        "split": entry.split,
        "n": entry.n,
        "mark": ", ".join(marks(entry.method, lint(own))),
        "caveat": entry.why,
        "published": True,
    }
