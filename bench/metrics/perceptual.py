"""What PSNR, SSIM, MS-SSIM and LPIPS share: the range of maps, the smallest image, and how many are worked on at once.

What SSIM and MS-SSIM are here is said in `bench/metrics/structural.py`; the range is never inferred.
"""

from __future__ import annotations

import torch

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


def psnr_of(mse: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of mean squared errors of maps in [0, 1]; infinite where the error is 0."""
    return 10 * torch.log10(DATA_RANGE**2 / mse.double())


def images_at_once(maps: torch.Tensor, device: torch.device) -> int:
    """How many of the maps (N, C, H, W) are worked on together on a device, so that memory stays bounded."""
    pixels = _PIXELS_AT_ONCE_CPU if device.type == "cpu" else _PIXELS_AT_ONCE_GPU
    return max(1, pixels // (maps.shape[-2] * maps.shape[-1]))
