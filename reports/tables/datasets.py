"""Table 1: the data sets, their splits, and the hashes that pin them."""

from __future__ import annotations

from typing import Any

from reports.frame import Frame
from reports.rows import Run, plain
from reports.table import Table
from reports.variants import content_hashes

SPLITS = ("train", "val", "test")
COLUMNS = [
    *plain(dataset="terminal", labels="terminal", dims="terminal"),
    *plain(cases_train="terminal", cases_val="terminal", cases_test="terminal"),
    *plain(groups_train="page", groups_val="page", groups_test="page"),
    *plain(data_hash="page", split_hash="page"),
]
CAPTION = (
    "One row per data set and split. A case is an image or a whole volume; a group is what belongs to one "
    "patient or sequence. Runs are compared only where both hashes agree."
)


def build(frame: Frame) -> Table:
    """One row per (data set, hashes) found in the records."""
    by_dataset: dict[str, list[Run]] = {}
    for run in frame.all_runs:
        hashes, sizes = content_hashes(run.record), run.record.n_cases
        identity = f"{run.record.dataset}|{sorted(hashes.items())}|{sorted(sizes.items())}"
        by_dataset.setdefault(identity, []).append(run)
    rows = [_row(runs) for _, runs in sorted(by_dataset.items())]
    notes = []
    if rows and any(row["groups_train"] is None for row in rows):
        notes.append("Groups of the test split are counted in the scores; the other splits record none.")
    for dataset in sorted({row["dataset"] for row in rows}):
        if sum(row["dataset"] == dataset for row in rows) > 1:
            notes.append(f"{dataset} appears with more than one split or content: such runs are not ranked together.")
    return Table("table1", "Table 1 · Data sets", CAPTION, COLUMNS, rows, notes)


def _row(runs: list[Run]) -> dict[str, Any]:
    record = runs[0].record
    row: dict[str, Any] = {
        "dataset": record.dataset,
        "labels": ", ".join(record.labels),
        "dims": record.dims,
        "data_hash": record.data.get("data", "")[:12],
        "split_hash": record.data.get("split", "")[:12],
    }
    for split in SPLITS:
        row[f"cases_{split}"] = record.n_cases.get(split)
        row[f"groups_{split}"] = record.n_cases.get(f"{split}_groups")
    groups = {group for run in runs if run.scores for group in run.scores.groups}
    if row["groups_test"] is None and groups:
        row["groups_test"] = len(groups)
    return row
