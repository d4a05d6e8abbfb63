"""Images, label maps and masks as files, read with clear errors and written atomically.

`bench.datasets.formats` lists the formats and the order of axes: pictures are (H, W), NIfTI is (D, H, W) =
(Z, Y, X), the stored array transposed; `write_nifti` transposes back. Transparency of images is dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from PIL import Image

from bench.datasets.formats import Picture, decode, format_suffix
from bench.errors import InputError
from bench.files import atomic_path

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def find_files(folder: Path) -> dict[str, Path]:
    """Image files of a folder by stem, sorted; raises InputError for a missing folder or a repeated stem."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of images")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = format_suffix(path)
        if path.name.startswith(".") or not suffix or not path.is_file():
            continue
        stem = path.name[: -len(suffix)]
        if stem in found:
            raise InputError(f"{path}: same stem as {found[stem].name}; keep one file per case")
        found[stem] = path
    return dict(sorted(found.items()))


def read_image(path: Path, channels: int) -> np.ndarray:
    """Image (C, *S) float32 in native values with `channels` channels: grey is repeated, colour becomes luma.

    Raises InputError naming the file when it cannot be read, holds NaN or infinity, or has other channels.
    """
    return as_image(decode(path, channels), path, channels)


def as_image(picture: Picture, path: Path, channels: int) -> np.ndarray:
    """The second half of `read_image`, for a picture that is decoded already."""
    values = picture.values.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinity; images must be finite")
    if picture.alpha and len(values) != channels:
        values = values[:-1]
    if len(values) == 1:
        values = np.repeat(values, channels, axis=0)
    elif len(values) == 3 and channels == 1:
        values = np.tensordot(_LUMA, values, axes=1)[None]
    if len(values) != channels:
        raise InputError(f"{path}: {len(values)} channels, expected {channels}; convert it or set channels")
    return np.ascontiguousarray(values, dtype=np.float32)


def read_score(path: Path, labels: int) -> np.ndarray:
    """Soft score (L, *S) float32 in [0, 1] of so many labels, one channel each; unsigned integers span their type.

    Raises InputError naming the file for another number of channels, and for values out of range.
    """
    values = decode(path, labels).values
    if labels == 1 and len(values) in (3, 4) and all(np.array_equal(values[0], other) for other in values[1:3]):
        values = values[:1]  # grey, stored as colour
    if len(values) != labels:
        raise InputError(f"{path}: {len(values)} channels; a soft score has one per label, here {labels}")
    if values.dtype.kind in "bu":
        return values.astype(np.float32) / np.float32(1 if values.dtype == bool else np.iinfo(values.dtype).max)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also where there is a NaN
        raise InputError(f"{path}: holds values from {low:g} to {high:g}; a soft score lies in 0..1, so no logits")
    return values.astype(np.float32)


def same_orientation(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two affines (4, 4) run along the same axes; one that states nothing agrees with any."""
    stated = [m for m in (a, b) if m is not None and not _states_nothing(m)]
    return len(stated) < 2 or nib.aff2axcodes(stated[0]) == nib.aff2axcodes(stated[1])


def _states_nothing(affine: np.ndarray) -> bool:
    axes = affine[:3, :3]
    return not affine[:3, 3].any() and bool((axes == np.diag(np.abs(np.diag(axes)))).all())


def _as_ids(mask: np.ndarray, full: int) -> np.ndarray:
    if mask.dtype == bool:
        return mask.astype(np.uint8) * np.uint8(full)
    return mask.astype(np.uint8 if int(mask.max(initial=0)) < 256 else np.uint16)


def write_mask_png(path: Path, mask: np.ndarray) -> None:
    """Write a mask (H, W), bool as 0 and 255 or label ids as they are, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(_as_ids(mask, 255)).save(temporary, format="PNG")


def write_nifti(path: Path, mask: np.ndarray, like: Path) -> None:
    """Write a mask (D, H, W) of bool or label ids on the grid of the NIfTI file `like`, atomically."""
    source = cast(nib.Nifti1Image, nib.load(like))
    if source.shape[:3] != mask.shape[::-1]:
        raise InputError(f"{like}: grid {source.shape[:3]} differs from the mask's {mask.shape[::-1]}")
    values = _as_ids(mask, 1).T
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    with atomic_path(path) as temporary:
        nib.save(type(source)(values, source.affine, header), temporary)
