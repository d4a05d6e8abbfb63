"""Results are bound to what they were made from: changed predictions are scored again, changed files refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config import Cell
from bench.errors import InputError
from bench.gate.reference import run_facts
from bench.record import BadRecordError, read_scores
from bench.results.store import RunFolder
from bench.runner import Run
from bench.scoring import case as scoring
from reports.frame import read_frame
from tests.test_runner import POLYP, cell

pytestmark = pytest.mark.usefixtures("no_lpips")

DATA = [*POLYP[:1], "dataset.n_train=2", "dataset.n_val=1", "dataset.n_test=3", "dataset.size=32"]


def small(runs: Path) -> Cell:
    return cell(runs, "draws=1", "train.steps=2", "metrics=[Dice,IoU]", data=DATA, method="unet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("seals") / "runs"
    made = Run(small(runs))
    for name in ("fit", "predict", "score"):
        getattr(made, name)()
    return runs


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Run:
    return Run(small(shutil.copytree(finished, tmp_path / "runs")))


def flip(path: Path, bit: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[bit] ^= 1
    path.write_bytes(content)


def dice(folder: RunFolder) -> dict[str, float]:
    rows = read_scores(folder.scores_path).query("metric == 'Dice'")
    return dict(zip(rows["case"], rows["value"], strict=True))


def perfect(made: Run, case_id: str) -> None:
    reference = made.dataset.case(case_id).reference
    made.folder.write_prediction(0, case_id, reference.astype(np.float32), reference)


def test_predictions_made_again_are_scored_again(made: Run) -> None:
    first, second, _ = made.dataset.case_ids("test")
    assert dice(made.folder)[first] != 1
    perfect(made, first)
    made.score()
    assert dice(made.folder)[first] == 1
    paths = [made.folder.prediction_path(0, case) for case in (first, second)]
    for path, content in zip(paths, [path.read_bytes() for path in reversed(paths)], strict=True):
        path.write_bytes(content)
    made.score()
    assert dice(made.folder)[first] != 1  # exchanged: the same files under each other's names
    before = made.folder.scores_path.stat().st_mtime_ns
    made.score()
    assert made.folder.scores_path.stat().st_mtime_ns == before  # nothing has changed since


def test_scores_kept_from_before_a_kill_are_of_the_predictions_that_are_there(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = made.dataset.case_ids("test")
    made.folder.record_path.unlink()

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bench.scoring.run.write_gallery", dying)
        with pytest.raises(KeyboardInterrupt):
            made.score()
    perfect(made, first)
    scored = []
    original = scoring.score_case
    monkeypatch.setattr(scoring, "score_case", lambda stored, *a: scored.append(stored.id) or original(stored, *a))
    monkeypatch.setattr("bench.scoring.run.write_gallery", lambda *_: None)
    made.score()
    assert scored == [first]
    assert dice(made.folder)[first] == 1
    assert dice(made.folder)[second] != 1


@pytest.mark.parametrize("name", ["model/model.safetensors", "config.yaml"])
def test_a_file_of_the_fit_that_changed_is_refused(name: str, made: Run) -> None:
    for path in made.folder.path.rglob("*.npz"):
        path.unlink()
    flip(made.folder.path / name)
    with pytest.raises(InputError, match=f"{name}: damaged"):
        made.predict()
    (made.folder.path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: missing"):
        made.predict()


def test_damaged_weights_are_not_lent(made: Run) -> None:
    other = RunFolder(made.folder.path.parents[1] / "like_it" / "seed0-12345678")
    assert other.borrow_fit(made.fit_hash)
    other.check_fit()
    shutil.rmtree(other.path)
    flip(made.folder.model / "model.safetensors")
    assert not other.borrow_fit(made.fit_hash)


@pytest.mark.parametrize("name", ["scores.parquet", "conventions.parquet"])
def test_a_table_that_is_not_its_records_is_named_and_made_again(name: str, made: Run, tmp_path: Path) -> None:
    path = made.folder.path / name
    whole = path.read_bytes()
    frame = pd.read_parquet(path)
    frame.iloc[::-1].to_parquet(path)  # edited by hand, still a table
    if name == "scores.parquet":
        with pytest.raises(BadRecordError, match=r"scores\.parquet: damaged"):
            run_facts(made.folder.path)
        (warning,) = read_frame(tmp_path / "runs").warnings
        assert f"{path}: damaged" in warning
    made.score()
    assert path.read_bytes() == whole


def test_records_of_earlier_versions_stay_as_they_are(made: Run) -> None:
    record = made.folder.read_record()
    made.folder.write_record(record.model_copy(update={"files": {}}))
    before = made.folder.record_path.stat().st_mtime_ns
    made.score()
    assert made.folder.record_path.stat().st_mtime_ns == before
    facts = made.folder.fit_facts()
    facts.pop("files")
    (made.folder.model / "fit.json").write_text(json.dumps(facts))
    made.folder.check_fit()
