"""fit -> predict -> score: three steps, each skipped when its result is on disk, each killable anywhere."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import progress
from bench.build import build_dataset, build_segmenter
from bench.config import Cell
from bench.contract import Ask, answer, answer_checked, errors_of, plain_facts
from bench.datasets.contract import check_dataset
from bench.datasets.items import TrainingItems
from bench.datasets.splitting import SPLITS
from bench.device import keep_freed_memory, resolve, stated
from bench.errors import InputError, NotApplicableError
from bench.files import digest
from bench.metrics import select
from bench.notes import Notes, heard
from bench.predicting import predict_cases
from bench.results.environment import device_facts, revision
from bench.results.identity import fit_identity, kept
from bench.results.reuse import STEPS, Reused, forget, note_step, origin, reuse_line
from bench.results.store import RunFolder
from bench.scoring.run import score_run, scored_as
from bench.scoring.workers import check_workers
from bench.sources import method_code, outside, scoring_code
from bench.types import Dataset, Segmenter, TaskSpec


def _alone(step: Callable[[Run], None]) -> Callable[[Run], None]:
    """A step during which no other process works in the run's folder."""

    @wraps(step)
    def locked(run: Run) -> None:
        with run.folder.locked():
            step(run)

    return locked


class Run:
    """One cell with its dataset, its folder and its three steps."""

    def __init__(self, cell: Cell, dataset: Dataset | None = None, workers: int = 1) -> None:
        """`workers` processes score."""
        self._workers = check_workers(workers)
        set_up_torch(cell.config["threads"])
        select(cell.config["metrics"])  # an unknown name stops the run before hours of training
        self.cell = cell
        self.dataset = dataset or checked_dataset(cell)
        check_applicable(cell, self.dataset.spec)
        self.data = self.dataset.fingerprint()
        self.folder = RunFolder.of(cell, self.data)
        check_names(self.dataset, self.folder.path)
        self._segmenter: Segmenter | None = None
        self._method: dict[str, Any] = cell.config["method"]
        self._borrows = True

    def do(self, steps: Sequence[str], redo: str | None = None) -> None:
        """Do steps in order, and say in a line what is reused; `redo` forgets what that step and those after it left.

        A method that is fitted again borrows no training.
        """
        if redo is not None:
            forget(self.folder, redo)
            self._borrows = redo != "fit"
        progress.label_cell(f"{self.cell.dataset} {self.cell.method} seed {self.cell.seed}:")
        if line := reuse_line(self.reused(STEPS[: STEPS.index(steps[-1]) + 1])):
            progress.note(f"{self.cell.id}: {line}")
        for step in steps:
            getattr(self, step)()

    def reused(self, steps: Sequence[str]) -> list[Reused]:
        """What of these steps is on disk and stays."""
        code = method_code(self._method)
        wanted, missing = len(self.predictions()), len(self.missing_predictions())
        some = "predictions" if not missing else f"{wanted - missing} of {wanted} predictions"
        there = {
            "fit": ("fit", code) if self.folder.fit_facts() is not None else None,
            "predict": (some, code) if missing < wanted else None,
            "score": ("scores", scoring_code()) if not missing and scored_as(self.cell, self.folder) else None,
        }
        return [origin(self.folder, one[0], step, one[1]) for step in steps if (one := there[step])]

    @property
    def fit_hash(self) -> str:
        """Hash of what the weights depend on."""
        return digest(fit_identity(self.cell, self.data))

    @_alone
    def fit(self) -> None:
        """Train the method, or take the finished training of a run that differs only in inference."""
        if self.folder.fit_facts() is not None:
            return
        self.folder.write_config({**self.cell.config, "task": self.dataset.spec.facts()})
        if self._borrows and self.folder.borrow_fit(self.fit_hash, kept(self.cell)):
            return
        self.folder.note_revisions(revision())
        self.folder.note_threads("fit", torch.get_num_threads())
        note_step(self.folder, "fit", method_code(self._method))
        segmenter = build_segmenter(self.cell.config, self.dataset.spec)
        train = training_items(self.dataset, "train", segmenter.dims)
        val = training_items(self.dataset, "val", segmenter.dims)
        notes = train.suspicions("train", self.dataset.spec.labels)
        for line in notes:
            progress.note(f"warning: {self.cell.dataset}: {line}")
        self.folder.model.mkdir(parents=True, exist_ok=True)
        with errors_of(self._method, "fit"):
            facts = plain_facts(segmenter.fit(train, val, self.folder.model))
        facts |= {"notes": notes} if notes else {}
        known = {"fit_hash": self.fit_hash, "train_items": len(train), **kept(self.cell)}
        self.folder.write_fit_facts({**facts, **known})

    def segmenter(self) -> Segmenter:
        """The fitted method: always a new one that has loaded what `fit` left, also in the process that trained it."""
        if self._segmenter is None:
            if self.folder.fit_facts() is None:
                raise InputError(f"{self.folder.model}: not fitted yet; use the verb fit or run first")
            self._segmenter = load_segmenter(self.cell.config, self.dataset.spec, self.folder)
        return self._segmenter

    def device(self) -> torch.device:
        """Where the fitted method computes."""
        return stated(self.segmenter(), resolve(self.cell.config["device"]))

    @_alone
    def predict(self) -> None:
        """Predict every test case `draws` times; valid predictions on disk stay."""
        self._forget_invalid()
        task, missing = self.dataset.spec, set(self.missing_predictions())
        if not missing and self.folder.is_described():
            return
        if missing:
            self.folder.note_revisions(revision())
            self.folder.note_threads("predict", torch.get_num_threads())
            note_step(self.folder, "predict", method_code(self._method))
        segmenter = self.segmenter()
        # Stored predictions come at their own sizes, which cannot be stacked.
        single = task.dims == 3 or segmenter.model is None
        size = 1 if single else int(self.cell.config["predict_batch_size"])
        # Batches are cut from the whole list, not from what is missing: rounding depends on a batch's size, and a
        # run that was killed must end with the very same scores.
        wanted, notes = self.predictions(), Notes()
        # The tests of the project hold its methods to it; anybody else's are asked once a run.
        ask: Ask = answer_checked if outside(self._method) else answer
        seconds, calls = [], []  # of an answer, an image or a slice, and of a prediction, in every call
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            if missing.isdisjoint(part):
                continue
            case_of = {case_id: self.dataset.case(case_id) for case_id in dict.fromkeys(c for c, _ in part)}
            cases, draws = [case_of[case_id] for case_id, _ in part], [draw for _, draw in part]
            start_time = time.perf_counter()
            with heard(notes):
                answers, ask = predict_cases(segmenter, task, cases, draws, self.cell.config, ask), answer
            slices = sum(case.image.shape[1] if task.dims == 3 else 1 for case in cases)
            calls.append((time.perf_counter() - start_time) / len(cases))
            seconds.append(calls[-1] * len(cases) / slices)
            for case, draw, answered in zip(cases, draws, answers, strict=True):
                self.folder.write_prediction(draw, case.id, *(np.asarray(x) for x in answered))
            progress.report("predicting", min(start + size, len(wanted)), len(wanted))
        describe = getattr(segmenter, "describe", None)
        with errors_of(self._method, "describe"):
            facts = {} if describe is None else plain_facts(describe())
        known = self.folder.inference_facts()
        if notes.lines():
            facts = {**facts, "notes": sorted({*known.get("notes", []), *notes.lines()})}
        facts["samples"] = segmenter.samples
        for name, taken in (("seconds_per_answer", seconds), ("seconds_per_prediction", calls)):
            facts[name] = statistics.median(taken) if taken else known.get(name)
        facts["made_on"] = device_facts(self.device().type)
        self.folder.write_inference_facts(facts)

    def _forget_invalid(self) -> None:
        """Delete predictions that cannot be scored, so that they are made again; what was scored was read."""
        if scored_as(self.cell, self.folder):
            return
        there = [(c, d) for c, d in self.predictions() if self.folder.prediction_path(d, c).exists()]
        invalid = [path for c, d in there if (path := self.folder.invalid_prediction(d, c))]
        for path in invalid:
            path.unlink()
        if invalid:
            progress.note(f"{len(invalid)} predictions on disk are invalid and made again, first {invalid[0]}")

    def predictions(self) -> list[tuple[str, int]]:
        """All (case id, draw) pairs of the test split, the draws of a case together."""
        return [(c, d) for c in self.dataset.case_ids("test") for d in range(self.cell.config["draws"])]

    def missing_predictions(self) -> list[tuple[str, int]]:
        """Those that are not on disk yet."""
        return [(c, d) for c, d in self.predictions() if not self.folder.prediction_path(d, c).exists()]

    @_alone
    def score(self) -> None:
        """Score the stored predictions and write scores, gallery and record."""
        missing = self.missing_predictions()
        if missing:
            case_id, draw = missing[0]
            raise InputError(
                f"{self.folder.prediction_path(draw, case_id)}: {len(missing)} predictions missing;"
                " use the verb predict or run first"
            )
        score_run(self.cell, self.dataset, self.data, self.folder, self._workers)


