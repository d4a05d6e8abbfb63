"""Intervals for means and medians over cases; cases of one group (patient, sequence, volume) stay together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.errors import InputError
from bench.stats.sample import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    Array,
    Clusters,
    Values,
    bootstrap_deviations,
    cluster,
    defined_values,
    resampled_counts,
)

SMALLEST_INTERVAL = 10  # below it a report lists the values
RELIABLE = 30
_SMALLEST_BOOTSTRAP = 5  # up to four values, BCa cannot leave the t interval: it stays between smallest and largest


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; low and high are NaN where there is none.

    `n` counts the cases in the estimate, `groups` the independent units among them, `undefined` the cases left out
    as NaN. `values` holds the mean of every group, ascending, where groups are too few for an interval to mean much.
    """

    estimate: float
    low: float
    high: float
    method: str
    n: int
    groups: int
    undefined: int = 0
    values: tuple[float, ...] = ()

    @property
    def warning(self) -> str:
        """What a report must print beside it, empty from 30 groups on."""
        if self.groups >= RELIABLE:
            return ""
        size = f"n={self.groups}" + (f" groups, {self.n} cases" if self.n != self.groups else "")
        if self.groups < 2:
            return f"no interval ({size})"
        return f"CI unreliable ({size})" + ("; values listed" if self.values else "")


def mean_interval(values: Values, groups: Sequence[str] | None = None, *, confidence: float = CONFIDENCE) -> Interval:
    """Mean of one value per case, with the t interval joined with the BCa interval of the cluster bootstrap.

    On each side the farther of the two counts: t misses where the values are skewed, BCa where tails are heavy
    (measured in docs/statistics.md). BCa has the small-sample quantile of Hesterberg (The American Statistician 69,
    2015). t alone with fewer than five groups or a degenerate bootstrap; NaN with fewer than two groups.
    """
    kept, numbers, undefined = defined_values(values, groups)
    sample = cluster(kept, numbers)
    low, high = t_bounds(sample, confidence)
    method = "t"
    count = sample.sizes.size
    if count >= _SMALLEST_BOOTSTRAP:
        z = math.sqrt(count / (count - 1)) * float(special.stdtrit(count - 1, 0.5 + confidence / 2))
        bounds = bca_bounds(sample, z, bootstrap_deviations(sample))
        if bounds is not None:
            low, high, method = min(low, bounds[0]), max(high, bounds[1]), "t+BCa"
    return _interval(sample.mean, (low, high), method, sample, undefined)


