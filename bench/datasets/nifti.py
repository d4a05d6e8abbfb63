"""NIfTI files: read in one orientation whatever order they are stored in, written in the order of their source.

A volume comes as (D, H, W) = (Z, Y, X) with X towards the right, Y to the front and Z to the head: axes are swapped
and flipped to the nearest such order, never resampled. The affine is the sform where its code is set, else the qform;
spacing is the affine's, and pixdim's where neither is set.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from bench.datasets.limits import UnfitError, check_stream
from bench.errors import InputError
from bench.files import atomic_path
from bench.notes import note
from bench.picture import Grid, Picture

_TO_MM = {1: 1000.0, 3: 0.001}  # codes of xyzt_units; the unknown ones count as millimetres
_SURPLUS = 64 << 20  # bytes that may follow the values
_DIFFERENT = 1e-2  # share by which two statements of one spacing may differ


def decode_nifti(path: Path) -> Picture:
    """Values (C, D, H, W), or (C, H, W) of a file with two axes; whole numbers where such were stored as scaled."""
    with _opened(path) as (image, stream):
        grid, axes = _grid(image, path)
        values = _plain(image)
        _read_on(stream)
    # (X, Y, Z, C), turned, to (C, Z, Y, X)
    values = values.reshape(*_shape4(values.shape))
    if grid.turn is not None:
        values = apply_orientation(values, grid.turn)
    values = values.T if axes == 3 else np.squeeze(values, _dropped(grid.turn)).T
    return Picture(values, grid.spacing_mm, grid.affine, turn=grid.turn)


def nifti_grid(path: Path) -> Grid:
    """Where a file's values lie when it is read, from its header alone."""
    with _opened(path) as (image, _):
        return _grid(image, path)[0]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, IO[bytes]]]:
    """The image, whose values are read on demand, and the stream behind it; by content whatever the suffix says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if packed else file
        start = stream.read(540)
        stream.seek(0)
        kind = next((k for k in (nib.Nifti1Image, nib.Nifti2Image) if k.header_class.may_contain_header(start)), None)
        if kind is None:
            raise ValueError("no NIfTI header")
        image = kind.from_stream(stream)
        # What nibabel mends in silence.
        size = kind.header_class.sizeof_hdr
        if (kind.header_class(start[:size], check=False)["pixdim"][1 : 1 + min(len(image.shape), 3)] == 0).any():
            note("pixdim is 0, taken as 1 mm", path)
        header = image.header
        count = int(np.prod([int(n) for n in image.shape], dtype=object)) if image.shape else 0
        end = count * header.get_data_dtype().itemsize + int(header.get_data_offset())
        check_stream(end, path.stat().st_size, packed)
        yield image, stream


def _read_on(stream: IO[bytes]) -> None:
    """To the end of the file, where gzip keeps its checksum."""
    surplus = 0
    while part := stream.read(1 << 20):
        surplus += len(part)
        if surplus > _SURPLUS:
            raise ValueError("holds far more than its header says")


def _plain(image: Any) -> np.ndarray:
    """The values; integers again where they were stored as scaled ones, as happens to labels saved as floats."""
    stored = image.dataobj
    values = np.asanyarray(stored)
    if values.dtype.names or values.size == 0:
        raise ValueError(f"shape {values.shape}, type {values.dtype}: expected 2 or 3 axes of numbers")
    slope = abs(float(stored.slope))
    if image.get_data_dtype().kind not in "iu" or values.dtype.kind != "f" or not np.isfinite(values).all():
        return values
    largest = float(np.abs(values).max())
    # Half a step tells whole numbers from neighbours that merely lie close to one.
    tolerance = min(1e-3, slope / 2 + 1e-6 * largest)
    whole = np.rint(values)
    if largest < 2**31 and (np.abs(values - whole) <= tolerance).all():
        return whole.astype(np.int32)
    return values


def _shape4(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(X, Y, Z, C) of a stored shape; raises ValueError for one that has no such meaning."""
    axes = list(shape)
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if len(axes) == 5 and axes[3] == 1:  # vectors are stored so
        axes.pop(3)
    if len(axes) not in (2, 3, 4):
        raise ValueError(f"shape {shape}: expected 2 or 3 axes")
    if len(axes) == 4 and axes[0] == 1:
        raise UnfitError(f"shape {shape}: a first axis of length 1 before three others; save it as {tuple(axes[1:])}")
    x, y, z, c = [*axes, 1, 1][:4]
    return x, y, z, c


