"""Variance: how much of a Dice value varies by case, by draw and by training run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.stats import headline, split_variance
from reports.frame import Frame
from reports.rows import Row, plain
from reports.table import Column, Table
from reports.variants import unflagged

METRIC = "Dice"
COLUMNS = [
    *plain(dataset="terminal", method="terminal"),
    Column(METRIC, METRIC),
    Column("Dice_interval", "95 % headline"),
    Column("sd_case", "SD case"),
    Column("sd_draw", "SD draw"),
    Column("sd_seed", "SD seed"),
    Column("sd_seed_case", "SD seed by case", level="page"),
    Column("seed_means", "Mean of every seed", level="page"),
    *plain(cases="page", draws="terminal", seeds="terminal", excluded="page"),
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
    rows = [row for of in frame.rows if (row := _row(of)) is not None]
    if not any(row["draws"] > 1 or row["seeds"] > 1 for row in rows):
        return None
    single = sorted({unflagged(row["method"]) for row in rows if row["seeds"] == 1})
    notes = [f"One training run, so no SD of the seed: {', '.join(single)}."] if single else []
    return Table("variance", "Variance · Where the spread comes from", CAPTION, COLUMNS, rows, notes)


def _row(row: Row) -> dict[str, Any] | None:
    if not row.conventions(METRIC):
        return None
    values, groups = _values(row)
    if np.isnan(values).all():
        return None
    if np.isinf(values).any():
        sizes = dict(zip(("seeds", "cases", "draws"), values.shape, strict=True))
        return {"dataset": row.dataset, "method": row.method, METRIC: math.inf, **sizes}
    headlined, parts = headline(values, groups), split_variance(values)
    return {
        "dataset": row.dataset,
        "method": row.method,
        METRIC: headlined.interval.estimate,
        "Dice_interval": (max(0.0, headlined.interval.low), min(1.0, headlined.interval.high)),
        "sd_case": parts.case,
        "sd_draw": parts.draw,
        "sd_seed": parts.seed,
        "sd_seed_case": parts.seed_case,
        "seed_means": ", ".join(f"{mean:.3f}" for mean in headlined.seed_means) if parts.seeds > 1 else None,
        **{name: getattr(parts, name) for name in ("cases", "draws", "seeds", "excluded")},
        "condition": headlined.condition,
    }


def _values(row: Row) -> tuple[np.ndarray, list[str]]:
    """Values (seeds, cases, draws), the mean over labels within a draw, and the group of every case."""
    tables = [one.draw_values(METRIC, row.facts(METRIC)) for one in row.scores]
    cases = sorted({case for table in tables for case in table.index})
    draws = sorted({draw for table in tables for draw in table.columns})
    groups = pd.concat([one.groups for one in row.scores]).groupby(level=0).first()
    return np.stack([table.reindex(cases, columns=draws) for table in tables]), groups[cases].tolist()
