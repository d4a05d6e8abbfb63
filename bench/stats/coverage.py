"""Measure how often nominal 95 % intervals hold the truth: `python -m bench.stats.coverage [--repeats 1000]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
from scipy import optimize, special, stats

from bench.stats.intervals import bca_bounds, bootstrap_medians, bounded_interval, mean_interval, t_bounds
from bench.stats.sample import CONFIDENCE, SEED, Array, bootstrap_deviations, cluster
from bench.stats.variance import headline

SIZES = (3, 12, 30, 62, 100, 400)
FAILURES = 0.05
Draw = Callable[[np.random.Generator, int], Array]
Bounds = dict[str, tuple[float, float]]
Coverage = dict[str, tuple[float, float]]  # method -> (coverage, mean width)


def dice_values(generator: np.random.Generator, n: int) -> Array:
    """Dice-like values of n cases: beta(18, 2), and 5 % failures between 0 and 0.4. Mean 0.865."""
    failed = generator.random(n) < FAILURES
    return np.where(failed, 0.4 * generator.random(n), generator.beta(18, 2, n))


def differences(generator: np.random.Generator, n: int) -> Array:
    """Differences of two models: normal, SD 0.03, and each alone fails on 2.5 % of cases and loses 0.7. Mean 0.01."""
    fate = generator.random(n)
    return generator.normal(0.01, 0.03, n) + 0.7 * ((fate < FAILURES / 2) * 1.0 - (fate > 1 - FAILURES / 2))


def dice_median() -> float:
    """Median of `dice_values`, from its distribution function."""
    return optimize.brentq(lambda x: FAILURES + (1 - FAILURES) * special.betainc(18, 2, x) - 0.5, 0.4, 1.0)


def mean_bounds(values: Array) -> Bounds:
    """Every interval for the mean of independent values that is compared here."""
    sample = cluster(np.sort(values), np.arange(values.size))
    deviations = bootstrap_deviations(sample)
    low, high = np.quantile(deviations, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    default = mean_interval(values)
    return {
        "t": t_bounds(sample),
        "percentile": (sample.mean + low, sample.mean + high),
        "basic": (sample.mean - high, sample.mean - low),
        "BCa": bca_bounds(sample, float(stats.norm.ppf(0.5 + CONFIDENCE / 2)), deviations) or (np.nan, np.nan),
        "t+BCa": (default.low, default.high),
    }


def dice_bounds(values: Array) -> Bounds:
    """Those for values in [0, 1]."""
    bounded = bounded_interval(values)
    return mean_bounds(values) | {"Gaffke": (bounded.low, bounded.high)}


def difference_bounds(values: Array) -> Bounds:
    """Those for differences, and the one-sided bound that decides on non-inferiority."""
    return mean_bounds(values) | {"one-sided": (mean_interval(values, confidence=2 * CONFIDENCE - 1).low, np.inf)}


def median_bounds(values: Array) -> Bounds:
    """The percentile and the basic interval for the median of independent values."""
    medians = bootstrap_medians(np.sort(values), np.arange(values.size), resamples=1_999)
    low, high = np.quantile(medians, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    middle = 2 * float(np.median(values))
    return {"percentile": (low, high), "basic": (middle - high, middle - low)}


def headline_bounds(values: Array) -> Bounds:
    """The interval over cases alone, as if there were one training run, and the one over everything."""
    case_only, full = mean_interval(values.mean(axis=(0, 2))), headline(values).interval
    return {"cases only": (case_only.low, case_only.high), "headline": (full.low, full.high)}


def three_runs(generator: np.random.Generator, n: int) -> Array:
    """Values (3 seeds, n cases, 5 draws) with SDs 0.01 of seeds, 0.08 of cases, 0.02 of both and of draws. Mean 0."""
    seeds, cases = generator.normal(0, 0.01, (3, 1, 1)), generator.normal(0, 0.08, (n, 1))
    return seeds + cases + generator.normal(0, 0.02, (3, n, 1)) + generator.normal(0, 0.02, (3, n, 5))


def simulate(draw: Draw, bounds: Callable[[Array], Bounds], truth: float, n: int, repeats: int) -> Coverage:
    """Share of `repeats` samples of n cases whose interval holds the truth, and the mean width, by method."""
    generator = np.random.default_rng([SEED, n])
    bounds_by_method: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repeats):
        for method, pair in bounds(draw(generator, n)).items():
            bounds_by_method.setdefault(method, []).append(pair)
    result = {}
    for method, pairs in bounds_by_method.items():
        low, high = np.array(pairs).T
        result[method] = float(np.mean((low <= truth) & (truth <= high))), float(np.nanmean(high - low))
    return result


def tables(repeats: int) -> Iterator[str]:
    """Yield the lines of the tables in docs/statistics.md: coverage, and mean width in brackets."""
    studies: list[tuple[str, Draw, Callable[[Array], Bounds], float, tuple[int, ...]]] = [
        ("Mean of Dice-like values", dice_values, dice_bounds, 0.865, SIZES),
        ("Mean of paired differences", differences, difference_bounds, 0.01, SIZES),
        ("Median of Dice-like values", dice_values, median_bounds, dice_median(), SIZES),
        ("Mean over three training runs", three_runs, headline_bounds, 0.0, (12, 30, 62)),
    ]
    for title, draw, bounds, truth, sizes in studies:
        yield f"\n{title}, true value {truth:.4f}\n\n"
        for n in sizes:
            simulated = simulate(draw, bounds, truth, n, repeats)
            if n == sizes[0]:
                yield f"| n | {' | '.join(simulated)} |\n|---|{'---|' * len(simulated)}\n"
            cells = [
                f"{share:.3f}" + (f" [{width:.3f}]" if np.isfinite(width) else "")
                for share, width in simulated.values()
            ]
            yield f"| {n} | {' | '.join(cells)} |\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    for line in tables(parser.parse_args().repeats):
        sys.stdout.write(line)
        sys.stdout.flush()