def _dropped(turn: np.ndarray | None) -> int:
    """Which of the turned axes is the third one, which a file with two axes lacks."""
    return 2 if turn is None else int(turn[2, 0])


def _grid(image: Any, path: Path) -> tuple[Grid, int]:
    """The grid after turning, and how many axes the file has."""
    shape: tuple[int, ...] = _shape4(image.shape)[:3]
    axes = 2 if len(image.shape) == 2 else 3
    affine, spacing = _stated(image, path)
    if affine is None:
        return Grid(_order(shape, axes, 2), _order(spacing, axes, 2)), axes
    turn = io_orientation(affine)
    new_of_old = [int(axis) for axis in turn[:, 0]]
    place = [new_of_old.index(axis) for axis in range(3)]
    turned = affine @ inv_ornt_aff(turn, shape)
    shape, spacing = tuple(shape[i] for i in place), tuple(spacing[i] for i in place)
    drop = _dropped(turn)
    return Grid(_order(shape, axes, drop), _order(spacing, axes, drop), turned, turn), axes


def _order(values: tuple[Any, ...], axes: int, drop: int) -> tuple[Any, ...]:
    """Of (X, Y, Z) in the order of *S."""
    kept = values if axes == 3 else tuple(v for i, v in enumerate(values) if i != drop)
    return kept[::-1]


def _stated(image: Any, path: Path) -> tuple[np.ndarray | None, tuple[float, ...]]:
    """The affine in mm, None where the file states no orientation, and the spacing (X, Y, Z) in mm."""
    header = image.header
    unit = _TO_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    zooms = [abs(float(z)) * unit for z in header["pixdim"][1:4]]
    if not np.isfinite(zooms).all():
        raise ValueError(f"pixdim {zooms} is not finite; correct the header")
    zooms = [z or 1.0 for z in zooms]
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        return None, tuple(zooms)
    affine = np.asarray(image.affine, dtype=float).copy()
    affine[:3] *= unit
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError("its affine is not finite or flat; correct the header")
    spacing = tuple(float(v) for v in nib.affines.voxel_sizes(affine))
    axes = min(len(image.shape), 3)
    if not np.allclose(spacing[:axes], zooms[:axes], rtol=_DIFFERENT, atol=0):
        said = (" x ".join(f"{v:g}" for v in some[:axes]) for some in (zooms, spacing))
        note("pixdim says {} mm and the affine {} mm; the affine is used".format(*said), path)
    return (None if _states_nothing(affine) else affine), spacing


def _states_nothing(affine: np.ndarray) -> bool:
    """Whether an affine is what programs write that know no orientation: spacing alone, without an origin."""
    axes = affine[:3, :3]
    return not affine[:3, 3].any() and bool((axes == np.diag(np.abs(np.diag(axes)))).all())


def write_nifti(path: Path, mask: np.ndarray, like: Path, *, turned: bool = True) -> None:
    """Write a mask (D, H, W) of bool or ids, as read from `like`, in that file's own order and affine, atomically.

    `turned` is whether the mask has the orientation of reading, and not the file's own order.
    """
    with _opened(like) as (source, _):
        grid, header, affine = _grid(source, like)[0], source.header.copy(), source.affine
    turn = grid.turn if turned else None
    shape = grid.shape if turned else source.shape[2::-1]
    if mask.shape != shape:
        raise InputError(f"{like}: grid {shape} differs from the mask's {mask.shape}")
    values = mask.astype(np.uint8 if mask.dtype == bool or int(mask.max(initial=0)) < 256 else np.uint16).T
    if turn is not None:
        values = apply_orientation(values, ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), turn))
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    with atomic_path(path) as temporary:
        nib.save(type(source)(values, affine, header), temporary)
