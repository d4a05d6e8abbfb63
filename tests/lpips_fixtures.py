"""A trunk of LPIPS with random weights, for tests that need none of ImageNet's."""

from __future__ import annotations

import torch

SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def random_trunk() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer, (out, into, kernel) in SHAPES.items():
        weight = torch.randn(out, into, kernel, kernel, generator=generator) / (into * kernel**2) ** 0.5
        tensors[f"features.{layer}.weight"] = weight
        tensors[f"features.{layer}.bias"] = torch.randn(out, generator=generator) * 0.1
    return tensors
