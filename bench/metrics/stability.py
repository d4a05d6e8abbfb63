"""How far repeated draws of one case agree, in strict mode: every pair of draws counts and none is left out.

A pair of identical maps is full agreement (SSIM 1, LPIPS 0, error 0) and so is a pair of empty masks: its
Dice is 1 here, although strict Dice against a reference is undefined there, because two draws that both find
nothing do agree. PSNR is taken of the mean squared error over pairs: a mean of PSNRs is infinite as soon as
one pair is identical, and leaving such pairs out hides the agreement. It is infinite only if all pairs are
identical.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from bench.errors import InputError
from bench.metrics.lpips_distance import Lpips
from bench.metrics.overlap import dice
from bench.metrics.pair import Pair
from bench.metrics.perceptual import images_at_once, psnr_of, undefined_reason
from bench.metrics.structural import pair_ms_ssim, pair_ssim


class StabilityMetric(NamedTuple):
    """Name, unit and direction of one number of `case_stability`."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    convention: str = "strict"


STABILITY_METRICS = (
    *(StabilityMetric(f"LPIPS/{kind}", "", "lower") for kind in ("score", "seg")),
    *(StabilityMetric(f"PSNR/{kind}", "dB", "higher") for kind in ("score", "seg")),
    *(StabilityMetric(f"SSIM/{kind}", "", "higher") for kind in ("score", "seg")),
    *(StabilityMetric(f"MS-SSIM/{kind}", "", "higher") for kind in ("score", "seg")),
    StabilityMetric("Dice/pairs", "", "higher"),
    StabilityMetric("flip_rate", "", "lower"),
)


def case_stability(
    scores: np.ndarray, masks: np.ndarray, lpips: Lpips | None = None, *, device: torch.device | str = "cpu"
) -> dict[tuple[str, int], float]:
    """Agreement of the M draws of one case, by (metric, label index), over all M (M - 1) / 2 pairs.

    `scores` (M, L, *S) float in [0, 1], `masks` (M, L, *S) bool. Image metrics of a volume are the mean over
    its slices, Dice is the volume's. `flip_rate` is the share of pixels on which the draws are not unanimous.
    NaN where a metric is undefined (image too small, LPIPS without a trunk); empty for fewer than two draws.
    """
    if scores.shape != masks.shape or masks.ndim not in (4, 5) or masks.dtype != bool:
        raise InputError(
            f"draws: scores {scores.shape} {scores.dtype} and masks {masks.shape} {masks.dtype}, "
            "expected two arrays (M, L, *S) of one shape, the masks bool"
        )
    values: dict[tuple[str, int], float] = {}
    if len(masks) < 2:
        return values
    for label in range(masks.shape[1]):
        draws = masks[:, label]
        values["Dice/pairs", label] = _pairwise_dice(draws)
        values["flip_rate", label] = float((draws.any(0) & ~draws.all(0)).mean())
        for kind, maps in (("score", scores[:, label]), ("seg", draws)):
            for metric, value in _image_agreement(maps, lpips, torch.device(device)).items():
                values[f"{metric}/{kind}", label] = value
    return values


def _pairwise_dice(draws: np.ndarray) -> float:
    pairs = [Pair(draws[i], draws[j]) for i in range(len(draws)) for j in range(i)]
    return float(np.mean([1.0 if pair.both_empty else dice(pair) for pair in pairs]))


def _image_agreement(maps: np.ndarray, lpips: Lpips | None, device: torch.device) -> dict[str, float]:
    slices = maps[:, None] if maps.ndim == 3 else maps  # (M, N, H, W)
    per_slice = []
    for index in range(slices.shape[1]):
        draws = torch.from_numpy(np.ascontiguousarray(slices[:, index])).to(device, torch.float32)
        per_slice.append(_pair_values(draws[:, None], lpips).mean(1))
    mse, *others = torch.stack(per_slice).mean(0)
    values = {"PSNR": float(psnr_of(mse))}
    return values | {name: float(value) for name, value in zip(("SSIM", "MS-SSIM", "LPIPS"), others, strict=True)}


def _pair_values(draws: torch.Tensor, lpips: Lpips | None) -> torch.Tensor:
    """MSE, SSIM, MS-SSIM and LPIPS (4, P) of all pairs of the draws (M, 1, H, W) of one slice."""
    defined = {name: undefined_reason(name, *draws.shape[-2:]) is None for name in ("SSIM", "MS-SSIM", "LPIPS")}
    defined["LPIPS"] &= lpips is not None
    first, second = torch.triu_indices(len(draws), len(draws), 1, device=draws.device)
    mse = _squared_errors(draws, first, second)
    differ = mse != 0  # identical pairs need no work: full agreement (NaN differs)
    i, j = first[differ], second[differ]
    values = torch.stack([mse, torch.ones_like(mse), torch.ones_like(mse), torch.zeros_like(mse)])
    if len(i):
        if defined["MS-SSIM"]:
            values[1, differ], values[2, differ] = (x.to(mse.device) for x in pair_ms_ssim(draws[:, 0], i, j))
        elif defined["SSIM"]:
            values[1, differ] = pair_ssim(draws[:, 0], i, j)
        if lpips is not None and defined["LPIPS"]:
            values[3, differ] = _lpips_values(draws, i, j, lpips).to(mse.device)
    for row, name in enumerate(("SSIM", "MS-SSIM", "LPIPS"), 1):
        if not defined[name]:
            values[row] = torch.nan
    return values.cpu()


def _squared_errors(draws: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    parts = _chunks(first, second, images_at_once(draws, draws.device))
    return torch.cat([(draws[i] - draws[j]).square().double().mean((1, 2, 3)) for i, j in parts])


def _lpips_values(draws: torch.Tensor, first: torch.Tensor, second: torch.Tensor, lpips: Lpips) -> torch.Tensor:
    features = lpips.features(draws)
    parts = _chunks(first, second, images_at_once(draws, draws.device))
    return torch.cat([lpips.feature_distance([f[i] for f in features], [f[j] for f in features]) for i, j in parts])


def _chunks(first: torch.Tensor, second: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(first.split(size), second.split(size), strict=True))
