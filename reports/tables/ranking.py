"""Ranking: which differences in Dice the cases at hand hold, and how firmly the order stands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.stats import CaseTable, rank_models
from reports.contest import MARGIN, METRIC, Contest, contests
from reports.frame import Frame
from reports.rows import plain
from reports.table import Column, Table, number
from reports.variants import unflagged

COLUMNS = [
    *plain(dataset="terminal", method="terminal"),
    Column("rank", "Rank", digits=1),
    Column("rank_interval", "95 % ranks", digits=0),
    Column("p_first", "P(first)", digits=2),
    Column("Dice", METRIC, level="page"),
    Column("difference", "To the first", digits=3),
    Column("difference_interval", "95 % interval", digits=3),
    Column("p", "p (Holm)"),
    Column("improved", "Better on", unit="%", digits=0, level="page"),
    *plain(detectable="page", cases="page", groups="csv", undefined="page", verdict="terminal"),
]
CAPTION = (
    "Rank by mean Dice, with the 95 % range of ranks and the chance to come first over 1,000 resamples of the cases"
    " (groups stay together). To the first: paired difference per case, its 95 % interval, the p value of the "
    "sign-flip test after Holm over all pairs of the data set, and the share of cases on which the method beats the"
    " first. Detectable: the smallest true difference that this comparison sees with 80 % power, before Holm. Verdict: "
    f"worse (test and interval agree), within {MARGIN:g} (not worse than the first by more, one-sided 95 %), or not"
    " shown: too few cases to tell."
)
ACROSS = "over data sets"


def build(frame: Frame) -> Table | None:
    """One row per method and data set, best first; over several data sets the mean rank. None below two methods."""
    groups = contests(frame)
    if not groups:
        return None
    rows = [_row(contest, method) for contest in groups for method in contest.methods] + _across(groups)
    notes = [note for contest in groups for note in _notes(contest)]
    return Table("ranking", "Ranking · Which differences are real", CAPTION, COLUMNS, rows, notes)


def _row(contest: Contest, method: str) -> dict[str, Any]:
    ranking, index = contest.ranking, contest.cases.models.index(method)
    row: dict[str, Any] = {
        "dataset": contest.dataset,
        "method": method,
        "rank": _whole(float(ranking.rank[index])),
        "rank_interval": (float(ranking.low[index]), float(ranking.high[index])),
        "p_first": float(ranking.p_first[index]),
        METRIC: math.inf if method in contest.infinite else float(ranking.score[index]),
        "verdict": contest.verdict(method),
    }
    if method == contest.methods[0] or method in contest.infinite:
        return row
    pair = (contest.methods[0], method)
    comparison = contest.pair(pair)
    interval = comparison.difference
    return row | {
        "difference": -interval.estimate,
        "difference_interval": (-interval.high, -interval.low),
        "p": contest.p[pair],
        "improved": 100 * comparison.worse,
        "detectable": comparison.detectable,
        "cases": interval.n,
        "groups": interval.groups,
        "undefined": comparison.undefined,
    }


def _across(groups: list[Contest]) -> list[dict[str, Any]]:
    """Mean ranks of the methods that all data sets have; nothing where a data set comes in two versions."""
    names = [contest.dataset for contest in groups]
    common = [name for name in groups[0].methods if all(name in contest.methods for contest in groups[1:])]
    if len(groups) < 2 or len(set(names)) < len(names) or len(common) < 2:
        return []
    ranking = rank_models([_only(contest.cases, common) for contest in groups])
    rows = []
    for index in np.argsort(ranking.rank, kind="stable"):
        low, high = float(ranking.low[index]), float(ranking.high[index])
        row = {"dataset": ACROSS, "method": common[index], "rank": _whole(float(ranking.rank[index]))}
        words = f"mean rank {number(float(ranking.score[index]), 2)}"
        rows.append({**row, "rank_interval": (low, high), "p_first": float(ranking.p_first[index]), "verdict": words})
    return rows


def _whole(rank: float) -> float:
    return int(rank) if rank.is_integer() else rank  # ties share the mean of their ranks


def _only(table: CaseTable, models: list[str]) -> CaseTable:
    return CaseTable(tuple(models), table.cases, table.groups, np.stack([table.row(model) for model in models]))


def _notes(contest: Contest) -> list[str]:
    tau = number(contest.ranking.kendall_tau, 2)
    notes = [
        f"{contest.dataset}: Kendall's tau between this order and those of its resamples {tau} (1: always the same)."
    ]
    warning = contest.pair((contest.methods[0], contest.methods[1])).difference.warning
    if warning:
        notes.append(f"{contest.dataset}: {warning}.")
    once = "conditional on one training run of each method; another seed may rank otherwise"
    often = "each case is the mean over training runs; their spread is in the table of variance"
    notes.append(f"{contest.dataset}: {once if contest.single_training else often}.")
    for name in contest.left_out:
        notes.append(f"{unflagged(name)} on {contest.dataset} was scored on other cases and is not ranked.")
    return notes
