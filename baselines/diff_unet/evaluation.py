"""The two ways in which the Diff-U-Net release scores a volume, with their own rules for empty masks.

A prediction is brought to the reference's grid by nearest neighbour. HD95 is in voxels, and not between surfaces: the
release hands the distance function arrays with a leading axis of length 1, where an erosion leaves no interior.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn.functional import interpolate


def to_reference_grid(mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A mask (D, H, W) bool on the grid of `reference` (D', H', W')."""
    values = torch.from_numpy(mask.astype(np.float32))[None, None]
    return interpolate(values, reference.shape, mode="nearest")[0, 0].numpy() > 0


def testing_rule(mask: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Dice and HD95 as BTCV/test.py has them: an organ found where there is none is perfect, a missed one HD95 0."""
    if mask.any() and reference.any():
        return _dice(mask, reference), whole_object_hd95(mask, reference)
    return (1.0, 0.0) if mask.any() else (0.0, 0.0)


def validation_rule(mask: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Dice and HD95 as in training (light_training/evaluation/metric.py); NaN where a mask is empty, or full."""
    undefined = any(not x.any() or x.all() for x in (mask, reference))
    dice = _dice(mask, reference) if mask.any() or reference.any() else math.nan
    return dice, math.nan if undefined else whole_object_hd95(mask, reference)


def whole_object_hd95(mask: np.ndarray, reference: np.ndarray) -> float:
    """95th percentile, in voxels, of all voxels' distances to the other object, both directions together."""
    to_reference = distance_transform_edt(~reference)[mask]
    to_mask = distance_transform_edt(~mask)[reference]
    return float(np.percentile(np.concatenate([to_reference, to_mask]), 95))


def _dice(mask: np.ndarray, reference: np.ndarray) -> float:
    return float(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))
