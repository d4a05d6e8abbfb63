"""SSFormer's own score (release, test.py): Dice averaged over 256 thresholds of a map that is binary already."""

from __future__ import annotations

from bench.metrics import Pair
from bench.metrics.pair import share
from bench.protocols.protocol import Protocol

_THRESHOLDS = 256


def threshold_dice(pair: Pair) -> float:
    """(255 D + D_all) / 256: at threshold 0 alone everything is foreground, at all others the mask as it is.

    The release stretches a map from its minimum to its maximum first, so that an all-foreground mask becomes empty; D
    is 0 without a common pixel, also where both masks are empty.
    """
    whole, wanted = pair.reference.size, pair.n_reference
    constant = pair.n_prediction in (0, whole)
    own = 0.0 if constant else 2 * pair.true_positives / (pair.n_prediction + wanted)
    everything = 2 * wanted / (wanted + whole)
    return ((_THRESHOLDS - 1) * own + everything) / _THRESHOLDS


SSFORMER = Protocol(
    name="ssformer",
    description="SSFormer's evaluation: Dice over 256 thresholds of the binary mask, the last of which is 0",
    targets="every image, or whole volume, and every label; of a reference only pixels of exactly 255 count there",
    grid="the reference's own, probabilities brought there bilinearly by their method",
    empty="both empty 0, hallucinated 0, missed nearly 0; a mask of foreground alone counts as empty",
    metrics=(share("Dice", "ssformer", threshold_dice),),
)
