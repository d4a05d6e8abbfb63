"""What a decoder gives: the values of a file, and what its own header says about them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Picture(NamedTuple):
    """A decoded file: values (C, *S) of the stored type.

    `spacing_mm` and `affine` are what the header says about the grid. `alpha`: the last channel is transparency, by
    the file's own header. `palette` (N, 3) uint8: the values of the first channel are indices into it. `lossy`: the
    content went through a lossy codec, whatever the file is called.
    """

    values: np.ndarray
    spacing_mm: tuple[float, ...] | None = None  # in the order of *S
    affine: np.ndarray | None = None  # (4, 4), voxel (X, Y, Z) to millimetres
    alpha: bool = False
    palette: np.ndarray | None = None
    lossy: bool = False
