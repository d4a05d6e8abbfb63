"""Whether the soft score means what it says, over all elements of the image that count, the background's included.

Elements far from the target are many and easy, so both numbers shrink as the image grows around the same target:
compare them on equal images only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.errors import InputError
from bench.metrics.pair import Pair
from bench.record import Undefined

BINS = 15
_NOTHING = Undefined("every element is ignored")
_AT_ONCE = 2**18  # elements; keeps copies in double precision small


def brier(pair: Pair) -> float:
    """Mean squared difference of score and reference in [0, 1]."""
    total = sum(float(np.square(score - reference).sum()) for score, reference in _parts(pair))
    return total / pair.n_elements if pair.n_elements else _NOTHING


def ece(pair: Pair) -> float:
    """Expected calibration error in [0, 1] of the foreground's probability (Guo et al. 2017, Eq. 3).

    The score in 15 bins of equal width; mean over elements of |mean score - share of foreground| in the bin.
    """
    gap = np.zeros(BINS)
    for score, reference in _parts(pair):
        index = np.minimum((score * BINS).astype(np.intp), BINS - 1)
        gap += np.bincount(index, weights=score - reference, minlength=BINS)
    return float(np.abs(gap).sum() / pair.n_elements) if pair.n_elements else _NOTHING


def _parts(pair: Pair) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if pair.score is None:
        raise InputError("metrics: ECE and Brier need the soft score, which a folder of masks does not hold")
    score, reference = pair.score.reshape(-1), pair.reference.reshape(-1)
    for start in range(0, len(score), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        yield score[part].astype(np.float64), reference[part]
