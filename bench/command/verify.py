"""`sdseg verify REPORT`: the tables from the rows, the rows from the predictions, all files by their hash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench import progress
from bench.config import Cell
from bench.errors import InputError, RunError, one_line
from bench.importing import import_by_name
from bench.protocols import build_protocol
from bench.record import RunRecord, read_scores
from bench.results.store import RunFolder
from bench.results.stored import read_case
from bench.runner import checked_dataset
from bench.scoring.case import score_case

SAMPLE = 3  # cases of a run that are scored again, unless all are asked for
_KEYS = ["case", "label", "draw", "metric", "convention"]
_CLOSE = 1e-6  # another processor adds in another order


class Checked(NamedTuple):
    """Lines of what differs, how many score rows were made again, or why none was."""

    differences: list[str]
    rows: int = 0
    remark: str = ""


def verify(report: Path, every_case: bool = False) -> tuple[list[str], list[str], str]:
    """Lines of differences, remarks, and a sentence with what was checked; InputError where `report` is none."""
    try:
        verdict = import_by_name("reports.verify.verify_report")(report)
        runs = list(import_by_name("reports.manifest.read_manifest")(report).runs)
    except ValueError as error:
        raise InputError(str(error)) from error
    differences, rows, again = [str(one) for one in verdict.differences], 0, 0
    remarks: dict[str, list[str]] = {}
    for done, folder in enumerate(runs, 1):
        checked = check_run(folder, every_case)
        differences += checked.differences
        if checked.remark:
            remarks.setdefault(checked.remark, []).append(folder.name)
        rows, again = rows + checked.rows, again + bool(checked.rows)
        progress.report("checking runs", done, len(runs))
    of_runs = f"{rows:,} score rows of {again} of {len(runs)} runs"
    counted = f"{verdict.numbers:,} numbers in {verdict.files} files, {of_runs} checked"
    said = [f"{why}, so the score rows of {len(names)} runs were not made again" for why, names in remarks.items()]
    return differences, said, counted


def check_run(folder: Path, every_case: bool) -> Checked:
    """Whether stored predictions are those of the record, and give the score rows that are stored."""
    if not (folder / "record.json").is_file():
        return Checked([])  # was missing or unfinished for the report too, or is a difference already
    run = RunFolder(folder)
    try:
        record = run.read_record()
    except InputError as error:
        return Checked([str(error)])
    if not (folder / "predictions").is_dir():
        return Checked([], remark="no stored predictions")
    sealed = record.files.get("predictions")
    if sealed and sealed != (today := run.predictions_digest(record.draws)):
        return Checked([f"{folder}/predictions: sha256: record {sealed}, today {today}"])
    try:
        return _scored_again(run, record, every_case)
    except (InputError, RunError) as error:
        return Checked([], remark=str(error))
    except (KeyError, TypeError, ValueError) as error:  # a record of before, or of odd content
        return Checked([], remark=f"not a record that can be scored again ({one_line(error)})")


def _scored_again(run: RunFolder, record: RunRecord, every_case: bool) -> Checked:
    config = run.read_config()  # refuses code that nothing installed names
    dataset = checked_dataset(Cell({**record.config, "method": config["method"]}))
    ids = list(dataset.case_ids("test"))
    ids = ids if every_case else ids[:: max(1, len(ids) // SAMPLE)][:SAMPLE]
    protocol = build_protocol(**record.config["protocol"])
    stored = _of_draws(read_scores(run.scores_path))
    differences: list[str] = []
    rows = 0
    for case_id in ids:
        made = score_case(
            read_case(run, dataset, case_id, record.draws),
            tuple(record.labels),
            record.config["metrics"],
            None,
            protocol,
        )
        again = _of_draws(pd.DataFrame(made.rows))
        rows += len(again)
        differences += _unequal(run.path, again, stored[stored.index.get_level_values("case") == case_id])
    return Checked(differences, rows)


def _of_draws(rows: pd.DataFrame) -> pd.Series:
    """The values of single draws; what speaks of all of them may need weights that are not here."""
    return rows[rows["draw"] >= 0].set_index(_KEYS)["value"]


def _unequal(folder: Path, again: pd.Series, stored: pd.Series) -> Iterator[str]:
    both = pd.concat([stored.rename("stored"), again.rename("again")], axis=1)
    same = np.isclose(both["stored"], both["again"], rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
    for row in both[~same].reset_index().to_dict("records"):
        words = ", ".join(str(row[key]) for key in _KEYS)
        yield f"{folder}/scores.parquet: {words}: stored {row['stored']}, from the prediction {row['again']}"
