"""Stability as the SDSeg release computes Table 5 (scripts/stability_evaluation.ipynb, torchmetrics 0.7.0).

Draw 0 is compared with each of the M - 1 others, on 8-bit maps. An image (a slice, in a volume) leaves the averages if
draw 0 found nothing, a pair if the other draw found nothing, and PSNR leaves out identical pairs as well: failures and
full agreement. LPIPS compares whole sets of results (the dataset level) and leaves out nothing. PSNR takes the largest
value of draw 0 for its range, SSIM and MS-SSIM the pair's own. The mean is taken over pairs, then over images.

Two things cannot be had as released. Its listing of files is unsorted, so that its first draw may be any, and so may
the last 47 images, which its mean of LPIPS over batches of 50 weighs 50/47 times; here every image weighs the same.
Stored scores have float16's precision, so that some truncate to the byte beside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from bench.metrics.lpips_distance import Lpips
from bench.metrics.map_pairs import PairValues, pair_values

RELEASED_METRICS = ("LPIPS", "PSNR", "SSIM", "MS-SSIM")


class ReleasedPairs(NamedTuple):
    """N images' pairs of draw 0 with the others: values (N, M - 1) float64 by metric, and what was dropped.

    `counted` says which pairs the release averages; `empty_images` (N,) where draw 0 found nothing, `empty_pairs`
    (N, M - 1) where only the other draw did, `identical_pairs` (N, M - 1) what PSNR leaves out beyond these.
    """

    values: dict[str, torch.Tensor]
    counted: dict[str, torch.Tensor]
    empty_images: torch.Tensor
    empty_pairs: torch.Tensor
    identical_pairs: torch.Tensor

    def per_image(self, metric: str) -> torch.Tensor:
        """The mean over counted pairs of every image that has one, (n,) with n <= N."""
        counted = self.counted[metric]
        kept = counted.any(1)
        total = torch.where(counted, self.values[metric], 0.0).sum(1)
        return total[kept] / counted.sum(1)[kept]

    def mean(self, metric: str) -> float:
        """The mean over images; NaN where none counts or one is undefined."""
        return float(self.per_image(metric).mean())


def eight_bit(maps: np.ndarray) -> np.ndarray:
    """Scores in [0, 1], or masks bool, as the release stores them: times 255, truncated to uint8."""
    return maps.astype(np.uint8) * np.uint8(255) if maps.dtype == bool else (maps * 255).astype(np.uint8)


def released_pairs(maps: np.ndarray, lpips: Lpips | None = None, device: torch.device | str = "cpu") -> ReleasedPairs:
    """Compare M draws of N images, maps (M, N, H, W) uint8, one image after the other and in float64."""
    draws, images = maps.shape[:2]
    if not images:
        none = torch.zeros(0, draws - 1, dtype=torch.bool)
        nothing = dict.fromkeys(RELEASED_METRICS, none)
        return ReleasedPairs({name: none.double() for name in nothing}, nothing, none[:, 0], none, none)
    filled = torch.from_numpy(maps.any((2, 3)).T)  # (N, M)
    others = torch.arange(1, draws, device=device)
    scaled = (torch.from_numpy(np.ascontiguousarray(maps[:, n])).to(device).double() / 255 for n in range(images))
    by_image = [pair_values(image, torch.zeros_like(others), others, lpips, released=True) for image in scaled]
    pairs = PairValues(*(torch.stack(values) for values in zip(*by_image, strict=True)))
    largest = torch.from_numpy(maps[0].max((1, 2))).double()[:, None] / 255
    values = {"LPIPS": pairs.lpips, "PSNR": 10 * torch.log10(largest.square() / pairs.mse)}
    values |= {"SSIM": pairs.ssim, "MS-SSIM": pairs.ms_ssim}
    both = filled[:, :1] & filled[:, 1:]
    identical = both & (pairs.mse == 0)
    counted = {"LPIPS": torch.ones_like(both), "PSNR": both & ~identical, "SSIM": both, "MS-SSIM": both}
    return ReleasedPairs(values, counted, ~filled[:, 0], filled[:, :1] & ~filled[:, 1:], identical)
