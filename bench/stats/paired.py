"""Two models on the same cases: the difference, whether chance explains it, whether it stays in a margin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, compress

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from bench.errors import InputError
from bench.stats.intervals import Interval, mean_interval
from bench.stats.sample import BLOCK_ELEMENTS, CONFIDENCE, RESAMPLES, SEED, Array, Clusters, cluster, group_numbers
from bench.stats.table import Better, CaseTable

EXACT_GROUPS = 20
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """Model `a` against `b` over the cases where both are defined.

    `difference` is a - b in the metric's own direction; shares `improved`, `worse` and `tied` look from `a`, in the
    better direction. `p` is the two-sided sign-flip test over groups, `detectable` the smallest true difference that a
    test at this n and spread sees with 80 % power, before any correction for several tests; NaN below six groups, whose
    p cannot fall below .05. Undefined values (NaN or infinite) take their case out of everything; they are counted by
    model and in all (`undefined` cases).
    """

    a: str
    b: str
    better: Better
    mean_a: float
    mean_b: float
    difference: Interval
    p: float
    improved: float
    worse: float
    tied: float
    detectable: float
    undefined: int
    undefined_a: int
    undefined_b: int

    def shown(self, p: float | None = None) -> bool:
        """Whether the cases show a difference: the test (`p` where it was adjusted) and the interval agree.

        Written so that an undefined p or bound is no difference.
        """
        interval = self.difference
        return (self.p if p is None else p) < ALPHA and (interval.low > 0 or interval.high < 0)


@dataclass(frozen=True)
class NonInferiority:
    """Whether `a` is worse than `b` by less than `margin`.

    `bound` is the lower end of the one-sided interval of the gain, which is a - b where higher is better, b - a where
    lower is. Without a bound (NaN) nothing passes. `gain` is the two-sided interval that ends there.
    """

    passed: bool
    bound: float
    margin: float
    gain: Interval


def compare(table: CaseTable, a: str, b: str, *, better: Better = "higher", p: float | None = None) -> Comparison:
    """Everything a report says of two models of one table; `p` where the test was made before (`sign_flip_p`)."""
    defined = _defined(table, a, b)
    first, second = table.row(a)[defined], table.row(b)[defined]
    differences = first - second
    sample = _sample(table, defined, differences)
    gains = differences if better == "higher" else -differences
    shares = [float(np.mean(hits)) if gains.size else math.nan for hits in (gains > 0, gains < 0, gains == 0)]
    count = sample.sizes.size
    spread = sample.standard_error * math.sqrt(count)
    return Comparison(
        a=a,
        b=b,
        better=better,
        mean_a=float(first.mean()) if first.size else math.nan,
        mean_b=float(second.mean()) if second.size else math.nan,
        difference=_interval(table, defined, differences, CONFIDENCE),
        p=sign_flip_test(sample) if p is None else p,
        improved=shares[0],
        worse=shares[1],
        tied=shares[2],
        # Flips of so few signs never are as rare as ALPHA.
        detectable=smallest_detectable(spread, count) if 2.0 ** (1 - count) < ALPHA else math.nan,
        undefined=int((~defined).sum()),
        undefined_a=int((~np.isfinite(table.row(a))).sum()),
        undefined_b=int((~np.isfinite(table.row(b))).sum()),
    )


def non_inferior(table: CaseTable, a: str, b: str, *, margin: float, better: Better = "higher") -> NonInferiority:
    """Judge `a` against the reference `b`: passed where the one-sided bound of its gain lies above -margin.

    The bound is the lower end of the two-sided interval at 90 %, clustered by group. Undefined differences are left
    out; with none left, or fewer than two groups, it fails.
    """
    if not 0 <= margin < math.inf:
        raise InputError(f"margin {margin}: expected a number from 0 on")
    defined = _defined(table, a, b)
    gains = (table.row(a)[defined] - table.row(b)[defined]) * (1 if better == "higher" else -1)
    gain = _interval(table, defined, gains, 2 * CONFIDENCE - 1)
    return NonInferiority(gain.low > -margin, gain.low, margin, gain)


def sign_flip_test(sample: Clusters) -> float:
    """Two-sided p of a mean difference, flipping the sign of whole groups; NaN without any.

    Exact over all sign patterns for up to 20 groups whose sum is not 0; else Monte Carlo, the observed pattern
    counted as one (Phipson and Smyth 2010), so that p is never 0.
    """
    totals = sample.totals[sample.totals != 0]
    if not sample.sizes.size:
        return math.nan
    observed = abs(totals.sum()) - 1e-12 * np.abs(totals).sum()  # a flip that only rounds differently is as extreme
    if totals.size <= EXACT_GROUPS:
        sums = np.zeros(1)
        for total in totals[1:]:  # the first sign may stay: a pattern and its opposite are equally extreme
            sums = np.concatenate([sums + total, sums - total])
        return float(np.mean(np.abs(sums + totals[:1].sum()) >= observed))
    extreme = 0
    for flips in _flips(totals.size):
        extreme += int((np.abs(totals.sum() - 2 * (flips @ totals)) >= observed).sum())
    return (extreme + 1) / (RESAMPLES + 1)


def sign_flip_p(table: CaseTable) -> dict[tuple[str, str], float]:
    """p of `sign_flip_test` for every pair of models of a table, in its order.

    Pairs whose groups all differ share their flips, of which each model then needs the sums once.
    """
    groups, numbers = np.unique(np.array(table.groups, dtype=str), return_inverse=True)
    p_of_pair: dict[tuple[str, str], float] = {}
    if len(groups) > EXACT_GROUPS:
        p_of_pair = _shared_flips(table, numbers)
    for a, b in combinations(table.models, 2):
        if (a, b) not in p_of_pair:
            defined = _defined(table, a, b)
            p_of_pair[a, b] = sign_flip_test(_sample(table, defined, (table.row(a) - table.row(b))[defined]))
    return p_of_pair


def _shared_flips(table: CaseTable, numbers: npt.NDArray[np.int64]) -> dict[tuple[str, str], float]:
    """p of the pairs of models that are defined on the most cases, alike, and differ in every group of them."""
    finite = np.isfinite(table.values)
    cases = finite[finite.sum(axis=1).argmax()]
    same = (finite == cases).all(axis=1)
    names = [model for model, kept in zip(table.models, same, strict=True) if kept]
    values, (_, kept) = table.values[same][:, cases], np.unique(numbers[cases], return_inverse=True)
    totals = np.stack([np.bincount(kept, row) for row in values], axis=1)  # (groups, models)
    if len(totals) <= EXACT_GROUPS:
        return {}
    blocks = [totals.sum(axis=0) - 2 * (flips @ totals) for flips in _flips(len(totals))]
    flipped = np.ascontiguousarray(np.concatenate(blocks).T)  # (models, resamples)
    by_size = {}
    for i, a in enumerate(names):
        differences = totals[:, i : i + 1] - totals[:, i + 1 :]
        observed = np.abs(differences.sum(axis=0)) - 1e-12 * np.abs(differences).sum(axis=0)
        for j in np.flatnonzero((differences != 0).all(axis=0)):
            extreme = int((np.abs(flipped[i] - flipped[i + 1 + j]) >= observed[j]).sum())
            by_size[a, names[i + 1 + j]] = (extreme + 1) / (RESAMPLES + 1)
    return by_size


def _flips(size: int) -> Iterator[Array]:
    """Blocks (b, size), RESAMPLES rows in all, of 1 where a sign is flipped and 0 where it is not."""
    rows = max(1, BLOCK_ELEMENTS // size)
    if rows >= RESAMPLES:
        yield _all_flips(size)
        return
    generator = np.random.default_rng(SEED)
    for start in range(0, RESAMPLES, rows):
        yield generator.integers(2, size=(min(rows, RESAMPLES - start), size), dtype=np.int8).astype(np.float64)


@lru_cache(maxsize=4)  # a table compares many pairs over the same cases
def _all_flips(size: int) -> Array:
    flips = np.random.default_rng(SEED).integers(2, size=(RESAMPLES, size), dtype=np.int8).astype(np.float64)
    flips.flags.writeable = False
    return flips


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Scandinavian Journal of Statistics 6, 1979), in the order given.

    A NaN stays NaN and still counts as a comparison that was planned.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if ((p < 0) | (p > 1)).any():
        raise InputError(f"p values {p.tolist()}: expected numbers in [0, 1]")
    order = np.argsort(p)  # NaN last
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted.tolist()


def smallest_detectable(sd: float, n: int) -> float:
    """The true mean difference that a two-sided paired t test of n cases finds with 80 % power, in its direction.

    `sd` is the standard deviation of the differences. 0 where it is 0, NaN with fewer than two cases.
    """
    if n < 2 or math.isnan(sd):
        return math.nan
    return _detectable_shift(n) * sd / math.sqrt(n)


@lru_cache(maxsize=256)  # a table compares many pairs over the same number of cases
def _detectable_shift(n: int) -> float:
    """The noncentrality of t that a test of n cases finds with 80 % power."""
    limit = float(special.stdtrit(n - 1, 1 - ALPHA / 2))
    return float(optimize.brentq(lambda shift: stats.nct.sf(limit, n - 1, shift) - POWER, 0.0, 4 * limit))


def _defined(table: CaseTable, a: str, b: str) -> np.ndarray:
    return np.isfinite(table.row(a)) & np.isfinite(table.row(b))


def _groups(table: CaseTable, defined: np.ndarray) -> tuple[str, ...]:
    return tuple(compress(table.groups, defined.tolist()))


def _sample(table: CaseTable, defined: np.ndarray, differences: Array) -> Clusters:
    return cluster(differences, group_numbers(_groups(table, defined)))


def _interval(table: CaseTable, defined: np.ndarray, differences: Array, confidence: float) -> Interval:
    return mean_interval(differences, _groups(table, defined), confidence=confidence)
