"""nnU-Net's bridge: the dataset it writes, the process it starts, what it makes of the answer."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from baselines.nnunet import process, segmenter
from baselines.nnunet.dataset import DATASET, label_map, native_values, write_dataset
from baselines.nnunet.segmenter import NNUNetSegmenter, nnunet_segmenter

PHOTO = SimpleNamespace(channels=3, labels=("a", "b"), image_size=(16, 24), dims=2, intensity=(0.0, 255.0))
CT = SimpleNamespace(channels=1, labels=("liver",), image_size=(16, 24), dims=3, intensity=(-200.0, 300.0))


def items(task: Any, count: int, depth: int = 5, spacing: tuple[float, ...] | None = None) -> list[dict[str, Any]]:
    """Disjoint blobs, and images that show them."""
    generator = torch.Generator().manual_seed(0)
    size = ([depth] if task.dims == 3 else []) + list(task.image_size)
    collected = []
    for i in range(count):
        ids = torch.randint(0, len(task.labels) + 1, size, generator=generator)
        mask = torch.stack([ids == k for k in range(1, len(task.labels) + 1)])
        image = torch.rand(task.channels, *size, generator=generator) * 2 - 1
        collected.append({"image": image, "mask": mask, "case_id": f"sub/{i}", "spacing_mm": spacing})
    return collected


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nnunetv2, as far as building goes."""
    monkeypatch.setattr(segmenter, "find_spec", lambda name: object())
    monkeypatch.setattr(segmenter, "version", lambda name: "2.8.1")


def build(task: Any = PHOTO, **options: Any) -> NNUNetSegmenter:
    return nnunet_segmenter(task, seed=3, device="cpu", recipe={}, **options)


