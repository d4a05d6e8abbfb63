"""What varies: the training run, the case, the draw; and an interval of the mean that takes all three into account."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.errors import InputError
from bench.stats.intervals import Interval, mean_interval
from bench.stats.sample import (
    BLOCK_ELEMENTS,
    CONFIDENCE,
    SEED,
    Array,
    Counts,
    cluster,
    group_numbers,
    products,
    resampled_counts,
)

HIERARCHICAL_RESAMPLES = 1_999
ONE_RUN = "conditional on one training run"


@dataclass(frozen=True)
class VarianceSplit:
    """Standard deviations of the parts of a value: training seed, case, seed by case, and draw.

    A part is NaN where the design cannot show it: seed with one training run (then `seed_case` is part of `case`),
    draw with one draw (then it is part of `seed_case`). `cases` were complete and used, `excluded` were not.
    """

    seed: float
    case: float
    seed_case: float
    draw: float
    seeds: int
    cases: int
    draws: int
    excluded: int


@dataclass(frozen=True)
class Headline:
    """Mean over seeds, cases and draws with its interval, the mean of every seed, and what the interval is about."""

    interval: Interval
    seed_means: tuple[float, ...]
    condition: str


def split_variance(values: npt.ArrayLike) -> VarianceSplit:
    """Split the variance of values (seeds, cases, draws) by the method of moments.

    Seeds and cases are crossed, draws nested in both (analysis of variance with random effects; Searle, Casella and
    McCulloch 1992, chapter 4); a negative estimate is 0. Cases with an undefined value are excluded and counted.
    """
    table = _table(values)
    complete = np.isfinite(table).all(axis=(0, 2))
    kept = table[:, complete]
    seeds, cases, draws = kept.shape
    if cases < 2:
        return VarianceSplit(math.nan, math.nan, math.nan, math.nan, seeds, cases, draws, int((~complete).sum()))
    cells = kept.mean(axis=2)
    # From the first draw, so that draws that do not vary have exactly none.
    within = (kept - kept[:, :, :1]).var(axis=2, ddof=1).mean() if draws > 1 else math.nan
    shared = draws * _interaction(cells)
    by_case = seeds * draws * cells.mean(axis=0).var(ddof=1)
    by_seed = cases * draws * cells.mean(axis=1).var(ddof=1) if seeds > 1 else math.nan
    noise = within if draws > 1 else 0.0
    return VarianceSplit(
        seed=_deviation(by_seed - shared, cases * draws),
        case=_deviation(by_case - (shared if seeds > 1 else noise), seeds * draws),
        seed_case=_deviation(shared - noise, draws),
        draw=_deviation(within, 1),
        seeds=seeds,
        cases=cases,
        draws=draws,
        excluded=int((~complete).sum()),
    )


def headline(values: npt.ArrayLike, groups: Sequence[str] | None = None) -> Headline:
    """Mean of values (seeds, cases, draws) with a 95 % interval; never pools draws or seeds as cases.

    The mean skips NaN over draws, then seeds, then cases. With several seeds the interval is the percentile interval
    of a hierarchical bootstrap seed -> case -> draw, joined with a t interval from the mean squares of seeds and cases
    (Satterthwaite 1946) and with `mean_interval` over cases. With one seed it is the last alone.
    """
    table = _table(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing are NaN
        cells = np.nanmean(table, axis=2)
        by_case = np.nanmean(cells, axis=0)
        by_seed = np.nanmean(cells, axis=1)
    interval = mean_interval(by_case, groups)
    if len(table) > 1 and interval.groups > 1:
        names = [str(number).zfill(9) for number in range(len(by_case))] if groups is None else list(groups)
        low, high = _t_bounds(cells, by_case, by_seed, names)
        resampled = _resampled_means(table, names)
        tail = 0.5 - CONFIDENCE / 2
        low = min(low, interval.low, float(np.nanquantile(resampled, tail)))
        high = max(high, interval.high, float(np.nanquantile(resampled, 1 - tail)))
        interval = replace(interval, low=low, high=high, method=interval.method + "+hierarchical")
    return Headline(
        interval, tuple(by_seed.tolist()), ONE_RUN if len(table) == 1 else f"over {len(table)} training runs"
    )


def _table(values: npt.ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 3 or 0 in table.shape:
        raise InputError(f"values {table.shape}: expected (seeds, cases, draws) with at least one of each")
    if np.isinf(table).any():
        raise InputError("values hold an infinity, whose mean has no interval: leave it out and count it")
    return table


def _deviation(excess: float, values: int) -> float:
    return math.sqrt(max(0.0, excess) / values) if not math.isnan(excess) else math.nan


def _interaction(cells: Array) -> float:
    """Mean square of what neither the seed nor the case explains, of cell means (seeds, cases)."""
    seeds, cases = cells.shape
    if seeds < 2 or cases < 2:
        return math.nan
    rest = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0) + cells.mean()
    return float((rest**2).sum() / ((seeds - 1) * (cases - 1)))


def _t_bounds(cells: Array, by_case: Array, by_seed: Array, groups: Sequence[str]) -> tuple[float, float]:
    seeds = len(by_seed)
    defined = np.isfinite(by_case)
    numbers = group_numbers(tuple(compress(groups, defined.tolist())))
    sample = cluster(by_case[defined], numbers)
    complete = cells[:, np.isfinite(cells).all(axis=0)]
    from_seeds, from_cases = float(by_seed.var(ddof=1)) / seeds, sample.standard_error**2
    both = _interaction(complete) / complete.size if complete.shape[1] > 1 else 0.0
    # Both sources hold the interaction; neither may be undercut by its estimate.
    total = max(from_seeds + from_cases - both, from_seeds, from_cases)
    parts = from_seeds**2 / (seeds - 1) + from_cases**2 / (sample.sizes.size - 1)
    freedom = total**2 / parts if parts > 0 else 1.0
    half = float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * math.sqrt(total)
    return sample.mean - half, sample.mean + half


def _resampled_means(table: Array, groups: Sequence[str]) -> Array:
    """Means of resamples of seeds, of groups (the same for all seeds, as all predict the same cases), and of draws."""
    numbers = group_numbers(tuple(groups))
    seeds, cases, draws = table.shape
    drawn = _drawn((seeds, cases, draws), tuple(numbers.tolist()))
    finite = np.isfinite(table)
    # Where a case is defined throughout, all that counts is how often each of its values was drawn.
    whole, some = np.asarray(finite.all(axis=(0, 2))), np.asarray(finite.any(axis=(0, 2)))
    partly = some & ~whole
    sums = products(drawn.values, np.where(whole[:, None], table, 0.0).ravel()) / (seeds * draws)
    sizes = products(drawn.cases, whole.astype(np.float64))
    rows = max(1, BLOCK_ELEMENTS // table.size)
    for start in range(0, len(sums) if partly.any() else 0, rows):
        block = slice(start, start + rows)
        means = _defined_means(_defined_means(table.ravel()[drawn.picks[block][:, :, partly]], 3), 1)  # (rows, cases)
        times, defined = drawn.cases[block][:, partly], np.isfinite(means)
        sums[block] += (np.where(defined, means, 0.0) * times).sum(axis=1)
        sizes[block] += (times * defined).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return sums / sizes


class _Drawn(NamedTuple):
    """Of every resample, how often it draws each value and each case, and which value at (seed, case, draw)."""

    values: Counts
    cases: Counts
    picks: npt.NDArray[np.unsignedinteger]


@lru_cache(maxsize=2)  # a table has many models of one shape
def _drawn(shape: tuple[int, int, int], numbers: tuple[int, ...]) -> _Drawn:
    seeds, cases, draws = shape
    size = math.prod(shape)
    generator = np.random.default_rng(SEED + 1)
    values, times, picks = [], [], []
    for block in resampled_counts(max(numbers) + 1, HIERARCHICAL_RESAMPLES):
        rows = max(1, BLOCK_ELEMENTS // size)
        for start in range(0, len(block), rows):
            times.append(block[start : start + rows, numbers])
            count = len(times[-1])
            seed = generator.integers(seeds, size=(count, seeds))[:, :, None, None]
            draw = generator.integers(draws, size=(count, *shape)) if draws > 1 else np.zeros((1, 1, 1, 1), int)
            pick = (seed * cases + np.arange(cases)[:, None]) * draws + draw  # (rows, seeds, cases, draws)
            picks.append(pick.astype(np.min_scalar_type(size)))
            places = pick + size * np.arange(count)[:, None, None, None]
            counts = np.bincount(places.ravel(), minlength=count * size).astype(np.uint16)
            values.append((counts.reshape(count, *shape) * times[-1][:, None, :, None]).reshape(count, size))
    return _Drawn(np.concatenate(values), np.concatenate(times), np.concatenate(picks))


def _defined_means(values: Array, axis: int) -> Array:
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=axis) / defined.sum(axis=axis))
