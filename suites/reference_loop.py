"""The reference implementation of cost: one case at a time, as the official script predicts it, in plain float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch


class Answer(NamedTuple):
    """Soft score and mask (B, L, H, W)."""

    score: torch.Tensor
    mask: torch.Tensor


@torch.no_grad()
def official_loop(model: Any, images: torch.Tensor, generators: Sequence[torch.Generator]) -> Answer:
    """Segment images (B, C, H, W) in [-1, 1] with an SDSeg model as it was trained: no batch, no folding, no layout.

    For every image: encode it, one U-Net call at t = 999, Eq. 2, decode, clamp, mean of the channels, cut at one half.
    With several labels a U-Net call and a decoding for each, with the same noise.
    """
    scores = [_official_case(model, image[None], g) for image, g in zip(images, generators, strict=True)]
    score = torch.cat(scores)
    return Answer(score, score > 0.5)


def _official_case(model: Any, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    config, device = model.config, model.codec.latent_scale.device
    image = image.to(device)
    z_T = torch.randn((1, *model.latent_shape(*image.shape[-2:])), generator=generator).to(device)
    if config.noise == "zeros":
        z_T = torch.zeros_like(z_T)
    condition = model.condition(image)
    t = torch.full((1,), len(model.schedule) - 1, device=device)
    scores = []
    for label in range(max(1, config.classes)):
        output = model.denoise(z_T, condition, t, torch.tensor([label], device=device))
        z0 = model.schedule.predict_z0(z_T, output, t, config.prediction)
        pixels = model.codec.decode(z0)
        scores.append(((pixels + 1) / 2).clamp(0, 1).mean(dim=1))
    return torch.stack(scores, dim=1).cpu()
