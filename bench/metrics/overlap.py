"""Overlap metrics under the strict convention: both masks empty is undefined, one of them empty is 0."""

from __future__ import annotations

from bench.metrics.pair import Pair, when_empty


def dice(pair: Pair) -> float:
    """2 TP / (2 TP + FP + FN) in [0, 1]; NaN if both masks are empty."""
    empty = when_empty(pair, 0.0)
    return 2 * pair.true_positives / (pair.n_prediction + pair.n_reference) if empty is None else empty


def iou(pair: Pair) -> float:
    """TP / (TP + FP + FN) in [0, 1]; NaN if both masks are empty."""
    empty = when_empty(pair, 0.0)
    union = pair.n_prediction + pair.n_reference - pair.true_positives
    return pair.true_positives / union if empty is None else empty


def sensitivity(pair: Pair) -> float:
    """TP / (TP + FN) in [0, 1]; NaN if both masks are empty, 0 where something was found and there is nothing."""
    empty = when_empty(pair, 0.0)
    return pair.true_positives / pair.n_reference if empty is None else empty


def precision(pair: Pair) -> float:
    """TP / (TP + FP) in [0, 1]; NaN if both masks are empty, 0 where nothing was found and there is something."""
    empty = when_empty(pair, 0.0)
    return pair.true_positives / pair.n_prediction if empty is None else empty
