"""Images, label maps and masks as files, read with clear errors and written atomically.

`bench.datasets.formats` lists the formats and the order of axes: pictures are (H, W), NIfTI is (D, H, W) =
(Z, Y, X), the stored array transposed; `write_nifti` transposes back. Transparency of images is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from PIL import Image

from bench.datasets.formats import LOSSY, PICTURES, TIFF, Picture, decode, format_suffix
from bench.errors import InputError
from bench.files import atomic_path

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_MID_GREY = slice(48, 208)
_MOST_MID_GREY = 0.05
_FEWEST_SOFT_LEVELS = 5  # fewer distinct values than this are ids, not the soft edges of one outline


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


def read_label_map(path: Path) -> np.ndarray:
    """Label ids (*S), non-negative integers; a JPEG or a mask with soft edges comes as 0 and 1.

    Raises InputError naming the file for colour, grey, fractional or negative values.
    """
    ids = _ids(path)
    histogram = _histogram(ids)
    if format_suffix(path) in LOSSY or _soft_edged(histogram):
        return _binary(path, ids, histogram).astype(np.uint8)
    mid, levels = _mid_grey(histogram), int(np.count_nonzero(histogram))
    if format_suffix(path) in (*PICTURES, *TIFF) and levels > 32 and mid > _MOST_MID_GREY:
        raise _grey_error(path, levels, mid)
    return ids


def read_mask(path: Path, labels: Mapping[str, int] | None = None, *, complete: bool = False) -> np.ndarray:
    """Mask (L, *S) bool: one channel per id of `labels`, or one channel of a binary mask where that is None.

    Binary: at most two values, one of them 0, or all 1 or all 255; JPEG and soft edges are cut above 128.
    Raises InputError naming the file for anything else, and with `complete` for ids that have no label.
    """
    if labels is None:
        ids = _ids(path)
        return _binary(path, ids, _histogram(ids))[None]
    if format_suffix(path) in LOSSY:
        raise InputError(f"{path}: a lossy format cannot hold label ids; use PNG, TIFF or NIfTI")
    ids = read_label_map(path)
    strangers = sorted(set(present_ids(ids)) - set(labels.values())) if complete else []
    if strangers:
        raise InputError(f"{path}: holds the id {strangers[0]}, which has no label; name it in labels")
    return np.stack([ids == i for i in labels.values()])


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


def present_ids(ids: np.ndarray) -> list[int]:
    """The ids above 0 of a label map, sorted."""
    return [int(i) for i in np.flatnonzero(_histogram(ids)) if i]


def _ids(path: Path) -> np.ndarray:
    plane = _one_plane(path, _coloured(decode(path, indexed=True)))
    if plane.dtype.kind == "f":
        if not np.isfinite(plane).all() or (plane != np.rint(plane)).any():
            raise InputError(f"{path}: holds fractions or NaN; give masks of whole numbers, not scores")
        plane = plane.astype(np.int32)
    plane = plane.astype(np.uint8) if plane.dtype == bool else plane
    low, high = int(plane.min()), int(plane.max())
    if low < 0 or high > 65535:
        raise InputError(f"{path}: holds values from {low} to {high}; label ids lie in 0..65535")
    return plane


def _coloured(picture: Picture) -> Picture:
    """Indices become the colours they stand for, but stay where several colours are ids above a black 0."""
    if picture.palette is None:
        return picture
    indices, *alpha = picture.values
    present = np.flatnonzero(_histogram(indices))
    table = picture.palette.astype(int)
    grey = (table == table[:, :1]).all()
    if not grey and len(present) > 2 and not table[0].any():
        return picture
    colours = [picture.palette[:, c][indices] for c in range(1 if grey else 3)]
    return picture._replace(values=np.stack([*colours, *alpha]), palette=None)


def _one_plane(path: Path, picture: Picture) -> np.ndarray:
    values = picture.values
    if picture.alpha:
        values, alpha = values[:-1], values[-1]
        if alpha.min() != alpha.max() and values.min() == values.max():
            raise InputError(f"{path}: the mask lies in the transparency; save it as grey values")
    if all(np.array_equal(values[0], other) for other in values[1:]):
        return values[0]
    if format_suffix(path) in LOSSY:
        return np.rint(np.tensordot(_LUMA, values.astype(np.float32), axes=1)).astype(np.uint8)
    colours = np.unique(values.reshape(len(values), -1), axis=1)
    if colours.shape[1] == 2 and not colours[:, 0].any():
        return np.any(values, axis=0).astype(np.uint8)
    if len(values) != 3:
        raise InputError(f"{path}: {len(values)} channels; save a mask as one channel of label ids")
    raise InputError(f"{path}: a mask in {colours.shape[1]} colours; save it as one channel of label ids")


def _histogram(ids: np.ndarray) -> np.ndarray:
    total = np.zeros(max(256, int(ids.max()) + 1), dtype=np.int64)
    for part in ids:  # by rows or slices, since bincount copies to 64 bit
        total += np.bincount(part.ravel(), minlength=len(total))
    return total


def _mid_grey(histogram: np.ndarray) -> float:
    return float(histogram[_MID_GREY].sum() / histogram.sum())


def _soft_edged(histogram: np.ndarray) -> bool:
    """Nearly black and white, with a few greys between: an outline that was resized or compressed."""
    levels = np.flatnonzero(histogram)
    enough = len(levels) >= _FEWEST_SOFT_LEVELS and 208 <= levels[-1] <= 255
    return bool(enough and histogram[208:].any() and histogram[_MID_GREY].any()) and (
        _mid_grey(histogram) <= _MOST_MID_GREY and levels[0] < 48
    )


def _binary(path: Path, ids: np.ndarray, histogram: np.ndarray) -> np.ndarray:
    levels = np.flatnonzero(histogram)
    lossy = format_suffix(path) in LOSSY
    mid = _mid_grey(histogram)
    if len(levels) <= 2 and levels[0] == 0 and not lossy:
        return ids > 0
    if len(levels) == 1 and levels[0] in (1, 255, 65535):
        return np.ones(ids.shape, dtype=bool)
    if mid > _MOST_MID_GREY:
        raise _grey_error(path, len(levels), mid)
    if lossy and 0 < levels[-1] < 48:
        raise InputError(f"{path}: a JPEG mask whose largest value is {levels[-1]}; save masks as 0 and 255")
    if lossy or _soft_edged(histogram):
        return ids > 128
    shown = ", ".join(map(str, levels[:8])) + (", ..." if len(levels) > 8 else "")
    raise InputError(f"{path}: a binary mask holds 0 and 255, this one {shown}; name its labels")


def _grey_error(path: Path, levels: int, mid: float) -> InputError:
    return InputError(
        f"{path}: not a mask: {levels} grey levels, {mid:.0%} of the pixels mid grey; save masks as 0 and 255"
    )


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
