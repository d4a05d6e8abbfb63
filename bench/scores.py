"""From score rows to the value of a run: the one way of averaging, for tables, command, card, gate and benchmarks.

Labels are averaged within a draw, draws within a case, training seeds, then cases. Undefined values leave their mean
and are counted. A case is infinite as soon as one of its values is, and then so is the mean, without spread and
interval; comparisons leave such a case out. Decibels are averaged as the squared error behind them, since identical
draws are infinite in dB and must count. Imports no torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.columns import DECIBEL, CaseValues, Columns, mean_of_defined
from bench.record import (
    REASON,
    SCORE_COLUMNS,
    WORD_COLUMNS,
    BadRecordError,
    MetricFacts,
    RunRecord,
    categories,
    read_scores,
)
from bench.stats import SMALLEST_INTERVAL, Interval, mean_interval, share_interval


def decibels(error: Any) -> Any:
    """PSNR in dB of mean squared errors; infinite where the error is 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.asarray(error, dtype=float))


@dataclass(frozen=True)
class Summary:
    """Mean over cases with what it rests on; NaN where there is nothing to say.

    `cases` counts cases with a finite value, which `per_case` and `groups` are of, `units` independent groups among
    them, `excluded` cases of which no value is defined; `undefined` and `infinite` count single score rows. `every` has
    all cases; a metric in dB is per case in dB, its mean that of the squared errors.
    """

    mean: float
    sd: float
    cases: int
    units: int
    excluded: int
    undefined: int
    infinite: int
    every: pd.Series
    groups: list[str]
    labels: int
    reasons: Counter[str]
    facts: MetricFacts
    averaged: pd.Series  # the finite values that were averaged; squared errors for a metric in dB
    bounded: bool  # whether an interval can be had of them

    @property
    def per_case(self) -> pd.Series:
        """The finite values by case."""
        return self.every[self.averaged.index]

    @cached_property
    def estimate(self) -> Interval | None:
        """The mean of what was averaged with its interval, whatever the number of groups; None with infinite values."""
        one_per_case = self.facts.kind == "count" and self.facts.high == 1  # and not of images or pairs
        interval_of = share_interval if one_per_case else mean_interval
        return interval_of(self.averaged.tolist(), self.groups) if self.bounded else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the mean within what the metric can be, from SMALLEST_INTERVAL groups on."""
        if self.units < SMALLEST_INTERVAL or self.estimate is None or math.isnan(self.estimate.low):
            return None
        low, high = self.estimate.low, self.estimate.high
        if self.facts.unit == DECIBEL:
            low, high = float(decibels(high)), float(decibels(max(0.0, low)))
        return max(self.facts.low, low), min(self.facts.high, high)

    @property
    def count(self) -> float:
        """How many cases, each label counted, a metric of kind "count" speaks of: the mean over draws and seeds."""
        return float(self.averaged.sum()) * self.labels

    @property
    def why(self) -> str:
        """The reasons of undefined values, the most frequent first."""
        return ", ".join(reason for reason, _ in self.reasons.most_common())


class RunScores:
    """The rows (SCORE_COLUMNS and reasons) of a run, by metric; a case without a group is a group of its own."""

    def __init__(self, rows: pd.DataFrame) -> None:
        if rows["group"].isna().any():
            group = rows["group"].astype(object)
            rows = rows.assign(group=group.where(group.notna(), rows["case"].astype(object)))
        draw, value = np.asarray(rows["draw"].astype(np.int64), np.int32), np.asarray(rows["value"], np.float64)
        words = {name: categories(rows[name]) for name in WORD_COLUMNS}
        order = np.argsort(words["metric"].codes, kind="stable")
        self._words = {name: word.take(order) for name, word in words.items()}
        self._said = rows[REASON].fillna("").astype("category").array.take(order) if REASON in rows else None
        codes, names = self._words["metric"].codes, self._words["metric"].categories
        bounds = np.searchsorted(codes, np.arange(len(names) + 1)).tolist()
        ends = zip(names, bounds, bounds[1:], strict=False)
        self._parts = {name: range(start, stop) for name, start, stop in ends if stop > start}
        case, label = self._words["case"], self._words["label"]
        reason = None if self._said is None else np.asarray(self._said, object)
        self._columns = Columns(case.codes, label.codes, draw[order], value[order], reason, case.categories)
        self._known: dict[Any, CaseValues] = {}

    @cached_property
    def table(self) -> pd.DataFrame:
        """All rows, sorted by metric."""
        return self._taken(slice(None))

    def undefined(self) -> pd.DataFrame:
        """The rows without a value."""
        return self._taken(np.flatnonzero(np.isnan(self._columns.value)))

    def _taken(self, rows: Any) -> pd.DataFrame:
        numbers = {"draw": self._columns.draw[rows], "value": self._columns.value[rows]}
        said = {} if self._said is None else {REASON: self._said[rows]}
        words = {name: word[rows] for name, word in self._words.items()}
        return pd.DataFrame({**words, **numbers, **said})[[*SCORE_COLUMNS, *said]]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that have rows, sorted."""
        return list(self._parts)

    def rows(
        self, metric: str, convention: str | None = None, single: bool | None = None, label: str | None = None
    ) -> pd.DataFrame:
        """The rows of a metric: of single draws or of all together, by a convention, of a label, where given."""
        return self.table.take(self._chosen(metric, convention, single, label))

    def _chosen(
        self, metric: str, convention: str | None = None, single: bool | None = None, label: str | None = None
    ) -> npt.NDArray[np.int64]:
        part = self._parts.get(metric, range(0))
        kept = np.arange(part.start, part.stop)
        if single is not None:
            kept = kept[(self._columns.draw[kept] >= 0) == single]
        for name, word in (("convention", convention), ("label", label)):
            if word is not None:
                codes, names = self._words[name].codes, self._words[name].categories
                kept = kept[codes[kept] == (names.get_loc(word) if word in names else len(names))]
        return kept

    def conventions(self, metric: str, single: bool = True) -> list[str]:
        """The conventions by which a metric of single draws (or of all together) was scored, sorted."""
        return self._conventions.get((metric, single), [])

    def labels(self, metric: str) -> list[str]:
        """The labels of which a metric was scored, sorted."""
        return self._words["label"].categories[np.unique(self._columns.label[self._chosen(metric)])].tolist()

    @cached_property
    def _conventions(self) -> dict[tuple[str, bool], list[str]]:
        codes, names = self._words["convention"].codes, self._words["convention"].categories
        kinds = [(metric, single) for metric in self._parts for single in (False, True)]
        return {(m, s): names[np.unique(codes[self._chosen(m, single=s)])].tolist() for m, s in kinds}

    @cached_property
    def groups(self) -> pd.Series:
        """The group of every case, by case."""
        cases, first = np.unique(self._words["case"].codes, return_index=True)
        groups = np.asarray(self._words["group"].take(first), object)
        return pd.Series(groups, self._columns.cases[cases].rename("case"), dtype=object)  # of Arrow it is slow

    def values(
        self,
        metric: str,
        facts: MetricFacts,
        convention: str | None = None,
        single: bool = True,
        label: str | None = None,
    ) -> CaseValues:
        """The metric by case (`rows` says what is chosen), worked out once."""
        key = metric, facts.unit == DECIBEL, convention, single, label
        if key not in self._known:
            self._known[key] = self._columns.take(self._chosen(metric, convention, single, label)).case_values(facts)
        return self._known[key]

    def draw_values(self, metric: str, facts: MetricFacts) -> pd.DataFrame:
        """A table (cases, draws) of the metric, means over labels; NaN where none is defined."""
        return self._columns.take(self._chosen(metric, single=True)).draw_values(facts)

    def summary(self, metric: str, facts: MetricFacts, **chosen: Any) -> Summary:
        """The metric over cases; `chosen` as for `values`."""
        return summarise([(self.values(metric, facts, **chosen), self.groups)], facts)