def median_interval(values: Values, groups: Sequence[str] | None = None) -> Interval:
    """Median of one value per case, with the percentile interval of the cluster bootstrap.

    Never the basic interval, which fails for medians. NaN with fewer than two groups.
    """
    kept, numbers, undefined = defined_values(values, groups)
    sample = cluster(kept, numbers)
    if sample.sizes.size < 2:
        return _interval(float(np.median(kept)) if kept.size else math.nan, (math.nan, math.nan), "", sample, undefined)
    medians = bootstrap_medians(kept, numbers)
    low, high = np.quantile(medians, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return _interval(float(np.median(kept)), (float(low), float(high)), "percentile", sample, undefined)


def bounded_interval(values: Values) -> Interval:
    """Mean of independent values known to lie in [0, 1], with an interval that uses nothing else.

    Gaffke's (2005; Learned-Miller and Thomas, arXiv 1905.06208): random weights, uniform on the simplex, on the values
    and on one end of the range. It answers for failures that a small sample happens not to hold, and is wide.
    Undefined values are left out; a value out of range: InputError.
    """
    kept, numbers, undefined = defined_values(values, None)
    if kept.size and not (kept[0] >= 0 and kept[-1] <= 1):
        raise InputError(f"values reach from {kept[0]} to {kept[-1]}: expected all within [0.0, 1.0]")
    sample = cluster(kept, numbers)
    if not kept.size:
        return _interval(math.nan, (math.nan, math.nan), "", sample, undefined)
    weights = np.random.default_rng(SEED).standard_exponential((RESAMPLES, kept.size + 1))
    total, end = weights.sum(axis=1), weights[:, -1]
    inner = weights[:, :-1] @ kept
    low = np.quantile(inner / total, 0.5 - CONFIDENCE / 2)
    high = np.quantile((inner + end) / total, 0.5 + CONFIDENCE / 2)
    return _interval(sample.mean, (float(low), float(high)), "Gaffke", sample, undefined)


def share_interval(values: Values, groups: Sequence[str] | None = None) -> Interval:
    """Mean of one value in [0, 1] per case, such as whether it was missed, which a sample may happen not to hold.

    `bounded_interval` of the means of groups, which are the independent values; joined with `mean_interval` where
    groups differ in size, since the mean over cases weighs them by it.
    """
    kept, numbers, undefined = defined_values(values, groups)
    sample = cluster(kept, numbers)
    interval = bounded_interval(sample.totals / sample.sizes)
    low, high, method = interval.low, interval.high, interval.method
    if np.unique(sample.sizes).size > 1:
        wide = mean_interval(values, groups)
        low, high = np.nanmin([low, max(wide.low, 0.0)]), np.nanmax([high, min(wide.high, 1.0)])
        method += "+" + wide.method
    return _interval(sample.mean, (float(low), float(high)), method, sample, undefined)


def t_bounds(sample: Clusters, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of the mean over groups; NaN with fewer than two."""
    count = sample.sizes.size
    half = float(special.stdtrit(count - 1, 0.5 + confidence / 2)) * sample.standard_error if count > 1 else math.nan
    return sample.mean - half, sample.mean + half


def bca_bounds(sample: Clusters, z: float, deviations: Array) -> tuple[float, float] | None:
    """Bias-corrected accelerated interval of the mean (Efron 1987) at -z and z; None where it degenerates.

    `deviations` are those of the bootstrap; the acceleration comes from leaving out one group at a time.
    """
    residuals = sample.residuals
    tolerance = 1e-12 * np.abs(sample.totals).max()
    rest = sample.sizes.sum() - sample.sizes
    if np.abs(residuals).max() <= tolerance:
        return None
    tolerance /= sample.sizes.sum()
    below = (np.mean(deviations < -tolerance) + np.mean(deviations <= tolerance)) / 2
    influence = residuals / rest
    influence -= influence.mean()
    influence /= max(float(np.abs(influence).max()), np.finfo(float).tiny)  # cubes of tiny values are 0
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    bias = special.ndtri(below)
    shifted = bias + np.array([-z, z])
    slope = 1 - acceleration * shifted
    if not (np.isfinite(shifted).all() and (slope > 0).all()):  # also where the slope is NaN
        return None
    low, high = sample.mean + np.quantile(deviations, special.ndtr(bias + shifted / slope))
    return float(low), float(high)


def bootstrap_medians(values: Array, numbers: npt.NDArray[np.int64], resamples: int = RESAMPLES) -> Array:
    """Median over cases of every cluster bootstrap resample of values (N,) with group numbers (N,)."""
    order = np.argsort(values, kind="stable")
    ordered, group = values[order], numbers[order]
    medians = []
    for block in resampled_counts(int(numbers.max()) + 1, resamples):
        rows = max(1, 200_000 // len(values))  # what fits into a cache takes half the time
        parts = (block[start : start + rows].astype(np.float64) for start in range(0, len(block), rows))
        medians += [_medians(part, ordered, group) for part in parts]
    return np.concatenate(medians)


def _medians(counts: Array, ordered: Array, group: npt.NDArray[np.int64]) -> Array:
    """Medians of resamples that draw group g `counts[:, g]` times, of values in order with their groups."""
    groups, half = counts.shape[1], counts @ np.bincount(group) / 2
    # Medians of resamples lie in the middle; where one does not, all values are looked at.
    width = 3 * math.isqrt(len(ordered)) + 3
    for first, last in ((max(0, len(ordered) // 2 - width), len(ordered) // 2 + width), (0, len(ordered))):
        below = counts @ np.bincount(group[:first], minlength=groups).astype(np.float64)
        reached = below[:, None] + np.cumsum(counts[:, group[first:last]], axis=1)
        if (below < half).all() and (reached[:, -1] > half).all():
            break
    inside, half = ordered[first:last], half[:, None]
    # The lower and the upper middle value differ where exactly half of the cases lie below.
    return (inside[(reached >= half).argmax(axis=1)] + inside[(reached > half).argmax(axis=1)]) / 2


def _interval(estimate: float, bounds: tuple[float, float], method: str, sample: Clusters, undefined: int) -> Interval:
    count = sample.sizes.size
    listed = np.sort(sample.totals / sample.sizes).tolist() if count < SMALLEST_INTERVAL else ()
    if math.isnan(bounds[0]):
        method = ""
    return Interval(estimate, *bounds, method, int(sample.sizes.sum()), count, undefined, tuple(listed))
