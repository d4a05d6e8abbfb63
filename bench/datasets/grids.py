"""Two files of one case on one grid: the second takes the first one's, is refused, or is resampled on request."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, ornt_transform
from nibabel.processing import resample_from_to
from nibabel.spatialimages import SpatialImage

from bench.errors import InputError
from bench.notes import note
from bench.picture import Grid, Picture

_SAME = 0.1  # of an element's smallest side, by which the corners of one grid may be apart
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


class Onto(NamedTuple):
    """The grid of the file that another one belongs to, what that file is called, and the option that resamples or "".

    `fill` is the value outside of a resampled file; `smooth` interpolates linearly instead of by nearest neighbour.
    """

    grid: Grid
    owner: str = "its reference"
    option: str = "--resample"
    resample: bool = False
    fill: float = 0
    smooth: bool = False


def on_grid(picture: Picture, path: Path, onto: Onto) -> Picture:
    """The picture on the grid of its owner; what it does not state itself is as its owner says.

    Raises InputError that says what differs and names the option, unless that is given and the two can be resampled.
    """
    if picture.spacing_mm is None and len(picture.grid.shape) != len(onto.grid.shape):
        return picture  # which of its axes are channels is for the reader to say
    own = _as_ordered(picture, onto.grid)
    difference = _difference(own.grid, onto.grid, onto.owner)
    if not difference:
        return own._replace(spacing_mm=onto.grid.spacing_mm, affine=onto.grid.affine, turn=onto.grid.turn)
    remedy = "save it at that size" if difference.startswith("size") else "save it on that grid"
    if len(own.grid.shape) != len(onto.grid.shape):
        raise InputError(f"{path}: {difference}; {remedy}")
    if not onto.resample:
        option = f", or give {onto.option} to have it resampled" if onto.option else ""
        raise InputError(f"{path}: {difference}; {remedy}{option}")
    how = "linearly" if onto.smooth else "by nearest neighbour"
    note(f"{difference}; resampled {how}", path)
    return _resampled(own, onto)


def check_size(shape: tuple[int, ...], path: Path, onto: Onto) -> None:
    """Raises InputError where a mask that was read has another size than its owner."""
    if shape != onto.grid.shape:
        raise InputError(f"{path}: {_difference(Grid(shape), onto.grid, onto.owner)}; save it at that size")


def as_stored(picture: Picture) -> Picture:
    """The picture in the order of its file, without an orientation."""
    if picture.turn is None or picture.values.ndim != 4:
        return picture
    return turned(picture, ornt_transform(_RAS, picture.turn))


def _as_ordered(picture: Picture, owner: Grid) -> Picture:
    """With axes in the owner's order where one of the two states no orientation: both are stored alike then."""
    if picture.values.ndim != 4 or (picture.affine is None) == (owner.affine is None):
        return picture
    return as_stored(picture) if owner.turn is None else turned(picture, owner.turn)


def turned(picture: Picture, turn: np.ndarray) -> Picture:
    """Values (C, Z, Y, X) with their axes X, Y, Z in another order and direction, as nibabel says it; no affine."""
    place = [int(axis) for axis in np.argsort(turn[:, 0])]
    spacing = picture.spacing_mm and tuple(picture.spacing_mm[::-1][i] for i in place)[::-1]
    # (C, Z, Y, X) is turned as (X, Y, Z, C).
    values = apply_orientation(picture.values.T, turn).T
    return picture._replace(values=values, spacing_mm=spacing, affine=None, turn=None)


