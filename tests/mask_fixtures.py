"""Masks of a disc, a cup in it and a spot beside it, and folders of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from PIL import Image

from bench.datasets.formats import decode
from bench.datasets.masks import MaskFiles
from bench.datasets.masks.declared import declared

Y, X = np.mgrid[:96, :128]
DISC = (Y - 40) ** 2 + (X - 60) ** 2 < 15**2
CUP = (Y - 40) ** 2 + (X - 60) ** 2 < 7**2
SPOT = (Y - 75) ** 2 + (X - 20) ** 2 < 6**2
RED, GREEN, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)


def grey(mask: np.ndarray, value: int = 255) -> np.ndarray:
    return mask.astype(np.uint8) * np.uint8(value)


def levels(*pairs: tuple[np.ndarray, Any], on: Any = 0) -> np.ndarray:
    """A plane of the value or colour `on` with the values of masks, the later ones on top."""
    plane = np.full((*DISC.shape, *np.shape(on)), on, np.uint8)
    for mask, value in pairs:
        plane[mask] = value
    return plane


def colours(*pairs: tuple[np.ndarray, Sequence[int]], on: Sequence[int] = BLACK) -> np.ndarray:
    return levels(*pairs, on=on)


def table(indices: np.ndarray, *rows: Sequence[int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([v for row in rows for v in row])
    return image


def through_jpeg(mask: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(grey(mask)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def enlarged(mask: np.ndarray, factor: int) -> np.ndarray:
    height, width = mask.shape
    return np.asarray(Image.fromarray(grey(mask)).resize((width * factor, height * factor), Image.Resampling.BILINEAR))


def save(path: Path, values: Any) -> Path:
    if isinstance(values, Image.Image):
        values.save(path)
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 2, 1])), path)
    elif path.suffix == ".tif":
        channels = values.ndim > 2 and values.shape[-1] < 5
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig" if channels else None)
    else:
        Image.fromarray(values).save(path)
    return path


def read(
    folder: Path, given: dict[str, Any] | list[Any], suffix: str = "png", **stated: Any
) -> tuple[MaskFiles, list[np.ndarray]]:
    folder.mkdir(exist_ok=True)
    files = given if isinstance(given, dict) else {f"{i}.{suffix}": values for i, values in enumerate(given)}
    paths = [save(folder / name, values) for name, values in files.items()]
    reading = MaskFiles(folder, paths, declared(**stated))
    return reading, [reading.read(path, decode(path, indexed=True))[0].stack() for path in paths]


ONE_HOT = np.stack([~DISC, DISC, *[DISC & False] * 3]).astype(np.uint8)
RED_JPEG = through_jpeg(np.dstack([DISC, DISC & False, DISC & False]), 80)
