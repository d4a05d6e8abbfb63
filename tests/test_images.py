"""Files become arrays and masks as documented, and bad files become one clear line."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from bench.datasets.formats import decode
from bench.datasets.images import as_image, write_mask_png
from bench.datasets.masks import Declared
from bench.datasets.masks.plane import read_plane
from bench.datasets.nifti import write_nifti
from bench.datasets.pairing import find_files
from bench.errors import InputError

BLOB = np.zeros((40, 48), dtype=np.uint8)
BLOB[10:30, 12:40] = 1
COLOURS = np.stack([np.full((40, 48), v, dtype=np.uint8) for v in (200, 100, 50)], axis=-1)


def read_image(path: Path, channels: int) -> np.ndarray:
    return as_image(decode(path, channels), path, channels)


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(values.T, np.diag([0.8, 0.9, 2.5, 1.0])), path)
    else:
        Image.fromarray(values).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.npy"])
def test_colour_image_keeps_its_channels(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, COLOURS)
    image = read_image(path, 3)
    assert image.dtype == np.float32
    assert image.shape == (3, 40, 48)
    assert image[:, 0, 0].tolist() == [200, 100, 50]
    # ITU-R 601 luma by hand: 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
    assert read_image(path, 1)[0, 0, 0] == pytest.approx(124.2, abs=1e-3)


def test_modes_of_pictures(tmp_path: Path) -> None:
    rgba = np.concatenate([COLOURS, np.full((40, 48, 1), 7, np.uint8)], axis=-1)
    assert np.array_equal(read_image(save(tmp_path / "rgba.png", rgba), 3), np.moveaxis(COLOURS, -1, 0))
    palette = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "palette.png", 3), np.moveaxis(COLOURS, -1, 0))
    deep = save(tmp_path / "deep.png", BLOB.astype(np.uint16) * 40000)
    assert read_image(deep, 1).max() == 40000
    assert np.array_equal(read_image(deep, 3)[2], read_image(deep, 1)[0])


def test_tiff_stacks_and_deep_colour(tmp_path: Path) -> None:
    stack = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    assert np.array_equal(read_image(tmp_path / "stack.tif", 1)[0], stack)
    tifffile.imwrite(tmp_path / "rgb16.tif", COLOURS.astype(np.uint16) * 256, photometric="rgb")
    assert read_image(tmp_path / "rgb16.tif", 3)[:, 0, 0].tolist() == [51200, 25600, 12800]
    Image.fromarray(BLOB * 255).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    assert np.array_equal(read_plane(tmp_path / "lzw.tif", Declared()) > 0, BLOB > 0)


def test_nifti_axes_spacing_and_affine(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)  # (D, H, W)
    path = save(tmp_path / "v.nii.gz", volume)
    picture = decode(path)
    assert np.array_equal(picture.values, volume[None])
    assert picture.spacing_mm == pytest.approx((2.5, 0.9, 0.8))
    assert nib.load(path).shape == (5, 4, 3)


def test_written_nifti_keeps_the_grid_of_its_source(tmp_path: Path) -> None:
    turned = np.array([[0, 0, 3.0, 5], [-1.5, 0, 0, 7], [0, 2.0, 0, -9], [0, 0, 0, 1]])
    source = nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), turned)
    source.header.set_slope_inter(2.0, -1024)
    source.set_qform(turned, code=1)
    nib.save(source, tmp_path / "source.nii.gz")
    mask = np.random.default_rng(1).integers(0, 4, (5, 6, 4))  # as it is read: towards head, front and right
    write_nifti(tmp_path / "mask.nii.gz", mask, tmp_path / "source.nii.gz")
    written = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(read_plane(tmp_path / "mask.nii.gz", Declared()), mask)
    assert written.shape == (6, 5, 4)
    assert np.array_equal(written.affine, turned)
    assert written.header.get_zooms() == nib.load(tmp_path / "source.nii.gz").header.get_zooms()
    assert (written.header["qform_code"], written.get_data_dtype()) == (1, np.uint8)
    with pytest.raises(InputError, match=r"source.nii.gz"):
        write_nifti(tmp_path / "wrong.nii.gz", mask[:2], tmp_path / "source.nii.gz")
    assert not (tmp_path / "wrong.nii.gz").exists()


@settings(max_examples=15, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_written_png_reads_back(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "m.png"
    write_mask_png(path, mask)
    assert np.array_equal(read_plane(path, Declared()) > 0, mask)
    assert [p.name for p in path.parent.iterdir()] == ["m.png"]


def test_written_png_keeps_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [300, 0, 1]])
    write_mask_png(tmp_path / "ids.png", ids)
    assert np.array_equal(read_plane(tmp_path / "ids.png", Declared()), ids)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.npy", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("keep", [0.0, 0.4])
def test_damaged_files_are_named(tmp_path: Path, name: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    path = save(tmp_path / name, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError) as caught:
        read_image(path, 1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["a.npy", "a.nii.gz", "a.tif"])
def test_undefined_values_in_an_image(tmp_path: Path, bad: float, name: str) -> None:
    values = np.ones((4, 5), dtype=np.float32)
    values[1, 1] = bad
    with pytest.raises(InputError, match=r"NaN or infinity") as caught:
        read_image(save(tmp_path / name, values), 1)
    assert name in str(caught.value)


def test_wrong_channels_and_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 channels, expected 2"):
        read_image(save(tmp_path / "a.png", COLOURS), 2)
    np.save(tmp_path / "b.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"b\.npy"):
        read_image(tmp_path / "b.npy", 1)


def test_files_are_found_by_stem(tmp_path: Path) -> None:
    for name in ("b.v2.nii.gz", "c.PNG", "a.npy", ".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert list(find_files(tmp_path)) == ["a", "b.v2", "c"]
    (tmp_path / "c.jpg").touch()
    with pytest.raises(InputError, match=r"same stem"):
        find_files(tmp_path)
    with pytest.raises(InputError, match=r"nowhere"):
        find_files(tmp_path / "nowhere")
