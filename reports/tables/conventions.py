"""Conventions: the same stored predictions under every protocol, so that bookkeeping is not taken for a gain."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.record import check_table
from reports.frame import Frame, read_frame
from reports.rows import Run, plain
from reports.table import Column, Table
from reports.writers import to_text

TITLE = "Conventions · The same predictions under every protocol"
FILE = "conventions.parquet"
NEEDED = ["protocol", "metric", "unit", "mean", "n_counted", "n_dropped", "counted_by", "mean_over"]
NOT_SCORED = "Not scored under every protocol, which sdseg score makes up for"
RULES = {
    "strict": "strict is ours: per case and label at its own size, both masks empty undefined and counted, one empty "
    "the worst value, distances in the case's unit.",
    "sdseg": "sdseg scores at the network's size and counts a hallucinated target as Dice 1, both masks empty as 0.",
    "medsegdiff": "medsegdiff takes the soft map, normalises each map by its own maximum and averages five thresholds; "
    "it counts slices, empty ones as 1.",
    "diff_unet": "diff_unet counts a hallucinated target as Dice 1 and gives HD95, here between all voxels of both "
    "objects, its best value 0 wherever a mask is empty.",
    "diff_unet_validation": "diff_unet_validation, by which that method chooses its weights, leaves out what is empty "
    "in both masks, for HD95 in either.",
    "ssformer": "ssformer averages Dice over 256 thresholds of the binary mask, the last of which makes everything "
    "foreground; both masks empty are 0, and so is a mask without background.",
    "nnunet": "nnunet averages a label over its cases first, and then labels; one that no case has leaves the mean "
    "undefined.",
    "monai": "monai leaves out targets without reference, so that false positives there are free; HD95 leaves out "
    "misses too, ASSD counts them as infinite, and distances are in pixels.",
}
CAPTION = (
    "What each protocol would print for the same stored predictions; nothing was trained or predicted again. Draws "
    "are averaged within a case, training seeds last. Spread is the largest value of a row minus the smallest: how "
    "far two papers can differ by bookkeeping alone. A dash: the protocol has no rule for that metric, or its mean is "
    "undefined (see the notes). "
)
_COUNTS = ("n_counted", "n_dropped")
_FACTS = ("unit", "counted_by", "mean_over")


def build(frame: Frame) -> Table | None:
    """A row per data set, method and metric, a column per protocol; None where no run has been scored this way."""
    rows: list[dict[str, Any]] = []
    notes: dict[str, list[str]] = {}  # what is to be said, and of which rows
    protocols: dict[str, None] = {}
    for of in frame.rows:
        read = {run.record.seed: table for run in of.runs if (table := _read(run, frame.warnings)) is not None}
        if any(not (run.path / FILE).is_file() for run in of.runs):
            notes.setdefault(NOT_SCORED, []).append(of.where)
        protocols |= dict.fromkeys(name for table in read.values() for name in table["protocol"])
        for metric, table in _by_metric(read):
            rows.append(of.fill([]) | {"seeds": ", ".join(map(str, read))} | _row(metric, table))
            for note in _row_notes(metric, table):
                notes.setdefault(note, []).append(of.where)
    if not rows:
        return None
    caption = CAPTION + " ".join(RULES[name] for name in protocols if name in RULES)
    said = [f"{note}: {'; '.join(names)}." for note, names in notes.items()]
    return Table("conventions", TITLE, caption, _columns(list(protocols)), rows, said)


def text_of_run(run: Path) -> str:
    """The table of one run folder for a terminal, with all columns of the page."""
    table = build(read_frame(run))
    if table is None:
        return ""
    columns = [replace(column, level="terminal") for column in table.shown("page")[2:]]
    return to_text(replace(table, columns=columns))


def _columns(protocols: list[str]) -> list[Column]:
    # Several rows of a method by many columns: a terminal has no room for it.
    columns = plain(dataset="page", method="page", metric="page")
    columns += [Column(name, name.replace("_", " "), level="page") for name in protocols]
    columns += plain(spread="page", highest="page")
    for name in protocols:
        columns += [Column(f"{name}_{fact}", f"{name} {fact}", level="csv") for fact in (*_FACTS, *_COUNTS)]
    return [*columns, *plain(seeds="csv")]


def _read(run: Run, warnings: list[str]) -> pd.DataFrame | None:
    """The table of a run; None without one, and a warning for a broken one."""
    path = run.path / FILE
    if not path.is_file():
        return None
    try:
        check_table(path, run.record)
        table = pd.read_parquet(path)
        missing = [column for column in NEEDED if column not in table]
        if missing:
            raise ValueError(f"columns missing: {', '.join(missing)}")
        numbers = {"mean": "float64", "n_counted": "int64", "n_dropped": "int64"}
        return table[NEEDED].astype({column: numbers.get(column, "str") for column in NEEDED})
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        line = f"{path}: not a table of conventions ({reason}), not shown; delete it and score again"
        if line not in warnings:
            warnings.append(line)
        return None


def _by_metric(read: dict[int, pd.DataFrame]) -> list[tuple[str, pd.DataFrame]]:
    if not read:
        return []
    whole = pd.concat([table.assign(seed=seed) for seed, table in read.items()])
    return [(str(metric), part) for metric, part in whole.groupby("metric", sort=False)]


def _row(metric: str, table: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {}
    means: dict[str, float] = {}
    for name, part in table.groupby("protocol", sort=False):
        means[str(name)] = float(part["mean"].mean())  # over the seeds where it is defined
        row |= {f"{name}_{fact}": part[fact].iloc[0] for fact in _FACTS}
        row |= {f"{name}_{count}": int(part[count].sum()) for count in _COUNTS}
    units = set(table["unit"])
    unit = units.pop() if len(units) == 1 else ""
    spread, highest = (None, None) if units else _spread(means)
    return {"metric": f"{metric} ({unit})" if unit else metric, **row, **means, "spread": spread, "highest": highest}


def _spread(means: dict[str, float]) -> tuple[float | None, str | None]:
    """Largest minus smallest, and whose the largest is; rounding in the order of a mean is no difference."""
    defined = {name: value for name, value in means.items() if not math.isnan(value)}
    if len(defined) < 2:
        return None, None
    top = max(defined.values())
    highest = [name for name, value in defined.items() if math.isclose(value, top, rel_tol=1e-9)]
    if len(highest) == len(defined):
        return 0.0, None
    return top - min(defined.values()), ", ".join(highest)


def _row_notes(metric: str, table: pd.DataFrame) -> list[str]:
    notes = []
    units = table.drop_duplicates("protocol").groupby("unit", sort=False)["protocol"].agg(", ".join)
    if len(units) > 1:
        words = "; ".join(f"{unit or 'no unit'} under {names}" for unit, names in units.items())
        notes.append(f"{metric} is in {words}, so it has no spread")
    for _, part in table[table["mean"].isna()].iterrows():
        of_seed = f" (seed {part['seed']})" if table["seed"].nunique() > 1 else ""
        notes.append(f"{metric} under {part['protocol']} is undefined{of_seed}")
    return notes
