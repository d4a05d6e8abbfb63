"""Where results live, and how they get there whole: one folder per (dataset, method, seed, configuration hash)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bench import progress
from bench.config import Cell
from bench.declared import file_keys, replaced
from bench.errors import InputError
from bench.files import T, atomic_path, digest, read_json, strict_json, write_json
from bench.record import REASON, SCORE_COLUMNS, RunRecord, read_record, read_scores
from bench.results.identity import run_identity
from bench.results.locking import locked
from bench.results.seals import broken, check_seals, fitted_files, predictions_digest, seal
from bench.scores import RunScores
from bench.trust import check_code, todays_names


class RunFolder:
    """Paths and atomic reads and writes of one run."""

    def __init__(self, path: Path, write: Callable[[str], AbstractContextManager[Path]] | None = None) -> None:
        """`write` yields a temporary path that becomes the file of a name; by default whatever is there is replaced."""
        self.path = path
        self.model = path / "model"  # weights, training state and log
        self.record_path = path / "record.json"
        self.scores_path = path / "scores.parquet"
        self.conventions_path = path / "conventions.parquet"  # the same predictions under every protocol
        self.gallery = path / "gallery"  # pictures' raw material for the report
        self._write = write or partial(_replacing, path)

    @classmethod
    def of(cls, cell: Cell, data: dict[str, str]) -> RunFolder:
        """The folder of a cell on data with this fingerprint."""
        name = f"seed{cell.seed}-{digest(run_identity(cell, data))[:8]}"
        return cls(Path(cell.config["runs_dir"]) / cell.dataset.replace("/", "-") / cell.method / name)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes out while a step works here."""
        return locked(self.path, below=True)

    def prediction_path(self, draw: int, case_id: str) -> Path:
        """File of one prediction."""
        return self.path / "predictions" / f"draw-{draw:03d}" / f"{case_id}.npz"

    def write_config(self, content: dict[str, Any]) -> None:
        """`config.yaml`: the resolved configuration."""
        with atomic_path(self.path / "config.yaml") as part:
            part.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def read_config(self, trust: bool = False, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """The resolved configuration; raises InputError naming the file, also where it names code of its own.

        Code of the project that has moved since is named as today. `trust` lets it name any code; what
        `hydra.searchpath` among `overrides` brings is installed.
        """
        path = self.path / "config.yaml"
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or "task" not in content or not isinstance(content.get("method"), dict):
                raise ValueError("no run configuration")
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{path}: not the configuration of a run; give a folder runs/.../seed*-*") from error
        content["method"] = method = todays_names(content["method"], overrides)
        if not trust:
            try:
                check_code({"method": content["method"]}, overrides, f"{path}: ")
            except InputError as error:
                raise InputError(f"{error}; --trust runs whatever this file names") from error
        # What training started from may be gone since: all of it that counts is in the model's own folder.
        keys = file_keys("method", method)
        method["options"] = replaced(
            method.get("options"), keys, lambda file: file if Path(file).exists() else str(self.model)
        )
        return content

    def check_fit(self) -> None:
        """InputError naming a file of the fitted model, or config.yaml, that is not as `fit` left it."""
        sealed = (self.fit_facts() or {}).get("files", {})
        check_seals(sealed, self.path, f"bring it back, or delete {self.model} and fit again")

    def fit_facts(self) -> dict[str, Any] | None:
        """What `fit` reported, or None where the fit has not ended."""
        path = self.model / "fit.json"
        return read_json(path, dict, f"delete {self.model} and fit again") if path.exists() else None

    def write_fit_facts(self, facts: dict[str, Any]) -> None:
        """Mark the fit as done, and bind to it the files that it left."""
        files = seal([*fitted_files(self.model), self.path / "config.yaml"], self.path)
        write_json(self.model / "fit.json", {**facts, "files": files})

    def is_described(self) -> bool:
        """Whether it is known how the predictions were made."""
        return (self.path / "predictions" / "inference.json").exists()

    def inference_facts(self) -> dict[str, Any]:
        """How the predictions were made, as the method described it; empty where it did not."""
        path = self.path / "predictions" / "inference.json"
        return read_json(path, dict, f"delete {path.parent} and predict again") if path.exists() else {}

    def write_inference_facts(self, facts: dict[str, Any]) -> None:
        """Keep them beside the predictions."""
        write_json(self.path / "predictions" / "inference.json", facts)

    def _known(self, name: str, kind: type[T]) -> T:
        path = self.path / name
        return read_json(path, kind, f"delete {self.path} and run again") if path.exists() else kind()

    def revisions(self) -> list[str]:
        """Every revision of the code that something in this folder was made with, in order; none where unknown."""
        return self._known("revisions.json", list)

    def threads(self) -> dict[str, list[int]]:
        """With how many threads each step (fit, predict) worked here, in order; none of a step where unknown."""
        return self._known("threads.json", dict)

    def note_threads(self, step: str, *counts: int) -> None:
        """Remember them before a step works with so many, since results that are there already stay."""
        known = self.threads()
        if new := [count for count in counts if count not in known.get(step, [])]:
            write_json(self.path / "threads.json", {**known, step: [*known.get(step, []), *new]})

    def steps(self) -> dict[str, Any]:
        """Of every step (fit, predict, score) the day it last worked and the hashes of its code; see `reuse.py`."""
        return self._known("steps.json", dict)

    def write_steps(self, steps: dict[str, Any]) -> None:
        """Keep them beside the results."""
        write_json(self.path / "steps.json", steps)

    def note_revisions(self, *revisions: str) -> None:
        """Remember them before a step works with this code, since results that are there already stay."""
        before = self.record_path.exists() or self.fit_facts() is not None
        known = self.revisions() or (["unknown"] if before else [])
        if new := [one for one in dict.fromkeys(revisions) if one not in known]:
            write_json(self.path / "revisions.json", [*known, *new])

    def write_prediction(self, draw: int, case_id: str, score: np.ndarray, mask: np.ndarray) -> None:
        """Store score (L, *S) as float16 and mask (L, *S) as bits."""
        with atomic_path(self.prediction_path(draw, case_id)) as part, part.open("wb") as file:
            shape = np.asarray(mask.shape)
            np.savez_compressed(file, score=score.astype(np.float16), mask=np.packbits(mask), shape=shape)

    def invalid_prediction(self, draw: int, case_id: str) -> Path | None:
        """The file of a prediction that cannot be read or has scores outside [0, 1]; None where it is in order."""
        try:
            score, mask = self.read_prediction(draw, case_id)
            valid = score.shape == mask.shape and bool(((score >= 0) & (score <= 1)).all())
        except InputError:
            valid = False
        return None if valid else self.prediction_path(draw, case_id)

    def read_prediction(self, draw: int, case_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Score (L, *S) float32 and mask (L, *S) bool; raises InputError naming a broken file."""
        path = self.prediction_path(draw, case_id)
        try:
            with np.load(path) as stored:
                shape = tuple(stored["shape"])
                mask = np.unpackbits(stored["mask"], count=int(np.prod(shape))).reshape(shape).astype(bool)
                return stored["score"].astype(np.float32), mask
        except Exception as error:
            raise InputError(f"{path}: not a stored prediction; delete it and predict again") from error

    def predictions_digest(self, draws: int, case_id: str | None = None) -> str:
        """sha256 of the stored predictions of these draws, or of a case's, by content."""
        root = self.path / "predictions"
        if case_id is not None:
            return predictions_digest((self.prediction_path(draw, case_id) for draw in range(draws)), root)
        folders = [self.prediction_path(draw, "").parent for draw in range(draws)]
        return predictions_digest((path for folder in folders for path in folder.rglob("[!.]*.npz")), root)

    def score_files(self, draws: int) -> dict[str, str]:
        """What the record binds to itself: the tables, and all predictions."""
        tables = seal([self.scores_path, self.conventions_path], self.path)
        return {"predictions": self.predictions_digest(draws), **tables}

    def write_scores(self, frame: pd.DataFrame) -> None:
        """`scores.parquet`."""
        with self._write(self.scores_path.name) as part:
            frame[[name for name in (*SCORE_COLUMNS, REASON) if name in frame]].to_parquet(part, index=False)

    def write_conventions(self, frame: pd.DataFrame) -> None:
        """`conventions.parquet`."""
        with self._write(self.conventions_path.name) as part:
            frame.to_parquet(part, index=False)

    def write_record(self, record: RunRecord) -> None:
        """`record.json`, strict JSON."""
        with self._write(self.record_path.name) as part:
            part.write_text(strict_json(json.loads(record.model_dump_json())), encoding="utf-8")

    def read_record(self) -> RunRecord:
        """The run's record."""
        return read_record(self.record_path)

    def read_scores(self) -> pd.DataFrame:
        """The score rows that the record speaks of; raises InputError naming another or a damaged table."""
        return read_scores(self.scores_path, self.read_record())

    def run_scores(self) -> RunScores:
        """The same, ready to be averaged."""
        return RunScores(self.read_scores())

    def borrow_fit(self, fit_hash: str, kept: Mapping[str, Any] | None = None) -> bool:
        """Take the finished fit of a sibling run of the same fit identity that kept the same; True if there was one."""
        for facts_path in sorted(self.path.parent.parent.glob("*/seed*/model/fit.json")):
            sibling = RunFolder(facts_path.parents[1])
            try:
                facts, revisions, threads = sibling.fit_facts() or {}, sibling.revisions(), sibling.threads()
            except InputError as error:
                progress.note(f"{error}; until then no training is taken from there")
                continue
            alike = all(facts.get(key) == value for key, value in {"fit_hash": fit_hash, **(kept or {})}.items())
            if alike and facts_path.parent != self.model and _is_whole(facts_path, facts):
                for source in facts_path.parent.rglob("[!.]*"):
                    # fit.json marks a whole fit, so it comes last; training.pt is for resuming only.
                    if source.is_file() and source.name not in ("fit.json", "training.pt", "best.pt"):
                        _link_or_copy(source, self.model / source.relative_to(facts_path.parent))
                self.note_revisions(*revisions)
                self.note_threads("fit", *threads.get("fit", []))
                if "fit" in (theirs := sibling.steps()):
                    self.write_steps({**self.steps(), "fit": theirs["fit"]})
                self.write_fit_facts({**facts, "borrowed_from": sibling.path.parent.name})
                return True
        return False


def _replacing(folder: Path, name: str) -> AbstractContextManager[Path]:
    return atomic_path(folder / name)


def _is_whole(facts_path: Path, facts: dict[str, Any]) -> bool:
    model = {name: digest for name, digest in facts.get("files", {}).items() if name != "config.yaml"}
    return broken(model, facts_path.parents[1]) is None


def _link_or_copy(source: Path, target: Path) -> None:
    # Weights are never changed in place, so that one file may serve many runs.
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        with atomic_path(target) as part:
            shutil.copyfile(source, part)
