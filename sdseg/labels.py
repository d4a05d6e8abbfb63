"""Several labels through one network: which mask a training item shows, and how decoded maps become one answer."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sdseg.config import SDSegConfig


class Prediction(NamedTuple):
    """Soft score (B, L, H, W) in [0, 1] and boolean mask of the same shape."""

    score: torch.Tensor
    mask: torch.Tensor


def class_masks(mask: torch.Tensor, config: SDSegConfig) -> torch.Tensor:
    """One mask per class (B, K, H, W) of labels (B, L, H, W); "softmax" puts the union in front as class 0."""
    if config.classes and config.multiclass == "softmax":
        return torch.cat([mask.any(dim=1, keepdim=True), mask], dim=1)
    return mask


def choose_class(mask: torch.Tensor, u: torch.Tensor, config: SDSegConfig) -> torch.Tensor:
    """Class ids (B,) by u (B,) in [0, 1): any class, or with "softmax" one that is present, as released.

    mask: (B, K, H, W) from `class_masks`.
    """
    allowed = torch.ones(mask.shape[:2], device=mask.device)
    if config.multiclass == "softmax":
        allowed = mask.flatten(2).any(2).float()
        allowed[:, 0] = 1.0  # an empty image still shows its empty union
    edges = (allowed / allowed.sum(1, keepdim=True)).cumsum(1)
    return (u.to(mask.device).unsqueeze(1) >= edges[:, :-1]).sum(1)


def of_label(classes: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The masks (B, 1, H, W) that class ids (B,) pick of (B, K, H, W)."""
    return classes[torch.arange(len(classes), device=classes.device), label].unsqueeze(1)


def combine(pixels: torch.Tensor, config: SDSegConfig) -> Prediction:
    """Score and mask of decoded maps (B, K, 3, H, W), about [-1, 1], both as released."""
    return decide(class_scores(pixels, config), config)


def class_scores(pixels: torch.Tensor, config: SDSegConfig) -> torch.Tensor:
    """Soft scores (B, K, H, W) of decoded maps (B, K, 3, H, W).

    Each label on its own: clamp first, then the mean of the three channels. "softmax": mean of the unclamped channels,
    the union's sign flipped into a background, softmax.
    """
    if not config.classes or config.multiclass == "independent":
        return ((pixels + 1) / 2).clamp(0, 1).mean(dim=2)
    logits = pixels.mean(dim=2)
    return torch.cat([-logits[:, :1], logits[:, 1:]], dim=1).softmax(dim=1)


def decide(score: torch.Tensor, config: SDSegConfig) -> Prediction:
    """The labels' scores and masks of what `class_scores` gives: cut at one half, or argmax with "softmax"."""
    if not config.classes or config.multiclass == "independent":
        return Prediction(score, score > 0.5)
    best = score.argmax(dim=1, keepdim=True)
    labels = torch.arange(1, score.shape[1], device=score.device).view(1, -1, 1, 1)
    return Prediction(score[:, 1:], best == labels)
