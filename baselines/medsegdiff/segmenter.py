"""MedSegDiff behind the two verbs of the harness."""

from __future__ import annotations

from typing import Any

import torch

from baselines.medsegdiff.config import MedSegDiffConfig
from baselines.medsegdiff.model import MedSegDiff
from sdseg.training.recipe import Recipe
from sdseg.training.segmenter import TrainedSegmenter

_CHOICES = {
    "sampler": ("dpm", "ddpm", "ddim", "official"),
    "fusion": ("mean", "mean_sq", "staple"),
    "mixing": ("calibrated", "none"),
    "decision": ("half", "official"),
}


def medsegdiff_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    sampler: str = "dpm",
    steps: int = 50,
    samples: int = 25,
    fusion: str = "mean",
    eta: float = 0.0,
    mixing: str = "calibrated",
    decision: str = "half",
    max_batch: int = 32,
    **network: Any,
) -> TrainedSegmenter:
    """MedSegDiff V1 or V2 for a task (channels, labels, image_size) of 2-D images or slices.

    `network` are the options of MedSegDiffConfig, the others those of MedSegDiff.predict. Raises ValueError for an
    unknown choice or a size that does not divide.
    """
    height, wide = task.image_size
    if network.get("version") == "v1" and height != wide:
        raise ValueError(f"MedSegDiff V1's frequency filters take square images, not {height} x {wide}")
    settings = Recipe.model_validate(recipe)
    if network.get("version") == "v1" and settings.seen(task.image_size) != tuple(task.image_size):
        raise ValueError(f"train crop={settings.crop}: MedSegDiff V1's filters take whole images; use crop=null")
    inference: dict[str, Any] = {"sampler": sampler, "fusion": fusion, "mixing": mixing, "decision": decision}
    for key, value in inference.items():
        if value not in _CHOICES[key]:
            raise ValueError(f"method.inference.{key}={value}: known are {', '.join(_CHOICES[key])}")
    for key, number in (("steps", steps), ("samples", samples), ("max_batch", max_batch)):
        if number < 1:
            raise ValueError(f"method.inference.{key}={number}: expected at least 1")
    torch.manual_seed(seed)  # the initial weights
    config = MedSegDiffConfig.model_validate(
        {"channels": task.channels, "labels": len(task.labels), "image_size": height, **network}
    )
    if config.prediction is not None and sampler == "official":
        raise ValueError("method.inference.sampler=official is of a network that predicts the noise; take dpm")
    if config.control == "none":
        steps = samples = 1
    inference |= {"steps": steps, "samples": samples, "eta": eta, "max_batch": max_batch}
    calls = steps + (sampler == "official")
    segmenter = TrainedSegmenter(MedSegDiff(config), settings, seed, device, evaluations=calls, inference=inference)
    segmenter.samples = samples
    return segmenter
