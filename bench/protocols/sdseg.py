"""SDSeg's own scores (release, scripts/slice2seg.py:45-73; the rules are TransUNet's)."""

from __future__ import annotations

from collections.abc import Iterable

from bench.datasets.geometry import resample_mask
from bench.metrics import Pair
from bench.metrics.pair import share
from bench.protocols.protocol import Protocol
from bench.protocols.resizing import nearest_image, nearest_volume

_EPSILON = 1e-10


def dice(pair: Pair) -> float:
    """Dice with 1 for a target found where there is none, 0 for a missed one and 0 if both masks are empty."""
    if pair.n_prediction == 0:
        return 0.0
    if pair.n_reference == 0:
        return 1.0
    return 2 * pair.true_positives / (pair.n_prediction + pair.n_reference + _EPSILON)


def iou(pair: Pair) -> float:
    """IoU with 0 wherever a mask is empty."""
    return pair.true_positives / (pair.n_prediction + pair.n_reference - pair.true_positives + _EPSILON)


def sdseg(size: int = 256) -> Protocol:
    """The protocol at the in-plane size (size, size) that the network works at; the release knows 256 only."""

    def view(pair: Pair) -> Iterable[Pair]:
        if pair.reference.shape[-2:] == (size, size):
            return (pair,)
        nearest = nearest_image if pair.reference.ndim == 2 else nearest_volume
        predicted = resample_mask(pair.prediction[None], (size, size))[0].numpy()
        return (Pair(predicted, nearest(pair.reference, size)),)

    return Protocol(
        name="sdseg",
        description="SDSeg's evaluation loop: Dice and IoU at the network's size, with TransUNet's rules",
        targets="every image, or whole volume, and every label; slices without target count within their volume",
        grid=f"{size} x {size} in the plane and never resized back; references by nearest neighbour",
        empty="Dice: both empty 0, hallucinated 1, missed 0; IoU: 0",
        metrics=(share("Dice", "sdseg", dice), share("IoU", "sdseg", iou)),
        view=view,
    )
