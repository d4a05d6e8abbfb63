"""Ranks of several models, and how firmly the cases at hand hold them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bench.errors import InputError
from bench.stats.sample import BLOCK_ELEMENTS, CONFIDENCE, SEED, Array, products, resampled_counts
from bench.stats.table import Better, CaseTable

RANKING_RESAMPLES = 1_000


@dataclass(frozen=True)
class Ranking:
    """Models in the order given, with arrays (models,); ties share the mean of their ranks.

    `score` is what was ranked: the mean over each model's defined cases, or the mean rank over several data sets. `low`
    and `high` bound the rank in 95 % of bootstraps, `p_first` is the share in which the model comes first (ties share
    it), `ranks` (bootstraps, models) the distribution itself. `kendall_tau` averages tau-b between the ranking and
    those of the bootstraps; NaN where all models tie.
    """

    score: Array
    rank: Array
    low: Array
    high: Array
    p_first: Array
    ranks: Array
    kendall_tau: float


def rank_models(tables: Sequence[CaseTable], *, better: Better = "higher") -> Ranking:
    """Rank models by their mean over cases, or by their mean rank over several data sets.

    1,000 cluster bootstraps, drawn within each data set (after Wiesenfarth et al., Scientific Reports 11, 2021).
    A model without any defined value comes last. All tables must hold the same models.
    """
    if not tables or not tables[0].models:
        raise InputError("ranking: expected at least one data set with one model")
    for table in tables[1:]:
        if table.models != tables[0].models:
            raise InputError(f"ranking: models {table.models} in one data set, {tables[0].models} in another")
    sign = -1.0 if better == "higher" else 1.0
    by_table = [_means(table, SEED + number) for number, table in enumerate(tables)]
    means = np.stack([mean for mean, _ in by_table])
    score, rank = _rank(sign * means[:, None, :])
    _, ranks = _rank(sign * np.stack([resampled for _, resampled in by_table]))
    first = ranks == ranks.min(axis=1, keepdims=True)
    tail = 0.5 - CONFIDENCE / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0, method="inverted_cdf")
    p_first = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    tau = _kendall_tau(rank[0], ranks)
    if min(len(set(table.groups)) for table in tables) < 2:  # every resample is the sample again
        low, high, p_first, tau = *(np.full(len(rank[0]), np.nan) for _ in range(3)), math.nan
    return Ranking(
        score=means[0] if len(tables) == 1 else score[0],
        rank=rank[0],
        low=low,
        high=high,
        p_first=p_first,
        ranks=ranks,
        kendall_tau=tau,
    )


def _means(table: CaseTable, seed: int) -> tuple[Array, Array]:
    """Means of all models (M,) and of every resample (B, M), over the defined cases of each."""
    names, numbers = np.unique(np.array(table.groups, dtype=str), return_inverse=True)
    defined = np.isfinite(table.values)
    sums, sizes = np.zeros((2, len(names), len(table.models)))
    np.add.at(sums, numbers, np.where(defined, table.values, 0.0).T)
    np.add.at(sizes, numbers, defined.T.astype(np.float64))
    if not len(names):
        return np.full(len(table.models), np.nan), np.full((RANKING_RESAMPLES, len(table.models)), np.nan)
    with np.errstate(invalid="ignore"):
        blocks = resampled_counts(len(names), RANKING_RESAMPLES, seed)
        means = np.concatenate([products(block, sums) / products(block, sizes) for block in blocks])
        return sums.sum(axis=0) / sizes.sum(axis=0), means


def _rank(costs: Array) -> tuple[Array, Array]:
    """Mean rank over data sets and its rank, both (B, M), of costs (data sets, B, M); smallest first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scale = np.nanmax(np.abs(costs), axis=(1, 2), keepdims=True)
    # Sums of equal values differ in their last digits by the order of addition: that is a tie, not a rank.
    scaled = np.round(costs / np.where(scale > 0, scale, 1.0), 12)
    within = stats.rankdata(np.where(np.isnan(scaled), np.inf, scaled), axis=-1)
    score = within.mean(axis=0)
    return score, stats.rankdata(np.round(score, 12), axis=-1)


def _kendall_tau(rank: Array, ranks: Array) -> float:
    one = np.sign(rank[:, None] - rank[None, :]).ravel()
    agree, pairs = np.zeros((2, len(ranks)))
    rows = max(1, BLOCK_ELEMENTS // one.size)
    for start in range(0, len(ranks), rows):
        block = ranks[start : start + rows]
        many = np.sign(block[:, :, None] - block[:, None, :]).reshape(len(block), -1)
        agree[start : start + rows], pairs[start : start + rows] = many @ one, (many**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        taus = agree / np.sqrt((one @ one) * pairs)
    defined = taus[np.isfinite(taus)]
    return float(defined.mean()) if defined.size else float("nan")
