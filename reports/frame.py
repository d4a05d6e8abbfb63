"""A folder of runs as records and one tidy table of scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.record import SCORE_COLUMNS, BadRecordError, RunRecord, read_record, read_scores
from reports.variants import content_hashes, flag, variant_labels

RUN_COLUMNS = ["run", "dataset", "method", "seed", "hash", "profile", "protocol", "comparison"]
COLUMNS = RUN_COLUMNS + SCORE_COLUMNS
REPORT_FOLDER = "report"


@dataclass(frozen=True)
class Run:
    """One run folder: its record, how its row is named in tables, and what it may be ranked with."""

    path: Path
    record: RunRecord
    method: str
    comparison: str  # runs of one data set, split and protocol share it; only they are ranked together


@dataclass(frozen=True)
class Frame:
    """All runs of a report; `scores` has the fixed columns COLUMNS even when there are no runs.

    `runs` are rows of tables; `points` belong to a sweep (over DDIM steps) and appear in its figure only.
    """

    runs: list[Run]
    scores: pd.DataFrame
    warnings: list[str] = field(default_factory=list)
    points: list[Run] = field(default_factory=list)

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

    def rows(self, runs: Sequence[Run], metric: str) -> pd.DataFrame:
        """Score rows of one metric in some runs."""
        chosen = self.scores["run"].isin([str(run.path) for run in runs])
        return self.scores[chosen & (self.scores["metric"] == metric)]


def read_frame(runs_dir: Path, runs: Sequence[Path] | None = None) -> Frame:
    """Read every run under `runs_dir`, or only the given folders; what cannot be read becomes a warning."""
    warnings: list[str] = []
    folders = sorted(set(runs)) if runs is not None else _run_folders(runs_dir, warnings)
    read = [(folder, _record(folder, warnings)) for folder in folders]
    found = [(folder, record) for folder, record in read if record is not None]
    kept = _newest_per_seed(found, warnings)
    labels = variant_labels([record for _, record in kept])
    named = [
        Run(path, record, label + flag(record), comparison_key(record))
        for (path, record), label in zip(kept, labels, strict=True)
    ]
    parts = [part for run in named if (part := _scores(run, warnings)) is not None]
    scores = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    rows, points = ([run for run in named if is_point(run.record) == point] for point in (False, True))
    return Frame(rows, scores.astype({"value": np.float64}), warnings, points)


def is_point(record: RunRecord) -> bool:
    """Whether a run was made as a point of a sweep over steps."""
    method = record.config.get("method") or {}
    return method.get("sweep") == "steps" and "steps" in (method.get("inference") or {})


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
        return read_record(path)
    except BadRecordError as error:
        warnings.append(f"{error}, skipped")
        return None


def _scores(run: Run, warnings: list[str]) -> pd.DataFrame | None:
    path = run.path / "scores.parquet"
    if not path.is_file():
        warnings.append(f"{run.path}: no scores.parquet, only the run-level scores are shown")
        return None
    try:
        frame = read_scores(path)
        frame = frame.astype({"value": np.float64, "draw": np.int64})
    except (BadRecordError, ValueError, TypeError) as error:
        warnings.append(f"{str(error).splitlines()[0]}, its case scores are not shown")
        return None
    # A case of no group is a group of its own.
    frame["group"] = frame["group"].where(frame["group"].notna(), frame["case"])
    facts: dict[str, Any] = {
        "run": str(run.path),
        "dataset": run.record.dataset,
        "method": run.method,
        "seed": run.record.seed,
        "hash": run.record.hash,
        "profile": run.record.profile,
        "protocol": run.record.protocol,
        "comparison": run.comparison,
    }
    return frame.assign(**facts)[COLUMNS]


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
