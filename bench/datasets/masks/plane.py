"""The values of a mask file: one plane (*S) of whole numbers, whatever the file stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.datasets.formats import PICTURES, TIFF, Picture, decode, format_suffix
from bench.datasets.masks.declared import COLOUR, LARGEST, Declared
from bench.errors import InputError

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_MOST_CHANNELS = 32  # a stack of more planes is a volume
_CHROMA = 16  # by so much the channels of a grey picture may differ once it was compressed with loss


def read_plane(path: Path, declared: Declared) -> np.ndarray:
    """Values (*S) of a mask: grey levels or ids, colours as `COLOUR + 0xRRGGBB`, the index of one-hot channels.

    Raises InputError naming the file for channels that are no colour, fractions, NaN, and values that are no id.
    """
    return plane_of(decode(path, indexed=True), path, declared)


def plane_of(picture: Picture, path: Path, declared: Declared) -> np.ndarray:
    """The same of a file that is decoded already."""
    values = _opaque(picture, path)
    if declared.mask == "onehot":
        return _one_hot(values, path)
    if picture.palette is not None and declared.mask != "index":
        values = np.moveaxis(picture.palette[values[0]], -1, 0)
    if all(np.array_equal(values[0], other) for other in values[1:]):
        return _checked_slices(_whole(values[0], path, declared), path, declared)
    if picture.planes and len(values) > 1:
        raise InputError(
            f"{path}: {len(values)} planes that may be slices, channels or colours; save a volume as grey pages "
            f"(tifffile: photometric='minisblack'), or say {declared.named('mask')}onehot"
        )
    if len(values) == 3 and values.dtype == np.uint8 and format_suffix(path) in (*PICTURES, *TIFF):
        if declared.mask == "binary" and declared.background == 0 and declared.ignore is None:
            return values.max(0)  # any colour on black, however much of it compression left
        return _lossy_colours(values, path, declared) if picture.lossy else _colours(values)
    raise InputError(
        f"{path}: {len(values)} channels that differ; save one plane of label values, or say "
        f"{declared.named('mask')}onehot if channel 0 is the background and each further one a label"
    )


def is_halved(picture: Picture, declared: Declared) -> bool:
    """Whether `plane_of` cuts a file's fractions at one half."""
    values = picture.values
    return declared.mask == "binary" and values.dtype.kind == "f" and not np.array_equal(np.rint(values), values)


def _opaque(picture: Picture, path: Path) -> np.ndarray:
    if not picture.alpha:
        return picture.values
    values, alpha = picture.values[:-1], picture.values[-1]
    if alpha.min() != alpha.max() and values.min() == values.max():
        raise InputError(f"{path}: the mask lies in the transparency; save it as grey values")
    return values


def _one_hot(values: np.ndarray, path: Path) -> np.ndarray:
    """The index of the channel that is set; a file without a word on channels has them along its first or last axis."""
    several = [values] if len(values) > 1 else [values[0], np.moveaxis(values[0], -1, 0)]
    fitting = [chosen for some in several if len(some) > 1 and ((chosen := some > 0).sum(0) == 1).all()]
    if len(fitting) != 1:
        shape = " x ".join(map(str, values.shape))
        raise InputError(f"{path}: not one-hot: no one axis of {shape} has exactly one channel set at every element")
    return fitting[0].argmax(0).astype(np.uint8 if len(fitting[0]) < 256 else np.uint16)


def _checked_slices(plane: np.ndarray, path: Path, declared: Declared) -> np.ndarray:
    """The plane (*S) as it is; InputError for a stack (D, H, W) whose planes are one-hot channels rather than slices.

    A background channel read as a slice would be foreground. `mask="labels"` is the way out for slices that look so.
    """
    if plane.ndim != 3 or declared.mask == "labels":
        return plane
    for axis in (0, -1):
        if 2 <= plane.shape[axis] <= _MOST_CHANNELS and _one_set(np.moveaxis(plane, axis, 0)):
            raise InputError(
                f"{path}: exactly one of {plane.shape[axis]} planes is set at every element, so they are one-hot "
                f"channels; say {declared.named('mask')}onehot, or {declared.named('mask')}labels if they are slices"
            )
    return plane


def _one_set(planes: np.ndarray) -> bool:
    """Whether planes (C, *S) hold 0 and one other value, which one plane has at every element."""
    high = planes.max(0)
    return bool(high.min() == high.max() > 0 and (planes != 0).sum(0).max() == 1 and planes.min() == 0)


def _colours(values: np.ndarray) -> np.ndarray:
    red, green, blue = values.astype(np.int32)
    grey = (red == green) & (green == blue)
    return np.where(grey, red, COLOUR + (red << 16) + (green << 8) + blue)


def _lossy_colours(values: np.ndarray, path: Path, declared: Declared) -> np.ndarray:
    if int((values.max(0) - values.min(0)).max()) <= _CHROMA:
        return np.rint(np.tensordot(_LUMA, values.astype(np.float32), axes=1)).astype(np.uint8)
    raise InputError(
        f"{path}: colours in a file that was compressed with loss; save masks as PNG, or say "
        f"{declared.named('mask')}binary if every colour on black is one label"
    )


def _whole(plane: np.ndarray, path: Path, declared: Declared) -> np.ndarray:
    """The plane as whole numbers of the smallest type that is cheap to count."""
    if plane.dtype.kind == "f":
        plane = _rounded(plane, path, declared)
    if plane.dtype == bool:
        return plane.astype(np.uint8)
    low, high = int(plane.min()), int(plane.max())
    allowed = {declared.background, declared.ignore}
    if low < 0 and (low < -LARGEST or any(v not in allowed for v in np.unique(plane[plane < 0]).tolist())):
        raise InputError(
            f"{path}: holds values from {low} to {high}; label values lie in 0..{LARGEST}: say "
            f"{declared.named('ignore')}{low} or {declared.named('background')}{low} if that is what it means"
        )
    if high > LARGEST:
        raise InputError(f"{path}: holds values up to {high}; label values lie in 0..{LARGEST}")
    return plane if plane.dtype in (np.uint8, np.uint16) else plane.astype(np.int32 if low < 0 else np.uint16)


def _rounded(plane: np.ndarray, path: Path, declared: Declared) -> np.ndarray:
    if not np.isfinite(plane).all():
        raise InputError(f"{path}: holds NaN or infinity; give masks of whole numbers")
    whole = np.rint(plane)
    if np.array_equal(whole, plane):
        return whole.clip(-(2**31), 2**31 - 1).astype(np.int32)
    if declared.mask == "binary" and plane.min() >= 0 and plane.max() <= 1:
        return (plane > 0.5).astype(np.uint8)
    raise InputError(
        f"{path}: holds fractions; give masks of whole numbers, not scores ({declared.named('mask')}binary cuts "
        "fractions in 0..1 at one half)"
    )
