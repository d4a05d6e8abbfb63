"""Decoders say what the file's own header says: transparency, colour tables, lossy content."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from bench.datasets.formats import decode
from bench.datasets.images import as_image
from bench.datasets.masks import Declared
from bench.datasets.masks.plane import read_plane
from bench.errors import InputError

BLOB = np.zeros((40, 48), dtype=np.uint8)
BLOB[10:30, 12:40] = 255
TWO = np.stack([255 - BLOB, BLOB], axis=-1)


def encoded(values: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def table_image(indices: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    ("kind", "options", "alpha"),
    [
        ("la.png", {}, True),
        ("rgba.png", {}, True),
        ("rgba.webp", {"lossless": True}, True),
        ("la.tif", {}, True),
        ("rgb.png", {}, False),
        ("rgb.png", {"transparency": (0, 0, 0)}, True),
        ("l.png", {"transparency": 0}, True),
    ],
)
def test_transparency_is_what_the_header_names(
    tmp_path: Path, kind: str, options: dict[str, object], alpha: bool
) -> None:
    path = tmp_path / kind
    image = Image.fromarray(BLOB).convert(path.stem.upper())
    if path.stem.endswith("a"):
        image.putalpha(Image.fromarray(255 - BLOB))  # some encoders drop one that is opaque
    image.save(path, **options)
    picture = decode(path, indexed=True)
    assert picture.alpha is alpha
    assert len(picture.values) == {"l": 1, "la": 1, "rgb": 3, "rgba": 3}[path.stem] + alpha
    assert as_image(decode(path, 3), path, 3).shape == (3, 40, 48)  # and images lose it


def test_two_channels_are_no_transparency(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "two.tif", TWO, photometric="minisblack", planarconfig="contig")
    nib.save(nib.Nifti1Image(TWO[:, :, None].swapaxes(0, 1).swapaxes(1, 2), np.eye(4)), tmp_path / "two.nii.gz")
    np.save(tmp_path / "four.npy", np.concatenate([TWO, TWO], axis=-1))
    for name in ("two.tif", "four.npy"):
        assert not decode(tmp_path / name, indexed=True).alpha
        with pytest.raises(InputError, match=r"\d channels"):
            read_plane(tmp_path / name, Declared())
    with pytest.raises(InputError, match=r"four\.npy: 4 channels, expected 3"):
        as_image(decode(tmp_path / "four.npy", 3), tmp_path / "four.npy", 3)


@pytest.mark.parametrize("colours", [[0, 0, 0, 255, 0, 0], [255, 0, 0, 0, 0, 0], [255, 255, 255, 0, 0, 0]])
def test_colour_tables_come_with_their_indices_also_grey_ones(tmp_path: Path, colours: list[int]) -> None:
    indices = (BLOB > 0).astype(np.uint8)
    table_image(indices, colours).save(tmp_path / "p.png")
    picture = decode(tmp_path / "p.png", indexed=True)
    assert np.array_equal(picture.values, indices[None])
    assert picture.palette is not None
    assert picture.palette[:2].ravel().tolist() == colours


def test_transparent_indices_are_a_channel(tmp_path: Path) -> None:
    table_image((BLOB > 0).astype(np.uint8), [0, 0, 0, 255, 0, 0]).save(tmp_path / "p.png", transparency=0)
    picture = decode(tmp_path / "p.png", indexed=True)
    assert picture.alpha
    assert np.array_equal(picture.values[1], BLOB)


def test_lossy_content_is_known_whatever_the_name(tmp_path: Path) -> None:
    contents = {
        "jpeg-as.png": encoded(BLOB, "JPEG"),
        "clean.png": encoded(BLOB, "PNG"),
        "lossy.webp": encoded(BLOB, "WEBP", quality=80),
        "lossless.webp": encoded(BLOB, "WEBP", lossless=True),
        "jpeg.tif": encoded(BLOB, "TIFF", compression="jpeg"),
        "lzw.tif": encoded(BLOB, "TIFF", compression="tiff_lzw"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    lossy = {name for name in contents if decode(tmp_path / name, indexed=True).lossy}
    assert lossy == {"jpeg-as.png", "lossy.webp", "jpeg.tif"}
