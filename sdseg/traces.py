"""What a look at SDSeg in training shows: latents of masks and images, reconstructions, the reverse process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sdseg.model import SDSeg
from sdseg.sampling import follow

STEPS = 10  # of the reverse process, as in Table 4


def traces(
    model: SDSeg, image: torch.Tensor, mask: torch.Tensor, generators: Sequence[torch.Generator]
) -> dict[str, np.ndarray]:
    """Arrays of images (B, C, H, W) in [-1, 1] and masks (B, L, H, W) bool.

    mask_latent (B, L, c, h, w) float16: E(X), scaled. reconstruction (B, L, H, W) bool: D(E(X)) cut at one half.
    image_latent (B, c, h, w) float16: z_c. Those of `reverse_process`, where the network has seen noised masks.
    """
    latent = model.codec.encode(mask.flatten(0, 1).unsqueeze(1))
    rebuilt = model.codec.decode_score(latent) > 0.5
    seen = {
        "mask_latent": _half(latent).reshape(*mask.shape[:2], *latent.shape[1:]),
        "reconstruction": rebuilt.reshape(mask.shape).cpu().numpy(),
        "image_latent": _half(model.condition(image)),
    }
    return seen if model.config.control else seen | reverse_process(model, image, generators)


def reverse_process(model: SDSeg, image: torch.Tensor, generators: Sequence[torch.Generator]) -> dict[str, np.ndarray]:
    """`reverse` (B, S, L, H, W) float16: the score of the clean latent as estimated in each step; `reverse_t` (S,).

    The noise of image i comes from `generators[i]` alone, and the last score is that of `SDSeg.predict` in S steps.
    """
    denoise, repeat = model.reverse(model.condition(image))
    shape = (1, *model.latent_shape(*image.shape[-2:]))
    z_T = torch.cat([torch.randn(shape, generator=generator) for generator in generators]).to(image.device)
    estimates: dict[int, torch.Tensor] = {}

    def watched(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        z0 = estimates[int(t[0])] = denoise(z_t, t)
        return z0

    start = z_T if model.config.noise == "gaussian" else torch.zeros_like(z_T)
    follow(watched, repeat(start), model.schedule, STEPS)
    scores = [model.answer(image, z0).score for z0 in estimates.values()]
    return {"reverse": _half(torch.stack(scores, dim=1)), "reverse_t": np.array(list(estimates))}


def _half(x: torch.Tensor) -> np.ndarray:
    return x.to("cpu", torch.float16).numpy()
