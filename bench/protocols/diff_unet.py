"""The two ways in which the Diff-U-Net release scores a volume, with their own rules for empty masks.

HD95 is in voxels, and not between surfaces: the release hands the distance function arrays with a leading axis of
length 1, where an erosion leaves no interior.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bench.metrics import Metric, Pair
from bench.metrics.boundary import bounding_box, nearest_distances, surface
from bench.metrics.pair import BOTH_EMPTY, share
from bench.protocols.protocol import Protocol
from bench.record import Undefined


def testing_dice(pair: Pair) -> float:
    """As BTCV/test.py has it: an organ found where there is none is perfect."""
    return _overlap(pair) if pair.n_prediction and pair.n_reference else float(pair.hallucinated)


def testing_hd95(pair: Pair) -> float:
    """As BTCV/test.py has it: 0, the best value, wherever a mask is empty."""
    return whole_object_hd95(pair) if pair.n_prediction and pair.n_reference else 0.0


def validation_dice(pair: Pair) -> float:
    """As in training (light_training/evaluation/metric.py): NaN if both masks are empty, 0 if one is."""
    return BOTH_EMPTY if pair.both_empty else _overlap(pair)


def validation_hd95(pair: Pair) -> float:
    """As in training: NaN where a mask is empty, or full."""
    size = pair.reference.size
    undefined = any(count in (0, size) for count in (pair.n_prediction, pair.n_reference))
    return Undefined("a mask is empty, or full") if undefined else whole_object_hd95(pair)


@lru_cache(maxsize=1)  # test and validation ask for it one after the other
def whole_object_hd95(pair: Pair) -> float:
    """95th percentile, in voxels, of all voxels' distances to the other object, both directions together."""
    inside = bounding_box(pair.prediction | pair.reference)
    predicted, wanted = pair.prediction[inside], pair.reference[inside]
    distances = [_to_object(predicted, wanted), _to_object(wanted, predicted)]
    return float(np.percentile(np.concatenate(distances), 95))


def _to_object(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    # Seen from outside, the nearest voxel of an object is one of its surface, of which there are far fewer.
    outside = nearest_distances(source & ~target, surface(target))
    return np.concatenate([outside, np.zeros(np.count_nonzero(source & target))])


def _overlap(pair: Pair) -> float:
    return 2 * pair.true_positives / (pair.n_prediction + pair.n_reference)


_NOTE = "of all voxels, both directions pooled"

DIFF_UNET = Protocol(
    name="diff_unet",
    description="Diff-U-Net's test of BTCV: Dice and HD95 per organ and volume, in voxels",
    targets="every volume and label, organs that are not in it included",
    grid="the reference's own, predictions brought there by their method",
    empty="Dice: both empty 0, hallucinated 1, missed 0; HD95: 0 in all three",
    metrics=(
        share("Dice", "diff_unet", testing_dice),
        Metric("HD95", "px", "lower", "diff_unet", testing_hd95, note=_NOTE, kind="distance"),
    ),
    mean_over="cases",
)

DIFF_UNET_VALIDATION = Protocol(
    name="diff_unet_validation",
    description="Diff-U-Net's validation while it trains, which chooses its weights: other rules than its test",
    targets="volumes and labels with a target, or a prediction, for HD95 with both",
    grid=DIFF_UNET.grid,
    empty="Dice: both empty undefined, one empty 0; HD95: undefined",
    metrics=(
        share("Dice", "diff_unet_validation", validation_dice),
        Metric("HD95", "px", "lower", "diff_unet_validation", validation_hd95, note=_NOTE, kind="distance"),
    ),
    mean_over="cases",
)
