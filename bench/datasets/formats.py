"""Decoders of the image formats: a file becomes an array of the stored type, channels first.

Array order: pictures are (H, W). Volumes are (D, H, W) = (Z, Y, X): NIfTI, MetaImage and NRRD are turned to the
nearest order in which X runs to the right, Y to the front and Z to the head, without resampling; `spacing_mm` follows
that order. NPY holds (H, W), (H, W, C), (C, H, W) or (D, H, W); a multi-page TIFF is (D, H, W). EXIF turns are applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.datasets.foreign import FOREIGN, decode_foreign, files_of
from bench.datasets.grids import Onto, on_grid
from bench.datasets.limits import UnfitError
from bench.datasets.nifti import decode_nifti, nifti_grid
from bench.datasets.raster import decode_picture, decode_tiff, displayed_turn
from bench.errors import InputError
from bench.picture import Grid, Picture

NIFTI = (".nii.gz", ".nii")
LOSSY = (".jpg", ".jpeg", ".webp")
PICTURES = (".png", ".bmp", ".gif", ".pgm", ".ppm", *LOSSY)
TIFF = (".tif", ".tiff")
FORMATS = (*NIFTI, *PICTURES, *TIFF, ".npy", *FOREIGN)


def format_suffix(path: Path) -> str:
    """The suffix that names the format, lower case; empty for a file of no known format."""
    name = path.name.lower()
    return next((s for s in FORMATS if name.endswith(s)), "")


def decode(path: Path, channels: int = 1, indexed: bool = False, onto: Onto | None = None) -> Picture:
    """Values of a file as stored; `indexed` keeps colour-table indices and transparency, as masks need.

    Without it colours come from the table and transparency of pictures is dropped. `onto` is the grid of the file it
    belongs to. Raises InputError naming the file when it is missing, damaged, of an unknown format or on another grid.
    """
    suffix = format_suffix(path)
    if not suffix:
        raise InputError(f"{path}: unknown image format; use one of {', '.join(FORMATS)}")
    with _named(path):
        picture = _decode(path, suffix, channels, indexed)
    return picture if onto is None else on_grid(picture, path, onto)


def _decode(path: Path, suffix: str, channels: int, indexed: bool) -> Picture:
    if suffix in NIFTI:
        return decode_nifti(path)
    if suffix in FOREIGN:
        return decode_foreign(path, suffix)
    if suffix == ".npy":
        # A map is refused where the file is shorter than its header says, before anything is allocated.
        return Picture(_channels_first(np.array(np.load(path, mmap_mode="r", allow_pickle=False)), channels))
    return decode_tiff(path, indexed) if suffix in TIFF else decode_picture(path, indexed)


def grid_of(path: Path) -> Grid | None:
    """Where a volume's values lie, from its header alone; None for formats without a grid.

    Raises InputError naming the file as `decode` does.
    """
    suffix = format_suffix(path)
    if suffix not in (*NIFTI, *FOREIGN):
        return None
    with _named(path):
        return nifti_grid(path) if suffix in NIFTI else decode_foreign(path, suffix).grid


def is_turned(path: Path) -> bool:
    """Whether a file is read in another order than it is stored in: a volume that is not RAS, a turned photograph."""
    if displayed(path) != 1:
        return True
    grid = grid_of(path)
    return grid is not None and grid.turn is not None and bool((grid.turn != [[0, 1], [1, 1], [2, 1]]).any())


def displayed(path: Path) -> int:
    """How a photograph is turned to be displayed, by its EXIF or TIFF code; 1 for one that is not, and other files."""
    if format_suffix(path) not in (*PICTURES, *TIFF):
        return 1
    with _named(path):
        return displayed_turn(path)


def files_read(path: Path) -> list[Path]:
    """The files that `decode` reads for one: itself, and the values of a header that stands alone."""
    with _named(path):
        return files_of(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever goes wrong names the file: every decoder has its own family of errors."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        yield
    except InputError:
        raise
    except UnfitError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason}); replace the file") from error


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
