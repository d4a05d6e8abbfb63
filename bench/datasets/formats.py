"""Decoders of the image formats: a file becomes an array of the stored type, channels first.

Array order: pictures are (H, W). NIfTI stores (X, Y, Z); here it is (D, H, W) = (Z, Y, X), that is, the
stored array transposed, without reorientation or resampling; `spacing_mm` follows that order. NPY holds
(H, W), (H, W, C), (C, H, W) or (D, H, W); a multi-page TIFF is (D, H, W). EXIF rotation is not applied.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np

from bench.datasets.picture import Picture
from bench.datasets.raster import decode_picture, decode_tiff
from bench.errors import InputError

NIFTI = (".nii.gz", ".nii")
LOSSY = (".jpg", ".jpeg", ".webp")
PICTURES = (".png", ".bmp", ".gif", ".pgm", ".ppm", *LOSSY)
TIFF = (".tif", ".tiff")
FORMATS = (*NIFTI, *PICTURES, *TIFF, ".npy")

_TO_MM = {"meter": 1000.0, "micron": 0.001}


def format_suffix(path: Path) -> str:
    """The suffix that names the format, lower case; empty for a file of no known format."""
    name = path.name.lower()
    return next((s for s in FORMATS if name.endswith(s)), "")


def decode(path: Path, channels: int = 1, indexed: bool = False) -> Picture:
    """Values of a file as stored; `indexed` keeps colour-table indices and transparency, as masks need.

    Without it colours come from the table and transparency of pictures is dropped.

    Raises InputError naming the file when it is missing, damaged or of an unknown format.
    """
    suffix = format_suffix(path)
    if not suffix:
        raise InputError(f"{path}: unknown image format; use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if suffix in NIFTI:
            return _decode_nifti(path)
        if suffix == ".npy":
            return Picture(_channels_first(np.load(path, allow_pickle=False), channels))
        return decode_tiff(path, indexed) if suffix in TIFF else decode_picture(path, indexed)
    except Exception as error:  # every decoder has its own family of errors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason}); replace the file") from error


def _decode_nifti(path: Path) -> Picture:
    image = cast(nib.Nifti1Image, nib.load(path))
    values = np.asanyarray(image.dataobj)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.dtype.names or values.ndim not in (2, 3, 4):
        raise ValueError(f"shape {values.shape}, type {values.dtype}: expected 2 or 3 axes of numbers")
    axes = min(values.ndim, 3)
    unit = _TO_MM.get(image.header.get_xyzt_units()[0], 1.0)
    spacing = tuple(float(z) * unit for z in image.header.get_zooms()[:axes])[::-1]
    # (X, Y, Z[, C]) -> (C, Z, Y, X)
    values = values.T if values.ndim == 4 else values.T[None]
    return Picture(values, spacing, np.asarray(image.affine))


def affine_of(path: Path) -> np.ndarray | None:
    """The affine (4, 4) of a NIfTI file, from its header alone; None for other formats."""
    return cast(nib.Nifti1Image, nib.load(path)).affine if format_suffix(path) in NIFTI else None


def _channels_first(values: np.ndarray, channels: int) -> np.ndarray:
    if values.dtype.kind not in "biuf" or values.ndim not in (2, 3, 4) or values.size == 0:
        raise ValueError(f"shape {values.shape}, type {values.dtype}: expected 2 to 4 axes of numbers")
    if values.ndim == 3 and values.shape[-1] in (1, 3, 4):
        return np.moveaxis(values, -1, 0)
    if values.ndim == 4:
        return values if values.shape[0] == channels else np.moveaxis(values, -1, 0)
    if values.ndim == 3 and channels > 1 and values.shape[0] == channels:
        return values
    return values[None]
