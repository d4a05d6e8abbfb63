"""Ranks of models: by hand, scipy's tau, ties, clusters, several data sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.errors import InputError
from bench.stats import CaseTable, case_table, rank_models


def table(rows, groups=None, models="ABCDEFGH") -> CaseTable:
    rows = np.asarray(rows, dtype=np.float64)
    names = [f"c{i:03d}" for i in range(rows.shape[1])]
    runs = {model: dict(zip(names, row, strict=True)) for model, row in zip(models, rows, strict=False)}
    return case_table(runs, None if groups is None else dict(zip(names, groups, strict=True)))


def three_models(n: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal([[0.8], [0.82], [0.83]], 0.05, (3, n))


def test_a_model_that_always_wins_is_first_in_every_bootstrap() -> None:
    base = np.random.default_rng(0).random(30)
    ranking = rank_models([table([base, base + 0.2, base - 0.2])])
    for ranks in (ranking.rank, ranking.low, ranking.high):
        assert ranks.tolist() == [2, 1, 3]
    assert ranking.p_first.tolist() == [0, 1, 0]
    assert ranking.kendall_tau == 1.0
    assert ranking.score == pytest.approx([base.mean(), base.mean() + 0.2, base.mean() - 0.2])
    assert rank_models([table([base, base + 0.2, base - 0.2])], better="lower").rank.tolist() == [2, 3, 1]


def test_equal_models_share_ranks_and_first_place() -> None:
    base = np.random.default_rng(0).random(31) * 0.1
    reversed_order = base[::-1].copy()
    ranking = rank_models([table([base, base, base - 0.5, base])])
    assert ranking.rank.tolist() == [2, 2, 4, 2]
    assert ranking.p_first == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert rank_models([table([base, reversed_order])]).rank.tolist() == [1.5, 1.5]
    assert math.isnan(rank_models([table([base, base])]).kendall_tau)


def test_two_models_of_equal_merit_are_tied_by_p_first() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.1, 50)
    noise -= noise.mean()
    ranking = rank_models([table([0.8 + noise, 0.8 + generator.permutation(noise)])])
    assert ranking.p_first[0] == pytest.approx(0.5, abs=0.1)
    assert (ranking.low.tolist(), ranking.high.tolist()) == ([1, 1], [2, 2])


def test_bootstrap_ranks_and_tau_against_scipy() -> None:
    values = three_models()
    ranking = rank_models([table(values)])
    assert ranking.ranks.shape == (1000, 3)
    assert (ranking.ranks.sum(axis=1) == 6).all()
    assert ranking.p_first.sum() == pytest.approx(1)
    rows, counts = np.unique(ranking.ranks, axis=0, return_counts=True)
    taus = [scipy_stats.kendalltau(ranking.rank, row).statistic for row in rows]
    assert ranking.kendall_tau == pytest.approx(np.average(taus, weights=counts))
    # Chance that C stays before B, from the normal distribution of the mean difference.
    gain = values[2] - values[1]
    expected = scipy_stats.norm.cdf(gain.mean() / scipy_stats.sem(gain))
    assert np.mean(ranking.ranks[:, 2] < ranking.ranks[:, 1]) == pytest.approx(expected, abs=0.05)


def test_slices_of_few_volumes_are_less_certain_than_cases() -> None:
    values = np.repeat(three_models(8, seed=2), 20, axis=1)
    pooled, clustered = rank_models([table(values)]), rank_models([table(values, np.arange(160) // 20)])
    assert clustered.kendall_tau < pooled.kendall_tau
    assert clustered.p_first.max() < pooled.p_first.max()


def test_means_leave_undefined_values_out() -> None:
    values = three_models()
    values[0, :5] = math.nan
    ranking = rank_models([table(values)])
    assert ranking.score == pytest.approx(np.nanmean(values, axis=1))
    values[1] = math.nan
    for better in ("higher", "lower"):  # last where 0 would be the worst mean, and where it would be the best
        nothing = rank_models([table(values)], better=better)
        assert nothing.rank[1] == 3
        assert nothing.p_first[1] == 0
        assert math.isnan(nothing.score[1])


@pytest.mark.parametrize("values", [np.full((3, 4), math.nan), np.zeros((3, 0))])
def test_without_any_value_all_models_tie(values: np.ndarray) -> None:
    ranking = rank_models([table(values)])
    assert ranking.rank.tolist() == [2, 2, 2]
    assert math.isnan(ranking.kendall_tau)


def test_several_data_sets_by_mean_rank() -> None:
    # Data set 1: A, B, C; 2 and 3: C, A, B by mean. Mean ranks 5/3, 8/3, 5/3: A and C tie, although A's mean is higher.
    base = np.random.default_rng(0).random(20) * 0.01
    first, second = table([base + 0.9, base + 0.5, base]), table([base + 0.2, base + 0.1, base + 0.3])
    ranking = rank_models([first, second, second])
    assert ranking.score == pytest.approx([5 / 3, 8 / 3, 5 / 3])
    assert ranking.rank.tolist() == [1.5, 3, 1.5]
    assert ranking.p_first == pytest.approx([0.5, 0, 0.5])


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(InputError, match="at least one data set"):
        rank_models([])
    with pytest.raises(InputError, match="in another"):
        rank_models([table([[1.0]], models="A"), table([[1.0]], models="B")])


@given(st.permutations(range(4)), st.randoms())
@settings(max_examples=5, deadline=None)
def test_order_of_models_and_cases_does_not_matter(order: list[int], random) -> None:
    values = np.random.default_rng(1).random((4, 12)).round(1)
    cases = random.sample(range(12), 12)
    ranking = rank_models([table(values)])
    runs = {"ABCD"[m]: {f"c{c:03d}": values[m, c] for c in cases} for m in order}
    shuffled = rank_models([case_table(runs)])
    assert shuffled.rank.tolist() == ranking.rank[order].tolist()
    assert shuffled.p_first == pytest.approx(ranking.p_first[order], abs=1e-12)
    assert shuffled.kendall_tau == pytest.approx(ranking.kendall_tau, abs=1e-12)


@pytest.mark.parametrize("groups", [None, ["one"] * 6])
def test_one_group_says_nothing_of_how_sure_a_rank_is(groups: list[str] | None) -> None:
    rows = [[0.8], [0.7]] if groups is None else [[0.8] * 6, [0.7] * 6]
    ranking = rank_models([table(rows, groups)])
    assert ranking.rank.tolist() == [1, 2]
    assert np.isnan([*ranking.low, *ranking.high, *ranking.p_first, ranking.kendall_tau]).all()
