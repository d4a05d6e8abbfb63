"""The third step: stored predictions and references to score rows, gallery and record."""

from __future__ import annotations

import pickle
import shutil
from typing import Any

from bench import progress
from bench.build import build_dataset
from bench.config import Cell
from bench.device import resolve
from bench.files import digest
from bench.record import RunRecord, Score
from bench.results.environment import device_facts, environment_facts, folder_revision, machine, revision
from bench.results.identity import run_identity
from bench.results.reuse import note_step
from bench.results.store import RunFolder
from bench.results.stored import StoredCase, read_case
from bench.scores import RunScores
from bench.scoring.card import write_card
from bench.scoring.case import CaseSource
from bench.scoring.cases import Scored, open_lpips, score_cases, settings
from bench.scoring.gallery import write_gallery
from bench.scoring.sanity import suspicions
from bench.sources import outside_folder, scoring_code
from bench.types import Dataset


class RunCases(CaseSource):
    """The test cases of a run with its predictions."""

    def __init__(self, cell: Cell, dataset: Dataset, folder: RunFolder) -> None:
        self._config, self._dataset, self._folder = cell.config, dataset, folder

    def read(self, case_id: str) -> StoredCase:
        """A case; InputError naming a broken file."""
        return read_case(self._folder, self._dataset, case_id, self._config["draws"])

    def __getstate__(self) -> dict[str, Any]:
        try:
            pickle.dumps(self._dataset)
        except Exception:  # open files, say: over there it is made again
            return {**vars(self), "_dataset": None}
        return vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._dataset is None:
            self._dataset = build_dataset(self._config)


def score_run(cell: Cell, dataset: Dataset, data: dict[str, str], folder: RunFolder, workers: int = 1) -> None:
    """Score a run's predictions, also under every protocol; cases scored before a kill are not scored again.

    `workers` processes score cases beside one another, with the same results.
    """
    draws = cell.config["draws"]
    known = scored_as(cell, folder)
    # A run that was scored with LPIPS stays so, also where the trunk cannot be had today.
    if known is not None and (draws == 1 or "lpips_trunk" in known):
        _clear(folder)
        return
    lpips, reason = open_lpips(resolve(cell.config["device"])) if draws > 1 else (None, "")
    if known is not None and lpips is None:
        _clear(folder)
        return
    folder.note_revisions(revision())
    note_step(folder, "score", scoring_code())
    what = dataset.case_ids("test"), RunCases(cell, dataset, folder), dataset.spec.labels, cell.config
    scored = score_cases(*what, folder.path / "scoring-cases", lpips, workers=workers)
    scores = RunScores(scored.rows)
    write_gallery(folder, dataset, scores, draws)
    folder.write_scores(scored.rows)
    folder.write_conventions(scored.conventions)
    notes = [reason] if reason else []
    notes += getattr(dataset, "notes", list)() + folder.inference_facts().get("notes", [])
    odd = suspicions(scored.rows)
    for line in odd:
        progress.note(f"warning: {cell.id}: {line}")
    notes += (folder.fit_facts() or {}).get("notes", []) + odd
    record = _record(cell, dataset, data, scored, folder, notes)
    write_card(folder, record, scores)
    folder.write_record(record)  # marks a whole scoring, so it comes last
    _clear(folder)


def _clear(folder: RunFolder) -> None:
    for left in folder.path.glob("scoring-*"):
        shutil.rmtree(left, ignore_errors=True)


def scored_as(cell: Cell, folder: RunFolder) -> dict[str, str] | None:
    """What the record says of a scoring with a cell's settings of the predictions that are there; None without one."""
    if not all(path.exists() for path in (folder.scores_path, folder.conventions_path, folder.record_path)):
        return None
    record = folder.read_record()
    # Records of earlier versions do not say what was scored.
    same = not record.files or record.files == folder.score_files(cell.config["draws"])
    return record.data if same and record.data.get("scoring") == digest(settings(cell.config)) else None


def _threads(folder: RunFolder, step: str) -> dict[str, list[int]]:
    counts = folder.threads().get(step)
    return {"threads": counts} if counts else {}


def _code(cell: Cell, folder: RunFolder) -> dict[str, Any]:
    """Which code made every step, and the revision of a method from outside."""
    place = outside_folder(cell.config["method"])
    return {**folder.steps(), **({"revision": folder_revision(place)} if place else {})}


def _record(
    cell: Cell, dataset: Dataset, data: dict[str, str], scored: Scored, folder: RunFolder, notes: list[str]
) -> RunRecord:
    facts = folder.fit_facts() or {}
    old: dict[str, Any] = {}  # what was measured on this machine stays
    known = folder.read_record() if folder.record_path.exists() else None
    inference = folder.inference_facts()
    made_on = inference.pop("made_on", None) or device_facts(resolve(cell.config["device"]))
    if known and machine(known.environment) == machine(environment_facts(made_on)):
        old = {"scores": known.scores, "timings": known.timings, "benchmarks": known.benchmarks}
    record = scored.record(
        cell.config,
        {**data, **getattr(dataset, "facts", dict)()},
        made_on,
        hash=digest(run_identity(cell, data)),
        code=_code(cell, folder),
        n_cases={split: len(dataset.case_ids(split)) for split in ("train", "val", "test")},
        files=folder.score_files(cell.config["draws"]),
        fit={**facts, **_threads(folder, "fit")},
        inference={**inference, **_threads(folder, "predict")},
        notes=notes,
        **old,
    )
    if not all(isinstance(facts.get(name), int | float) for name in ("train_s_per_step", "train_seconds")):
        return record
    per_step, hours = facts["train_s_per_step"], facts["train_seconds"] / 3600
    note = "optimiser steps; without reading data and validation"
    return record.with_scores(
        [
            Score(metric="train_s_per_step", value=per_step, unit="s", better="lower"),
            Score(metric="train_hours", value=hours, unit="h", better="lower", note=note),
        ]
    )
