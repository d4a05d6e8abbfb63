"""SSIM (Wang 2004) and MS-SSIM (Wang 2003) of many pairs among few maps.

Gaussian window of 11 x 11 (sigma 1.5), k1 = 0.01, k2 = 0.03, reflected at the border; SSIM averages the whole map.
MS-SSIM adds five scales with the weights below, takes contrast terms inside the border and sets negative ones to
zero. Values are torchmetrics'; the moments of a map are computed once and not once per pair, and the window is
applied as two matrix products.

`released=True` gives the values of torchmetrics 0.7.0, which the SDSeg release pins: the data range of a pair is the
larger one of its two maps' own ranges, anew at every scale; SSIM too is averaged inside the border; a negative
contrast leaves MS-SSIM undefined, and so do two constant maps.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.functional import avg_pool2d

RADIUS = 5
SIGMA = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_C1, _C2 = 0.01**2, 0.03**2  # for a data range of 1
# Pairs that are worked on together, in pixels: bounds memory whatever the number of pairs.
_PIXELS_CPU, _PIXELS_GPU = 2**18, 2**24


def pair_ssim(maps: torch.Tensor, first: torch.Tensor, second: torch.Tensor, *, released: bool = False) -> torch.Tensor:
    """SSIM (P,) float64 of the pairs (maps[first], maps[second]) among maps (M, H, W) in [0, 1]."""
    return _one_scale(maps, first, second, released)[0]


def pair_ms_ssim(
    maps: torch.Tensor, first: torch.Tensor, second: torch.Tensor, *, released: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM and MS-SSIM, each (P,) float64, of pairs among maps (M, H, W) in [0, 1] of at least 176 px."""
    scales = []
    for _ in SCALE_WEIGHTS:
        scales.append(_one_scale(maps, first, second, released))
        maps = avg_pool2d(maps[:, None], 2)[:, 0]
    ssim = scales[0][0]
    terms = [*(contrast for _, contrast in scales[:-1]), scales[-1][0]]
    terms = terms if released else [term.clamp(min=0) for term in terms]
    powers = torch.tensor(SCALE_WEIGHTS, dtype=torch.float64, device=maps.device)
    return ssim, (torch.stack(terms, 1) ** powers).prod(1)


def _one_scale(
    maps: torch.Tensor, first: torch.Tensor, second: torch.Tensor, released: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean similarity of a pair and its mean contrast inside the border, each (P,) float64."""
    mean = _blur(maps)
    variance = (_blur(maps.square()) - mean.square()).clamp(min=0)
    spread = maps.amax((1, 2), keepdim=True) - maps.amin((1, 2), keepdim=True)
    pixels = _PIXELS_CPU if maps.device.type == "cpu" else _PIXELS_GPU
    size = max(1, pixels // maps[0].numel())
    similarities, contrasts = [], []
    for i, j in zip(first.split(size), second.split(size), strict=True):
        data_range = torch.maximum(spread[i], spread[j]).square() if released else 1.0
        c1, c2 = _C1 * data_range, _C2 * data_range
        product = mean[i] * mean[j]
        covariance = _blur(maps[i] * maps[j]) - product
        contrast = (2 * covariance + c2) / (variance[i] + variance[j] + c2)
        luminance = (2 * product + c1) / (mean[i].square() + mean[j].square() + c1)
        similarity = luminance * contrast
        similarities.append((_inside(similarity) if released else similarity).double().mean((1, 2)))
        contrasts.append(_inside(contrast).double().mean((1, 2)))
    return torch.cat(similarities), torch.cat(contrasts)


def _inside(values: torch.Tensor) -> torch.Tensor:
    return values[:, RADIUS:-RADIUS, RADIUS:-RADIUS]


def _blur(maps: torch.Tensor) -> torch.Tensor:
    rows, columns = (_window(side, maps.device, maps.dtype) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


@lru_cache(maxsize=32)
def _window(side: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The Gaussian window as a band matrix (side, side), its rows folded back at the border."""
    offsets = torch.arange(-RADIUS, RADIUS + 1)
    weights = torch.exp(-0.5 * (offsets.double() / SIGMA) ** 2)
    places = torch.arange(side)[:, None] + offsets
    places = places.abs()
    places = torch.where(places > side - 1, 2 * (side - 1) - places, places)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    matrix.scatter_add_(1, places, (weights / weights.sum()).expand(side, -1))
    return matrix.to(device, dtype)
