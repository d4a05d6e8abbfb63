"""Overlap metrics under the strict convention: both masks empty is undefined, one of them empty is 0."""

from __future__ import annotations

import math

from bench.metrics.pair import Pair


def dice(pair: Pair) -> float:
    """2 TP / (2 TP + FP + FN) in [0, 1]; NaN if both masks are empty."""
    total = pair.n_prediction + pair.n_reference  # = 2 TP + FP + FN
    return 2 * pair.true_positives / total if total else math.nan


def iou(pair: Pair) -> float:
    """TP / (TP + FP + FN) in [0, 1]; NaN if both masks are empty."""
    union = pair.n_prediction + pair.n_reference - pair.true_positives
    return pair.true_positives / union if union else math.nan
