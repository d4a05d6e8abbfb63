"""Two models on the same cases: scipy, values by hand, symmetry, and everything that must not pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.errors import InputError
from bench.stats import CaseTable, case_table, compare, holm, mean_interval, non_inferior, smallest_detectable
from bench.stats.paired import sign_flip_test
from bench.stats.sample import cluster

VALUES = st.floats(0, 1, width=16)


def table(a, b, groups=None) -> CaseTable:
    names = [f"c{i:03d}" for i in range(len(a))]
    runs = {"A": dict(zip(names, a, strict=True)), "B": dict(zip(names, b, strict=True))}
    return case_table(runs, None if groups is None else dict(zip(names, groups, strict=True)))


def two_models(n: int, gain: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    base = generator.beta(18, 2, n)
    return base + gain + generator.normal(0, 0.02, n), base + generator.normal(0, 0.02, n)


def flip(differences) -> float:
    values = np.asarray(differences, dtype=np.float64)
    return sign_flip_test(cluster(values, np.arange(values.size)))


def test_different_case_sets_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="case 'c2' is in A but not in B"):
        case_table({"A": {"c1": 1.0, "c2": 1.0}, "B": {"c1": 1.0}})
    with pytest.raises(InputError, match="case 'c0' is in B but not in A"):
        case_table({"A": {"c1": 1.0}, "B": {"c1": 1.0, "c0": 1.0}})
    with pytest.raises(InputError, match="case 'c1' has no group"):
        case_table({"A": {"c1": 1.0}}, {"c2": "p"})
    with pytest.raises(InputError, match="'C' is not among A, B"):
        compare(table([1.0], [1.0]), "A", "C")


def test_four_cases_by_hand() -> None:
    # differences 1, 2, 3, -1: of 16 sign patterns |sum| >= 5 holds for sums +-7 and +-5: signs of 7 (1), 5 (2): 6/16
    comparison = compare(table([1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]), "A", "B")
    assert comparison.difference.estimate == 1.25
    assert (comparison.mean_a, comparison.mean_b) == (1.5, 0.25)
    assert (comparison.improved, comparison.worse, comparison.tied) == (0.75, 0.25, 0.0)
    assert comparison.p == 6 / 16


@pytest.mark.parametrize("n", [5, 10])
def test_exact_sign_flip_is_scipys_permutation_test(n: int) -> None:
    a, b = two_models(n, 0.02)
    expected = scipy_stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert compare(table(a, b), "A", "B").p == pytest.approx(expected.pvalue, abs=1e-12)


def test_sampled_sign_flip_agrees_with_exact_t_and_wilcoxon() -> None:
    a, b = two_models(20, 0.01, seed=3)
    exact = flip(a - b)
    # One more group, almost without weight, takes it over the limit.
    sampled = sign_flip_test(cluster(np.array([*(a - b), 1e-9]), np.arange(21)))
    assert sampled * 10_000 == pytest.approx(round(sampled * 10_000))  # of 9,999 patterns and the observed one
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 9999) + 1e-4)
    a, b = two_models(200, 0.004, seed=1)
    assert flip(a - b) == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue, abs=0.02)
    assert flip(a - b) == pytest.approx(scipy_stats.wilcoxon(a, b).pvalue, abs=0.1)


def test_p_is_never_zero_and_uniform_without_an_effect() -> None:
    a, b = two_models(60, 0.5)
    assert flip(a - b) == 1 / 10_000
    generator = np.random.default_rng(0)
    p = np.array([flip(generator.standard_t(3, size=9)) for _ in range(200)])
    assert abs(np.mean(p <= 0.05) - 0.05) < 0.05
    assert abs(np.mean(p <= 0.5) - 0.5) < 0.12


def test_flips_whole_groups() -> None:
    a, b = two_models(24, 0.02)
    groups = [f"p{i // 4}" for i in range(24)]
    sums = (a - b).reshape(6, 4).sum(axis=1)
    comparison = compare(table(a, b, groups), "A", "B")
    assert comparison.p == flip(sums)
    assert comparison.difference.groups == 6
    assert comparison.p >= 2 / 2**6
    expected = mean_interval(a - b, groups)
    assert (comparison.difference.low, comparison.difference.high) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


@given(st.lists(st.tuples(VALUES, VALUES, st.sampled_from("pqrstuvwxyz")), min_size=2, max_size=30), st.randoms())
@settings(max_examples=12, deadline=None)
def test_swapping_models_mirrors_everything_and_order_of_cases_does_not_matter(rows, random) -> None:
    a, b, groups = zip(*rows, strict=True)
    whole = table(a, b, groups)
    one, other = compare(whole, "A", "B"), compare(whole, "B", "A")
    lower = compare(whole, "B", "A", better="lower")
    near = {"abs": 1e-12, "nan_ok": True}
    assert one.difference.estimate == pytest.approx(-other.difference.estimate, **near)
    assert one.difference.low == pytest.approx(-other.difference.high, **near)
    assert one.p == pytest.approx(other.p, abs=1e-12)
    assert (one.improved, one.worse) == (other.worse, other.improved) == (lower.improved, lower.worse)
    names = random.sample(list(whole.cases), len(whole.cases))
    shuffled = case_table(
        {"A": {n: a[whole.cases.index(n)] for n in names}, "B": {n: b[whole.cases.index(n)] for n in names}},
        {n: groups[whole.cases.index(n)] for n in names},
    )
    assert str(compare(shuffled, "A", "B")) == str(one)  # as text, where NaN equals NaN


@given(st.lists(VALUES, min_size=1, max_size=30))
@settings(max_examples=8, deadline=None)
def test_a_model_against_itself_shows_nothing(values: list[float]) -> None:
    comparison = compare(table(values, values), "A", "B")
    assert (comparison.p, comparison.tied, comparison.difference.estimate) == (1.0, 1.0, 0.0)
    assert non_inferior(table(values, values), "A", "B", margin=0.01).passed == (len(values) > 1)
    assert not non_inferior(table(values, values), "A", "B", margin=0.0).passed


def test_undefined_differences_are_left_out_and_counted_by_model() -> None:
    a, b = two_models(32, 0.01)
    clean = compare(table(a, b), "A", "B")
    nan, inf = math.nan, math.inf
    comparison = compare(table([*a, nan, nan, inf], [*b, nan, 0.5, 0.5]), "A", "B")
    assert (comparison.undefined, comparison.undefined_a, comparison.undefined_b) == (3, 3, 1)
    assert (comparison.p, comparison.difference.n, comparison.improved) == (clean.p, 32, clean.improved)
    assert (comparison.difference.low, comparison.difference.high) == (clean.difference.low, clean.difference.high)


@pytest.mark.parametrize(
    ("a", "b", "groups"),
    [
        ([], [], None),
        ([math.nan] * 4, [0.5] * 4, None),
        ([0.5] * 4, [math.inf] * 4, None),
        ([0.9], [0.1], None),
        ([0.9, 0.8, 0.9], [0.1, 0.1, 0.2], ["p", "p", "p"]),
    ],
    ids=["no case", "undefined", "infinite", "one case", "one group"],
)
def test_nothing_passes_without_a_bound(a: list[float], b: list[float], groups: list[str] | None) -> None:
    verdict = non_inferior(table(a, b, groups), "A", "B", margin=1e9)
    assert verdict.passed is False
    assert math.isnan(verdict.bound)
    comparison = compare(table(a, b, groups), "A", "B")
    assert math.isnan(comparison.difference.low)
    assert math.isnan(comparison.detectable)
    assert not comparison.p <= 0.05


def test_non_inferiority_margin_and_direction() -> None:
    a, b = two_models(60, -0.004)
    loose, tight = (non_inferior(table(a, b), "A", "B", margin=margin) for margin in (0.02, 0.004))
    assert (loose.passed, tight.passed) == (True, False)
    one_sided = mean_interval(a - b, confidence=0.9)  # 95 % below
    assert loose.bound == loose.gain.low == pytest.approx(one_sided.low, abs=1e-12)
    assert loose.bound == pytest.approx(scipy_stats.ttest_rel(a, b).confidence_interval(0.9).low, abs=2e-4)
    assert non_inferior(table(-a, -b), "A", "B", margin=0.02, better="lower").bound == pytest.approx(loose.bound)
    # As HD95, where lower is better, the same values are an improvement.
    assert non_inferior(table(a, b), "A", "B", margin=0.004, better="lower").passed
    for margin in (-0.01, math.nan, math.inf):
        with pytest.raises(InputError, match="margin"):
            non_inferior(table(a, b), "A", "B", margin=margin)


def test_the_smallest_detectable_difference_is_found_in_four_of_five_samples() -> None:
    assert smallest_detectable(math.sqrt(2 * 0.08**2 * (1 - 0.9)), 102) == pytest.approx(0.01, rel=0.01)
    generator = np.random.default_rng(0)
    for n in (5, 30):
        samples = generator.normal(smallest_detectable(2.0, n), 2.0, (1000, n))
        tested = scipy_stats.ttest_1samp(samples, 0, axis=1)
        assert np.mean((tested.pvalue <= 0.05) & (tested.statistic > 0)) == pytest.approx(0.8, abs=0.05)
    assert smallest_detectable(0.0, 9) == 0.0
    assert math.isnan(smallest_detectable(1.0, 1))


def test_detectable_difference_counts_groups_not_slices() -> None:
    a, b = two_models(12, 0.02)
    single = compare(table(a, b), "A", "B").detectable
    assert single == pytest.approx(smallest_detectable(float((a - b).std(ddof=1)), 12))
    names = [f"p{i}" for i in range(12)]
    sliced = compare(table(np.repeat(a, 9), np.repeat(b, 9), np.repeat(names, 9)), "A", "B")
    assert sliced.detectable == pytest.approx(single)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.01, math.nan]) == pytest.approx([0.02, math.nan], nan_ok=True)
    with pytest.raises(InputError, match="expected numbers in"):
        holm([1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
@settings(deadline=None)
def test_holm_is_monotone_bounded_and_free_of_order(p: list[float], random) -> None:
    adjusted = holm(p)
    assert all(raw <= new <= min(1.0, raw * len(p)) + 1e-15 for raw, new in zip(p, adjusted, strict=True))
    ordered = [new for _, new in sorted(zip(p, adjusted, strict=True))]
    assert ordered == sorted(ordered)
    order = random.sample(range(len(p)), len(p))
    assert holm([p[i] for i in order]) == pytest.approx([adjusted[i] for i in order])
