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
from bench.metrics.perceptual import (
    images_at_once,
    mean_squared_error,
    ms_ssim,
    psnr_of,
    ssim,
    undefined_reason,
)


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
    height, width = draws.shape[-2:]
    first, second = torch.triu_indices(len(draws), len(draws), 1, device=draws.device)
    identical = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    undefined = [
        False,
        *(bool(undefined_reason(name, height, width)) for name in ("SSIM", "MS-SSIM", "LPIPS")),
    ]
    undefined[3] |= lpips is None
    identical[torch.tensor(undefined)] = torch.nan
    values = identical[:, None].repeat(1, len(first))
    size = images_at_once(draws, draws.device)
    differ = torch.cat([(draws[i] != draws[j]).flatten(1).any(1) for i, j in _chunks(first, second, size)])
    if not differ.any():
        return values
    features = None if lpips is None or undefined[3] else lpips.features(draws)
    parts = []
    for i, j in _chunks(first[differ], second[differ], size):
        a, b = draws[i], draws[j]
        rows = [mean_squared_error(a, b), ssim(a, b), ms_ssim(a, b)]
        if lpips is not None and features is not None:
            rows.append(lpips.feature_distance([f[i] for f in features], [f[j] for f in features]))
        else:
            rows.append(torch.full((len(i),), torch.nan, dtype=torch.float64))
        parts.append(torch.stack(rows))
    values[:, differ.cpu()] = torch.cat(parts, 1)
    return values


def _chunks(first: torch.Tensor, second: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(first.split(size), second.split(size), strict=True))
