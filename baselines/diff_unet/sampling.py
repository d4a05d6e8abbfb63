"""Diff-U-Net's diffusion: noised masks in {-1, 1}, DDIM on respaced betas, and the fusion of its steps and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

TIMESTEPS = 1000
FUSIONS = ("last", "sum", "uncertainty")
Fusion = Literal["last", "sum", "uncertainty"]

# Of the probability inside the entropy (BraTS2020/test.py:29).
_FLOOR = 0.001


def alphas_cumprod() -> np.ndarray:
    """(1000,) float64 of linear betas 1e-4 .. 0.02."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, TIMESTEPS))


def sampling_timesteps(steps: int) -> list[int]:
    """Ascending times 0, 111, ..., 999 (for ten).

    A single step is taken at 999; the release's own spacing would take it at 0, where the network sees no noise.
    """
    if steps == 1:
        return [TIMESTEPS - 1]
    return [round(i * (TIMESTEPS - 1) / (steps - 1)) for i in range(steps)]


def add_noise(mask: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The noised {-1, 1} of a mask (B, L, *S) bool at times t (B,)."""
    table = torch.from_numpy(alphas_cumprod())[t.cpu()].view(-1, *[1] * (mask.ndim - 1))
    signal, sigma = (x.float().to(noise.device, non_blocking=True) for x in (table.sqrt(), (1 - table).sqrt()))
    return signal * (2.0 * mask.float() - 1.0) + sigma * noise


def ddim_logits(
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], start: torch.Tensor, steps: int
) -> Iterator[torch.Tensor]:
    """The raw output (N, L, *S) of every step of DDIM (eta 0) from `start`; denoise(x_t, t) gives logits.

    The release clamps the output to [-1, 1] and takes it for the clean mask, also to find the noise again.
    """
    times = sampling_timesteps(steps)
    kept = alphas_cumprod()[times]
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    scheduler = DDIMScheduler(
        num_train_timesteps=steps, trained_betas=betas, prediction_type="sample", timestep_spacing="leading"
    )
    scheduler.set_timesteps(steps)
    x_t = start
    for i in range(steps - 1, -1, -1):
        t = torch.full((len(x_t),), times[i], device=x_t.device)
        logits = denoise(x_t, t).float()
        yield logits
        if i == 0:
            return
        x_t = scheduler.step(logits, i, x_t, eta=0.0, use_clipped_model_output=True).prev_sample


def uncertainty(logits: torch.Tensor, floor: float = _FLOOR) -> torch.Tensor:
    """-p ln p (B, L, *S) of the mean logits of runs (R, B, L, *S)."""
    p = logits.mean(dim=0).sigmoid().clamp(min=floor)
    return -p * p.log()


def step_share(fusion: Fusion, logits: torch.Tensor, index: int, steps: int) -> torch.Tensor:
    """What step `index` (0 is the noisiest) adds to the fused map (B, L, *S); logits (R, B, L, *S) of the runs.

    `uncertainty`: certain and late steps count more (BraTS2020/test.py:72-95).
    """
    clean = logits.clamp(-1, 1).sum(dim=0)
    if fusion != "uncertainty":
        return clean
    late = torch.tensor((index + 1) / steps).sigmoid().item()
    return clean * torch.exp(late * (1 - uncertainty(logits)))


def fused_map(
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], start: torch.Tensor, steps: int, fusion: Fusion
) -> torch.Tensor:
    """Fused map (B, L, *S) of runs from `start` (R, B, L, *S), summed where it is computed.

    Its sign is the decision; its sigmoid is no calibrated probability. `denoise` takes the runs as R blocks of B.
    """
    total = torch.zeros_like(start[0])
    for index, logits in enumerate(ddim_logits(denoise, start.flatten(0, 1), steps)):
        share = step_share(fusion, logits.view_as(start), index, steps)
        total = share if fusion == "last" else total.add_(share)
    return total
