"""One metric of one table row over its cases: mean, spread, interval, and every value that is not in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.stats import RELIABLE, SMALLEST_INTERVAL, mean_interval

CaseMeans = tuple[pd.Series, int, int]  # by case; rows that are undefined, and infinite


@dataclass(frozen=True)
class Summary:
    """Mean over cases with what it rests on; NaN and None where there is nothing to say.

    `units` counts independent groups, `undefined` single score rows that are NaN, `excluded` cases of which
    no value is defined, `infinite` score rows that are infinite: then so is the mean, without spread and interval.
    `per_case` and `groups` are of cases with a finite value.
    """

    mean: float
    sd: float
    interval: tuple[float, float] | None
    cases: int
    units: int
    excluded: int
    undefined: int
    infinite: int
    per_case: pd.Series
    groups: list[str]
    every: pd.Series  # as `per_case`, with the cases that are NaN


def within_unit(summary: Summary) -> tuple[float, float] | None:
    """The interval of a metric that lives in [0, 1], which a t interval does not know."""
    return summary.interval and (max(0.0, summary.interval[0]), min(1.0, summary.interval[1]))


def best(summaries: dict[str, Summary], count: int) -> dict[str, Summary]:
    """The `count` with the highest means, in the order given."""
    means = sorted((summary.mean for summary in summaries.values()), reverse=True)[:count]
    kept = [name for name, summary in summaries.items() if summary.mean >= means[-1]][:count]
    return {name: summaries[name] for name in kept}


def summarise(rows: pd.DataFrame) -> Summary:
    """Average score rows within a case (labels, then draws, then seeds) and then over cases."""
    undefined = int(rows["value"].isna().sum())
    infinite = int(np.isinf(rows["value"]).sum())
    groups = rows.groupby("case", observed=True)["group"].first().astype(str)
    groups.index = groups.index.astype(str)
    return _over_cases(per_case(rows), groups, undefined, infinite)


def pooled(found: Sequence[tuple[CaseMeans, pd.Series]]) -> Summary:
    """The same from the means of every case in each of some runs, by seed, and the groups of their cases."""
    if not found:
        return _over_cases(pd.Series(dtype=float), pd.Series(dtype=str), 0, 0)
    (values, undefined, infinite), groups = found[0]
    if len(found) > 1:
        values = _over_runs([means for (means, _, _), _ in found])
        undefined = sum(count for (_, count, _), _ in found)
        infinite = sum(count for (_, _, count), _ in found)
        if any(not groups.index.equals(other.index) for _, other in found):
            groups = pd.concat([groups for _, groups in found]).groupby(level=0).first()
    return _over_cases(values, groups, undefined, infinite)


def _over_runs(runs: Sequence[pd.Series]) -> pd.Series:
    table = pd.concat(runs, axis=1, sort=True)  # (cases, runs)
    values = table.to_numpy()
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means = np.where(defined, values, 0.0).sum(axis=1) / defined.sum(axis=1)
    return pd.Series(means, table.index)


def _over_cases(values: pd.Series, groups: pd.Series, undefined: int, infinite: int) -> Summary:
    defined = values.dropna()
    groups = groups.reindex(defined.index)
    units = int(groups.nunique())
    return Summary(
        mean=math.inf if infinite else float(defined.mean()) if len(defined) else math.nan,
        sd=float(defined.std(ddof=1)) if len(defined) > 1 and not infinite else math.nan,
        interval=_interval(defined, groups) if units >= SMALLEST_INTERVAL and not infinite else None,
        cases=len(defined),
        units=units,
        excluded=len(values) - len(defined),
        undefined=undefined,
        infinite=infinite,
        per_case=defined,
        groups=groups.tolist(),
        every=values,
    )


def per_case(rows: pd.DataFrame) -> pd.Series:
    """One value per case: the mean over labels, then draws, then seeds of finite values; NaN if none is."""
    finite = rows.assign(value=rows["value"].where(np.isfinite(rows["value"])))
    by_draw = finite.groupby(["case", "seed", "draw"], observed=True)["value"].mean()
    by_seed = by_draw.groupby(["case", "seed"], observed=True).mean()
    found = by_seed.groupby("case", observed=True).mean()
    return found.set_axis(pd.Index(found.index.astype(str), name="case"))


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
