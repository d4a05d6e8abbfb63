"""Sources of variance, the headline interval, published gains, speed ratios."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.errors import InputError
from bench.stats import ASSUMED_SD, false_claim, headline, mean_interval, speed_ratio, split_variance

SDS = {"seed": 0.03, "case": 0.08, "seed_case": 0.02, "draw": 0.05}


def simulated(seeds: int, cases: int, draws: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (
        0.8
        + generator.normal(0, SDS["seed"], (seeds, 1, 1))
        + generator.normal(0, SDS["case"], (1, cases, 1))
        + generator.normal(0, SDS["seed_case"], (seeds, cases, 1))
        + generator.normal(0, SDS["draw"], (seeds, cases, draws))
    )


def test_split_recovers_the_parts() -> None:
    parts = split_variance(simulated(100, 150, 4))
    for name, sd in SDS.items():
        assert getattr(parts, name) == pytest.approx(sd, rel=0.15), name
    assert (parts.seeds, parts.cases, parts.draws, parts.excluded) == (100, 150, 4, 0)


def test_split_by_hand() -> None:
    # Cells 0, 2 for the first seed and 4, 6 for the second, two draws of cell +- 1: variance of draws 2.
    # Mean squares: interaction 0; seeds (means 1, 5) 2*2*8 = 32, so 32/4 = 8; cases (means 2, 4) 2*2*2 = 8, so 8/4 = 2.
    cells = np.array([[0.0, 2.0], [4.0, 6.0]])
    parts = split_variance(cells[:, :, None] + np.array([-1.0, 1.0]))
    assert (parts.seed, parts.case) == pytest.approx((math.sqrt(8), math.sqrt(2)))
    assert (parts.seed_case, parts.draw) == pytest.approx((0.0, math.sqrt(2)))


def test_one_seed_or_one_draw_leave_parts_unknown() -> None:
    one_seed = split_variance(simulated(1, 3000, 4))
    assert math.isnan(one_seed.seed)
    assert math.isnan(one_seed.seed_case)
    assert one_seed.case == pytest.approx(math.hypot(SDS["case"], SDS["seed_case"]), rel=0.1)
    one_draw = split_variance(simulated(60, 100, 1))
    assert math.isnan(one_draw.draw)
    assert one_draw.seed_case == pytest.approx(math.hypot(SDS["seed_case"], SDS["draw"]), rel=0.1)
    values = simulated(1, 50, 1)
    assert split_variance(values).case == pytest.approx(values.std(ddof=1))


def test_cases_with_undefined_values_are_excluded_from_the_split_and_counted() -> None:
    values = simulated(3, 20, 2)
    values[1, 4, 0] = math.nan
    found, clean = split_variance(values), split_variance(np.delete(values, 4, axis=1))
    assert (found.excluded, found.cases) == (1, 19)
    assert (found.seed, found.case, found.draw) == (clean.seed, clean.case, clean.draw)
    assert math.isnan(split_variance(np.full((3, 4, 2), math.nan)).case)


def test_one_training_run_is_conditional_on_it() -> None:
    values = simulated(1, 40, 3)
    headlined = headline(values)
    assert headlined.condition == "conditional on one training run"
    assert headlined.interval == mean_interval(values[0].mean(axis=1))
    assert headlined.seed_means == pytest.approx((values.mean(),))


def test_headline_takes_seeds_into_account_and_never_pools() -> None:
    values = simulated(3, 60, 3)
    full, cases_only = headline(values), mean_interval(values.mean(axis=(0, 2)))
    assert full.condition == "over 3 training runs"
    assert full.interval.estimate == pytest.approx(values.mean())
    assert full.seed_means == pytest.approx(values.mean(axis=(1, 2)))
    assert full.interval.low < cases_only.low
    assert full.interval.high > cases_only.high
    seed_error = scipy_stats.sem(values.mean(axis=(1, 2)))
    assert full.interval.high - full.interval.low > 2 * 1.96 * seed_error
    repeated = headline(np.repeat(values, 2, axis=2)).interval
    assert repeated.low == pytest.approx(full.interval.low, abs=0.01)
    same_seed = headline(np.repeat(values[:1], 3, axis=0)).interval
    assert same_seed.high - same_seed.low >= cases_only.high - cases_only.low - 0.01


def test_headline_covers_with_few_seeds_where_cases_alone_do_not() -> None:
    generator = np.random.default_rng(0)
    held = {"full": 0, "cases": 0}
    for _ in range(20):
        values = generator.normal(0, 0.04, (3, 1, 1)) + generator.normal(0, 0.05, (12, 1)) + np.zeros((3, 12, 2))
        full, cases = headline(values).interval, mean_interval(values.mean(axis=(0, 2)))
        held["full"] += full.low <= 0 <= full.high
        held["cases"] += cases.low <= 0 <= cases.high
    assert held["full"] >= 17
    assert held["cases"] <= held["full"] - 3


def test_headline_by_groups_and_with_undefined_values() -> None:
    values = simulated(3, 40, 2)
    groups = [f"p{i // 8}" for i in range(40)]
    shifted = values + np.repeat(np.linspace(-0.2, 0.2, 5), 8)[None, :, None]
    grouped, single = headline(shifted, groups).interval, headline(shifted).interval
    assert grouped.groups == 5
    assert grouped.high - grouped.low > single.high - single.low
    values[:, 3] = math.nan
    values[0, 5, 1] = math.nan
    found = headline(values).interval
    assert (found.n, found.undefined) == (39, 1)
    defined = np.delete(values, 3, axis=1)
    assert found.estimate == pytest.approx(np.nanmean(defined, axis=2).mean(axis=0).mean())
    assert math.isfinite(found.low)
    assert math.isnan(headline(np.full((2, 4, 1), math.nan)).interval.low)
    equal = headline(np.full((3, 6, 2), 0.5)).interval
    assert (equal.low, equal.high) == (0.5, 0.5)


@pytest.mark.parametrize("values", [np.zeros((3, 4)), np.zeros((0, 3, 2)), np.full((1, 2, 1), math.inf)])
def test_wrong_tables_are_refused(values: np.ndarray) -> None:
    for function in (split_variance, headline):
        with pytest.raises(InputError, match="values"):
            function(values)


@pytest.mark.parametrize(
    ("dataset", "mean_a", "mean_b", "n", "expected"),
    [
        ("cvc_clinicdb", 95.8, 95.4, 62, 0.31),
        ("kvasir_seg", 94.9, 94.6, 100, 0.35),
        ("btcv", 92.76, 91.89, 12, 0.23),
        ("sts3d", 89.4, 88.9, 3, 0.37),
        ("refuge2", 89.4, 88.7, 400, 0.01),
    ],
)
def test_published_gains_are_false_with_known_probability(
    dataset: str, mean_a: float, mean_b: float, n: int, expected: float
) -> None:
    chance = false_claim(mean_a, mean_b, n, 100 * ASSUMED_SD[dataset])
    assert round(chance, 2) == expected
    assert false_claim(mean_b, mean_a, n, 100 * ASSUMED_SD[dataset]) == pytest.approx(1 - chance)


def test_false_claim_is_the_posterior_of_a_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(0.8, 0.1, 15)
    b = a + generator.normal(0, 0.05, 15)
    b = 0.79 + (b - b.mean()) * (a.std() / b.std())
    correlation = float(np.corrcoef(a, b)[0, 1])
    expected = scipy_stats.ttest_rel(a, b, alternative="greater").pvalue
    assert false_claim(a.mean(), b.mean(), 15, a.std(ddof=1), correlation=correlation) == pytest.approx(expected)


def test_false_claim_without_cases_or_spread_is_undefined() -> None:
    assert math.isnan(false_claim(0.9, 0.8, 1, 0.1))
    assert math.isnan(false_claim(0.9, 0.8, 9, 0.1, correlation=1.0))
    assert false_claim(0.9, 0.9, 9, 0.1) == 0.5
    for wrong in ({"sd": -1.0}, {"sd": math.nan}, {"sd": 1.0, "correlation": 2.0}):
        with pytest.raises(InputError, match="expected an SD"):
            false_claim(0.9, 0.8, 9, **wrong)


def test_speed_ratio_by_hand_and_its_mirror() -> None:
    generator = np.random.default_rng(0)
    reference = generator.gamma(50, 0.02, 40)
    ratio = speed_ratio(reference * 1.5, reference, paired=True)
    assert ratio == pytest.approx((1.5, 1.5, 1.5))
    free, back = speed_ratio(reference * 1.5, reference), speed_ratio(reference, reference * 1.5)
    assert free.low < 1.5 < free.high
    assert back.value == pytest.approx(1 / 1.5)
    assert back.low == pytest.approx(1 / free.high, rel=0.02)


def test_speed_ratio_is_that_of_scipys_bootstrap() -> None:
    generator = np.random.default_rng(1)
    now, reference = generator.gamma(9, 1, 25), generator.gamma(9, 1, 30)
    expected = scipy_stats.bootstrap(
        (now, reference),
        lambda a, b, axis: np.median(a, axis=axis) / np.median(b, axis=axis),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ratio = speed_ratio(now, reference)
    assert (ratio.low, ratio.high) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_no_round_is_dropped_and_one_has_no_interval() -> None:
    rounds = [1.0, 1.1, 1.2, 1.3, 1.4, 9.0]
    ratio = speed_ratio(rounds, rounds[:5])
    assert ratio.value == pytest.approx(1.25 / 1.2)
    single = speed_ratio([2.0], [1.0])
    assert single.value == 2.0
    assert math.isnan(single.low)


@pytest.mark.parametrize(
    ("now", "reference", "paired", "message"),
    [
        ([], [1.0], False, "rounds of now"),
        ([1.0], [math.nan], False, "rounds of reference"),
        ([math.inf], [1.0], False, "rounds of now"),
        ([0.0], [1.0], False, "rounds of now"),
        ([1.0, 2.0], [1.0], True, "equal numbers"),
    ],
)
def test_rounds_that_cannot_be_compared_are_refused(now, reference, paired: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        speed_ratio(now, reference, paired=paired)