def check_applicable(cell: Cell, task: TaskSpec) -> None:
    """Raises NotApplicableError for a method of volumes on images, and for one that `requires` a missing package."""
    method = cell.config["method"]
    if method.get("options", {}).get("dims") == 3 and task.dims == 2:
        raise NotApplicableError(f"method {cell.method} segments volumes, and {cell.dataset} has images")
    package = method.get("requires")
    if package and find_spec(package) is None:
        raise NotApplicableError(
            f"method {cell.method} needs the package {package}: pip install 'sdseg-bench[{method['extra']}]'"
        )


def check_names(dataset: Dataset, folder: Path) -> None:
    """Raises InputError for a test case whose name is too long to name the files of its results."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    longest = os.pathconf(there, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    room = longest - len("00-.npz")  # the gallery's names are the longest
    for case_id in dataset.case_ids("test"):
        if (length := len(os.fsencode(case_id))) > room:
            raise InputError(f"case {case_id}: its name has {length} bytes, here {room} at most; rename its files")


def set_up_torch(threads: int | None) -> None:
    """Fix torch's thread count, which the record states, and keep its memory."""
    if threads is not None and threads < 1:
        raise InputError(f"threads={threads}: give a positive number, or null for torch's choice")
    # Torch's own choice is set too: before it is set, MKL may take fewer, and the same count gives other last digits.
    torch.set_num_threads(threads or torch.get_num_threads())
    keep_freed_memory()


