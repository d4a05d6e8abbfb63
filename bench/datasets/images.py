"""Images, label maps and masks as files, read with clear errors and written atomically.

`bench.datasets.formats` lists the formats and the order of axes: pictures are (H, W), volumes (D, H, W) = (Z, Y, X).
Transparency of images is dropped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.datasets.formats import Picture, decode
from bench.datasets.grids import Onto, check_size
from bench.errors import InputError
from bench.files import atomic_path

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def as_image(picture: Picture, path: Path, channels: int) -> np.ndarray:
    """A decoded picture as an image (C, *S) float32 with `channels` channels: grey is repeated, colour becomes luma.

    Raises InputError naming the file where the picture holds NaN or infinity, or has other channels.
    """
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


def read_score(path: Path, labels: int, onto: Onto | None = None) -> np.ndarray:
    """Soft score (L, *S) float32 in [0, 1] of so many labels, one channel each; unsigned integers span their type.

    `onto` is the grid of the file it belongs to. Raises InputError naming the file for another number of channels,
    another grid, and values out of range.
    """
    values = decode(path, labels, onto=onto and onto._replace(smooth=True)).values
    if labels == 1 and len(values) in (3, 4) and all(np.array_equal(values[0], other) for other in values[1:3]):
        values = values[:1]  # grey, stored as colour
    if len(values) != labels:
        raise InputError(f"{path}: {len(values)} channels; a soft score has one per label, here {labels}")
    if onto is not None:
        check_size(values.shape[1:], path, onto)
    if values.dtype.kind in "bu":
        return values.astype(np.float32) / np.float32(1 if values.dtype == bool else np.iinfo(values.dtype).max)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also where there is a NaN
        raise InputError(f"{path}: holds values from {low:g} to {high:g}; a soft score lies in 0..1, so no logits")
    return values.astype(np.float32)


def write_mask_png(path: Path, mask: np.ndarray) -> None:
    """Write a mask (H, W), bool as 0 and 255 or label ids as they are, atomically."""
    small = mask.dtype == bool or int(mask.max(initial=0)) < 256
    values = np.where(mask, 255, 0).astype(np.uint8) if mask.dtype == bool else mask.astype("u1" if small else "u2")
    with atomic_path(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")