def test_photographs_are_written_in_their_own_values(tmp_path: Path) -> None:
    train, val = items(PHOTO, 3), items(PHOTO, 2)
    write_dataset(tmp_path, train, val, PHOTO, "zscore")
    raw = tmp_path / "raw" / DATASET
    for channel in range(3):
        stored = nibabel.load(raw / "imagesTr" / f"train-00002_{channel:04d}.nii.gz")
        assert stored.shape == (24, 16)  # x first
        expected = (train[2]["image"][channel].numpy() + 1) / 2 * 255
        np.testing.assert_allclose(stored.get_fdata().T, expected, atol=1e-4)
    labels = nibabel.load(raw / "labelsTr" / "val-00001.nii.gz").get_fdata().T
    for i, mask in enumerate(val[1]["mask"].numpy(), 1):
        assert ((labels == i) == mask).all()
    split = json.loads((tmp_path / "preprocessed" / DATASET / "splits_final.json").read_text())
    assert split == [{"train": [f"train-{i:05d}" for i in range(3)], "val": ["val-00000", "val-00001"]}]
    described = json.loads((raw / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "1 a": 1, "2 b": 2}
    assert described["channel_names"] == {"0": "zscore", "1": "zscore", "2": "zscore"}
    assert described["numTraining"] == len(list((raw / "labelsTr").iterdir())) == 5


def test_volumes_keep_axes_spacing_and_hounsfield_units(tmp_path: Path) -> None:
    item = items(CT, 1, spacing=(5.0, 2.0, 1.5))[0]
    write_dataset(tmp_path, [item], [item], CT, "CT")
    path = tmp_path / "raw" / DATASET / "imagesTr" / "train-00000_0000.nii.gz"
    stored = nibabel.load(path)
    assert stored.shape == (24, 16, 5)
    assert stored.header.get_zooms() == (1.5, 2.0, 5.0)
    expected = item["image"][0].numpy() * 250 + 50
    np.testing.assert_allclose(stored.get_fdata().T, expected, atol=1e-3)
    if find_spec("SimpleITK"):  # what nnU-Net reads with
        import SimpleITK as sitk  # noqa: N813

        read = sitk.ReadImage(str(path))
        assert read.GetSpacing() == (1.5, 2.0, 5.0)
        np.testing.assert_allclose(sitk.GetArrayFromImage(read), expected, atol=1e-3)


def test_a_dataset_is_written_once_and_a_half_written_one_again(tmp_path: Path) -> None:
    (tmp_path / "raw" / DATASET / "labelsTr").mkdir(parents=True)
    stray = tmp_path / "raw" / DATASET / "labelsTr" / "train-99999.nii.gz"
    stray.touch()
    write_dataset(tmp_path, items(PHOTO, 1), items(PHOTO, 1), PHOTO, "zscore")
    assert not stray.exists()
    stray.touch()
    write_dataset(tmp_path, items(PHOTO, 1), items(PHOTO, 1), PHOTO, "zscore")
    assert stray.exists()


@pytest.mark.usefixtures("installed")
def test_defaults_follow_the_task() -> None:
    image, volume = build(), build(CT)
    told = [(x.dims, x.settings["configuration"], x.normalization) for x in (image, volume)]
    assert told == [(2, "2d", "zscore"), (3, "3d_fullres", "CT")]
    assert image.evaluations == 4
    assert volume.evaluations == 8
    assert build(CT, configuration="2d").dims == 3
    assert build(CT, mirroring=False).evaluations == 1
    assert build(SimpleNamespace(**{**vars(CT), "intensity": (0.0, 900.0)})).normalization == "zscore"


def plans(name: str) -> dict[str, Any]:
    architecture = {
        "network_class_name": "torch.nn.Conv2d",
        "arch_kwargs": {"conv_op": name, "dropout_op": None},
        "_kw_requires_import": ["conv_op", "dropout_op"],
    }
    return {"configurations": {"2d": {"architecture": architecture}}}


@pytest.mark.usefixtures("installed")
def test_what_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[0, 0], mask[2, :, 0] = True, True
    with pytest.raises(ValueError, match="case c7: labels a and c overlap"):
        label_map(mask, ("a", "b", "c"), "c7")
    with pytest.raises(ValueError, match="the val split is empty"):
        write_dataset(tmp_path, items(PHOTO, 1), [], PHOTO, "zscore")
    with pytest.raises(ValueError, match="needs volumes"):
        build(configuration="3d_fullres")
    with pytest.raises(ValueError, match="known are 2d, 3d_fullres"):
        build(configuration="3d_cascade_fullres")
    with pytest.raises(ValueError, match=r"tile_step_size=0\.0"):
        build(tile_step_size=0.0)
    segmenter._check_names(plans("torch.nn.modules.conv.Conv2d"))  # parts of networks and nothing else
    contents = {n: json.dumps({"plans": plans(n)}) for n in ("os.system", "torch.nn.functional.torch.os.system")}
    for reason, content in {**contents, "not what an nnU-Net training leaves": "{"}.items():
        (tmp_path / "nnunet.json").write_text(content)
        with pytest.raises(ValueError, match=rf"nnunet\.json: .*{reason}"):
            build().load(tmp_path)
    monkeypatch.setattr(segmenter, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs nnunetv2: pip install 'sdseg-bench\[nnunet\]'"):
        build()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Runs a script in the worker's place; gives the log."""

    def run(script: str) -> Path:
        (tmp_path / "fake_worker.py").write_text(script)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(process, "WORKER", "fake_worker")
        settings = {"device": "cpu", "threads": 2}
        process.run_stage("train", settings, tmp_path / "folder", tmp_path / "nnunet.log")
        return tmp_path / "nnunet.log"

    return run


def test_a_stage_reports_progress_and_keeps_the_rest_in_the_log(
    stage: Callable[[str], Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)
    monkeypatch.setattr(process.progress, "propagate", True)
    with caplog.at_level(logging.INFO, "progress"):
        log = stage(
            f"import os, sys\nprint('{process.PROGRESS} 10 250')\n"
            "print(sys.argv[1], *(os.environ[k] for k in ('nnUNet_raw', 'OMP_NUM_THREADS', 'nnUNet_n_proc_DA')))"
        )
    assert {(vars(r)["done"], vars(r)["total"]) for r in caplog.records} == {(10, 250)}
    assert log.read_text().split() == ["train", str(log.parent / "folder" / "raw"), "2", "0"]


def test_a_failing_stage_is_one_line_with_log_and_reason(stage: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"nnunet\.log: nnU-Net's train ended with 1: RuntimeError: no memory$"):
        stage("import atexit\natexit.register(print, 'bye')\nraise RuntimeError('no memory')")


def test_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    script = "import time\nfrom baselines.nnunet.worker import _end_with_parent\n_end_with_parent()\ntime.sleep(600)"
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd=root) as worker:
        worker.stdin.close()  # as when the parent dies
        assert worker.wait(timeout=120) == -signal.SIGKILL


@pytest.mark.full
@pytest.mark.skipif(find_spec("nnunetv2") is None, reason="nnunetv2 is not installed")
def test_end_to_end_and_equal_to_nnunets_own_prediction(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "full" not in request.config.option.markexpr:
        pytest.skip("minutes of training; runs with -m full")
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    task = SimpleNamespace(channels=1, labels=("bright",), image_size=(32, 32), dims=2, intensity=(0.0, 255.0))

    def disc(i: int) -> dict[str, Any]:
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        mask = ((y - 8 - i) ** 2 + (x - 20 + i) ** 2 < 30)[None]
        noise = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(i))
        return {"image": mask + 0.4 * noise - 0.7, "mask": mask, "case_id": str(i)}

    method, data = build(task, trainer="nnUNetTrainer_1epoch"), ([disc(i) for i in range(8)], [disc(8), disc(9)])
    facts = method.fit(*data, tmp_path)
    assert build(task, trainer="nnUNetTrainer_1epoch").fit(*data, tmp_path) == facts  # nothing is trained again
    assert facts["steps"] == 250
    assert facts["val_dice"] > 0.8
    calls: list[int] = []
    hook = method.model.register_forward_hook(lambda *arguments: calls.append(1))
    image = torch.stack([disc(i)["image"] for i in (10, 11)])
    score, mask = method.predict(image, [None, None])
    hook.remove()
    assert len(calls) == 2 * method.evaluations == 8
    official = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    (folder,) = (tmp_path / ".nnunet" / "results" / DATASET).iterdir()
    official.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
    for i in range(2):
        values = native_values(image[i], task.intensity)[:, None]
        properties = {"spacing": (999, 1, 1)}
        labels, soft = official.predict_single_npy_array(values, properties, None, None, True)
        assert (labels[0] == mask[i, 0].numpy()).all()
        assert (soft[1, 0] == score[i, 0].numpy()).all()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"model\.safetensors: truncated"):
        build(task).load(tmp_path)
