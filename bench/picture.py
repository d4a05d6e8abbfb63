"""What a decoder gives: the values of a file, and what its own header says about them and their grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """Where the elements of a file lie; axes run in the order of *S, towards a volume's head, front and right."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None  # (4, 4), voxel (X, Y, Z) to millimetres; None where no orientation is stated
    turn: np.ndarray | None = None  # (3, 2), nibabel's orientation of the axes (X, Y, Z) as they are stored


class Picture(NamedTuple):
    """A decoded file: values (C, *S) of the stored type, and where they lie, as a `Grid` says it.

    `alpha`: the last channel is transparency, by the file's own header. `palette` (N, 3) uint8: the values of the
    first channel are indices into it. `lossy`: the content went through a lossy codec, whatever the file is called.
    `planes`: the channels lie one after the other, as slices would.
    """

    values: np.ndarray
    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    alpha: bool = False
    palette: np.ndarray | None = None
    lossy: bool = False
    turn: np.ndarray | None = None
    planes: bool = False

    @property
    def grid(self) -> Grid:
        """Where the values lie."""
        return Grid(self.values.shape[1:], self.spacing_mm, self.affine, self.turn)
