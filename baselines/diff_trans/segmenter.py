"""Diff-Trans behind the two verbs of the harness."""

from __future__ import annotations

from typing import Any

import torch

from baselines.diff_trans.model import TrainableDiffTrans
from baselines.diff_trans.network import DiffTransConfig
from sdseg.training.recipe import Recipe
from sdseg.training.segmenter import TrainedSegmenter


def diff_trans_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    steps: int = 50,
    samples: int = 1,
    eta: float = 0.0,
    max_batch: int = 32,
    **network: Any,
) -> TrainedSegmenter:
    """Diff-Trans for a task (channels, labels, image_size) of 2-D images or slices.

    `network` are the options of DiffTransConfig, the others those of TrainableDiffTrans.predict. Raises ValueError for
    numbers below one, and for sizes that do not divide.
    """
    settings = Recipe.model_validate(recipe)
    if settings.seen(task.image_size) != tuple(task.image_size):
        raise ValueError(f"train crop={settings.crop}: Diff-Trans knows places, and takes whole images; use crop=null")
    inference = {"steps": steps, "samples": samples, "eta": eta, "max_batch": max_batch}
    for key in ("steps", "samples", "max_batch"):
        if inference[key] < 1:
            raise ValueError(f"method.inference.{key}={inference[key]}: expected at least 1")
    torch.manual_seed(seed)  # the initial weights
    sizes = {"channels": task.channels, "labels": len(task.labels), "image_size": tuple(task.image_size)}
    model = TrainableDiffTrans(DiffTransConfig.model_validate({**sizes, **network}))
    segmenter = TrainedSegmenter(model, settings, seed, device, evaluations=steps, inference=inference)
    segmenter.samples = samples
    return segmenter
