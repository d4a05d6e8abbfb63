"""A folder of runs as rows of tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from bench.record import BadRecordError, RunRecord, read_record
from bench.scores import RunScores, read_run_scores
from reports.provenance import commit, sampling, versions
from reports.published import Published, read_ledgers
from reports.rows import Row, Run
from reports.unfinished import Unfinished, read_unfinished
from reports.variants import content_hashes, flag, settings_of, variant_labels

REPORT_FOLDER = "report"
_MARKS = ("record.json", "summary.json", "config.yaml", "scores.parquet")  # of a run, of one that is not finished too
_AUDITS = "audit"  # what `sdseg audit` writes beside the runs
_DEPTH = 5  # folders below those of the runs folder


@dataclass(frozen=True, eq=False)
class Frame:
    """All runs of a report.

    `runs` are rows of tables; `points` belong to a sweep over steps and samples and appear in its figure only;
    `ledger` holds what others print, `unfinished` the runs without a record.
    """

    runs: list[Run]
    warnings: list[str] = field(default_factory=list)
    points: list[Run] = field(default_factory=list)
    ledger: list[Published] = field(default_factory=read_ledgers)
    unfinished: list[Unfinished] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)  # all that were looked at, those without a row too

    @property
    def all_runs(self) -> list[Run]:
        """Rows and points."""
        return [*self.runs, *self.points]

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of tables, by data set and method."""
        rows: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            rows.setdefault((run.record.dataset, run.method), []).append(run)
        return [Row(dataset, method, runs) for (dataset, method), runs in sorted(rows.items())]

    def by_dataset(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield every data set with its rows."""
        for dataset, rows in groupby(self.rows, attrgetter("dataset")):
            yield dataset, list(rows)


def read_frame(
    runs_dir: Path,
    runs: Sequence[Path] | None = None,
    published: Sequence[Path] = (),
    only: Collection[Path] | None = None,
) -> Frame:
    """Read every run under `runs_dir`, or only the given folders; what cannot be read becomes a warning.

    `published` are further ledgers, of the folders found `only` these (absolute) count; raises ValueError naming file
    and line where a ledger is broken.
    """
    ledger = read_ledgers(published)
    warnings: list[str] = []
    folders = sorted(set(runs)) if runs is not None else run_folders(runs_dir, warnings)
    folders = [folder for folder in folders if only is None or folder.resolve() in only]
    records = [(folder, record) for folder in folders if (record := _record(folder, warnings)) is not None]
    kept = _newest_per_seed(records, warnings)
    labels = variant_labels([record for _, record in kept])
    named = [
        Run(path, record, label + flag(record), comparison_key(record), _scores(path, record, warnings))
        for (path, record), label in zip(kept, labels, strict=True)
    ]
    plain, points = ([run for run in named if is_point(run.record) == point] for point in (False, True))
    begun = [folder for folder in folders if not (folder / "record.json").is_file()]
    unfinished = [run for folder in begun if (run := read_unfinished(folder)) is not None]
    return Frame(plain, warnings, points, ledger, unfinished, folders)


def is_point(record: RunRecord) -> bool:
    """Whether a run was made as a point of a sweep over steps or samples."""
    chosen = sampling(record)
    return bool((record.config.get("method") or {}).get("sweep")) and chosen is not None and min(chosen) > 0


def comparison_key(record: RunRecord) -> str:
    """What two runs must share to be ranked against each other: data set, its hashes, and the protocol."""
    hashes = ",".join(f"{name}={value}" for name, value in sorted(content_hashes(record).items()))
    return f"{record.dataset}|{hashes}|{record.rules}"


def run_folders(runs_dir: Path, warnings: list[str]) -> list[Path]:
    """The run folders below a folder, ended or not; what holds none is added to the warnings."""
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
        if not inside and child.name != _AUDITS:
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


def _scores(folder: Path, record: RunRecord, warnings: list[str]) -> RunScores | None:
    path = folder / "scores.parquet"
    if not path.is_file():
        warnings.append(f"{folder}: no scores.parquet, only the run-level scores are shown")
        return None
    try:
        return read_run_scores(path, record)
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
