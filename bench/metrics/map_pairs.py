"""Error, SSIM, MS-SSIM and LPIPS of pairs among the few maps of one image, each map's share of the work done once."""

from __future__ import annotations

from typing import NamedTuple

import torch

from bench.metrics.lpips_distance import Lpips
from bench.metrics.perceptual import images_at_once, undefined_reason
from bench.metrics.structural import pair_ms_ssim, pair_ssim


class PairValues(NamedTuple):
    """One value per pair, (P,) float64 on the CPU; NaN where a metric is undefined."""

    mse: torch.Tensor
    ssim: torch.Tensor
    ms_ssim: torch.Tensor
    lpips: torch.Tensor


def pair_values(
    maps: torch.Tensor, first: torch.Tensor, second: torch.Tensor, lpips: Lpips | None, *, released: bool = False
) -> PairValues:
    """The pairs (maps[first], maps[second]) among maps (M, H, W) in [0, 1], the indices (P,) on their device.

    SSIM and MS-SSIM are NaN for images that are too small, LPIPS also without a trunk. `released` chooses the rules
    of the SDSeg release for SSIM and MS-SSIM (`bench/metrics/structural.py`).
    """
    mse = _squared_errors(maps, first, second)
    # Identical pairs need no work: full agreement (NaN differs).
    differ = torch.ones_like(mse, dtype=torch.bool) if released else mse != 0
    values = PairValues(mse, torch.ones_like(mse), torch.ones_like(mse), torch.zeros_like(mse))
    missing = {name: undefined_reason(name, *maps.shape[-2:]) is not None for name in ("SSIM", "MS-SSIM", "LPIPS")}
    if differ.any():
        i, j = first[differ], second[differ]
        if not missing["MS-SSIM"]:
            values.ssim[differ], values.ms_ssim[differ] = pair_ms_ssim(maps, i, j, released=released)
        elif not missing["SSIM"]:
            values.ssim[differ] = pair_ssim(maps, i, j, released=released)
        if lpips is not None and not missing["LPIPS"]:
            distances = lpips.all_distances(lpips.features(maps[:, None])).to(maps.device)
            values.lpips[differ] = distances[i, j]
    for name, value in (("SSIM", values.ssim), ("MS-SSIM", values.ms_ssim), ("LPIPS", values.lpips)):
        if missing[name] or (name == "LPIPS" and lpips is None):
            value.fill_(torch.nan)
    return PairValues(*(value.cpu() for value in values))


def _squared_errors(maps: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    size = images_at_once(maps, maps.device)
    pairs = zip(first.split(size), second.split(size), strict=True)
    return torch.cat([(maps[i] - maps[j]).square().double().mean((1, 2)) for i, j in pairs])
