"""Table 2: Dice and IoU per data set and method, over cases, beside the published numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL, median_interval
from reports.frame import Frame, Run
from reports.published import Published, read_ledger, same_dataset
from reports.summary import reliability_notes
from reports.table import Column, Table
from reports.variants import unflagged

METRICS = ("Dice", "IoU")
_RANKED = ("comparison", "convention")
COLUMNS = [
    Column("dataset", "Data set"),
    Column("method", "Method"),
    *(
        column
        for metric in METRICS
        for column in (
            Column(metric, metric, better="higher", within=_RANKED),
            Column(f"{metric}_sd", "SD", level="page"),
            Column(f"{metric}_interval", "95 % interval"),
        )
    ),
    Column("Dice_median", "Median Dice", level="page"),
    Column("Dice_median_interval", "Median interval", level="csv"),
    Column("Dice_q1", "First quartile", level="csv"),
    Column("Dice_q3", "Third quartile", level="csv"),
    Column("Dice_p5", "5th percentile", level="page"),
    Column("cases", "Cases"),
    Column("excluded", "Excluded", level="page"),
    Column("undefined", "Undefined"),
    Column("draws", "Draws", level="csv"),
    Column("seeds", "Seeds"),
    Column("convention", "Convention", level="page"),
    Column("fidelity", "Fidelity", level="csv"),
    Column("profile", "Profile", level="csv"),
    Column("protocol", "Protocol", level="csv"),
    Column("IoU_cases", "IoU cases", level="csv"),
    Column("IoU_undefined", "IoU undefined", level="csv"),
]
CAPTION = (
    "Mean over test cases: labels are averaged within a case, then draws, then training seeds, then cases. SD over "
    "cases; 95 % interval of the mean over cases: the farther of t and BCa bootstrap (9,999 resamples, cases of one"
    " group together; none below 10 groups). Excluded: cases without any defined value. Undefined: single values "
    "(case, label, draw, seed) that are undefined and left out of the mean."
)


def build(frame: Frame) -> Table:
    """One row per data set, method and convention; published rows follow those of their data set."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    small: list[tuple[str, Summary]] = []
    # Table 4 prints the Dice of diffusion methods that Table 2 leaves out.
    ledger = [entry for entry in read_ledger() if entry.table in ("2", "3", "4") and entry.metric in METRICS]
    for dataset in sorted({run.record.dataset for run in frame.runs}):
        for name, method, runs in frame.cells():
            if name == dataset:
                rows += measured_rows(frame, dataset, method, runs, notes, small)
        protocols = {run.record.protocol for run in frame.runs if run.record.dataset == dataset}
        rows += published_rows(dataset, protocols, ledger, notes)
    return Table("table2", "Table 2 · Accuracy", CAPTION, COLUMNS, rows, reliability_notes(small) + notes)


def measured_rows(
    frame: Frame,
    dataset: str,
    method: str,
    runs: list[Run],
    notes: list[str],
    small: list[tuple[str, Summary]],
) -> list[dict[str, Any]]:
    """One row per convention for runs that differ in the seed only; what needs saying goes to `notes` and `small`."""
    conventions = sorted({name for metric in METRICS for name in frame.conventions(runs, metric)})
    if not conventions:
        notes.append(f"{unflagged(method)} on {dataset}: no Dice or IoU was scored.")
    rows = []
    either: list[str | None] = [*conventions] or [None]
    for convention in either:
        summaries = {metric: frame.summary(runs, metric, convention) for metric in METRICS}
        rows.append(_row(dataset, method, runs, convention, summaries))
        where = f"{unflagged(method)} on {dataset}" + (f" ({convention})" if len(conventions) > 1 else "")
        small += _small(where, summaries)
        notes += _case_notes(where, [frame.cases(run, "Dice", convention or "") for run in runs], summaries)
    return rows


def _row(
    dataset: str, method: str, runs: list[Run], convention: str | None, summaries: dict[str, Summary]
) -> dict[str, Any]:
    record = runs[0].record
    row: dict[str, Any] = {"dataset": dataset, "method": method, "comparison": runs[0].comparison}
    for metric, summary in summaries.items():
        row |= {metric: summary.mean, f"{metric}_sd": summary.sd, f"{metric}_interval": summary.interval}
        row[f"{metric}_why"] = summary.why
    dice, iou = summaries["Dice"], summaries["IoU"]
    row |= _spread(dice)
    row |= {"cases": dice.cases, "excluded": dice.excluded, "undefined": dice.undefined}
    row |= {"IoU_cases": iou.cases, "IoU_undefined": iou.undefined, "draws": record.draws}
    row |= {"seeds": ", ".join(str(run.record.seed) for run in runs), "convention": convention}
    return row | {"fidelity": record.fidelity, "profile": record.profile, "protocol": record.protocol}


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


def _small(where: str, summaries: dict[str, Summary]) -> list[tuple[str, Summary]]:
    sizes = {summary.units for summary in summaries.values()}
    if len(sizes) == 1 and min(sizes) >= SMALLEST_INTERVAL:
        return [(where, summaries["Dice"])]
    return [(f"{where}, {metric}", summary) for metric, summary in summaries.items()]


def _case_notes(where: str, cases: list[pd.Index], summaries: dict[str, Summary]) -> list[str]:
    notes = []
    dice, iou = summaries["Dice"], summaries["IoU"]
    if (dice.cases, dice.undefined) != (iou.cases, iou.undefined):
        notes.append(f"{where}: IoU rests on {iou.cases} cases with {iou.undefined} undefined values.")
    scored = [of_run for of_run in cases if len(of_run)]
    if any(not of_run.equals(scored[0]) for of_run in scored):
        notes.append(f"{where}: the seeds were scored on different cases; each case is averaged over its own seeds.")
    return notes


def published_rows(
    dataset: str, protocols: set[str], ledger: list[Published], notes: list[str]
) -> list[dict[str, Any]]:
    """The ledger's methods on a data set by name, the reasons of their flags going to `notes`."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in ledger:
        if same_dataset(dataset, entry.dataset) and entry.metric not in rows.get(entry.method, {}):
            flag = all(entry.comparable_with(protocol) for protocol in protocols)
            row = rows.setdefault(entry.method, published_row(dataset, entry, flag))
            row[entry.metric] = entry.as_measured
            row["cases"] = entry.n
            note = f"Published on {dataset}: {'comparable' if flag else 'not comparable'}: {entry.why}."
            if note not in notes:
                notes.append(note)
    return sorted(rows.values(), key=lambda row: row["method"])


def published_row(dataset: str, entry: Published, comparable: bool) -> dict[str, Any]:
    """The frame of a published row: named, flagged, and out of every ranking."""
    flag = "published, comparable" if comparable else "published, not comparable"
    return {
        "dataset": dataset,
        "method": f"{entry.method} [{flag}]",
        "protocol": entry.protocol,
        "published": True,
    }