def read_run_scores(path: Path, record: RunRecord | None = None) -> RunScores:
    """Read `scores.parquet`; raises BadRecordError naming the file."""
    frame = read_scores(path, record, categories=True)
    try:
        return RunScores(frame)
    except (ValueError, TypeError) as error:
        raise BadRecordError(f"{path}: not a table of scores ({str(error).splitlines()[0]}); score again") from error


def case_values(rows: pd.DataFrame, facts: MetricFacts) -> CaseValues:
    """Rows of one metric of one run by case: over labels within a draw, then over draws."""
    return Columns.of(rows).case_values(facts)


def summarise(runs: Sequence[tuple[CaseValues, pd.Series]], facts: MetricFacts) -> Summary:
    """A metric over the cases of runs that differ in the training seed only, each with the groups of its cases."""
    if not runs:
        runs = [(CaseValues(pd.Series(dtype=float), 0, 0, Counter(), 0), pd.Series(dtype=str))]
    (first, groups), *others = runs
    values = first.values
    if others:
        if all(values.index.equals(one.values.index) for one, _ in others):
            table, cases = np.array([one.values for one, _ in runs]).T, values.index
        else:
            joined = pd.concat([one.values for one, _ in runs], axis=1, sort=True)
            table, cases = joined.to_numpy(), joined.index
        values = pd.Series(mean_of_defined(table), cases)  # over (cases, runs)
        if any(not groups.index.equals(other.index) for _, other in others):
            groups = pd.concat([of_run for _, of_run in runs]).groupby(level=0).first()
    return _over_cases(values, groups, [one for one, _ in runs], facts)


