"""Diff-U-Net as a method of the harness: what the configuration names, checked and put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from baselines.diff_unet.model import TrainableDiffUNet
from baselines.diff_unet.network import PUBLISHED_FEATURES, DiffUNet
from baselines.diff_unet.sampling import FUSIONS, TIMESTEPS, Fusion
from baselines.sliding_window import check_windows
from sdseg.control import Control, known_control
from sdseg.training.recipe import Recipe
from sdseg.training.segmenter import TrainedSegmenter

_UNCERTAINTY_RUNS = 4


def diff_unet_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    dims: int = 3,
    features: Sequence[int] = PUBLISHED_FEATURES,
    window: Sequence[int] | None = None,
    weights: str | None = None,
    control: Control | None = None,
    steps: int = 10,
    fusion: Fusion = "sum",
    samples: int | None = None,
    overlap: float = 0.6,
    sw_batch_size: int = 1,
    blend: str = "constant",
    runs: int | None = None,
) -> TrainedSegmenter:
    """Diff-U-Net for a task, as the configuration names it; the defaults predict as the release tests on BTCV.

    It trains on random crops of `window` voxels per axis and predicts with sliding windows of that size.
    `samples` (default: 4 with fusion "uncertainty", else 1) are fused into one prediction; the release, and what was
    trained here earlier, calls them `runs`. `control`: see `sdseg.control`. Raises ValueError naming an option that
    does not fit.
    """
    settings = Recipe.model_validate({**recipe, "crop": window} if window else recipe)
    samples = samples if samples is not None else runs
    samples = samples if samples is not None else _UNCERTAINTY_RUNS if fusion == "uncertainty" else 1
    _check_sampling(steps, fusion, samples)
    steps, samples = (1, 1) if known_control(control) == "none" else (steps, samples)
    if dims not in (2, 3):
        raise ValueError(f"method.options.dims={dims}: expected 2 (slices) or 3 (volumes)")
    check_windows(task, dims, window, overlap, sw_batch_size, blend)
    _check_shapes(task, features, window, settings)
    torch.manual_seed(seed)  # the initial weights
    network = DiffUNet(dims, task.channels, len(task.labels), tuple(features))
    segmenter = TrainedSegmenter(
        TrainableDiffUNet(network, tuple(window) if window else None, weights, control),
        settings,
        seed,
        device,
        dims,
        evaluations=steps,
        inference={
            "steps": steps,
            "fusion": fusion,
            "samples": samples,
            "overlap": overlap,
            "sw_batch_size": sw_batch_size,
            "blend": blend,
        },
    )
    segmenter.samples = samples
    return segmenter


def _check_sampling(steps: int, fusion: str, samples: int) -> None:
    if fusion not in FUSIONS:
        raise ValueError(f"method.inference.fusion={fusion}: known are {', '.join(FUSIONS)}")
    if not 1 <= steps <= TIMESTEPS:
        raise ValueError(f"method.inference.steps={steps}: expected 1 to {TIMESTEPS}")
    if samples < 1:
        raise ValueError(f"method.inference.samples={samples}: expected at least 1")


def _check_shapes(task: Any, features: Sequence[int], window: Sequence[int] | None, settings: Recipe) -> None:
    if len(features) != 6:
        raise ValueError(f"method.options.features={list(features)}: expected six numbers of channels")
    edges = window or settings.seen(task.image_size)
    # Four halvings, and instance normalisation needs more than one voxel after them.
    if min(edges) < 16 or math.prod(edge // 16 for edge in edges) < 2:
        what = "method.options.window" if window else "train.crop" if settings.crop else "image_size"
        raise ValueError(f"{what}={list(edges)}: Diff-U-Net needs edges of 16 or more, and one of 32")
