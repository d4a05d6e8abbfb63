"""The values that a network was made for, from images in [-1, 1]."""

from __future__ import annotations

from typing import Literal, get_args

import torch

Normalise = Literal["none", "unit", "imagenet"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def check_normalise(how: str, channels: int, option: str) -> int:
    """How many channels a network sees of images with `channels`; raises ValueError naming the option."""
    if how not in get_args(Normalise):
        raise ValueError(f"{option}={how}: known are {', '.join(get_args(Normalise))}")
    if how == "imagenet" and channels not in (1, 3):
        raise ValueError(f"{option}=imagenet: for 1 or 3 channels, this dataset has {channels}; use none")
    return 3 if how == "imagenet" else channels


def normalised(image: torch.Tensor, how: str) -> torch.Tensor:
    """Images (B, C, *S): "none" leaves [-1, 1], "unit" brings to [0, 1], "imagenet" standardises that as RGB."""
    if how == "none":
        return image
    unit = (image + 1) / 2
    if how == "unit":
        return unit
    shape = (3, *[1] * (image.ndim - 2))
    return (unit - image.new_tensor(_MEAN).view(shape)) / image.new_tensor(_STD).view(shape)
