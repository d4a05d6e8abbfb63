"""Two outputs of score-folder on the same references: the answer in words, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.compare import FOLDERS, compare_runs
from bench.config import expand
from bench.errors import InputError
from bench.runner import run_cell
from bench.scoring.folder import score_folder
from tests.report_fixtures import write_run
from tests.test_compare import pair, values


def write_masks(root: Path, names: Sequence[str], errors: float, seed: int) -> Path:
    """Discs of which a share of pixels is wrong; none with no errors."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :24]
    root.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        mask = (y - 12) ** 2 + (x - 8 - index % 8) ** 2 < 40
        mask = mask ^ (rng.random(mask.shape) < errors * rng.uniform(0.5, 1.5))
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"{name}.png")
    return root


NAMES = [f"case{index:02d}" for index in range(40)]


def scored_masks(tmp_path: Path, name: str, errors: float, seed: int, names: Sequence[str] = NAMES, **of: Any) -> Path:
    reference = write_masks(tmp_path / f"{name}-ref", names, 0.0, 0)
    pred = write_masks(tmp_path / f"{name}-pred", names, errors, seed)
    if of.pop("other_reference", False):
        write_masks(reference, names[:1], 0.5, 9)
    score_folder(pred, reference, tmp_path / name, metrics=("Dice", "HD95"), **of)
    return tmp_path / name


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The scores of good masks and of bad ones."""
    root = tmp_path_factory.mktemp("outs")
    return scored_masks(root, "good", 0.01, 1), scored_masks(root, "bad", 0.05, 2)


def test_two_folders_of_masks_compare(outs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, bad = outs
    comparison = compare_runs(good, bad)
    assert comparison.answer.startswith("good is better than bad on Dice: +0.")
    assert "of 40 cases (40 groups)" in comparison.answer
    means = [json.loads((path / "summary.json").read_text())["metrics"]["Dice"]["foreground"] for path in (good, bad)]
    assert comparison.rows[0].comparison.difference.estimate == pytest.approx(means[0]["mean"] - means[1]["mean"])
    assert " px [" in compare_runs(good, bad, "HD95").answer
    assert cli.main(["compare", str(good), str(bad)]) == 0
    answer, condition, *_ = capsys.readouterr().out.splitlines()
    assert answer == comparison.answer
    assert condition == comparison.condition != compare_runs(*pair(tmp_path / "r", values(0.0), values(0.01))).condition


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "nnunet"}, r"another protocol \(strict, nnunet\)"),
        ({"protocol": "sdseg", "size": 12}, r"another protocol \(strict, sdseg \(size 12\)\)"),
        ({"names": NAMES[:-1]}, r"another number of cases \(40, 39\)"),
        ({"names": [*NAMES[:-1], "other"]}, "another set of reference masks"),
        ({"other_reference": True}, "another set of reference masks"),
        ({"labels": {"cup": "255"}}, r"another set of reference masks"),
    ],
)
def test_folders_scored_otherwise_are_refused(
    change: dict[str, Any], message: str, outs: tuple[Path, Path], tmp_path: Path
) -> None:
    other = scored_masks(tmp_path, "two", 0.01, 2, **change)
    with pytest.raises(InputError, match=message) as caught:
        compare_runs(outs[0], other)
    assert "\n" not in str(caught.value)


def test_what_is_no_other_whole_folder_of_scores_is_refused(
    outs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, other = outs[0], shutil.copytree(outs[1], tmp_path / "other")
    with pytest.raises(InputError, match="the same twice"):
        compare_runs(folder, folder / ".." / "good")
    shutil.copy(folder / "scores.parquet", other)  # not its record's
    with pytest.raises(InputError, match=r"other/scores\.parquet: damaged"):
        compare_runs(folder, other)
    (other / "record.json").unlink()  # as earlier versions wrote it
    assert cli.main(["compare", str(folder), str(other)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {other}: scored by an earlier version; score the masks again"


@pytest.mark.usefixtures("no_lpips")
def test_a_run_compares_with_masks_scored_against_the_same_references(tmp_path: Path) -> None:
    masks = scored_masks(tmp_path, "masks", 0.05, 1, NAMES[:12])
    for name in ("images", "masks"):
        write_masks(tmp_path / "data" / name, NAMES[:12], 0.0, 0)
    fixed = [
        "method=predictions",
        f"method.options.root={tmp_path / 'masks-ref'}",
        "dataset=folder",
        "seed=0",
        "draws=1",
    ]
    fixed += [f"dataset.root={tmp_path / 'data'}", "dataset.split=[0,0,1]", "metrics=[Dice]", f"runs_dir={tmp_path}"]
    run = run_cell(expand(fixed)[0])
    comparison = compare_runs(run, masks)
    assert comparison.answer.startswith("predictions is better than masks on Dice: +0.")
    assert comparison.condition == compare_runs(masks, run).condition == FOLDERS
    with pytest.raises(InputError, match=r"another number of cases \(12, 40\)"):
        compare_runs(run, scored_masks(tmp_path, "more", 0.05, 1))
    with pytest.raises(InputError, match=r"another set of reference masks \(unknown, "):  # of an earlier version
        compare_runs(write_run(tmp_path / "r", scores=values(0.0), n_cases={"test": 40}), tmp_path / "more")


def test_a_p_that_would_print_as_zero_is_said_to_be_below(tmp_path: Path) -> None:
    outs = [scored_masks(tmp_path, name, errors, 1, NAMES[:16]) for name, errors in (("good", 0.01), ("bad", 0.3))]
    comparison = compare_runs(*outs)
    assert 0 < comparison.rows[0].p < 0.00005  # 16 cases of one sign: two of 2 ** 16 flips
    assert ", p < 0.0001, better on 100%" in comparison.answer
    assert "  <0.0001  " in comparison.table()


def test_too_few_groups_see_no_difference(tmp_path: Path) -> None:
    outs = [scored_masks(tmp_path, name, errors, 1, NAMES[:5]) for name, errors in (("good", 0.01), ("bad", 0.3))]
    comparison = compare_runs(*outs)
    assert comparison.rows[0].p == 0.0625  # two of 2 ** 5 flips
    assert comparison.answer.startswith("No difference shown")
    assert "too few groups for this test to see any difference" in comparison.answer


def test_scored_folders_are_reported_compared_and_gated(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One row per folder, one row for the trainings of a method, wherever they lie below the folder of runs."""
    reference, runs, gate = write_masks(tmp_path / "ref", NAMES, 0.0, 0), tmp_path / "runs", tmp_path / "gate.json"

    def score(out: str, errors: float, seed: int, *more: str) -> None:
        pred = write_masks(tmp_path / out, NAMES, errors, seed)
        fixed = ["--out", str(runs / out), "--metrics", "Dice", "--dataset", "discs"]
        assert cli.main(["score-folder", str(pred), str(reference), *fixed, *more]) == 0

    score("good", 0.01, 1)
    score("deep/er/bad", 0.05, 2)
    score("discs/three/seed1", 0.03, 3, "--method", "three", "--seed", "1")
    score("discs/three/seed2", 0.03, 4, "--method", "three", "--seed", "2")
    assert cli.main(["report", "--runs", str(runs)]) == 0
    with (runs / "report" / "table2.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert {name: (row["dataset"], row["seeds"]) for name, row in rows.items()} == {
        "good": ("discs", "0"),
        "bad": ("discs", "0"),
        "three": ("discs", "1, 2"),
    }
    mean = json.loads((runs / "good" / "summary.json").read_text())["metrics"]["Dice"]["foreground"]["mean"]
    assert float(rows["good"]["Dice"]) == mean
    capsys.readouterr()
    folders = [str(runs / "good"), str(runs / "deep/er/bad")]
    assert cli.main(["compare", *folders]) == 0
    assert capsys.readouterr().out.startswith("good is better than bad on Dice: +0.")
    assert cli.main(["gate", "--promote", *folders]) == 2
    assert "give --reference FILE, or --out FILE" in capsys.readouterr().err
    assert cli.main(["gate", "--promote", "--out", str(gate), *folders]) == 0
    assert cli.main(["gate", "--reference", str(gate), *folders]) == 0
    assert "gate passed" in capsys.readouterr().out
    assert cli.main(["gate", "--reference", str(gate)]) == 2
    assert "is of scored folders; name those to judge" in capsys.readouterr().err
    score("good", 0.05, 1)
    capsys.readouterr()
    assert cli.main(["gate", "--reference", str(gate), "gate.margins.Dice=0.02", *folders]) == 1
    (fault,) = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line and "gain" in line]
    assert fault.startswith("discs-good-seed0")
