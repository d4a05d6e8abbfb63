"""How far repeated draws of one case agree: `strict`, which is ours, and `paper`, what the SDSeg release computes.

Strict takes every pair of draws and leaves none out. A pair of identical maps is full agreement (SSIM 1, LPIPS 0,
error 0) and so is a pair of empty masks: its Dice is 1 here, although strict Dice against a reference is undefined
there, because two draws that both find nothing do agree. PSNR is taken of the mean squared error over pairs: a mean
of PSNRs is infinite as soon as one pair is identical, and leaving such pairs out hides the agreement. It is infinite
only if all pairs are identical. Since nothing is dropped, the mean over cases is the instance level (pairs of maps)
and the dataset level (pairs of whole runs) at once.

SSIM hardly sees a small target. Dice between draws, flip rate and the spread of the volume do, and are strict in
both modes. What paper mode drops is said in `bench/metrics/released_stability.py`; its rows count it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from bench.metrics.lpips_distance import Lpips
from bench.metrics.map_pairs import PairValues, pair_values
from bench.metrics.overlap import dice
from bench.metrics.pair import Pair
from bench.metrics.perceptual import psnr_of, undefined_reason
from bench.metrics.released_stability import RELEASED_METRICS, eight_bit, released_pairs
from bench.record import MetricFacts, Undefined

Mode = Literal["strict", "paper"]
CaseStability = dict[tuple[str, int], float]  # by (metric, label index)
_KINDS = ("score", "seg")


MASK_STABILITY = {
    "Dice/pairs": MetricFacts(better="higher", kind="share", low=0, high=1),
    "flip_rate": MetricFacts(better="lower", kind="share", low=0, high=1),
    "volume_cv": MetricFacts(better="lower", low=0),
}
_IMAGE = {
    "LPIPS": MetricFacts(better="lower", low=0),
    "PSNR": MetricFacts(unit="dB", better="higher", low=0),
    "SSIM": MetricFacts(better="higher", low=-1, high=1),
    "MS-SSIM": MetricFacts(better="higher", low=-1, high=1),
}
_IMAGES = {f"{name}/{kind}": facts for kind in _KINDS for name, facts in _IMAGE.items()}


def _paper_counts() -> Iterator[tuple[str, MetricFacts]]:
    images, pairs = (MetricFacts(unit=unit, kind="count", low=0) for unit in ("images", "pairs"))
    for kind in _KINDS:
        yield from ((f"images/{name}/{kind}", images) for name in RELEASED_METRICS)
        yield f"empty_images/{kind}", images
        yield f"empty_pairs/{kind}", pairs
        yield f"identical_pairs/{kind}", pairs
    yield "slices_without_reference", images


STRICT_METRICS = {**_IMAGES, **MASK_STABILITY}
# Image metrics, how many images of a case are in them (its weight in the mean over images), and what was dropped.
PAPER_METRICS = {**_IMAGES, **dict(_paper_counts())}


def stability_metrics(mode: Mode) -> dict[str, MetricFacts]:
    """What a run that is scored in this mode has rows of, by name."""
    return STRICT_METRICS if mode == "strict" else {**PAPER_METRICS, **MASK_STABILITY}


def case_stability(
    scores: np.ndarray | None,
    masks: np.ndarray,
    lpips: Lpips | None = None,
    *,
    device: torch.device | str = "cpu",
) -> CaseStability:
    """Strict: agreement of the M draws of one case over all M (M - 1) / 2 pairs, STRICT_METRICS of every label.

    `scores` (M, L, *S) float in [0, 1], or None where there are only masks; `masks` (M, L, *S) bool. Image metrics
    of a volume are the mean over its slices, the others the volume's (`mask_stability`). NaN where a metric is
    undefined (image too small, LPIPS without a trunk); empty for fewer than two draws.
    """
    if len(masks) < 2:
        return {}
    values: CaseStability = {}
    for label, kind, maps in _maps(scores, masks):
        for metric, value in image_stability(maps, lpips, device).items():
            values[f"{metric}/{kind}", label] = value
    return values | mask_stability(masks)


def image_stability(
    maps: np.ndarray, lpips: Lpips | None = None, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """LPIPS, PSNR, SSIM and MS-SSIM over all pairs of M draws, maps (M, [N,] H, W) in [0, 1]; slices one by one."""
    if (maps == maps[:1]).all():
        maps = maps[:2]  # draws of a deterministic method: every pair says the same
    slices = _slices(maps)
    first, second = torch.triu_indices(len(maps), len(maps), 1, device=device)
    means = []
    for index in range(slices.shape[1]):
        image = torch.from_numpy(np.ascontiguousarray(slices[:, index])).to(device, torch.float32)
        means.append(torch.stack(pair_values(image, first, second, lpips)).mean(1))
    mean = PairValues(*torch.stack(means).mean(0))
    values = {"LPIPS": mean.lpips, "PSNR": psnr_of(mean.mse), "SSIM": mean.ssim, "MS-SSIM": mean.ms_ssim}
    return {name: _or_reason(name, float(value), lpips, maps.shape[-2:]) for name, value in values.items()}


def _or_reason(metric: str, value: float, lpips: Lpips | None, size: tuple[int, ...]) -> float:
    """The value, or why an image metric has none on images of this size (height, width)."""
    if not math.isnan(value):
        return value
    without = "the weights of LPIPS are not here" if metric == "LPIPS" and lpips is None else "no image counts"
    return Undefined(undefined_reason(metric, *size) or without)


def mask_stability(masks: np.ndarray) -> CaseStability:
    """MASK_STABILITY of M >= 2 draws, masks (M, L, *S) bool.

    `flip_rate` is the share of pixels on which the draws are not unanimous. `volume_cv` is the standard deviation of
    the volume over draws by its mean; NaN if every draw is empty.
    """
    values: CaseStability = {}
    for label in range(masks.shape[1]):
        draws = masks[:, label]
        volumes = draws.reshape(len(draws), -1).sum(1)
        pairs = [Pair(draws[i], draws[j]) for i in range(len(draws)) for j in range(i)]
        agreement = [1.0 if pair.both_empty else dice(pair) for pair in pairs]
        values["Dice/pairs", label] = float(np.mean(agreement))
        values["flip_rate", label] = float((draws.any(0) & ~draws.all(0)).mean())
        spread = float(volumes.std(ddof=1) / volumes.mean()) if volumes.any() else Undefined("every draw is empty")
        values["volume_cv", label] = spread
    return values


def paper_stability(
    scores: np.ndarray | None,
    masks: np.ndarray,
    reference: np.ndarray,
    lpips: Lpips | None = None,
    *,
    device: torch.device | str = "cpu",
) -> CaseStability:
    """Paper: agreement of draw 0 with each of the others as the SDSeg release has it, PAPER_METRICS of every label.

    As `case_stability`, with everything at the size at which the release keeps its maps (256 x 256) and `reference`
    (L, *S) bool beside it: of a volume only slices with a reference count. NaN where no image counts.
    """
    if len(masks) < 2:
        return {}
    values: CaseStability = {}
    for label, kind, maps in _maps(scores, masks):
        wanted = reference[label]
        kept = np.ones(1, bool) if wanted.ndim == 2 else wanted.any((1, 2))
        values["slices_without_reference", label] = int((~kept).sum())
        # Draw by draw, since floats take four times as much memory.
        pairs = released_pairs(np.stack([eight_bit(draw[kept]) for draw in _slices(maps)]), lpips, device)
        for metric in RELEASED_METRICS:
            values[f"{metric}/{kind}", label] = _or_reason(metric, pairs.mean(metric), lpips, maps.shape[-2:])
            values[f"images/{metric}/{kind}", label] = len(pairs.per_image(metric))
        values[f"empty_images/{kind}", label] = int(pairs.empty_images.sum())
        values[f"empty_pairs/{kind}", label] = int(pairs.empty_pairs.sum())
        values[f"identical_pairs/{kind}", label] = int(pairs.identical_pairs.sum())
    return values


def _maps(scores: np.ndarray | None, masks: np.ndarray) -> Iterator[tuple[int, str, np.ndarray]]:
    for label in range(masks.shape[1]):
        if scores is not None:
            yield label, "score", scores[:, label]
        yield label, "seg", masks[:, label]


def _slices(maps: np.ndarray) -> np.ndarray:
    return maps[:, None] if maps.ndim == 3 else maps  # (M, N, H, W)
