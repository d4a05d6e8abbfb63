"""Values of cases as sums over groups, and how often a bootstrap resample draws each group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.errors import InputError

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint16]
Values = Sequence[float] | Array

RESAMPLES = 9_999
CONFIDENCE = 0.95
SEED = 20240627
BLOCK_ELEMENTS = 4_000_000


class Clusters(NamedTuple):
    """Sum and number of the values of every group, both (G,); groups are the units that are independent."""

    totals: Array
    sizes: Array

    @property
    def mean(self) -> float:
        """Mean over cases; NaN without any."""
        return float(self.totals.sum() / self.sizes.sum()) if self.sizes.size else math.nan

    @property
    def residuals(self) -> Array:
        """What each group adds to the sum of deviations from the mean, (G,)."""
        return self.totals - self.mean * self.sizes

    @property
    def standard_error(self) -> float:
        """Of the mean, linearised as a ratio of sums; the ordinary one where every group has one case."""
        count = self.sizes.size
        if count < 2:
            return math.nan
        residuals = self.residuals
        return math.sqrt(count / (count - 1) * float(residuals @ residuals)) / float(self.sizes.sum())


def defined_values(values: Values, groups: Sequence[str] | None) -> tuple[Array, npt.NDArray[np.int64], int]:
    """Values without NaN in an order that does not depend on theirs, their group numbers, and how many were NaN.

    Without groups every case is its own. Infinite values or lists of two lengths: InputError.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or (groups is not None and len(groups) != array.size):
        raise InputError(f"values {array.shape} and groups ({len(groups or [])},): expected two lists of one length")
    if np.isinf(array).any():
        raise InputError("values hold an infinity, whose mean has no interval: leave it out and count it")
    defined = ~np.isnan(array)
    kept = array[defined]
    if groups is None:
        return np.sort(kept), np.arange(kept.size), int((~defined).sum())
    numbers = group_numbers(tuple(compress(groups, defined.tolist())))
    order = np.lexsort((kept, numbers))
    return kept[order], numbers[order], int((~defined).sum())


@lru_cache(maxsize=64)  # a table asks for many intervals over the same cases
def group_numbers(groups: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """The place of every one among the sorted names of all."""
    numbers = np.unique(np.array(groups, dtype=str), return_inverse=True)[1]
    numbers.flags.writeable = False
    return numbers


def cluster(values: Array, numbers: npt.NDArray[np.int64]) -> Clusters:
    """Sums over groups of values (N,) with group numbers (N,) counted from 0."""
    totals = np.bincount(numbers, weights=values).astype(np.float64)
    return Clusters(totals, np.bincount(numbers).astype(np.float64))


def resampled_counts(groups: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Counts]:
    """Yield blocks (b, groups), `resamples` rows in all: how often each resample of so many groups draws each."""
    rows = max(1, BLOCK_ELEMENTS // groups)
    if resamples <= rows:
        yield _all_counts(groups, resamples, seed)
        return
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, rows):
        yield _counts(generator, groups, min(rows, resamples - start))


@lru_cache(maxsize=4)  # likewise
def _all_counts(groups: int, resamples: int, seed: int) -> Counts:
    counts = _counts(np.random.default_rng(seed), groups, resamples)
    counts.flags.writeable = False
    return counts


def _counts(generator: np.random.Generator, groups: int, rows: int) -> Counts:
    drawn = generator.integers(groups, size=(rows, groups))
    drawn += groups * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.uint16)


def products(counts: Counts, values: Array) -> Array:
    """`counts` times `values` in float64, a few rows at a time: what fits into a cache takes a quarter of the time."""
    rows = max(1, 3_000 // counts.shape[1]) * 64  # a multiple of what BLAS takes at once, which decides the last digit
    parts = (counts[start : start + rows] for start in range(0, len(counts), rows))
    return np.concatenate([part.astype(np.float64) @ values for part in parts])


def bootstrap_deviations(sample: Clusters) -> Array:
    """Mean of every cluster bootstrap resample minus the mean of the sample, (RESAMPLES,)."""
    residuals, sizes = sample.residuals, sample.sizes
    blocks = resampled_counts(sizes.size)
    if (sizes == 1).all():
        return np.concatenate([products(block, residuals) for block in blocks]) / sizes.size
    # Two products by a vector: one by a matrix of two columns takes several times as long.
    return np.concatenate([products(block, residuals) / products(block, sizes) for block in blocks])