def _difference(own: Grid, owner: Grid, name: str) -> str:
    """What differs between two grids, in words; empty where nothing does, or is not stated."""
    if own.shape != owner.shape:
        return f"size {_by(own.shape)}, but {name} has {_by(owner.shape)}"
    if own.affine is None or owner.affine is None:  # a spacing of 1 everywhere is what programs write that know none
        a, b = own.spacing_mm, owner.spacing_mm
        if (
            a is None
            or b is None
            or {1.0} in (set(a), set(b))
            or np.allclose(a, b, rtol=_SAME / max(own.shape), atol=0)
        ):
            return ""
        return f"spacing {_by(a)} mm, but {name} has {_by(b)} mm"
    if _apart(own.affine, owner.affine, own.shape) <= _SAME:
        return ""
    names = ("spacing", "direction", "origin")
    for what, ours, theirs in zip(names, _facts(own.affine), _facts(owner.affine), strict=True):
        if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
            return f"{what} {_row(ours)}, but {name} has {_row(theirs)}"
    return f"a grid that ends elsewhere than that of {name}"


def _apart(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far apart the outer corners of two grids (X, Y, Z) lie, in their smallest element sides."""
    ends = [(-0.5, n - 0.5) for n in (*([1] * (3 - len(shape))), *shape)[::-1]]
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    difference = nib.affines.apply_affine(a, corners) - nib.affines.apply_affine(b, corners)
    smallest = min(*nib.affines.voxel_sizes(a), *nib.affines.voxel_sizes(b))
    return float(np.linalg.norm(difference, axis=-1).max() / smallest)


def _facts(affine: np.ndarray) -> tuple[np.ndarray, ...]:
    """Spacing, direction and origin."""
    sizes = nib.affines.voxel_sizes(affine)
    return sizes[::-1], (affine[:3, :3] / sizes).T.ravel(), affine[:3, 3]


def _by(values: Iterable[float]) -> str:
    return " x ".join(f"{round(float(v), 4) + 0:g}" for v in values)


def _row(values: Iterable[float]) -> str:
    return f"({', '.join(_by((v,)) for v in values)})"


def _resampled(picture: Picture, onto: Onto) -> Picture:
    """Values at the owner's elements, channel by channel."""
    grid, own = onto.grid, picture.grid
    stated = own.affine is not None and grid.affine is not None
    source, target = (own.affine, grid.affine) if stated else (_placed(own, grid), np.eye(4))
    shapes = [(*[1] * (3 - len(g.shape)), *g.shape)[::-1] for g in (own, grid)]  # (X, Y, Z)

    def moved(values: np.ndarray, order: int, mode: str) -> np.ndarray:
        image = SpatialImage(values.T.reshape(shapes[0]), source)
        resampled = resample_from_to(image, (shapes[1], target), order=order, mode=mode, out_class=None)
        return np.asarray(resampled.dataobj).T.reshape(grid.shape)

    # Half an element at the border has no neighbour to interpolate with, so values hold to their edge.
    values = np.stack([moved(_plain(c), int(onto.smooth), "nearest").astype(c.dtype) for c in picture.values])
    if stated:
        inside = moved(np.ones(own.shape, np.uint8), 0, "grid-constant").astype(bool)
        values = np.where(inside, values, np.asarray(_outside(picture, onto), values.dtype))
    return picture._replace(values=values, spacing_mm=grid.spacing_mm, affine=grid.affine, turn=grid.turn)


def _outside(picture: Picture, onto: Onto) -> float:
    """The value outside of the picture; of colour indices that of black."""
    if picture.palette is None:
        return onto.fill
    black = np.flatnonzero(~picture.palette.any(axis=1))
    return int(black[0]) if len(black) else 0


def _plain(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return values
    return values.astype(np.uint8 if values.dtype.itemsize == 1 else np.int32)


def _placed(own: Grid, owner: Grid) -> np.ndarray:
    """Affine from elements (X, Y, Z) of one grid to those of another that covers the same extent."""
    scale = np.array([n / m for n, m in zip(owner.shape, own.shape, strict=True)])[::-1]
    affine = np.eye(4)
    for axis, factor in enumerate(scale):
        affine[axis, axis], affine[axis, 3] = factor, (factor - 1) / 2
    return affine
