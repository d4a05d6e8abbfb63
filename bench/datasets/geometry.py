"""From native cases to the size and range a method works at, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from bench.types import TaskSpec

# Weights sum to one up to rounding; a pixel that is half covered must not depend on that rounding.
_HALF = 0.5 - 1e-6


def to_method_size(image: np.ndarray | torch.Tensor, spec: TaskSpec) -> torch.Tensor:
    """Native image (C, *S) -> float32 (C, [D,] *spec.image_size) in [-1, 1], beyond it where the task does not clip.

    Depth is untouched.
    """
    low, high = spec.intensity
    values = torch.as_tensor(image).float()
    if not spec.clip:
        return resize((values - low) / (high - low) * 2 - 1, spec.image_size)
    return resize((values.clamp(low, high) - low) / (high - low) * 2 - 1, spec.image_size).clamp(-1, 1)


def resample_mask(mask: np.ndarray | torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Mask (L, *S) bool at the in-plane size (last two of `size`): linear on the 0/1 map, cut at one half."""
    mask = torch.as_tensor(mask)
    if mask.shape[-2:] == tuple(size[-2:]):
        return mask.clone()
    # One label at a time: float maps of a whole multi-organ volume would not fit in memory.
    return torch.stack([resize(label[None].float(), size)[0] > _HALF for label in mask])


def to_native_size(score: torch.Tensor, mask: torch.Tensor, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Score (L, *S) in [0, 1] and mask (L, *S) bool of a method -> the in-plane size of the case."""
    return resize(score.float(), size).clamp(0, 1), resample_mask(mask, size)


def resize(values: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Maps (*, H, W) float at the in-plane size (last two of `size`): bilinear and antialiased, as torchvision does."""
    height, width = (int(n) for n in size[-2:])
    if values.shape[-2:] == (height, width):
        return values.clone()
    planes = values.reshape(1, -1, *values.shape[-2:])  # channels and depth are both "channels" in the plane
    resized = interpolate(planes, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return resized.reshape(*values.shape[:-2], height, width)
