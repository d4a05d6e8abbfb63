"""How many times as long one sample of timed rounds takes as another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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
