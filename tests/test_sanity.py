"""Labels that occur nowhere and models that predict nothing are said, in the record and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench import cli
from bench.datasets.items import TrainingItems
from bench.scoring.sanity import suspicions


def rows(*masks: tuple[str, str, bool, bool]) -> pd.DataFrame:
    """Score rows of (case, label, reference empty, prediction empty)."""
    collected = []
    for case, label, no_reference, no_prediction in masks:
        values = {"missed": not no_reference and no_prediction, "hallucinated": no_reference and not no_prediction}
        values["both_empty"] = no_reference and no_prediction
        collected += [(case, label, 0, metric, float(value)) for metric, value in values.items()]
    return pd.DataFrame(collected, columns=["case", "label", "draw", "metric", "value"])


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([("a", "x", False, False), ("b", "x", True, True)], []),
        (
            [("a", "x", False, True), ("b", "x", True, True)],
            ["every predicted mask is empty: the model predicts nothing"],
        ),
        ([("a", "x", True, False)], ["every reference mask of the test cases is empty"]),
        (
            [("a", "x", False, False), ("a", "y", True, False), ("a", "z", False, True)],
            ["label y occurs in no reference mask of the test cases", "label z is predicted nowhere"],
        ),
    ],
)
def test_oddities_of_score_rows(masks: list[tuple[str, str, bool, bool]], said: list[str]) -> None:
    assert suspicions(rows(*masks)) == said
    assert suspicions(rows(*masks).query("metric != 'missed'")) == []


def test_labels_without_a_training_mask() -> None:
    items = TrainingItems.__new__(TrainingItems)
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    items._items = [{"mask": mask}]
    assert items.suspicions("train", ["liver", "spleen"]) == ["every mask of the train split is empty"]
    mask[1, 0, 0] = True
    assert items.suspicions("train", ["liver", "spleen"]) == ["label liver occurs in no mask of the train split"]


def test_a_run_that_predicts_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from tests.test_cli import make_folder

    data = make_folder(tmp_path / "data")
    (tmp_path / "pred").mkdir()
    for path in (data / "masks").iterdir():
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / "pred" / path.name)
    run = ["run", "method=predictions", f"method.options.root={tmp_path / 'pred'}", "draws=1", "dataset=folder"]
    assert cli.main([*run, f"dataset.root={data}", f"runs_dir={tmp_path / 'runs'}"]) == 0
    words = "every predicted mask is empty: the model predicts nothing"
    assert f"warning: folder-predictions-seed0: {words}" in capsys.readouterr().err.splitlines()
    (record,) = (tmp_path / "runs").glob("folder/predictions/seed0-*/record.json")
    assert words in json.loads(record.read_text())["notes"]
