"""What two widely used libraries report by default: nnU-Net's evaluation and MONAI's metrics."""

from __future__ import annotations

import math
from collections.abc import Callable

from bench.metrics import Metric, Pair
from bench.metrics.overlap import dice, iou
from bench.metrics.pair import share
from bench.metrics.surface import TOLERANCE, assd, hd95, nsd
from bench.protocols.protocol import Protocol
from bench.record import Undefined

# nnunetv2/evaluation/evaluate_predictions.py: nanmean over cases, then a plain mean over labels.
NNUNET = Protocol(
    name="nnunet",
    description="nnU-Net's summary: Dice and IoU per case and label, means per label, then over labels",
    targets="every case and label that is in the reference or in the prediction",
    grid="the reference's own",
    empty="both empty undefined, one empty 0; the mean over labels is undefined as soon as one label's is",
    metrics=(share("Dice", "nnunet", dice), share("IoU", "nnunet", iou)),
    mean_over="cases",
)


def _overlap(function: Callable[[Pair], float]) -> Callable[[Pair], float]:
    # DiceMetric and MeanIoU: ignore_empty=True leaves out what has no reference, hallucinated or not.
    return lambda pair: function(pair) if pair.n_reference else Undefined("the reference is empty")


def _distance(function: Callable[[Pair], float], one_empty: float) -> Callable[[Pair], float]:
    def value(pair: Pair) -> float:
        return one_empty if pair.missed or pair.hallucinated else function(pair.in_pixels)

    return value


_DISTANCES = (
    # The percentile of infinite distances is NaN, the mean is infinite.
    Metric("HD95", "px", "lower", "monai", _distance(hd95, Undefined("one mask is empty")), kind="distance"),
    Metric("ASSD", "px", "lower", "monai", _distance(assd, math.inf), kind="distance"),
    share("NSD", "monai", _distance(nsd(), 0.0), note=f"tolerance {TOLERANCE:g} px", tolerance=TOLERANCE),
)

MONAI = Protocol(
    name="monai",
    description="MONAI's metric classes with their defaults, foreground channels only",
    targets="cases and labels with a reference; false positives where there is none cost no overlap",
    grid="the reference's own; distances in pixels, since spacing is not passed by default",
    empty="overlap: missed 0, otherwise undefined; HD95: undefined; ASSD: one empty infinite; NSD: one empty 0",
    metrics=(
        share("Dice", "monai", _overlap(dice)),
        share("IoU", "monai", _overlap(iou)),
        *_DISTANCES,
    ),
)