def agreement(runs: Sequence[RunScores], metric: str, facts: MetricFacts, label: str | None = None) -> Summary:
    """A metric over all draws of runs that differ in the seed only, of a label or all of them.

    By convention sdseg the mean is the release's, over images: a case weighs as many as it has in it.
    """
    scored = [run for run in runs if metric in run.metrics]
    summary = summarise([(run.values(metric, facts, single=False, label=label), run.groups) for run in scored], facts)
    scored = [run for run in scored if f"images/{metric}" in run.metrics]
    images = [run.rows(f"images/{metric}", label=label) for run in scored]
    if not sum(map(len, images)):
        return summary
    keys = ["case", "label"]
    of_runs = zip(scored, images, strict=True)
    rows = [run.rows(metric, single=False).merge(n, on=keys, suffixes=("", "_n")) for run, n in of_runs]
    counted = pd.concat(rows).dropna(subset=["value"])
    weights = counted["value_n"].sum()
    mean = float((counted["value"] * counted["value_n"]).sum() / weights) if weights else math.nan
    return replace(summary, mean=mean, bounded=False)


def _over_cases(values: pd.Series, groups: pd.Series, runs: list[CaseValues], facts: MetricFacts) -> Summary:
    every = values.to_numpy()
    finite = values[np.isfinite(every)]
    averaged = finite.to_numpy()
    names = groups.reindex(finite.index).tolist()
    whole, decibel = not np.isinf(every).any(), facts.unit == DECIBEL
    mean = float(averaged.mean()) if averaged.size else math.nan
    return Summary(
        mean=float(decibels(mean)) if decibel else mean if whole else math.inf,
        sd=float(averaged.std(ddof=1)) if averaged.size > 1 and whole and not decibel else math.nan,
        cases=averaged.size,
        units=len(set(names)),
        excluded=int(np.isnan(every).sum()),
        undefined=sum(one.undefined for one in runs),
        infinite=sum(one.infinite for one in runs),
        every=pd.Series(decibels(every), values.index) if decibel else values,
        groups=names,
        labels=max(one.labels for one in runs),
        reasons=sum((one.reasons for one in runs), Counter()),
        facts=facts,
        averaged=finite,
        bounded=whole,
    )


def mean_defined(values: Iterable[float]) -> float:
    """Mean of the values that are defined; where none is, the first one with its reason."""
    values = list(values)
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else values[0] if values else math.nan
