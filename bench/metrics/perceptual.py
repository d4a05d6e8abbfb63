"""PSNR, SSIM and MS-SSIM of pairs of maps in [0, 1]: one value per image, data range fixed at 1.

What SSIM and MS-SSIM are here is said in `bench/metrics/structural.py`; the range is never inferred.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.metrics.structural import pair_ms_ssim, pair_ssim

DATA_RANGE = 1.0

# Smallest side in pixels. SSIM: its window. MS-SSIM: an 11-pixel window after four halvings, 16 x 11.
# LPIPS: what the trunk's two poolings leave of a smaller image is empty.
MIN_SIDE = {"SSIM": 11, "MS-SSIM": 176, "LPIPS": 31}

# Small enough for the caches of a CPU (twice as fast as 2**20, measured), large enough to fill a GPU.
_PIXELS_AT_ONCE_CPU = 2**16
_PIXELS_AT_ONCE_GPU = 2**22


def undefined_reason(metric: str, height: int, width: int) -> str | None:
    """Why a metric has no value on images of this size in pixels, or None where it has one."""
    needed = MIN_SIDE.get(metric, 1)
    if min(height, width) >= needed:
        return None
    return f"{metric} needs images of at least {needed} x {needed} px, these are {height} x {width}"


def mean_squared_error(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of each pair of maps (N, C, H, W), as (N,) float64."""
    return _in_chunks(lambda x, y: (x - y).square().flatten(1).mean(1), a, b)


def psnr_of(mse: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of mean squared errors of maps in [0, 1]; infinite where the error is 0."""
    return 10 * torch.log10(DATA_RANGE**2 / mse.double())


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of each pair of maps (N, C, H, W) in [0, 1], as (N,) float64; identical maps give inf."""
    return psnr_of(mean_squared_error(a, b))


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM of each pair of maps (N, 1, H, W) in [0, 1], as (N,) float64; NaN for images below 11 px."""
    if undefined_reason("SSIM", *a.shape[-2:]):
        return _undefined(a)
    return _in_chunks(lambda x, y: pair_ssim(*_side_by_side(x, y)), a, b)


def ms_ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """MS-SSIM of each pair of maps (N, 1, H, W) in [0, 1], as (N,) float64; NaN for images below 176 px."""
    if undefined_reason("MS-SSIM", *a.shape[-2:]):
        return _undefined(a)
    return _in_chunks(lambda x, y: pair_ms_ssim(*_side_by_side(x, y))[1], a, b)


def _side_by_side(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    index = torch.arange(len(a), device=a.device)
    return torch.cat([a, b])[:, 0], index, index + len(a)


def images_at_once(maps: torch.Tensor, device: torch.device) -> int:
    """How many of the maps (N, C, H, W) are worked on together on a device, so that memory stays bounded."""
    pixels = _PIXELS_AT_ONCE_CPU if device.type == "cpu" else _PIXELS_AT_ONCE_GPU
    return max(1, pixels // (maps.shape[-2] * maps.shape[-1]))


def _in_chunks(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    if not len(a):
        return _undefined(a)
    size = images_at_once(a, a.device)
    parts = [
        function(x.float(), y.float()).reshape(-1).cpu().double()
        for x, y in zip(a.split(size), b.split(size), strict=True)
    ]
    return torch.cat(parts)


def _undefined(a: torch.Tensor) -> torch.Tensor:
    return torch.full((len(a),), torch.nan, dtype=torch.float64)
