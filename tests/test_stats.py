"""Intervals of the mean: values to check on paper, clusters, degenerate samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench import stats
from bench.stats import mean_interval


def beta(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(12, 2, n)


def test_three_values_give_the_t_interval() -> None:
    # mean 2, SD 1, t(0.975, 2) = 4.302653, standard error 1/sqrt(3)
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_four_values_in_two_clusters_by_hand() -> None:
    # clusters (0, 0) and (1, 1): residuals -1 and +1, error sqrt(2/1 * 2)/4 = 0.5, t(0.975, 1) = 12.7062
    mean, low, high = mean_interval([0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"])
    assert mean == 0.5
    assert low == pytest.approx(0.5 - 12.7062 * 0.5, abs=1e-4)
    assert high == pytest.approx(0.5 + 12.7062 * 0.5, abs=1e-4)


def test_large_sample_is_the_bca_interval_of_scipy() -> None:
    values = beta(40)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=stats.RESAMPLES, rng=np.random.default_rng(stats.SEED)
    ).confidence_interval
    assert mean_interval(values)[1:] == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_fourteen_values_use_t_and_fifteen_use_the_bootstrap() -> None:
    def t_interval(values: np.ndarray) -> tuple[float, float]:
        half = scipy_stats.t.ppf(0.975, values.size - 1) * scipy_stats.sem(values)
        return values.mean() - half, values.mean() + half

    assert mean_interval(beta(14))[1:] == pytest.approx(t_interval(beta(14)), abs=1e-12)
    assert mean_interval(beta(15))[1:] != pytest.approx(t_interval(beta(15)), abs=1e-6)


@pytest.mark.parametrize("n", [2, 14, 15, 60])
def test_equal_values_give_an_interval_of_no_width(n: int) -> None:
    assert mean_interval([0.75] * n) == (0.75, 0.75, 0.75)


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([math.nan], math.nan), ([0.4, math.nan], 0.4)])
def test_fewer_than_two_values_have_no_interval(values: list[float], mean: float) -> None:
    assert mean_interval(values) == pytest.approx((mean, math.nan, math.nan), nan_ok=True)


def test_one_cluster_has_a_mean_and_no_interval() -> None:
    assert mean_interval([0.1, 0.3], ["p", "p"]) == pytest.approx((0.2, math.nan, math.nan), nan_ok=True)


def test_undefined_values_are_left_out_with_their_groups() -> None:
    values = beta(20)
    groups = [f"p{i // 2}" for i in range(20)]
    padded = mean_interval([*values, math.nan], [*groups, "p99"])
    assert padded == mean_interval(values, groups)


def test_groups_of_one_case_change_nothing() -> None:
    values = beta(30)
    assert mean_interval(values, [f"p{i}" for i in range(30)]) == mean_interval(values)


def test_repeating_every_case_in_its_cluster_does_not_narrow_the_interval() -> None:
    values = beta(25)
    groups = [f"p{i}" for i in range(25)]
    single = mean_interval(values, groups)
    repeated = mean_interval(np.repeat(values, 8), np.repeat(groups, 8).tolist())
    assert repeated == pytest.approx(single, abs=1e-12)
    pooled = mean_interval(np.repeat(values, 8))
    assert pooled[2] - pooled[1] < 0.6 * (single[2] - single[1])


def test_same_values_give_the_same_interval_twice() -> None:
    assert mean_interval(beta(50)) == mean_interval(beta(50))


@pytest.mark.parametrize("seed", range(5))
def test_interval_holds_the_mean_and_shifts_with_the_values(seed: int) -> None:
    values = beta(35, seed)
    mean, low, high = mean_interval(values)
    assert low < mean < high
    assert mean_interval(values + 3) == pytest.approx((mean + 3, low + 3, high + 3), abs=1e-9)


def test_more_cases_give_a_narrower_interval() -> None:
    widths = [high - low for _, low, high in (mean_interval(beta(n)) for n in (10, 40, 160, 640))]
    assert widths == sorted(widths, reverse=True)


def test_infinite_values_and_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="infinity"):
        mean_interval([1.0, math.inf])
    with pytest.raises(ValueError, match="one length"):
        mean_interval([1.0, 2.0], ["a"])
