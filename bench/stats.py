"""Intervals for means over cases; cases of one group (patient, sequence, volume) are resampled together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

RESAMPLES = 9_999
CONFIDENCE = 0.95
SEED = 20240627
SMALLEST_BOOTSTRAP = 15  # below it the t interval covers as well as BCa does
_BATCH_ELEMENTS = 4_000_000


def mean_interval(values: Sequence[float], groups: Sequence[str] | None = None) -> tuple[float, float, float]:
    """Mean and 95 % interval (mean, low, high) of one value per case; undefined (NaN) values are left out.

    BCa bootstrap over groups with a fixed seed; t interval when there are fewer than 15 groups or the
    bootstrap degenerates; low and high are NaN with fewer than two groups. Infinite values: ValueError.
    """
    array = np.asarray(values, dtype=np.float64)
    names = np.arange(array.size) if groups is None else np.asarray(groups, dtype=object)
    if array.ndim != 1 or names.shape != array.shape:
        raise ValueError(f"values {array.shape} and groups {names.shape} must be lists of one length")
    if np.isinf(array).any():
        raise ValueError("values hold an infinity: its mean has no interval, leave it out and count it")
    defined = ~np.isnan(array)
    if not defined.any():
        return math.nan, math.nan, math.nan
    totals, counts = _by_group(array[defined], names[defined])
    mean = float(totals.sum() / counts.sum())
    if totals.size < 2:
        return mean, math.nan, math.nan
    interval = _bootstrap(totals, counts) if totals.size >= SMALLEST_BOOTSTRAP else None
    return (mean, *(interval or _t_interval(mean, totals, counts)))


def _by_group(values: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order: dict[object, int] = {}
    index = np.array([order.setdefault(name, len(order)) for name in names])
    return np.bincount(index, weights=values), np.bincount(index).astype(np.float64)


def _t_interval(mean: float, totals: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    # Linearised ratio of sums: with one value per group it is the ordinary standard error.
    residuals = totals - mean * counts
    n = totals.size
    error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(counts.sum())
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    return mean - half, mean + half


def _bootstrap(totals: np.ndarray, counts: np.ndarray) -> tuple[float, float] | None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (totals, counts),
            lambda total, count, axis: total.sum(axis=axis) / count.sum(axis=axis),
            paired=True,
            vectorized=True,
            method="BCa",
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            batch=max(1, _BATCH_ELEMENTS // totals.size),
            rng=np.random.default_rng(SEED),
        )
    low, high = (float(bound) for bound in result.confidence_interval)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
