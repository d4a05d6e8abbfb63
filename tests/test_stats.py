"""Intervals of means and medians: values to check on paper, scipy, clusters, degenerate samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench import stats
from bench.errors import InputError
from bench.stats import Interval, bounded_interval, coverage, mean_interval, median_interval, share_interval
from bench.stats.intervals import bca_bounds, t_bounds
from bench.stats.sample import bootstrap_deviations, cluster, resampled_counts


def beta(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(12, 2, n)


def bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def t_interval(values: np.ndarray) -> tuple[float, float]:
    half = scipy_stats.t.ppf(0.975, values.size - 1) * scipy_stats.sem(values)
    return values.mean() - half, values.mean() + half


def test_three_values_give_the_t_interval() -> None:
    # mean 2, SD 1, t(0.975, 2) = 4.302653, standard error 1/sqrt(3)
    interval = mean_interval([3.0, 1.0, 2.0])
    half = 4.302653 / math.sqrt(3)
    assert bounds(interval) == pytest.approx((2.0, 2 - half, 2 + half), abs=1e-6)
    assert (interval.method, interval.n, interval.groups, interval.values) == ("t", 3, 3, (1.0, 2.0, 3.0))


def test_four_values_in_two_clusters_by_hand() -> None:
    # clusters (0, 0) and (1, 1): residuals -1 and +1, error sqrt(2/1 * 2)/4 = 0.5, t(0.975, 1) = 12.7062
    interval = mean_interval([0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"])
    assert bounds(interval) == pytest.approx((0.5, 0.5 - 12.7062 * 0.5, 0.5 + 12.7062 * 0.5), abs=1e-4)
    assert (interval.n, interval.groups) == (4, 2)


@pytest.mark.parametrize("groups", [None, [f"p{i // 3}" for i in range(60)]])
def test_bca_is_that_of_scipy(groups: list[str] | None) -> None:
    values = np.sort(beta(60))
    numbers = np.arange(60) if groups is None else np.array([i // 3 for i in range(60)])
    sample = cluster(values, numbers)
    expected = scipy_stats.bootstrap(
        tuple(sample),
        lambda total, size, axis: total.sum(axis=axis) / size.sum(axis=axis),
        paired=True,
        n_resamples=stats.RESAMPLES,
        rng=np.random.default_rng(stats.SEED),
    ).confidence_interval
    found = bca_bounds(sample, scipy_stats.norm.ppf(0.975), bootstrap_deviations(sample))
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_mean_interval_holds_both_its_parts() -> None:
    values = beta(40)
    interval = mean_interval(values)
    sample = cluster(np.sort(values), np.arange(40))
    bca = bca_bounds(sample, scipy_stats.norm.ppf(0.975), bootstrap_deviations(sample))
    low, high = t_interval(values)
    assert interval.method == "t+BCa"
    assert interval.low < min(low, bca[0])  # its quantile is that of a small sample
    assert interval.high == pytest.approx(high, abs=1e-12)  # skewed to the left: above, t is the farther one
    assert high > bca[1]


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_up_to_four_values_bca_cannot_leave_the_t_interval(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).pareto(1, n)
    low, high = t_bounds(cluster(values, np.arange(n)))
    assert low < values.min()
    assert high > values.max()


def test_counts_over_blocks_are_those_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resampled_counts(7, 100, 3)))
    assert (whole.sum(axis=1) == 7).all()
    monkeypatch.setattr("bench.stats.sample.BLOCK_ELEMENTS", 7 * 30)
    blocks = list(resampled_counts(7, 100, 3))
    assert [len(block) for block in blocks] == [30, 30, 30, 10]
    assert np.array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("n", [2, 14, 15, 60])
def test_equal_values_give_an_interval_of_no_width(n: int) -> None:
    for found in (mean_interval([0.75] * n), median_interval([0.75] * n)):
        assert bounds(found) == (0.75, 0.75, 0.75)
    assert mean_interval([0.1] * n).high - mean_interval([0.1] * n).low < 1e-14


@pytest.mark.parametrize(("values", "estimate"), [([], math.nan), ([math.nan], math.nan), ([0.4, math.nan], 0.4)])
def test_fewer_than_two_values_have_no_interval(values: list[float], estimate: float) -> None:
    for found in (mean_interval(values), median_interval(values)):
        assert bounds(found) == pytest.approx((estimate, math.nan, math.nan), nan_ok=True)
        assert found.method == ""
        assert found.undefined == len(values) - found.n
        assert found.warning == f"no interval (n={found.n})"


def test_one_cluster_has_a_mean_and_no_interval() -> None:
    for found in (mean_interval([0.1, 0.3], ["p", "p"]), median_interval([0.1, 0.3], ["p", "p"])):
        assert bounds(found) == pytest.approx((0.2, math.nan, math.nan), nan_ok=True)
        assert found.warning == "no interval (n=1 groups, 2 cases)"


@pytest.mark.parametrize(
    ("n", "groups", "warning", "listed"),
    [
        (9, 9, "CI unreliable (n=9); values listed", 9),
        (10, 10, "CI unreliable (n=10)", 0),
        (58, 29, "CI unreliable (n=29 groups, 58 cases)", 0),
        (30, 30, "", 0),
    ],
)
def test_small_samples_warn_and_list_their_values(n: int, groups: int, warning: str, listed: int) -> None:
    interval = mean_interval(beta(n), [f"p{i % groups}" for i in range(n)])
    assert interval.warning == warning
    assert len(interval.values) == listed


def test_undefined_values_are_left_out_with_their_groups_and_counted() -> None:
    values, groups = beta(20), [f"p{i // 2}" for i in range(20)]
    padded = mean_interval([*values, math.nan], [*groups, "p99"])
    assert bounds(padded) == bounds(mean_interval(values, groups))
    assert (padded.undefined, padded.n, padded.groups) == (1, 20, 10)


def test_repeating_every_case_in_its_cluster_does_not_narrow_the_interval() -> None:
    values, groups = beta(25), [f"p{i}" for i in range(25)]
    for interval in (mean_interval, median_interval):
        single, repeated = interval(values, groups), interval(np.repeat(values, 8), np.repeat(groups, 8).tolist())
        assert bounds(repeated) == pytest.approx(bounds(single), abs=1e-12)
        pooled = interval(np.repeat(values, 8))
        assert pooled.high - pooled.low < 0.6 * (single.high - single.low)


@given(st.lists(st.tuples(st.floats(-1, 1), st.sampled_from("abcdefgh")), min_size=1, max_size=20), st.randoms())
@settings(max_examples=8, deadline=None)
def test_order_of_cases_does_not_matter(cases: list[tuple[float, str]], random) -> None:
    shuffled = random.sample(cases, len(cases))
    for interval in (mean_interval, median_interval):
        for pick in (lambda rows: [[v for v, _ in rows]], lambda rows: [[v for v, _ in rows], [g for _, g in rows]]):
            assert bounds(interval(*pick(cases))) == pytest.approx(bounds(interval(*pick(shuffled))), nan_ok=True)


@pytest.mark.parametrize("seed", range(2))
def test_interval_holds_the_mean_and_shifts_and_scales_with_the_values(seed: int) -> None:
    values = beta(35, seed)
    estimate, low, high = bounds(mean_interval(values))
    assert low < estimate < high
    moved = bounds(mean_interval(1000 * values + 3))
    assert moved == pytest.approx((1000 * estimate + 3, 1000 * low + 3, 1000 * high + 3), abs=1e-8)


def test_more_cases_and_less_confidence_give_a_narrower_interval() -> None:
    listed = [mean_interval(beta(n)) for n in (10, 40, 160, 640)]
    widths = [interval.high - interval.low for interval in listed]
    assert widths == sorted(widths, reverse=True)
    ninety = mean_interval(beta(40), confidence=0.9)
    assert listed[1].low < ninety.low < ninety.high < listed[1].high


def test_median_interval_is_the_percentile_interval_of_scipy() -> None:
    values = np.sort(beta(41))
    expected = scipy_stats.bootstrap(
        (values,), np.median, n_resamples=stats.RESAMPLES, method="percentile", rng=np.random.default_rng(stats.SEED)
    ).confidence_interval
    interval = median_interval(values)
    assert bounds(interval) == pytest.approx((np.median(values), expected.low, expected.high), abs=1e-12)
    assert interval.method == "percentile"


def test_bounded_interval_answers_for_failures_that_did_not_occur() -> None:
    # n equal values v: the weight of the end is Beta(1, n), so low = v (1 - q), with (1 - q)^n = 0.025
    interval = bounded_interval([0.9] * 12)
    quantile = 0.025 ** (1 / 12)
    assert interval.low == pytest.approx(0.9 * quantile, abs=0.01)
    assert interval.high == pytest.approx(0.9 * quantile + 1 - quantile, abs=0.01)
    mirrored = bounded_interval(1 - beta(20))
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx(bounds(bounded_interval(beta(20)))[1:], abs=0.01)
    with pytest.raises(InputError, match=r"within \[0.0, 1.0\]"):
        bounded_interval([0.5, 1.2])
    assert math.isnan(bounded_interval([math.nan]).low)


def test_tiny_values_have_the_interval_of_their_multiples() -> None:
    values = np.array([0.0, 0.0, 0.0, 0.5, 1.0, 0.25])
    assert bounds(mean_interval(values * 2.0**-600)) == pytest.approx(
        [bound * 2.0**-600 for bound in bounds(mean_interval(values))], rel=1e-9
    )
    assert math.isfinite(mean_interval([0.0, 0.0, 0.0, 0.0, 3.3e-197]).low)


def test_the_share_interval_holds_its_estimate_where_groups_differ_in_size() -> None:
    alone = share_interval([0.0] * 12)
    assert bounds(alone) == bounds(bounded_interval([0.0] * 12))
    values, groups = [1.0] * 100 + [0.0] * 9, ["big"] * 100 + [f"g{index}" for index in range(9)]
    interval = share_interval(values, groups)
    assert interval.estimate == pytest.approx(100 / 109)
    assert interval.low < 0.1
    assert interval.estimate <= interval.high <= 1
    assert (interval.n, interval.groups) == (109, 10)


def test_infinite_values_and_wrong_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="infinity"):
        mean_interval([1.0, math.inf])
    with pytest.raises(InputError, match="one length"):
        mean_interval([1.0, 2.0], ["a"])


def test_coverage_table_counts_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = coverage.simulate(lambda g, n: g.normal(size=n), lambda v: {"all": (-9, 9), "none": (1, 2)}, 0.0, 3, 20)
    assert wide == {"all": (1.0, 18.0), "none": (0.0, 1.0)}
    generator = np.random.default_rng(0)
    assert coverage.dice_values(generator, 50_000).mean() == pytest.approx(0.865, abs=0.002)
    assert coverage.differences(generator, 200_000).mean() == pytest.approx(0.01, abs=0.002)
    assert np.median(coverage.dice_values(generator, 200_000)) == pytest.approx(coverage.dice_median(), abs=0.001)
    monkeypatch.setattr(coverage, "SIZES", (3,))
    assert sum(line.startswith("| 3 |") for line in coverage.tables(1)) == 3
