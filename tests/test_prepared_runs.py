"""From a raw download to a table: prepare, train for two steps, score, report; and volumes back in their geometry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.cli import main
from bench.datasets.mini import write_mini

CT = Path(__file__).parents[2] / "shared" / "data" / "abdomen_ct"
NARROW = "features=[4,4,4,4,4,4]"
CASES = {  # of every data set some for training, one to select and one or two to test
    "cvc_clinicdb": ["1", "2", "3", "4", "429", "104", "105"],
    "kvasir_seg": [
        "cju0qkwl35piu0993l0dewei2",
        "cju14hjh2ob2o0835ouz3r5aa",
        "cju17hw9hr9c5098800fu4u8e",
        "cju16ach3m1da0993r1dq3sn2",
        "cju0t4oil7vzk099370nun5h9",
        "cju1b3zgj3d8e0801kpolea6c",
    ],
    "refuge2": ["V0001", "g0001", "n0001", "n0002", "n0010", "T0001", "T0002"],
    "btcv": ["0005", "0006", "0023", "0001"],
    "sts3d": ["0001", "0005", "0002", "0010"],
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("prepared")
    for name, cases in CASES.items():
        raw = write_mini(name, home / "raw" / name, cases)
        assert main(["prepare", name, "--source", str(raw), "--out", str(home / name), "--partial"]) == 0
    return home


@pytest.fixture(scope="module")
def runs(prepared: Path) -> Path:
    def run(name: str, method: str, words: Sequence[str] = ()) -> None:
        words = [
            "train.steps=2",
            "train.batch_size=1",
            "image_size=32",
            "draws=1",
            "metrics=[Dice]",
            f"runs_dir={prepared / 'runs'}",
            *words,
        ]
        assert main(["run", f"method={method}", f"dataset={name}", f"dataset.root={prepared / name}", *words]) == 0

    for name in CASES:
        run(name, "unet", [f"method.options.options.{NARROW}"])
    words = ["method.inference.steps=1", "method.options.window=[16,32,32]"]
    run("btcv", "diff_unet_3d", [f"method.options.{NARROW}", *words])
    return prepared / "runs"


def test_every_data_set_goes_from_its_download_to_the_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--runs", str(runs)]) == 0
    table = capsys.readouterr().out
    for name in CASES:
        assert name in table
    scored = {path.parents[2].name + "/" + path.parents[1].name: path.parent for path in runs.glob("*/*/*/record.json")}
    assert len(scored) == 6
    record = json.loads((scored["refuge2/unet"] / "record.json").read_text())
    assert record["data"]["manifest"] == "800_400"
    assert record["data"]["target"] == "cup"
    assert record["data"]["preprocessing"] == "native (version 1): original resolution and spacing"
    assert all((folder / "scores.parquet").is_file() for folder in scored.values())


@pytest.mark.skipif(not CT.is_dir(), reason="needs the real CT of shared/data")
@pytest.mark.parametrize("method", ["unet", "diff_unet_3d"])
def test_a_real_ct_comes_back_in_its_own_geometry(runs: Path, tmp_path: Path, method: str) -> None:
    assert main(["prepare", "btcv", "--source", str(CT), "--out", str(tmp_path / "ct"), "--partial"]) == 0
    run = next((runs / "btcv" / method).glob("seed0-*"))
    words = [str(tmp_path / "ct" / "images"), "--model", str(run), "--out", str(tmp_path / "masks")]
    assert main(["segment", *words]) == 0
    given = nib.load(CT / "img" / "img0001.nii.gz")
    back = nib.load(next((tmp_path / "masks").glob("0001.nii*")))
    assert back.shape == given.shape
    assert np.array_equal(back.affine, given.affine)


@pytest.mark.skipif(not CT.is_dir(), reason="needs the real CT of shared/data")
def test_a_prepared_reference_is_the_reference(tmp_path: Path) -> None:
    assert main(["prepare", "btcv", "--source", str(CT), "--out", str(tmp_path / "ct"), "--partial"]) == 0
    shutil.copytree(CT / "label", tmp_path / "ref")
    (tmp_path / "ref" / "label0001.nii.gz").rename(tmp_path / "ref" / "0001.nii.gz")
    words = [str(tmp_path / "ct" / "masks"), str(tmp_path / "ref"), "--out", str(tmp_path / "scores"), "--metrics"]
    assert main(["score-folder", *words, "Dice"]) == 0
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert [row["mean"] for row in summary["metrics"]["Dice"].values()] == [1.0] * 12
