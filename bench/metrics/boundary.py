"""Where the surface of a mask lies, and how far two surfaces are from each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import find_objects
from scipy.spatial import KDTree


class SurfaceDistances(NamedTuple):
    """From every surface element to the nearest one of the other mask; float64, in no particular order."""

    from_prediction: np.ndarray
    from_reference: np.ndarray

    @property
    def pooled(self) -> np.ndarray:
        """Both directions together."""
        return np.concatenate(self)


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float] | None = None
) -> SurfaceDistances:
    """Distances between the surfaces of two masks (*S) bool that both have elements, in mm or px without spacing."""
    inside = bounding_box(prediction | reference)
    predicted, wanted = surface(prediction[inside]), surface(reference[inside])
    return SurfaceDistances(
        nearest_distances(predicted, wanted, spacing_mm), nearest_distances(wanted, predicted, spacing_mm)
    )


def surface(mask: np.ndarray) -> np.ndarray:
    """The elements of a mask (*S) bool with a face on the outside or on the image's edge.

    That is the mask without its erosion by a cross, the surface of MONAI, medpy and scikit-image's metrics. The
    package surface-distance walks between the elements instead and weights every piece with its area.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        source, target = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        target[1:] &= source[:-1]
        target[:-1] &= source[1:]
        target[[0, -1]] = False
    return mask & ~inner


def nearest_distances(source: np.ndarray, target: np.ndarray, spacing_mm: Sequence[float] | None = None) -> np.ndarray:
    """From every element of `source` (*S) bool to the nearest of `target`, which has some."""
    scale = np.ones(source.ndim) if spacing_mm is None else np.asarray(spacing_mm, dtype=np.float64)
    distances = np.zeros(np.count_nonzero(source))
    alone = np.argwhere(source & ~target) * scale  # what they share is at distance 0
    if len(alone):
        # An unbalanced tree answers as fast and is built in half the time.
        tree = KDTree(np.argwhere(target) * scale, balanced_tree=False, compact_nodes=False)
        distances[: len(alone)] = tree.query(alone)[0]
    return distances


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds a mask (*S) bool with elements."""
    return find_objects(mask.astype(np.uint8))[0]