@lru_cache(maxsize=1)
def _checked(config: str) -> Dataset:
    section = json.loads(config)
    dataset = build_dataset({"dataset": section})
    with errors_of(section, "check", kind="data set"):
        check_dataset(dataset, every_case=outside(section))
    return dataset


@lru_cache(maxsize=2)
def training_items(dataset: Any, split: str, dims: int) -> TrainingItems:
    """A split as tensors; the methods of one matrix share them."""
    return TrainingItems(dataset, split, dims)


def checked_dataset(cell: Cell) -> Dataset:
    """The cell's dataset, every file of it looked at (once a process): a bad one stops a run before it starts."""
    dataset = _checked(json.dumps(cell.config["dataset"]))
    for split in SPLITS if cell.config["method"].get("recipe") else ("test",):
        if not dataset.case_ids(split):
            raise InputError(f"dataset {cell.dataset}: the {split} split is empty; add cases or change the split")
    return dataset


def load_segmenter(config: dict[str, Any], task: TaskSpec, folder: RunFolder) -> Segmenter:
    """The fitted method of a run folder; raises InputError naming weights that do not fit."""
    folder.check_fit()
    segmenter = build_segmenter(config, task)
    with errors_of(config["method"], "load"):
        try:
            segmenter.load(folder.model)
        except OSError as error:
            raise InputError(str(error).splitlines()[0]) from error
    return segmenter


def run_cell(cell: Cell, steps: Sequence[str] = STEPS, redo: str | None = None, workers: int = 1) -> Path:
    """Do the named steps of a cell, `redo` and those after it anew; returns its run folder. `workers` score."""
    run = Run(cell, workers=workers)
    with run.folder.locked():  # also between the steps
        run.do(steps, redo)
    return run.folder.path
