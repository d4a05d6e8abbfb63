"""How many times slower one sample of timed rounds is than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bench.errors import InputError
from bench.stats.sample import CONFIDENCE, RESAMPLES, SEED, Array

_BLOCK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class SpeedRatio:
    """Median of `now` over median of `reference`, above 1 where it became slower, with a 95 % interval.

    `p` is the two-sided Mann-Whitney test of the rounds; `outliers` counts rounds of both beyond 1.5 interquartile
    ranges of the quartiles. No round is dropped. One round on either side has a ratio and no interval.
    """

    ratio: float
    low: float
    high: float
    p: float
    rounds: tuple[int, int]
    outliers: tuple[int, int]


def speed_ratio(now: Sequence[float], reference: Sequence[float], *, paired: bool = False) -> SpeedRatio:
    """Compare seconds (or any positive cost) of raw rounds by a percentile bootstrap of both medians.

    `paired` rounds were measured in turn (A/B/A/B) and are resampled together. Empty, unequal (when paired),
    undefined or not positive rounds: InputError.
    """
    samples = [np.asarray(rounds, dtype=np.float64) for rounds in (now, reference)]
    for name, rounds in zip(("now", "reference"), samples, strict=True):
        if rounds.ndim != 1 or not rounds.size or not (np.isfinite(rounds) & (rounds > 0)).all():
            raise InputError(f"rounds of {name}: expected at least one, all finite and above 0")
    first, second = samples
    if paired and first.size != second.size:
        raise InputError(f"{first.size} and {second.size} rounds: paired rounds come in equal numbers")
    low, high, p = math.nan, math.nan, math.nan
    if min(first.size, second.size) > 1:
        tail = 0.5 - CONFIDENCE / 2
        low, high = (float(bound) for bound in np.quantile(_ratios(first, second, paired), [tail, 1 - tail]))
        p = float(stats.mannwhitneyu(first, second).pvalue)
    return SpeedRatio(
        ratio=float(np.median(first) / np.median(second)),
        low=low,
        high=high,
        p=p,
        rounds=(first.size, second.size),
        outliers=(_outliers(first), _outliers(second)),
    )


def _ratios(first: Array, second: Array, paired: bool) -> Array:
    generator = np.random.default_rng(SEED)
    rows = max(1, _BLOCK_ELEMENTS // max(first.size, second.size))
    ratios = []
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        chosen = generator.integers(first.size, size=(count, first.size))
        others = chosen if paired else generator.integers(second.size, size=(count, second.size))
        ratios.append(np.median(first[chosen], axis=1) / np.median(second[others], axis=1))
    return np.concatenate(ratios)


def _outliers(rounds: Array) -> int:
    lower, upper = np.quantile(rounds, [0.25, 0.75])
    reach = 1.5 * (upper - lower)
    return int(((rounds < lower - reach) | (rounds > upper + reach)).sum())
