"""How many times as long one sample of timed rounds takes as another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from bench.errors import InputError
from bench.stats.sample import BLOCK_ELEMENTS, CONFIDENCE, RESAMPLES, SEED, Array


class Ratio(NamedTuple):
    """A ratio of two medians with its 95 % interval."""

    value: float
    low: float
    high: float


def speed_ratio(now: Sequence[float], reference: Sequence[float], *, paired: bool = False) -> Ratio:
    """Median of `now` over median of `reference`, above 1 where it became slower, with a percentile bootstrap of both.

    Of seconds, or any positive cost, of raw rounds; none is dropped. `paired` rounds were measured in turn (A/B/A/B)
    and are resampled together. One round on either side has a ratio and no interval. Empty, unequal (when paired),
    undefined or not positive rounds: InputError.
    """
    samples = [np.asarray(rounds, dtype=np.float64) for rounds in (now, reference)]
    for name, rounds in zip(("now", "reference"), samples, strict=True):
        if rounds.ndim != 1 or not rounds.size or not (np.isfinite(rounds) & (rounds > 0)).all():
            raise InputError(f"rounds of {name}: expected at least one, all finite and above 0")
    first, second = samples
    if paired and first.size != second.size:
        raise InputError(f"{first.size} and {second.size} rounds: paired rounds come in equal numbers")
    low, high = math.nan, math.nan
    if min(first.size, second.size) > 1:
        tail = 0.5 - CONFIDENCE / 2
        low, high = (float(bound) for bound in np.quantile(_ratios(first, second, paired), [tail, 1 - tail]))
    return Ratio(float(np.median(first) / np.median(second)), low, high)


def paired_ratio(now: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Median of the ratios of rounds that were timed in turn (A B B A), with the interval of order statistics.

    It holds for any distribution, also where a busy machine makes some rounds much longer. With fewer than 6 rounds it
    is unbounded.
    """
    ratios = np.sort(np.asarray(now, dtype=np.float64) / np.asarray(reference, dtype=np.float64))
    if not ratios.size:
        return Ratio(math.nan, 0.0, math.inf)
    # The interval from the k-th smallest to the k-th largest misses the median with probability 2 P(Bin(n, 1/2) < k).
    k = int(binom.ppf((1 - CONFIDENCE) / 2, ratios.size, 0.5))
    low, high = (float(ratios[k - 1]), float(ratios[-k])) if k else (0.0, math.inf)
    return Ratio(float(np.median(ratios)), low, high)


def _ratios(first: Array, second: Array, paired: bool) -> Array:
    generator = np.random.default_rng(SEED)
    rows = max(1, BLOCK_ELEMENTS // max(first.size, second.size))
    ratios = []
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        chosen = generator.integers(first.size, size=(count, first.size))
        others = chosen if paired else generator.integers(second.size, size=(count, second.size))
        ratios.append(np.median(first[chosen], axis=1) / np.median(second[others], axis=1))
    return np.concatenate(ratios)
