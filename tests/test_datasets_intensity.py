"""Images of 8 bits, of 16 bits and of values from 0 to 1 are not mixed in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bench.command.segment import _case
from bench.datasets.folder import Folder
from bench.datasets.intensity import ranges_of
from bench.errors import InputError
from bench.types import TaskSpec

GREY = np.random.default_rng(0).integers(0, 256, (12, 16)).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 257
UNIT = GREY.astype(np.float32) / 255


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    else:
        Image.fromarray(values).save(path)
    return path


def folder(root: Path, odd: np.ndarray, usual: np.ndarray = GREY) -> Path:
    for i in range(12):
        save(root / f"images/c{i:02}.tif", odd if i == 7 else usual)
        save(root / f"masks/c{i:02}.png", (GREY > 128).astype(np.uint8) * 255)
    return root


@pytest.mark.parametrize(
    ("odd", "words"), [(DEEP, "uint16 values from 0 to 65535"), (UNIT, "float32 values from 0 to 1")]
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_folder_of_mixed_depth_is_refused(tmp_path: Path, odd: np.ndarray, words: str, split: str) -> None:
    rows = "".join(f"c{i:02},{split if i == 7 else 'train'}\n" for i in range(12))
    (tmp_path / "split.csv").write_text(f"case,split\n{rows}")
    dataset = Folder(folder(tmp_path, odd), 8, channels=1, manifest=tmp_path / "split.csv")
    with pytest.raises(InputError, match=rf"c07\.tif: {words}, but .* 8-bit; .*dataset\.intensity"):
        dataset.check()


def test_a_stated_range_lets_them_be_mixed(tmp_path: Path) -> None:
    dataset = Folder(folder(tmp_path, UNIT), 8, channels=1, intensity=[0, 255])
    dataset.check()
    assert dataset.case("c07").image.max() <= 1


@pytest.mark.parametrize("trained", [GREY, DEEP, UNIT], ids=["8-bit", "16-bit", "unit"])
def test_a_run_segments_images_of_its_own_range(tmp_path: Path, trained: np.ndarray) -> None:
    task = Folder(folder(tmp_path, trained, trained), 8, channels=1).spec
    task = TaskSpec.of(task.facts())  # as the record holds it
    for name, values in (("8.tif", GREY), ("16.tif", DEEP), ("unit.tif", UNIT)):
        path = save(tmp_path / name, values)
        if values is trained:
            assert _case("a", path, task).image.shape == (1, 12, 16)
        else:
            with pytest.raises(InputError, match=rf"{name}: {values.dtype} values .*save it with such values"):
                _case("a", path, task)


def test_records_that_do_not_say_it_still_work(tmp_path: Path) -> None:
    old = {key: v for key, v in TaskSpec(1, ("a",), (8, 8), 2).facts().items() if key not in ("ranges", "orientation")}
    task = TaskSpec.of(old)
    assert _case("a", save(tmp_path / "a.png", GREY), task).image.max() > 200
    for name, values in (("16.tif", DEEP), ("unit.tif", UNIT)):
        with pytest.raises(InputError, match=r"but the images for training are 8-bit"):
            _case("a", save(tmp_path / name, values), task)
    window = replace(task, intensity=(0.0, 1000.0))
    assert _case("a", save(tmp_path / "16.tif", DEEP), window).image.max() == 65535


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (GREY, {"8-bit"}),
        (GREY.astype(np.int32), {"8-bit", "wider than 8-bit"}),
        (GREY.astype(np.float64) - 100, {"wider than 8-bit"}),
        (np.linspace(-2.0, 3.0, 4), {"0 to 1", "wider than 8-bit"}),
        (np.full((2, 2), 2.0), {"8-bit", "0 to 1", "wider than 8-bit"}),
        (np.zeros((2, 2)), {"8-bit", "0 to 1", "wider than 8-bit"}),
    ],
)
def test_what_values_may_be(values: np.ndarray, kinds: set[str]) -> None:
    assert ranges_of(values) == kinds
