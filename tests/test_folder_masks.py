"""What `score-folder` makes of labels and values that two sides do not share, and of elements to ignore."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.command.segment import label_map
from bench.config import expand
from bench.datasets.masks.declared import parse_value
from bench.errors import InputError
from bench.record import read_scores
from bench.results.store import RunFolder
from bench.runner import run_cell
from bench.scoring.folder import score_folder
from bench.types import TaskSpec

Y, X = np.mgrid[:96, :128]
DISC, MOVED = (Y - 40) ** 2 + (X - 60) ** 2 < 225, (Y - 42) ** 2 + (X - 63) ** 2 < 225
SPOT = (Y - 75) ** 2 + (X - 20) ** 2 < 36


def ids(*pairs: tuple[np.ndarray, int]) -> np.ndarray:
    plane = np.zeros(DISC.shape, np.uint8)
    for mask, value in pairs:
        plane[mask] = value
    return plane


def dice(prediction: np.ndarray, reference: np.ndarray, where: np.ndarray | bool = True) -> float:
    prediction, reference = prediction & where, reference & where
    return 2 * float((prediction & reference).sum()) / float(prediction.sum() + reference.sum())


def scored(folder: Path, prediction: np.ndarray, reference: np.ndarray, **stated: Any) -> dict[str, Any]:
    for side, plane in (("pred", prediction), ("ref", reference)):
        (folder / side).mkdir(exist_ok=True)
        for name in "ab":
            Image.fromarray(plane).save(folder / side / f"{name}.png")
    return score_folder(folder / "pred", folder / "ref", folder / "out", **{"metrics": ["Dice"], **stated})


def means(summary: dict[str, Any], metric: str = "Dice") -> dict[str, float]:
    return {label: facts["mean"] for label, facts in summary["metrics"][metric].items()}


def test_two_sides_with_other_labels_are_named(tmp_path: Path) -> None:
    reference, prediction = ids((DISC, 1)), ids((MOVED, 1), (SPOT, 2))
    with pytest.raises(InputError, match=r"pred/a\.png: a mask of several labels, 1, 2; name them: --labels NAME=1"):
        scored(tmp_path, prediction, reference)
    named = {"labels": {"liver": "1", "spleen": "2"}, "metrics": ["Dice", "hallucinated"]}
    summary = scored(tmp_path, prediction, reference, **named)
    assert means(summary)["liver"] == pytest.approx(dice(MOVED, DISC))
    assert summary["metrics"]["hallucinated"]["spleen"]["cases"] == 2
    merged = scored(tmp_path, prediction, reference, labels={"organ": "1+2"})
    assert means(merged) == {"organ": pytest.approx(dice(MOVED | SPOT, DISC))}


def test_one_value_against_another_is_refused_or_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"predictions hold the values 1, references 2; .*--pred-labels NAME=1"):
        scored(tmp_path, ids((MOVED, 1)), ids((DISC, 2)))
    with pytest.raises(InputError, match=r"predictions hold the values 2, references 1, 255"):
        scored(tmp_path, ids((MOVED, 2)), ids((DISC, 1)))
    tumour = {"labels": {"tumour": 2}}
    named = scored(tmp_path, ids((MOVED, 1)), ids((DISC, 2)), **tumour, pred_labels={"tumour": 1})
    assert means(named) == {"tumour": pytest.approx(dice(MOVED, DISC))}
    assert means(scored(tmp_path, ids((MOVED, 1)), ids((DISC, 2)), mask="binary")) == {
        "foreground": pytest.approx(dice(MOVED, DISC))
    }
    with pytest.raises(InputError, match=r"--pred-labels .*no value for the label 'tumour'"):
        scored(tmp_path, ids((MOVED, 1)), ids((DISC, 2)), **tumour, pred_labels={"liver": 1})


def test_ignored_elements_leave_both_masks(tmp_path: Path) -> None:
    metrics = ["Dice", "IoU", "Sensitivity", "Precision", "HD95", "VolumeDifference"]
    ring = (Y - 40) ** 2 + (X - 60) ** 2 < 20**2
    reference = ids((ring, 255), (DISC, 1))
    summary = scored(tmp_path, ids((MOVED, 1)), reference, ignore=255, metrics=metrics)
    kept = scored(tmp_path, ids((MOVED & ((reference == 1) | ~ring), 1)), ids((DISC, 1)), metrics=metrics)
    assert [means(summary, metric) for metric in metrics] == [means(kept, metric) for metric in metrics]
    assert summary["masks"]["references"]["ignored_elements"] == 2 * (ring & ~DISC).sum()


def test_references_that_ignoring_empties_are_said(tmp_path: Path) -> None:
    note = "every reference is empty after --ignore 255"
    for stated, reference, said in (
        ({}, ids((DISC, 255)), True),
        ({"labels": {"x": "1"}}, ids((DISC, 255), (SPOT, 2)), True),
        ({"metrics": None}, ids((DISC, 255)), True),
        ({}, ids((DISC, 255), (SPOT, 1)), False),
        ({}, ids(), False),  # nothing was ignored
    ):
        summary = scored(tmp_path, ids((MOVED, 1)), reference, ignore=255, **stated)
        assert sum(line.startswith(note) for line in summary["notes"]) == said


@pytest.mark.usefixtures("no_lpips")
def test_ignored_elements_are_no_part_of_a_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reference, soft = ids((X > 90, 9), (DISC, 1)), rng.random((2, 96, 128)).astype(np.float32)
    (tmp_path / "ref").mkdir()
    Image.fromarray(reference).save(tmp_path / "ref/a.png")
    for draw in range(2):
        for side in ("pred", "soft"):
            (tmp_path / side / f"draw-{draw}").mkdir(parents=True)
        Image.fromarray(ids((soft[draw] > 0.5, 1))).save(tmp_path / f"pred/draw-{draw}/a.png")
        np.save(tmp_path / f"soft/draw-{draw}/a.npy", soft[draw])
    folders = (tmp_path / side for side in ("pred", "ref", "out"))
    metrics = ["Brier", "ECE", "Dice"]
    summary = score_folder(*folders, ignore=9, scores=tmp_path / "soft", metrics=metrics, mask="binary")
    counted = reference != 9
    brier = [np.square(s - (reference == 1))[counted].mean() for s in soft.astype(np.float64)]
    assert means(summary, "Brier")["foreground"] == pytest.approx(np.mean(brier), abs=1e-9)
    bins = [[(s[counted] * 15).astype(int) == b for b in range(15)] for s in soft]
    gaps = [
        sum(abs(((s - (reference == 1))[counted] * chosen).sum()) for chosen in parts) / counted.sum()
        for s, parts in zip(soft.astype(np.float64), bins, strict=True)
    ]
    assert means(summary, "ECE")["foreground"] == pytest.approx(np.mean(gaps), abs=1e-7)
    flips = ((soft[0] > 0.5) != (soft[1] > 0.5))[counted].mean()
    assert means(summary, "flip_rate")["foreground"] == pytest.approx(flips, abs=1e-12)


def test_the_command_states_and_says_how_masks_are_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fundus = np.full(DISC.shape, 255, np.uint8)
    fundus[DISC], fundus[SPOT] = 128, 0
    scored(tmp_path, fundus, fundus, mask="labels")  # 255 counts as a label
    folders = [str(tmp_path / side) for side in ("pred", "ref")]
    command = ["score-folder", *folders, "--out", str(tmp_path / "own"), "--metrics", "Dice"]
    assert cli.main(command) == 2
    assert "--background 255" in capsys.readouterr().err
    assert cli.main([*command, "--background", "255", "--labels", "cup=0,disc=0+128"]) == 0
    said = capsys.readouterr().err.splitlines()
    for side in ("ref", "pred"):
        assert f"{tmp_path / side}: labels cup = 0, disc = 0+128, background 255" in said
    summary = json.loads((tmp_path / "own/summary.json").read_text())
    assert summary["masks"]["predictions"]["values"] == {"cup": [0], "disc": [0, 128]}
    assert cli.main([*command, "--labels", "cup"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def run_predictions(folder: Path, *overrides: str) -> dict[str, float]:
    """Dice by label of `pred` against `ref`, as a run of the method `predictions` on a folder of images and masks."""
    for name, source in (("images", "ref"), ("masks", "ref"), ("answers", "pred")):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        for path in (folder / source).iterdir():
            (folder / "data" / name / path.name).write_bytes(path.read_bytes())
    data, answers, runs = folder / "data", folder / "data/answers", folder / "runs"
    fixed = ["profile=smoke", "dataset=folder", f"dataset.root={data}", "dataset.split=[0,0,1]", "method=predictions"]
    fixed += [f"method.options.root={answers}", f"runs_dir={runs}", "draws=1", "metrics=[Dice,both_empty]", "seed=0"]
    (cell,) = expand([*fixed, *overrides])
    made = run_cell(cell)
    assert RunFolder(made).read_record().data["masks"]
    rows = read_scores(made / "scores.parquet")
    return rows[rows["metric"] == "Dice"].groupby("label")["value"].mean().to_dict()


@pytest.mark.parametrize(
    ("prediction", "reference", "stated"),
    [
        (ids((MOVED, 1)), ids((DISC, 1), (SPOT, 255)), {"ignore": 255}),
        (ids((MOVED, 1), (SPOT, 2)), ids((DISC, 1), (SPOT, 2)), {"labels": {"a": 1, "b": 2, "both": [1, 2]}}),
        (ids((MOVED, 3), (SPOT, 4)), ids((DISC, 3), (SPOT, 4)), {"mask": "binary"}),
    ],
)
def test_a_run_reads_as_score_folder_does(
    tmp_path: Path, prediction: np.ndarray, reference: np.ndarray, stated: dict[str, Any]
) -> None:
    expected = means(scored(tmp_path, prediction, reference, **stated, metrics=["Dice"]))
    overrides = [f"dataset.{key}={json.dumps(value).replace(chr(34), '')}" for key, value in stated.items()]
    overrides += [f"method.options.mask={stated['mask']}"] if "mask" in stated else []
    assert run_predictions(tmp_path, *overrides) == pytest.approx(expected, abs=1e-12)


def test_a_run_refuses_what_score_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--ignore 255"):
        scored(tmp_path, ids((MOVED, 1)), ids((DISC, 1), (SPOT, 255)))
    with pytest.raises(InputError, match=r"data/masks.*dataset\.ignore=255.*dataset\.labels=\{NAME: 1"):
        run_predictions(tmp_path)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(InputError, match=r"hold the values 1, references 2; .*--pred-labels NAME=1"):
        scored(tmp_path, ids((MOVED, 1)), ids((DISC, 2)))
    with pytest.raises(InputError, match=r"hold the values 1, references 2; .*method\.options\.labels=\{NAME: 1\}"):
        run_predictions(tmp_path)
    assert run_predictions(tmp_path, "method.options.labels={foreground: 1}") == {"foreground": dice(MOVED, DISC)}


def test_written_masks_have_the_values_that_were_read() -> None:
    mask = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]]], bool)
    task = TaskSpec(1, ("a", "b"), (8, 8), 2, label_ids=((6,), (9,)))
    assert label_map(mask, task).tolist() == [[6, 9, 9, 0]]
    regions = replace(task, label_ids=((2,), (1, 2)))
    assert label_map(mask, regions).tolist() == [[1, 1, 2, 0]]  # the region is painted first
    colours = replace(task, label_ids=((parse_value("#ff0000"),), (3,)))
    assert label_map(mask, colours).tolist() == [[1, 2, 2, 0]]
