"""Variance: how much of a Dice value varies by case, by draw and by training run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.stats import headline, split_variance
from reports.frame import Frame, Run
from reports.table import Column, Table
from reports.variants import unflagged

METRIC = "Dice"
COLUMNS = [
    Column("dataset", "Data set"),
    Column("method", "Method"),
    Column(METRIC, METRIC),
    Column("Dice_interval", "95 % headline"),
    Column("sd_case", "SD case"),
    Column("sd_draw", "SD draw"),
    Column("sd_seed", "SD seed"),
    Column("sd_seed_case", "SD seed by case", level="page"),
    Column("seed_means", "Mean of every seed", level="page"),
    Column("cases", "Cases", level="page"),
    Column("draws", "Draws"),
    Column("seeds", "Seeds"),
    Column("excluded", "Excluded", level="page"),
    Column("condition", "Interval is", level="page"),
]
CAPTION = (
    "A value is mean + seed + case + seed by case + draw; each SD is that of one part (crossed analysis of variance"
    " by moments; a negative estimate is 0). The headline interval covers cases, and with several training seeds "
    "those too (hierarchical bootstrap joined with t). With one training run the seed's part cannot be seen and the"
    " interval is conditional on that run; with one draw the draw's part is within the others."
)


def build(frame: Frame) -> Table | None:
    """One row per data set and method; None where every method has one draw and one seed."""
    rows = [row for dataset, method, runs in frame.cells() if (row := _row(frame, dataset, method, runs)) is not None]
    if not any(row["draws"] > 1 or row["seeds"] > 1 for row in rows):
        return None
    single = sorted({unflagged(row["method"]) for row in rows if row["seeds"] == 1})
    notes = [f"One training run, so no SD of the seed: {', '.join(single)}."] if single else []
    return Table("variance", "Variance · Where the spread comes from", CAPTION, COLUMNS, rows, notes)


def _row(frame: Frame, dataset: str, method: str, runs: list[Run]) -> dict[str, Any] | None:
    rows = frame.rows(runs, METRIC)
    rows = rows[rows["draw"] >= 0]
    if rows["value"].notna().sum() == 0:
        return None
    values, groups = _values(rows)
    if np.isinf(values).any():
        seeds, cases, draws = values.shape
        sizes = {"cases": cases, "draws": draws, "seeds": seeds}
        return {"dataset": dataset, "method": method, METRIC: math.inf, **sizes}
    found, parts = headline(values, groups), split_variance(values)
    return {
        "dataset": dataset,
        "method": method,
        METRIC: found.interval.estimate,
        "Dice_interval": (max(0.0, found.interval.low), min(1.0, found.interval.high)),
        "sd_case": parts.case,
        "sd_draw": parts.draw,
        "sd_seed": parts.seed,
        "sd_seed_case": parts.seed_case,
        "seed_means": ", ".join(f"{mean:.3f}" for mean in found.seed_means) if parts.seeds > 1 else None,
        "cases": parts.cases,
        "draws": parts.draws,
        "seeds": parts.seeds,
        "excluded": parts.excluded,
        "condition": found.condition,
    }


def _values(rows: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Values (seeds, cases, draws), the mean over labels within a case, and the group of every case."""
    table = rows.groupby(["seed", "case", "draw"])["value"].mean().unstack("draw")
    seeds, cases = (sorted(table.index.unique(level)) for level in ("seed", "case"))
    full = table.reindex(pd.MultiIndex.from_product([seeds, cases]))
    groups = rows.groupby("case")["group"].first().reindex(cases).astype(str)
    return full.to_numpy().reshape(len(seeds), len(cases), -1), groups.tolist()
