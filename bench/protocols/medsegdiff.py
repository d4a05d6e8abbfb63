"""MedSegDiff's own scores (release, scripts/segmentation_env.py): five thresholds of the map over its maximum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from bench.metrics import Pair
from bench.metrics.pair import share
from bench.protocols.protocol import Protocol
from bench.protocols.resizing import bilinear

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


class FiveThresholds(NamedTuple):
    """Means over the thresholds."""

    iou: float
    dice: float


def five_thresholds(prediction: np.ndarray, target: np.ndarray) -> FiveThresholds:
    """Of a fused map (H, W) of any scale and a soft target (H, W) in [0, 1].

    Dividing by the maximum turns any trace in an empty image into a target; a map of zeros stays empty.
    """
    prediction, peak = prediction.astype(np.float32), np.float32(prediction.max())
    scaled = prediction / peak if peak > 0 else np.zeros_like(prediction)
    ious, dices = [], []
    for threshold in THRESHOLDS:
        pair = Pair(scaled > threshold, target > threshold)
        both, total = pair.true_positives, pair.n_prediction + pair.n_reference
        ious.append((both + 1e-6) / (total - both + 1e-6))
        dices.append((2 * both + 1e-4) / (total + 1e-4))
    return FiveThresholds(float(np.mean(ious)), float(np.mean(dices)))


def soft_target(pixels: np.ndarray, size: int) -> np.ndarray:
    """8-bit references (N, H, W) as the release reads them: resized bilinearly, rounded, over 255; float32."""
    return np.rint(bilinear(pixels, size)) / np.float32(255)


@dataclass(frozen=True, eq=False)
class SoftPair:
    """One image as the release compares it: the map and a soft target, both (size, size)."""

    prediction: np.ndarray
    target: np.ndarray

    @cached_property
    def means(self) -> FiveThresholds:
        """Scored once for both metrics."""
        return five_thresholds(self.prediction, self.target)


def medsegdiff(size: int = 256) -> Protocol:
    """The protocol at images of (size, size); the release knows 256 only."""

    def view(pair: Pair) -> Iterable[SoftPair]:
        score = pair.prediction if pair.score is None else pair.score
        maps, reference = (x.reshape(-1, *x.shape[-2:]) for x in (score, pair.reference))
        for index in range(len(maps)):  # one slice at a time: float maps of a volume are large
            part = slice(index, index + 1)
            yield SoftPair(bilinear(maps[part], size)[0], soft_target(reference[part] * np.uint8(255), size)[0])

    metrics = (
        share("Dice", "medsegdiff", lambda pair: pair.means.dice),
        share("IoU", "medsegdiff", lambda pair: pair.means.iou),
    )
    return Protocol(
        name="medsegdiff",
        description="MedSegDiff's evaluation: the map over its own maximum, cut at .1 .3 .5 .7 .9, and averaged",
        targets="every image; of a volume every slice by itself, empty ones included",
        grid=f"{size} x {size}; references resized bilinearly and cut at the same five thresholds",
        empty="both empty 1 (a map of zeros only), hallucinated and missed about 0; any trace is a target",
        metrics=metrics,
        view=view,
        unit="slice",
    )
