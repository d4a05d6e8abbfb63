"""The release's own evaluation: Dice and IoU averaged over five thresholds of the prediction over its maximum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


class FiveThresholds(NamedTuple):
    """Means over the thresholds."""

    iou: float
    dice: float


def five_thresholds(
    prediction: torch.Tensor, target: torch.Tensor, thresholds: Sequence[float] = THRESHOLDS
) -> FiveThresholds:
    """Of a fused map (H, W) of any scale and a soft target (H, W) in [0, 1].

    Dividing by the maximum turns any trace in an empty image into a target; a map of zeros stays empty.
    """
    peak = prediction.float().max()
    scaled = prediction.float() / peak if peak > 0 else torch.zeros_like(prediction, dtype=torch.float32)
    dices, ious = [], []
    for threshold in thresholds:
        found, wanted = (x.float() > threshold for x in (scaled, target))
        both = (found & wanted).sum().double()
        total = found.sum().double() + wanted.sum().double()
        dices.append((2 * both + 1e-4) / (total + 1e-4))
        ious.append((both + 1e-6) / (total - both + 1e-6))
    return FiveThresholds(float(torch.stack(ious).mean()), float(torch.stack(dices).mean()))
