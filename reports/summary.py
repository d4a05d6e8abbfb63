"""One metric of one table row over its cases: mean, spread, interval, and every value that is not in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.stats import RELIABLE, SMALLEST_INTERVAL, mean_interval


@dataclass(frozen=True)
class Summary:
    """Mean over cases with what it rests on; NaN and None where there is nothing to say.

    `units` counts independent groups, `undefined` single score rows that are NaN, `excluded` cases of which
    no value is defined, `identical` infinite score rows (two draws alike have infinite PSNR).
    """

    mean: float
    sd: float
    interval: tuple[float, float] | None
    cases: int
    units: int
    excluded: int
    undefined: int
    identical: int
    per_case: pd.Series
    groups: list[str]


def within_unit(summary: Summary) -> tuple[float, float] | None:
    """The interval of a metric that lives in [0, 1], which a t interval does not know."""
    return summary.interval and (max(0.0, summary.interval[0]), min(1.0, summary.interval[1]))


def summarise(rows: pd.DataFrame) -> Summary:
    """Average score rows within a case (labels, then draws, then seeds) and then over cases."""
    undefined = int(rows["value"].isna().sum())
    identical = int(np.isinf(rows["value"]).sum())
    values = per_case(rows)
    defined = values.dropna()
    groups = rows.groupby("case")["group"].first().reindex(defined.index).astype(str)
    units = int(groups.nunique())
    return Summary(
        mean=float(defined.mean()) if len(defined) else math.nan,
        sd=float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        interval=_interval(defined, groups) if units >= SMALLEST_INTERVAL else None,
        cases=len(defined),
        units=units,
        excluded=len(values) - len(defined),
        undefined=undefined,
        identical=identical,
        per_case=defined,
        groups=groups.tolist(),
    )


def per_case(rows: pd.DataFrame) -> pd.Series:
    """One value per case: the mean over labels, then draws, then seeds of finite values; NaN if none is."""
    finite = rows.assign(value=rows["value"].where(np.isfinite(rows["value"])))
    by_draw = finite.groupby(["case", "seed", "draw"])["value"].mean()
    return by_draw.groupby(["case", "seed"]).mean().groupby("case").mean()


def reliability_notes(found: list[tuple[str, Summary]], digits: int = 3) -> list[str]:
    """The warnings that small samples need, from (row name, summary); none from 30 independent units on."""
    unreliable: dict[str, list[str]] = {}
    listed = []
    for name, summary in found:
        grouped = f" groups, {summary.cases} cases" if summary.units != summary.cases else ""
        size = f"n={summary.units}{grouped}"
        if SMALLEST_INTERVAL <= summary.units < RELIABLE:
            unreliable.setdefault(size, []).append(name)
        elif summary.cases and summary.units < SMALLEST_INTERVAL:
            values = ", ".join(f"{value:.{digits}f}" for value in sorted(summary.per_case))
            listed.append(f"{name}: no interval ({size}); values per case: {values}.")
    return [f"CI unreliable ({size}): {'; '.join(names)}." for size, names in unreliable.items()] + listed


def _interval(values: pd.Series, groups: pd.Series) -> tuple[float, float] | None:
    found = mean_interval(values.tolist(), groups.tolist())
    return None if math.isnan(found.low) else (found.low, found.high)
