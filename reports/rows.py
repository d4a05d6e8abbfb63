"""Rows of tables: runs that differ in the seed only, and the columns that show their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.record import MetricFacts, RunRecord
from bench.scores import RunScores, Summary, agreement, summarise
from reports.table import Column, Level
from reports.variants import unflagged

_TITLES = {"dataset": "Data set"}


@dataclass(frozen=True)
class Run:
    """One run folder: its record, how its row is named, what it may be ranked with, and its scores if it has some."""

    path: Path
    record: RunRecord
    method: str
    comparison: str  # runs of one data set, split and protocol share it; only they are ranked together
    scores: RunScores | None = None


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed only: all that was scored, or by one convention and of one label.

    `suffix` names the convention in sentences, where the runs have several.
    """

    dataset: str
    method: str
    runs: Sequence[Run]
    convention: str | None = None
    label: str | None = None
    suffix: str = ""
    _known: dict[Any, Summary] = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        """The record of the first run."""
        return self.runs[0].record

    @property
    def where(self) -> str:
        """The row's name in a sentence."""
        return f"{unflagged(self.method)} on {self.dataset}{self.suffix}"

    @property
    def seeds(self) -> str:
        """The seeds of the runs."""
        return ", ".join(str(run.record.seed) for run in self.runs)

    @property
    def scores(self) -> list[RunScores]:
        """The scores of those runs that have any."""
        return [run.scores for run in self.runs if run.scores is not None]

    @property
    def metrics(self) -> set[str]:
        """The metrics that were scored in any of the runs."""
        return {metric for scores in self.scores for metric in scores.metrics}

    def conventions(self, *metrics: str) -> list[str]:
        """The conventions by which any of the metrics was scored for single draws, sorted."""
        return sorted({name for scores in self.scores for metric in metrics for name in scores.conventions(metric)})

    def by_convention(self, metrics: Iterable[str], label: str | None = None) -> list[Row]:
        """This row by every convention of the metrics, of one label or all."""
        names = self.conventions(*metrics)
        suffix = [f" ({name})" if len(names) > 1 else "" for name in names]
        return [replace(self, convention=c, label=label, suffix=s) for c, s in zip(names, suffix, strict=True)]

    def facts(self, metric: str) -> MetricFacts:
        """What the records say of a metric."""
        return next((run.record.metrics[metric] for run in self.runs if metric in run.record.metrics), MetricFacts())

    def summary(self, metric: str) -> Summary:
        """A metric of single draws; made once, since several tables and figures show the same."""
        key = metric, self.convention, self.label
        if key not in self._known:
            facts = self.facts(metric)
            by_seed = sorted(self.runs, key=lambda run: run.record.seed)
            scores = [run.scores for run in by_seed if run.scores and run.scores.conventions(metric)]
            values = [one.values(metric, facts, self.convention, label=self.label) for one in scores]
            self._known[key] = summarise([(v, one.groups) for v, one in zip(values, scores, strict=True)], facts)
        return self._known[key]

    def agreement(self, metric: str) -> Summary:
        """A metric over all draws, made once too."""
        key = metric, "all draws"
        if key not in self._known:
            self._known[key] = agreement(self.scores, metric, self.facts(metric))
        return self._known[key]

    def fill(self, columns: Iterable[Column]) -> dict[str, Any]:
        """The row of a table by column key: what identifies it, and the columns that know their value."""
        facts = {name: getattr(self.record, name) for name in ("draws", "fidelity", "profile", "protocol")}
        facts |= {name: getattr(self, name) for name in ("dataset", "method", "seeds", "convention", "label")}
        facts["comparison"] = self.runs[0].comparison
        return facts | {column.key: column.value(self) for column in columns if column.value}


def of(metric: str, fact: str) -> Callable[[Row], Any]:
    """The value of a column that shows a fact of a metric's Summary."""
    return lambda row: getattr(row.summary(metric), fact)


def plain(metric: str = "", /, **levels: Level) -> list[Column]:
    """Columns without direction, titled by their keys; of a metric, if given, the facts of its Summary."""
    return [
        Column(
            key,
            _TITLES.get(key, key.capitalize().replace("_", " ")),
            level=level,
            value=of(metric, key) if metric else None,
        )
        for key, level in levels.items()
    ]


def means(*metrics: str, within: tuple[str, ...], sd: Level | None, interval: Level) -> list[Column]:
    """The mean of every metric (higher is better), its SD over cases where wanted, and its interval."""
    columns: list[Column] = []
    for metric in metrics:
        columns.append(Column(metric, metric, better="higher", within=within, value=of(metric, "mean")))
        if sd:
            columns.append(Column(f"{metric}_sd", "SD", level=sd, value=of(metric, "sd")))
        columns.append(Column(f"{metric}_interval", "95 % interval", level=interval, value=of(metric, "interval")))
    return columns


def beside(columns: Iterable[Column], fact: str) -> list[Column]:
    """Of every column a further one, in CSV only, for a fact that `cells_of` fills in."""
    return [Column(f"{column.key}_{fact}", f"{column.title} {fact}", level="csv") for column in columns]


def cells_of(summaries: dict[str, Summary]) -> dict[str, Any]:
    """Cells of many metrics: mean, interval, undefined values and why; and the cases behind all of them."""
    cells: dict[str, Any] = {}
    for metric, summary in summaries.items():
        cells[metric] = summary.mean if summary.cases or summary.infinite else None
        cells |= {f"{metric}_{fact}": getattr(summary, fact) for fact in ("interval", "undefined", "why")}
    cells["cases"] = max(summary.cases + summary.excluded for summary in summaries.values())
    cells["undefined"] = sum(summary.undefined for summary in summaries.values())
    return cells
