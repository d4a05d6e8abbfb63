"""How much was found, and whether anything was: volumes, and the three situations with an empty mask."""

from __future__ import annotations

import math

from bench.metrics.pair import Pair
from bench.record import Undefined


def volume_difference(pair: Pair) -> float:
    """Absolute difference of the two volumes in ml (mm2 of areas; px without spacing); two empty masks have none."""
    return abs(volume_bias(pair))


def volume_bias(pair: Pair) -> float:
    """Predicted minus reference volume, in the same units: its mean says what is found too much or too little."""
    return (pair.n_prediction - pair.n_reference) * _element(pair)


def relative_volume_difference(pair: Pair) -> float:
    """Absolute difference of the volumes over the reference's; undefined if the reference is empty."""
    if not pair.n_reference:
        return Undefined("the reference is empty")
    return abs(pair.n_prediction - pair.n_reference) / pair.n_reference


def _element(pair: Pair) -> float:
    size = math.prod(pair.spacing_mm or ())
    return size / 1000 if pair.spacing_mm and len(pair.spacing_mm) == 3 else size


def missed(pair: Pair) -> float:
    """1 where the prediction is empty and the reference is not; summed, a count of cases."""
    return float(pair.missed)


def hallucinated(pair: Pair) -> float:
    """1 where the reference is empty and the prediction is not; summed, a count of cases."""
    return float(pair.hallucinated)


def both_empty(pair: Pair) -> float:
    """1 where both masks are empty; summed, a count of cases."""
    return float(pair.both_empty)
