"""A folder of runs as records and one tidy table of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from bench.record import BadRecordError, MetricFacts, RunRecord, read_record
from bench.scores import RunScores, Summary, agreement, read_run_scores, summarise
from reports.provenance import commit, versions
from reports.variants import content_hashes, flag, settings_of, variant_labels

REPORT_FOLDER = "report"
_MARKS = ("record.json", "summary.json", "config.yaml", "scores.parquet")  # of a run, of one that is not finished too
_DEPTH = 5  # folders below those of the runs folder
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One run folder: its record, how its row is named in tables, and what it may be ranked with."""

    path: Path
    record: RunRecord
    method: str
    comparison: str  # runs of one data set, split and protocol share it; only they are ranked together


@dataclass(frozen=True)
class Frame:
    """All runs of a report, and the scores of those that have some.

    `runs` are rows of tables; `points` belong to a sweep (over DDIM steps) and appear in its figure only.
    """

    runs: list[Run]
    scores: dict[Path, RunScores]
    warnings: list[str] = field(default_factory=list)
    points: list[Run] = field(default_factory=list)
    _made: dict[Any, Any] = field(default_factory=dict)

    @property
    def all_runs(self) -> list[Run]:
        """Rows and points."""
        return [*self.runs, *self.points]

    def cells(self) -> Iterator[tuple[str, str, list[Run]]]:
        """Yield (dataset, method, runs): one table row each, its runs differing in seed only."""
        rows: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            rows.setdefault((run.record.dataset, run.method), []).append(run)
        for (dataset, method), runs in sorted(rows.items()):
            yield dataset, method, runs

    def metrics(self, runs: Sequence[Run]) -> set[str]:
        """The metrics that were scored in any of some runs."""
        return {metric for one in self.run_scores(runs) for metric in one.metrics}

    def labels(self, runs: Sequence[Run], metric: str) -> set[str]:
        """The labels of which a metric was scored in any of some runs."""
        return {label for one in self.run_scores(runs) for label in one.rows(metric)["label"].unique()}

    def conventions(self, runs: Sequence[Run], metric: str, single: bool = True) -> list[str]:
        """The conventions by which a metric of single draws (or of all together) was scored, sorted."""
        return sorted({name for one in self.run_scores(runs) for name in one.conventions(metric, single)})

    def facts(self, runs: Sequence[Run], metric: str) -> MetricFacts:
        """What the records of some runs say of a metric."""
        return next((r.record.metrics[metric] for r in runs if metric in r.record.metrics), MetricFacts())

    def cases(self, run: Run, metric: str, convention: str) -> pd.Index:
        """The cases on which a metric was scored by a convention for every draw, sorted; empty where it was not."""
        scores = self.scores.get(run.path)
        return scores.values(metric, self.facts([run], metric), convention).values.index if scores else pd.Index([])

    def run_scores(self, runs: Sequence[Run]) -> list[RunScores]:
        """The scores of those of some runs that have any."""
        return [self.scores[run.path] for run in runs if run.path in self.scores]

    def summary(
        self, runs: Sequence[Run], metric: str, convention: str | None = None, label: str | None = None
    ) -> Summary:
        """A metric of single draws in runs that differ in the seed only, by one convention or all, of one label or all.

        Made once, since several tables and figures show the same.
        """
        key = tuple(run.path for run in runs), metric, convention, label
        return self.once(key, lambda: self._summary(runs, metric, convention, label))

    def agreement(self, runs: Sequence[Run], metric: str) -> Summary:
        """A metric over all draws of runs that differ in the seed only."""
        return agreement(self.run_scores(runs), metric, self.facts(runs, metric))

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` returns, made at the first call with this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _summary(self, runs: Sequence[Run], metric: str, convention: str | None, label: str | None) -> Summary:
        facts = self.facts(runs, metric)
        in_order = sorted(runs, key=lambda run: run.record.seed)
        scores = [one for one in self.run_scores(in_order) if one.conventions(metric)]
        return summarise([(s.values(metric, facts, convention, label=label), s.groups) for s in scores], facts)


def read_frame(runs_dir: Path, runs: Sequence[Path] | None = None) -> Frame:
    """Read every run under `runs_dir`, or only the given folders; what cannot be read becomes a warning."""
    warnings: list[str] = []
    folders = sorted(set(runs)) if runs is not None else _run_folders(runs_dir, warnings)
    records = [(folder, record) for folder in folders if (record := _record(folder, warnings)) is not None]
    kept = _newest_per_seed(records, warnings)
    labels = variant_labels([record for _, record in kept])
    named = [
        Run(path, record, label + flag(record), comparison_key(record))
        for (path, record), label in zip(kept, labels, strict=True)
    ]
    scores = {run.path: rows for run in named if (rows := _scores(run, warnings)) is not None}
    plain, points = ([run for run in named if is_point(run.record) == point] for point in (False, True))
    return Frame(plain, scores, warnings, points)


def is_point(record: RunRecord) -> bool:
    """Whether a run was made as a point of a sweep over steps."""
    method = record.config.get("method") or {}
    inference = method.get("inference") or {}
    return method.get("sweep") == "steps" and "steps" in inference and int(inference["steps"]) > 0


def comparison_key(record: RunRecord) -> str:
    """What two runs must share to be ranked against each other: data set, its hashes, and the protocol."""
    hashes = ",".join(f"{name}={value}" for name, value in sorted(content_hashes(record).items()))
    return f"{record.dataset}|{hashes}|{record.rules}"


def _run_folders(runs_dir: Path, warnings: list[str]) -> list[Path]:
    if not runs_dir.is_dir():
        warnings.append(f"{runs_dir}: no such folder, so there is nothing to report")
        return []
    if _is_run(runs_dir):
        return [runs_dir]
    folders = []
    for child in _folders(runs_dir):
        if child.name == REPORT_FOLDER:
            continue
        inside = list(_runs_below(child, _DEPTH))
        if not inside:
            warnings.append(f"{child}: holds no runs, skipped")
        folders += inside
    return folders


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    """Run folders in a folder or further down: DATASET/METHOD/seed*, or wherever score-folder was told to write."""
    if _is_run(folder):
        yield folder
    elif depth:
        for child in _folders(folder):
            yield from _runs_below(child, depth - 1)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MARKS)


def _folders(parent: Path) -> list[Path]:
    return sorted(child for child in parent.iterdir() if child.is_dir() and not child.name.startswith("."))


def _record(folder: Path, warnings: list[str]) -> RunRecord | None:
    path = folder / "record.json"
    if not any((folder / name).is_file() for name in ("record.json", "summary.json")):
        warnings.append(f"{folder}: no record.json, an unfinished run or a foreign folder, skipped")
        return None
    try:
        record = read_record(path)
        # What is asked of every record; one of odd content is left out here, before it can stop a table.
        for ask in (flag, is_point, comparison_key, settings_of, versions, commit):
            ask(record)
    except BadRecordError as error:
        warnings.append(f"{error}, skipped")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        warnings.append(f"{path}: not a run record ({reason}); delete it and score again, skipped")
    else:
        return record
    return None


def _scores(run: Run, warnings: list[str]) -> RunScores | None:
    path = run.path / "scores.parquet"
    if not path.is_file():
        warnings.append(f"{run.path}: no scores.parquet, only the run-level scores are shown")
        return None
    try:
        return read_run_scores(path, run.record)
    except BadRecordError as error:
        warnings.append(f"{error}, its case scores are not shown")
        return None


def _newest_per_seed(records: list[tuple[Path, RunRecord]], warnings: list[str]) -> list[tuple[Path, RunRecord]]:
    labels = variant_labels([record for _, record in records])
    newest: dict[tuple[str, str, int, str], tuple[Path, RunRecord]] = {}
    for (path, record), label in zip(records, labels, strict=True):
        key = (record.dataset, label, record.seed, comparison_key(record))
        other = newest.get(key)
        if other is None:
            newest[key] = (path, record)
            continue
        keep, drop = sorted([path, other[0]], key=lambda p: (p / "record.json").stat().st_mtime, reverse=True)
        warnings.append(f"{drop}: same configuration and seed as the newer {keep.name}, left out")
        newest[key] = (path, record) if keep == path else other
    return sorted(newest.values(), key=lambda item: item[0])
