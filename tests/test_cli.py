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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("trained")
    root = make_folder(base / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.scoring.run.open_lpips", lambda *_: (None, "off"))
        code = cli.main(
            [
                "run",
                "method=sdseg_z0",
                "dataset=folder",
                f"dataset.root={root}",
                f"runs_dir={base / 'runs'}",
                *QUICK,
            ]
        )
    assert code == 0
    (run,) = (base / "runs").glob("folder/sdseg_z0/seed0-*")
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

    def run_cell(cell, steps, redo):
        if cell.method == "sdseg":
            raise RuntimeError("out of memory\nsecond line")
        return original(cell, steps, redo)

    monkeypatch.setattr(bench.runner, "run_cell", run_cell)
    arguments = [
        "methods=[sdseg,sdseg_z0]",
        "dataset=folder",
        f"dataset.root={data}",
        f"runs_dir={tmp_path / 'r'}",
    ]
    assert cli.main(["run", *arguments, *QUICK]) == 3
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert line.startswith("error: folder-sdseg-seed0: RuntimeError: out of memory second line at ")
    assert line.endswith("in run_cell (SDSEG_DEBUG=1 shows where)")
    said = [line for line in captured.err.splitlines() if line.startswith("2 runs: sdseg, sdseg_z0 x folder x seed 0")]
    assert len(said) == 1
    assert "folder: 7 train, 1 val, 2 test; training 4 steps each; time unknown until the first steps" in said[0]
    assert "folder-sdseg_z0-seed0" in captured.out


def test_a_matrix_says_what_is_there_and_how_long_the_rest_takes(trained: Path) -> None:
    from bench.command.announcement import announcement
    from bench.config import expand

    base = trained.parents[3]
    data = ["dataset=folder", f"dataset.root={base / 'data'}", f"runs_dir={base / 'runs'}", *QUICK]
    line = announcement(expand(["method=sdseg_z0", "seeds=[0,1]", *data]))
    assert line.startswith("2 runs: sdseg_z0 x folder x seed 0, seed 1; folder: 7 train, 1 val, 2 test; 1 need no")
    assert "; training 4 steps each; about 0:00:" in line
    assert announcement(expand(["method=sdseg_z0", "dataset=folder", "dataset.root=/nowhere"])) == ""


def test_a_bad_sweep_is_refused_before_its_first_job(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = tmp_path / "runs"
    sweep = ["fit", "-m", "method=unet", "dataset=folder", f"dataset.root={data}", f"runs_dir={runs}"]
    refused([*sweep, "seed=0,x"], "seed", capsys)
    refused([*sweep, "seed=0,1", "method=unet,sdsegg"], "sdsegg", capsys)
    assert not runs.exists()


def cut(path: Path, size: int = 60) -> None:
    path.write_bytes(path.read_bytes()[:size])


def paint(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


def nan_image(root: Path) -> None:
    (root / "images" / "case03.png").unlink()
    np.save(root / "images" / "case03.npy", np.full((48, 48), np.nan, np.float32))


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing mask": (lambda r: (r / "masks/case03.png").unlink(), "case03"),
    "missing image": (lambda r: (r / "images/case03.png").unlink(), "case03"),
    "unreadable image": (lambda r: (r / "images/case03.png").write_text("no picture"), "case03.png"),
    "truncated image": (lambda r: cut(r / "images/case03.png"), "case03.png"),
    "truncated mask": (lambda r: cut(r / "masks/case03.png"), "case03.png"),
    "mask of another size": (lambda r: paint(r / "masks/case03.png", np.zeros((20, 30))), "case03"),
    "grey mask": (
        lambda r: paint(r / "masks/case03.png", np.arange(48 * 48).reshape(48, 48) % 256),
        "case03.png",
    ),
    "constant grey mask": (lambda r: paint(r / "masks/case03.png", np.full((48, 48), 128)), "case03.png"),
    "NaN in an image": (nan_image, "case03.npy"),
    "empty folder": (lambda r: (empty(r / "images"), empty(r / "masks")), "images"),
    "no masks folder": (lambda r: shutil.rmtree(r / "masks"), "masks"),
    "two files of one name": (
        lambda r: shutil.copy(r / "images/case03.png", r / "images/case03.tif"),
        "case03",
    ),
    "no such root": (lambda r: shutil.rmtree(r), "data"),
}

BAD_ARGUMENTS: dict[str, tuple[list[str], str]] = {
    "unknown method": (["method=sdsegg"], "sdsegg"),
    "unknown method in a list": (["methods=[sdsegg]"], "sdsegg"),
    "unknown profile": (["profile=smok"], "smok"),
    "misspelt key": (["trian.steps=3"], "trian"),
    "wrong type": (["train.steps=many"], "train.steps"),
    "value out of range": (["train.steps=-3", "method=unet"], "steps"),
    "bad choice": (["train.decay=linear", "method=unet"], "decay"),
    "no equal sign": (["draws"], "draws"),
    "size that does not divide": (["image_size=60", "method=sdseg"], "60"),
    "unknown size": (["size=huge", "method=sdseg"], "huge"),
    "unknown metric": (["metrics=[Dise]", "method=sdseg_z0", *QUICK], "Dise"),
    "code from the command line": (["method=unet", "method.target=os.system"], "method.target"),
    "missing manifest": (["dataset.manifest=/nowhere.csv", "method=unet"], "nowhere.csv"),
    "no test cases": (["dataset.split=[0.5,0.5,0.0]", "method=unet"], "test"),
    "unknown option": (["--steps", "3"], "--steps"),
    "unknown device": (["device=gpu", "method=unet"], "device"),
    "code inside a value": (["method=unet", "method.options={network: os.system}"], "method.options"),
}


def refused(arguments: list[str], named: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    *notes, last = captured.err.strip().splitlines()
    assert last.startswith("error: "), captured.err
    assert named in last
    assert not [line for line in notes if line.startswith("error")]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_bad_folder(kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spoil, named = BAD_FOLDERS[kind]
    spoil(data)
    runs = tmp_path / "runs"
    refused(["run", "method=unet", "dataset=folder", f"dataset.root={data}", f"runs_dir={runs}"], named, capsys)
    assert not runs.exists()


@pytest.mark.parametrize("kind", BAD_ARGUMENTS)
def test_bad_arguments(kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments, named = BAD_ARGUMENTS[kind]
    runs = tmp_path / "runs"
    refused(["run", "dataset=folder", f"dataset.root={data}", f"runs_dir={runs}", *arguments], named, capsys)
    assert not list(runs.rglob("*.parquet"))
    assert not list(runs.rglob(".part-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_write_permission(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    runs = tmp_path / "closed" / "runs"
    refused(["run", "method=unet", "dataset=folder", f"dataset.root={data}", f"runs_dir={runs}"], "closed", capsys)


def test_runs_dir_that_is_a_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    runs = tmp_path / "file" / "runs"
    refused(["run", "method=unet", "dataset=folder", f"dataset.root={data}", f"runs_dir={runs}"], "file", capsys)


@pytest.mark.parametrize("name", ["training.pt", "model.safetensors"])
def test_truncated_checkpoint(name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base = tmp_path / "copy"
    shutil.copytree(trained.parents[3], base)
    (run,) = (base / "runs").glob("folder/sdseg_z0/seed0-*")
    cut(run / "model" / name, 300)
    shutil.rmtree(run / "predictions")
    if name == "training.pt":
        (run / "model" / "fit.json").unlink()
    arguments = [
        "method=sdseg_z0",
        "dataset=folder",
        f"dataset.root={base / 'data'}",
        f"runs_dir={base / 'runs'}",
    ]
    refused(["run", *arguments, *QUICK], name, capsys)


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
