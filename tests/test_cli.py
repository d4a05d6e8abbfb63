"""The command: verbs, exit codes, and one clear line for every kind of bad input."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import cli

TRAIN = ["train.steps=4", "train.batch_size=2", "train.validate_every=2", "train.checkpoint_every=2"]
QUICK = ["image_size=32", "draws=2", *TRAIN]
UNET = ["method=unet", "method.options.options.features=[4,4,4,4,4,4]", "metrics=[Dice]", *QUICK]

pytestmark = pytest.mark.usefixtures("no_lpips")


def make_folder(root: Path, count: int = 10, size: int = 48) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        y, x = np.mgrid[:size, :size]
        mask = (y - rng.integers(14, 34)) ** 2 + (x - rng.integers(14, 34)) ** 2 < 100
        image = np.where(mask, 200, 60) + rng.integers(-20, 20, mask.shape)
        for name, content in (("images", image), ("masks", mask * 255)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content.astype(np.uint8)).save(root / name / f"case{i:02d}.png")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


def on(base: Path) -> list[str]:
    """The folder of data and the folder of runs below `base`."""
    return ["dataset=folder", f"dataset.root={base / 'data'}", f"runs_dir={base / 'runs'}"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, no_lpips: None) -> Path:
    base = tmp_path_factory.mktemp("trained")
    make_folder(base / "data")
    assert cli.main(["run", *on(base), *UNET]) == 0
    (run,) = (base / "runs").glob("folder/unet/seed0-*")
    return run


def test_run_segment_and_score_folder_agree(trained: Path, tmp_path: Path) -> None:
    root = trained.parents[3] / "data"
    scores = pd.read_parquet(trained / "scores.parquet").query("draw == 0 and metric == 'Dice'")
    references, images = tmp_path / "references", tmp_path / "images"
    for case in scores["case"]:
        for source, target in ((root / "masks", references), (root / "images", images)):
            target.mkdir(exist_ok=True)
            shutil.copy(source / f"{case}.png", target)
    assert cli.main(["segment", str(images), "--model", str(trained), "--out", str(tmp_path / "masks")]) == 0
    out = tmp_path / "scored"
    assert cli.main(["score-folder", str(tmp_path / "masks"), str(references), "--out", str(out)]) == 0
    rows = pd.read_csv(out / "scores.csv")
    assert list(rows.columns) == ["case", "label", "draw", "metric", "value"]
    again = rows[rows["metric"] == "Dice"].set_index("case")["value"]
    for case, value in scores.set_index("case")["value"].items():
        assert again[case] == pytest.approx(value, abs=1e-12, nan_ok=True)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["n_cases"] == len(scores)


def test_segmented_mask_has_the_images_own_size(trained: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "wide.png")
    assert cli.main(["segment", str(tmp_path / "wide.png"), "--model", str(trained), "--out", str(tmp_path / "o")]) == 0
    assert Image.open(tmp_path / "o" / "wide.png").size == (70, 50)


def test_doctor_and_help(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert cli.main(["doctor", "--runs", str(tmp_path)]) == 0
    assert "torch" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0


def test_a_failing_run_exits_3_and_the_others_finish(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bench.runner

    original = bench.runner.run_cell

    def run_cell(cell, steps, redo, workers):
        if cell.seed == 0:
            raise RuntimeError("out of memory\nsecond line")
        return original(cell, steps, redo, workers)

    monkeypatch.setattr(bench.runner, "run_cell", run_cell)
    assert cli.main(["run", *on(tmp_path), *UNET, "seeds=[0,1]"]) == 3
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert line.startswith("error: folder-unet-seed0: RuntimeError: out of memory second line at ")
    assert line.endswith("in run_cell (SDSEG_DEBUG=1 shows where)")
    said = [line for line in captured.err.splitlines() if line.startswith("2 runs: unet x folder x seed 0, seed 1")]
    assert len(said) == 1
    assert "folder: 7 train, 1 val, 2 test; training 4 steps each; time unknown until the first steps" in said[0]
    assert "folder-unet-seed1" in captured.out


def test_a_matrix_says_what_is_there_and_how_long_the_rest_takes(trained: Path) -> None:
    from bench.command.announcement import announcement
    from bench.config import expand

    line = announcement(expand([*UNET, "seeds=[0,1]", *on(trained.parents[3])]))
    assert line.startswith("2 runs: unet x folder x seed 0, seed 1; folder: 7 train, 1 val, 2 test; 1 need no")
    assert "; training 4 steps each; about 0:" in line
    assert announcement(expand([*UNET, "dataset=folder", "dataset.root=/nowhere"])) == ""


def test_a_bad_sweep_is_refused_before_its_first_job(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sweep = ["fit", "-m", "method=unet", *on(tmp_path)]
    refused([*sweep, "seed=0,x"], "seed", capsys)
    refused([*sweep, "seed=0,1", "method=unet,sdsegg"], "sdsegg", capsys)
    assert not (tmp_path / "runs").exists()


def cut(path: Path, size: int = 60) -> None:
    path.write_bytes(path.read_bytes()[:size])


# What the files of a folder may have is in tests/test_datasets_folder.py, which numbers in tests/test_limits.py.
BAD_ARGUMENTS: dict[str, tuple[list[str], str]] = {
    "unknown method": (["method=sdsegg"], "method=sdsegg: no such method; sdseg, "),
    "unknown method in a list": (["methods=[sdsegg]"], "sdsegg"),
    "unknown profile": (["profile=smok"], "profile=smok: no such profile; smoke perhaps"),
    "misspelt key": (["trian.steps=3"], "trian"),
    "wrong type": (["train.steps=many"], "train.steps"),
    "bad choice": (["train.decay=linear", "method=unet"], "decay"),
    "no equal sign": (["draws"], "draws"),
    "size that does not divide": (["image_size=60", "method=sdseg"], "60"),
    "unknown size": (["size=huge", "method=sdseg"], "huge"),
    "unknown metric": (["metrics=[Dise]", "method=sdseg_z0", *QUICK], "Dise"),
    "no test cases": (["dataset.split=[0.5,0.5,0.0]", "method=unet"], "test"),
    "unknown option": (["--steps", "3"], "--steps"),
    "no such folder": (["dataset.root=/nowhere", "method=unet"], "nowhere"),
    "runs_dir in a file": (["runs_dir=data/images/case00.png/runs", "method=unet"], "case00.png"),
    "unknown device": (["device=gpu", "method=unet"], "device"),
}


def refused(arguments: list[str], named: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    *notes, last = captured.err.strip().splitlines()
    assert last.startswith("error: "), captured.err
    assert named in last
    assert not [line for line in notes if line.startswith("error")]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("spoil", [cut, Path.unlink])
def test_bad_folder(spoil: Callable[[Path], None], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spoil(data / "masks" / "case03.png")
    refused(["run", "method=unet", *on(tmp_path)], "case03", capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", BAD_ARGUMENTS)
def test_bad_arguments(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, named = BAD_ARGUMENTS[kind]
    refused(["run", *on(tmp_path), *arguments], named, capsys)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob(".part-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_write_permission(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(["run", "method=unet", *on(tmp_path), f"runs_dir={tmp_path / 'closed' / 'runs'}"], "closed", capsys)


@pytest.mark.parametrize("name", ["training.pt", "model.safetensors"])
def test_truncated_checkpoint(name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base = tmp_path / "copy"
    shutil.copytree(trained.parents[3], base)
    (run,) = (base / "runs").glob("folder/unet/seed0-*")
    cut(run / "model" / name, 300)
    shutil.rmtree(run / "predictions")
    if name == "training.pt":
        (run / "model" / "fit.json").unlink()
    refused(["run", *on(base), *UNET], name, capsys)


def test_bad_segment_and_score_folder_input(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = str(tmp_path / "out")
    refused(["segment", str(tmp_path / "no"), "--model", str(trained), "--out", out], "no", capsys)
    refused(["segment", str(tmp_path), "--model", str(trained), "--out", out], "no images", capsys)
    refused(["segment", str(tmp_path), "--model", str(tmp_path), "--out", out], "config.yaml", capsys)
    refused(["segment", str(tmp_path), "--out", out], "--model", capsys)
    masks = trained.parents[3] / "data" / "masks"
    (tmp_path / "few").mkdir()
    shutil.copy(masks / "case00.png", tmp_path / "few")
    refused(["score-folder", str(tmp_path / "few"), str(masks), "--out", out], "case01", capsys)
    refused(["score-folder", str(masks), str(masks), "--out", out, "--protocol", "mine"], "mine", capsys)
    refused(["report", "--runs", str(tmp_path / "none")], "none", capsys)
    refused(["dance"], "dance", capsys)
    assert not (tmp_path / "out").exists()
