"""Ranges of image values: 8-bit, 0 to 1, or anything wider, which are not mixed in silence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench.errors import InputError
from bench.types import TaskSpec

_STANDARD = 5
EIGHT, UNIT, WIDE = "8-bit", "0 to 1", "wider than 8-bit"


def ranges_of(values: np.ndarray) -> frozenset[str]:
    """The ranges that values may be of; all of them where nothing tells."""
    if values.dtype in (np.uint8, bool):
        return frozenset({EIGHT})
    if values.dtype == np.uint16:
        return frozenset({WIDE})
    low, high = float(values.min()), float(values.max())
    if low == high or not np.isfinite([low, high]).all():  # NaN is for others to refuse
        return frozenset({EIGHT, UNIT, WIDE})
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return frozenset({UNIT})
    if values.dtype.kind == "f" and low >= -_STANDARD and high <= _STANDARD:
        return frozenset({UNIT, WIDE})  # standardised, or from 0 to 1 and interpolated beyond
    return frozenset({EIGHT, WIDE} if low >= 0 and high <= 255 else {WIDE})


def common_ranges(pictures: Iterable[tuple[Path, np.ndarray]]) -> tuple[str, ...]:
    """The ranges that all images share, sorted; raises InputError naming one that differs from those before it."""
    shared = frozenset({EIGHT, UNIT, WIDE})
    for path, values in pictures:
        check_range(values, path, tuple(sorted(shared)), "set dataset.intensity=[LOW,HIGH] if they belong together")
        shared &= ranges_of(values)
    return tuple(sorted(shared))


def check_range(values: np.ndarray, path: Path, ranges: tuple[str, ...], remedy: str) -> None:
    """Raises InputError where values (C, *S) are of none of the ranges of the images for training."""
    if not ranges_of(values) & set(ranges):
        said = f"{values.dtype} values from {float(values.min()):g} to {float(values.max()):g}"
        raise InputError(f"{path}: {said}, but the images for training are {' or '.join(ranges)}; {remedy}")


def ranges_of_run(task: TaskSpec) -> tuple[str, ...]:
    """The ranges of the images that a run was trained on; all where its record does not tell."""
    if task.ranges:
        return task.ranges
    # Records that do not say it have this range from 8-bit images, or from somebody who windows volumes.
    return (EIGHT,) if task.dims == 2 and task.intensity == (0.0, 255.0) else (EIGHT, UNIT, WIDE)
