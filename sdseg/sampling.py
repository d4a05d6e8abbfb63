"""Reverse processes as plain functions of (denoise, z_T, schedule)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from sdseg.schedule import NoiseSchedule, RectifiedFlow, Schedule

# (z_t (B, C, H, W), t (B,)) -> predicted z0 (B, C, H, W)
Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Spacing = Literal["trailing", "leading"]


def single_step(denoise: Denoise, z_T: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """The paper's inference: one network call at t = T-1, then Eq. 2 (section 2.3)."""
    t = torch.full((len(z_T),), len(schedule) - 1, device=z_T.device)
    return denoise(z_T, t)


def ddim_timesteps(timesteps: int, steps: int, spacing: Spacing = "trailing") -> tuple[list[int], list[int]]:
    """Time steps in call order, and the index that follows each (-1: no noise is left).

    "trailing" starts at T-1, so one step equals `single_step`; "leading" is the released code's grid
    (1, 101, ..., 901 for ten steps), which ends on t = 0 and keeps a trace of noise.
    """
    if not 1 <= steps <= timesteps:
        raise ValueError(f"steps must lie between 1 and {timesteps}, got {steps}")
    if spacing == "trailing":
        grid = [round(timesteps - i * timesteps / steps) - 1 for i in range(steps)]
        return grid, [*grid[1:], -1]
    if timesteps % steps:
        raise ValueError(f"the released grid needs steps that divide {timesteps}, got {steps}")
    grid = [i + 1 for i in range(0, timesteps, timesteps // steps)][::-1]
    return grid, [*grid[1:], 0]


def ddim(
    denoise: Denoise,
    z_T: torch.Tensor,
    schedule: NoiseSchedule,
    steps: int,
    eta: float = 0.0,
    spacing: Spacing = "trailing",
    noise: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    """DDIM in `steps` network calls; `noise` gives one tensor like z_T per step where eta > 0."""
    if eta and noise is None:
        raise ValueError("eta > 0 needs the noise of every step")
    z_t = z_T
    for i, (t, t_next) in enumerate(zip(*ddim_timesteps(len(schedule), steps, spacing), strict=True)):
        index = torch.full((len(z_t),), t, device=z_t.device)
        z0 = denoise(z_t, index)
        eps = schedule.predict_eps(z_t, z0, index)
        now = schedule.alphas_cumprod[t].double()
        after = schedule.alphas_cumprod[t_next].double() if t_next >= 0 else torch.ones((), dtype=torch.float64)
        sigma = eta * float(((1 - after) / (1 - now) * (1 - now / after)).sqrt())
        z_t = float(after.sqrt()) * z0 + float((1 - after - sigma**2).clamp(min=0).sqrt()) * eps
        if sigma and noise is not None:
            z_t = z_t + sigma * noise[i]
    return z_t


def euler(denoise: Denoise, z_T: torch.Tensor, schedule: RectifiedFlow, steps: int) -> torch.Tensor:
    """Euler's method along the flow in `steps` equal steps from noise; the velocity is (z0 - z_t) / s."""
    z_t = z_T
    for t, t_next in zip(*ddim_timesteps(len(schedule), steps), strict=True):
        z0 = denoise(z_t, torch.full((len(z_t),), t, device=z_t.device))
        z_t = z_t + (t - t_next) / (t + 1) * (z0 - z_t)
    return z_t


def follow(
    denoise: Denoise,
    z_T: torch.Tensor,
    schedule: NoiseSchedule | RectifiedFlow,
    steps: int,
    eta: float = 0.0,
    spacing: Spacing = "trailing",
    noise: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    """The clean latent at the end of the way from z_T: the single step, DDIM, or Euler's method for a flow."""
    if steps == 1:
        return single_step(denoise, z_T, schedule)
    if isinstance(schedule, RectifiedFlow):
        return euler(denoise, z_T, schedule, steps)
    return ddim(denoise, z_T, schedule, steps, eta, spacing, noise)
