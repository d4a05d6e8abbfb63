"""Random and degenerate pairs of masks in two and three dimensions, with spacing, and what MONAI says of them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from bench.metrics import Pair
from sdseg.torchvision_ops import declare_missing_operators

TOLERANCE = 2.0003  # no distance of whole elements lies on it, so that single precision decides alike

PER_KIND = 8
Kind = Callable[[np.random.Generator, tuple[int, ...]], tuple[np.ndarray, np.ndarray]]


def _blob(rng: np.random.Generator, shape: tuple[int, ...], quantile: float = 0.8) -> np.ndarray:
    field = gaussian_filter(rng.standard_normal(shape), 2)
    return field > np.quantile(field, quantile)


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, bool)


def _element(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = _empty(shape)
    mask[tuple(rng.integers(shape))] = True
    return mask


def _line(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = _empty(shape)
    mask[tuple(rng.integers(shape[:-1]))] = True
    return mask


def _corner(rng: np.random.Generator, shape: tuple[int, ...], last: bool) -> np.ndarray:
    mask = _empty(shape)
    sides = rng.integers(1, 4, len(shape))
    mask[tuple(slice(n - k, n) if last else slice(0, k) for n, k in zip(shape, sides, strict=True))] = True
    return mask


def _moved(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    mask = _blob(rng, shape)
    return mask, np.roll(mask, rng.integers(-2, 3, len(shape)), tuple(range(len(shape))))


KINDS: dict[str, Kind] = {
    "noise": lambda rng, s: (rng.random(s) < rng.random(), rng.random(s) < rng.random()),
    "blobs": lambda rng, s: (_blob(rng, s, rng.uniform(0.5, 0.95)), _blob(rng, s, rng.uniform(0.5, 0.95))),
    "moved": _moved,
    "identical": lambda rng, s: (_blob(rng, s),) * 2,
    "far corners": lambda rng, s: (_corner(rng, s, False), _corner(rng, s, True)),
    "elements": lambda rng, s: (_element(rng, s), _element(rng, s)),
    "line and blob": lambda rng, s: (_line(rng, s), _blob(rng, s)),
    "full and blob": lambda rng, s: (~_empty(s), _blob(rng, s)),
    "nested": lambda rng, s: ((mask := _blob(rng, s, 0.6)), mask & _blob(rng, s, 0.5)),
    "missed": lambda rng, s: (_empty(s), _blob(rng, s)),
    "hallucinated": lambda rng, s: (_blob(rng, s), _empty(s)),
    "both empty": lambda rng, s: (_empty(s), _empty(s)),
}


def metric_pairs() -> list[Pair]:
    """Pairs of each of the 12 kinds in two and as many in three dimensions; a third has no spacing."""
    pairs = []
    for dims in (2, 3):
        for number, kind in enumerate(KINDS.values()):
            for index in range(PER_KIND):
                rng = np.random.default_rng([dims, number, index])
                shape = tuple(int(n) for n in rng.integers(3, 17 if dims == 2 else 10, dims))
                spacing = tuple(float(x) for x in rng.uniform(0.4, 5, dims)) if index % 3 else None
                score = rng.random(shape).astype(np.float32)
                pairs.append(Pair(*kind(rng, shape), spacing, score))
    return pairs


def third_party(name: str) -> Any:
    """A module of somebody else's, imported where torchvision's operators are mended."""
    declare_missing_operators()
    return importlib.import_module(name)


def monai_values(pair: Pair) -> dict[str, float]:
    """MONAI's five metrics of a pair, with its spacing."""
    metrics = third_party("monai.metrics")
    masks = [torch.from_numpy(mask)[None, None].float() for mask in (pair.prediction, pair.reference)]
    options = {"include_background": True, "spacing": pair.spacing_mm}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {
            "Dice": metrics.compute_dice(*masks),
            "IoU": metrics.compute_iou(*masks),
            "HD95": metrics.compute_hausdorff_distance(*masks, percentile=95, **options),
            "ASSD": metrics.compute_average_surface_distance(*masks, symmetric=True, **options),
            "NSD": metrics.compute_surface_dice(*masks, class_thresholds=[TOLERANCE], **options),
        }
    return {name: float(value) for name, value in values.items()}
