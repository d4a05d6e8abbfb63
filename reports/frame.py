"""A folder of runs as records and one tidy table of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from bench.record import SCORE_COLUMNS, BadRecordError, RunRecord, check_table, read_record
from reports.provenance import commit, versions
from reports.scores import RunScores, read_run_scores
from reports.summary import Summary, pooled, summarise
from reports.variants import content_hashes, flag, settings_of, variant_labels

COLUMNS = ["run", "seed", *SCORE_COLUMNS]
REPORT_FOLDER = "report"
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
        return {metric for run in self._scored(runs) for metric in self.scores[run.path].metrics}

    def labels(self, runs: Sequence[Run], metric: str) -> set[str]:
        """The labels of which a metric was scored in any of some runs."""
        return {label for run in self._scored(runs) for label in self.scores[run.path].rows(metric)["label"].unique()}

    def conventions(self, runs: Sequence[Run], metric: str, single: bool = True) -> list[str]:
        """The conventions by which a metric of single draws (or of all together) was scored, sorted."""
        keys = {key for run in self._scored(runs) for key in self.scores[run.path].by_case}
        return sorted({convention for name, convention, kind in keys if (name, kind) == (metric, single)})

    def cases(self, run: Run, metric: str, convention: str) -> pd.Index:
        """The cases on which a metric was scored by a convention for every draw, sorted; empty where it was not."""
        scores = self.scores.get(run.path)
        key = metric, convention, True
        return scores.by_case[key][0].index if scores and key in scores.by_case else pd.Index([])

    def rows(self, runs: Sequence[Run], metric: str) -> pd.DataFrame:
        """Score rows of one metric in some runs, with the columns COLUMNS."""
        parts = [
            self.scores[run.path].rows(metric).assign(run=str(run.path), seed=run.record.seed)
            for run in self._scored(runs)
        ]
        parts = [part for part in parts if len(part)]
        if not parts:
            return pd.DataFrame(columns=COLUMNS).astype({"value": float, "draw": int})
        return pd.concat(parts, ignore_index=True)[COLUMNS]

    def summary(self, runs: Sequence[Run], metric: str, convention: str | None = None, single: bool = True) -> Summary:
        """A metric of runs that differ in the seed only, of single draws or (not `single`) of all draws together.

        By one convention, or by all of them. Made once, since several tables and figures show the same.
        """
        key = tuple(run.path for run in runs), metric, convention, single
        return self.once(key, lambda: self._summary(runs, metric, convention, single))

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` returns, made at the first call with this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _summary(self, runs: Sequence[Run], metric: str, convention: str | None, single: bool) -> Summary:
        found = []
        for run in sorted(self._scored(runs), key=lambda run: run.record.seed):
            scores = self.scores[run.path]
            keys = [k for k in scores.by_case if k[0] == metric and k[2] == single and convention in (None, k[1])]
            if len(keys) > 1:
                break
            found += [(scores.by_case[key], scores.groups) for key in keys]
        else:
            if len({run.record.seed for run in runs}) == len(runs):
                return pooled(found)
        # Conventions, or two runs of a seed, are pooled row by row.
        rows = self.rows(runs, metric)
        chosen = (rows["draw"] >= 0) == single
        return summarise(rows[chosen & (rows["convention"] == convention)] if convention else rows[chosen])

    def _scored(self, runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if run.path in self.scores]


def read_frame(runs_dir: Path, runs: Sequence[Path] | None = None) -> Frame:
    """Read every run under `runs_dir`, or only the given folders; what cannot be read becomes a warning."""
    warnings: list[str] = []
    folders = sorted(set(runs)) if runs is not None else _run_folders(runs_dir, warnings)
    found = [(folder, record) for folder in folders if (record := _record(folder, warnings)) is not None]
    kept = _newest_per_seed(found, warnings)
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
    folders = []
    for dataset in sorted(_folders(runs_dir)):
        if dataset.name == REPORT_FOLDER:
            continue
        inside = [run for method in sorted(_folders(dataset)) for run in sorted(_folders(method))]
        if not inside:
            warnings.append(f"{dataset}: holds no runs, skipped")
        folders += inside
    return folders


def _folders(parent: Path) -> list[Path]:
    return [child for child in parent.iterdir() if child.is_dir() and not child.name.startswith(".")]


def _record(folder: Path, warnings: list[str]) -> RunRecord | None:
    path = folder / "record.json"
    if not path.is_file():
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
        check_table(path, run.record)
        return read_run_scores(path)
    except BadRecordError as error:
        warnings.append(f"{error}, its case scores are not shown")
        return None


def _newest_per_seed(found: list[tuple[Path, RunRecord]], warnings: list[str]) -> list[tuple[Path, RunRecord]]:
    labels = variant_labels([record for _, record in found])
    newest: dict[tuple[str, str, int, str], tuple[Path, RunRecord]] = {}
    for (path, record), label in zip(found, labels, strict=True):
        key = (record.dataset, label, record.seed, comparison_key(record))
        other = newest.get(key)
        if other is None:
            newest[key] = (path, record)
            continue
        keep, drop = sorted([path, other[0]], key=lambda p: (p / "record.json").stat().st_mtime, reverse=True)
        warnings.append(f"{drop}: same configuration and seed as the newer {keep.name}, left out")
        newest[key] = (path, record) if keep == path else other
    return sorted(newest.values(), key=lambda item: item[0])
