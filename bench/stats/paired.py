"""Two models on the same cases: the difference, whether chance explains it, whether it stays in a margin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from bench.errors import InputError
from bench.stats.intervals import Interval, mean_interval
from bench.stats.power import smallest_detectable
from bench.stats.sample import CONFIDENCE, RESAMPLES, SEED, Array, Clusters, cluster
from bench.stats.table import Better, CaseTable, check_better

EXACT_GROUPS = 20
ALPHA = 0.05
_BLOCK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """Model `a` against `b` over the cases where both are defined.

    `difference` is a - b in the metric's own direction; shares `improved`, `worse` and `tied` look from `a`, in the
    better direction. `p_improvement` counts a tie as half a win (Agarwal et al., NeurIPS 2021, with cases as tasks).
    `p` is the two-sided sign-flip test over groups. `sd` is that of the differences of single cases; `detectable` the
    smallest true difference that a test at this n and spread sees with 80 % power, before any correction for several
    tests; NaN below six groups, whose p cannot fall below .05. Undefined values (NaN or
    infinite) take their case out of everything; they are counted by model and in all (`undefined` cases).
    """

    a: str
    b: str
    better: Better
    mean_a: float
    mean_b: float
    difference: Interval
    p: float
    exact: bool
    improved: float
    worse: float
    tied: float
    p_improvement: float
    sd: float
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
    confidence: float
    gain: Interval
    undefined: int


def compare(table: CaseTable, a: str, b: str, *, better: Better = "higher") -> Comparison:
    """Everything a report says of two models of one table."""
    check_better(better)
    defined = _defined(table, a, b)
    first, second = table.row(a)[defined], table.row(b)[defined]
    differences = first - second
    sample = _sample(table, defined, differences)
    gains = differences if better == "higher" else -differences
    shares = [float(np.mean(hits)) if gains.size else math.nan for hits in (gains > 0, gains < 0, gains == 0)]
    count = sample.sizes.size
    spread = sample.standard_error * math.sqrt(count)
    p, exact = sign_flip_test(sample)
    return Comparison(
        a=a,
        b=b,
        better=better,
        mean_a=float(first.mean()) if first.size else math.nan,
        mean_b=float(second.mean()) if second.size else math.nan,
        difference=_interval(table, defined, differences, CONFIDENCE),
        p=p,
        exact=exact,
        improved=shares[0],
        worse=shares[1],
        tied=shares[2],
        p_improvement=shares[0] + shares[2] / 2,
        sd=float(differences.std(ddof=1)) if differences.size > 1 else math.nan,
        # Flips of so few signs never are as rare as ALPHA.
        detectable=smallest_detectable(spread, count) if 2.0 ** (1 - count) < ALPHA else math.nan,
        undefined=int((~defined).sum()),
        undefined_a=int((~np.isfinite(table.row(a))).sum()),
        undefined_b=int((~np.isfinite(table.row(b))).sum()),
    )


def non_inferior(
    table: CaseTable, a: str, b: str, *, margin: float, better: Better = "higher", confidence: float = CONFIDENCE
) -> NonInferiority:
    """Judge `a` against the reference `b`: passed where the one-sided bound of its gain lies above -margin.

    The bound is the lower end of the two-sided interval at 2 confidence - 1, clustered by group. Undefined
    differences are left out and counted; with none left, or fewer than two groups, it fails.
    """
    check_better(better)
    if not (0 <= margin < math.inf and 0.5 < confidence < 1):
        raise InputError(f"margin {margin}, confidence {confidence}: expected a margin >= 0, confidence in (0.5, 1)")
    defined = _defined(table, a, b)
    gains = (table.row(a)[defined] - table.row(b)[defined]) * (1 if better == "higher" else -1)
    gain = _interval(table, defined, gains, 2 * confidence - 1)
    return NonInferiority(gain.low > -margin, gain.low, margin, confidence, gain, int((~defined).sum()))


def sign_flip_test(sample: Clusters, *, resamples: int = RESAMPLES, seed: int = SEED) -> tuple[float, bool]:
    """Two-sided p of a mean difference, flipping the sign of whole groups, and whether it is exact; NaN without any.

    Exact over all sign patterns for up to 20 groups whose sum is not 0; else Monte Carlo, the observed pattern
    counted as one (Phipson and Smyth 2010), so that p is never 0.
    """
    totals = sample.totals[sample.totals != 0]
    if not sample.sizes.size:
        return math.nan, True
    observed = abs(totals.sum()) - 1e-12 * np.abs(totals).sum()  # a flip that only rounds differently is as extreme
    if totals.size <= EXACT_GROUPS:
        sums = np.zeros(1)
        for total in totals[1:]:  # the first sign may stay: a pattern and its opposite are equally extreme
            sums = np.concatenate([sums + total, sums - total])
        return float(np.mean(np.abs(sums + totals[:1].sum()) >= observed)), True
    extreme = 0
    for flips in _flips(totals.size, resamples, seed):
        extreme += int((np.abs(totals.sum() - 2 * (flips @ totals)) >= observed).sum())
    return (extreme + 1) / (resamples + 1), False


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
            p_of_pair[a, b], _ = sign_flip_test(_sample(table, defined, (table.row(a) - table.row(b))[defined]))
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
    blocks = [totals.sum(axis=0) - 2 * (flips @ totals) for flips in _flips(len(totals), RESAMPLES, SEED)]
    flipped = np.ascontiguousarray(np.concatenate(blocks).T)  # (models, resamples)
    by_size = {}
    for i, a in enumerate(names):
        differences = totals[:, i : i + 1] - totals[:, i + 1 :]
        observed = np.abs(differences.sum(axis=0)) - 1e-12 * np.abs(differences).sum(axis=0)
        for j in np.flatnonzero((differences != 0).all(axis=0)):
            extreme = int((np.abs(flipped[i] - flipped[i + 1 + j]) >= observed[j]).sum())
            by_size[a, names[i + 1 + j]] = (extreme + 1) / (RESAMPLES + 1)
    return by_size


def _flips(size: int, resamples: int, seed: int) -> Iterator[Array]:
    """Blocks (b, size), `resamples` rows in all, of 1 where a sign is flipped and 0 where it is not."""
    rows = max(1, _BLOCK_ELEMENTS // size)
    if resamples <= rows:
        yield _all_flips(size, resamples, seed)
        return
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, rows):
        yield generator.integers(2, size=(min(rows, resamples - start), size), dtype=np.int8).astype(np.float64)


@lru_cache(maxsize=4)  # a table compares many pairs over the same cases
def _all_flips(size: int, resamples: int, seed: int) -> Array:
    flips = np.random.default_rng(seed).integers(2, size=(resamples, size), dtype=np.int8).astype(np.float64)
    flips.flags.writeable = False
    return flips


def _defined(table: CaseTable, a: str, b: str) -> np.ndarray:
    return np.isfinite(table.row(a)) & np.isfinite(table.row(b))


def _groups(table: CaseTable, defined: np.ndarray) -> np.ndarray:
    return np.array(table.groups, dtype=str)[defined]


def _sample(table: CaseTable, defined: np.ndarray, differences: Array) -> Clusters:
    _, numbers = np.unique(_groups(table, defined), return_inverse=True)
    return cluster(differences, numbers)


def _interval(table: CaseTable, defined: np.ndarray, differences: Array, confidence: float) -> Interval:
    return mean_interval(differences, _groups(table, defined).tolist(), confidence=confidence)
