"""Methods that were scored on the same cases: compared in pairs and ranked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.stats import (
    ALPHA,
    CaseTable,
    Comparison,
    Ranking,
    case_table,
    compare,
    holm,
    non_inferior,
    rank_models,
    sign_flip_p,
)
from reports.frame import Frame
from reports.variants import unflagged

METRIC = "Dice"
MARGIN = 0.01

Pair = tuple[str, str]


class Member(NamedTuple):
    """A method's values and groups by case, its number of training runs, and whether a value is infinite."""

    values: pd.Series
    groups: pd.Series
    seeds: int
    infinite: bool


@dataclass(frozen=True)
class Contest:
    """Methods of one data set, protocol and convention on one set of cases, best mean first.

    `p` holds for every pair (better ranked, worse ranked) its sign-flip p after Holm over all pairs, which holds
    whichever pair a reader picks, and `tested` the p before; `pair` compares one. `within` says of every method but the
    first whether it is not worse than the first by MARGIN. `left_out` names methods that were scored on other cases,
    `infinite` those with an infinite value, which come last and are compared with none.
    """

    dataset: str
    cases: CaseTable
    methods: tuple[str, ...]
    ranking: Ranking
    p: dict[Pair, float]
    within: dict[str, bool]
    single_training: bool
    left_out: tuple[str, ...]
    infinite: frozenset[str]
    tested: dict[Pair, float]
    _pairs: dict[Pair, Comparison] = field(default_factory=dict)

    def pair(self, pair: Pair) -> Comparison:
        """The first against the second, compared when asked for: hundreds of methods have many pairs."""
        if pair not in self._pairs:
            self._pairs[pair] = compare(self.cases, *pair, p=self.tested[pair])
        return self._pairs[pair]

    def difference(self, pair: Pair) -> float:
        """The first minus the second, the mean over the cases that both define; NaN where there is none."""
        differences = self.cases.row(pair[0]) - self.cases.row(pair[1])
        return float(np.nanmean(differences)) if np.isfinite(differences).any() else math.nan

    def shown(self, pair: Pair) -> bool:
        """Whether a difference is shown after Holm."""
        return self.p[pair] < ALPHA and self.pair(pair).shown(self.p[pair])

    def verdict(self, method: str) -> str:
        """What these cases say of a method beside the first."""
        first = self.methods[0]
        if method in self.infinite:
            return "infinite values"
        if method == first:
            return "first"
        if self.shown((first, method)):
            # Means are over each method's own defined cases, a pair over those that both define.
            ahead = self.pair((first, method)).difference.estimate > 0
            return "worse" if ahead else "better where both are defined"
        return f"within {MARGIN:g}" if self.within[method] else "not shown"


@lru_cache(maxsize=1)
def contests(frame: Frame) -> list[Contest]:
    """Every group of two or more methods that may be compared, by data set; made once for a frame."""
    return list(_contests(frame))


def _contests(frame: Frame) -> Iterator[Contest]:
    for (dataset, *_), members in sorted(_groups(frame).items()):
        common = Counter(frozenset(member.values.index) for member in members.values()).most_common(1)[0][0]
        same = {name: member for name, member in members.items() if set(member.values.index) == common}
        if len(same) > 1:
            yield _contest(dataset, same, tuple(unflagged(name) for name in members if name not in same))


def _groups(frame: Frame) -> dict[tuple[str, str, str], dict[str, Member]]:
    """Values and groups by case, and the number of training runs, of every method in each comparable group."""
    by_key: dict[tuple[str, str, str], dict[str, Member]] = {}
    for row in frame.rows:
        for one in row.by_convention([METRIC]):
            scored = [run for run in one.runs if run.scores and one.convention in run.scores.conventions(METRIC)]
            groups = pd.concat([run.scores.groups for run in scored if run.scores])
            summary = one.summary(METRIC)
            values = summary.every * math.nan if summary.infinite else summary.every
            groups = groups[~groups.index.duplicated()].reindex(values.index)
            seeds = len({run.record.seed for run in scored})
            member = Member(values, groups, seeds, bool(summary.infinite))
            by_key.setdefault((row.dataset, row.runs[0].comparison, one.convention or ""), {})[row.method] = member
    return by_key


def _contest(dataset: str, members: dict[str, Member], left_out: tuple[str, ...]) -> Contest:
    values = {name: {str(case): value for case, value in one.values.items()} for name, one in members.items()}
    groups = {str(case): group for case, group in next(iter(members.values())).groups.items()}
    cases = case_table(values, groups)
    ranking = rank_models([cases])
    methods = tuple(cases.models[index] for index in np.argsort(ranking.rank, kind="stable"))
    pairs = list(combinations(methods, 2))
    p = sign_flip_p(cases)
    tested = {pair: p[pair] if pair in p else p[pair[::-1]] for pair in pairs}
    return Contest(
        dataset=dataset,
        cases=cases,
        methods=methods,
        ranking=ranking,
        p=dict(zip(pairs, holm(list(tested.values())), strict=True)),
        within={name: non_inferior(cases, name, methods[0], margin=MARGIN).passed for name in methods[1:]},
        single_training=all(member.seeds == 1 for member in members.values()),
        left_out=left_out,
        infinite=frozenset(name for name, member in members.items() if member.infinite),
        tested=tested,
    )
