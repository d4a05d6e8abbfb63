"""Pixel-space diffusion: the linear schedule, samplers as plain functions, noise per sample, and fusion of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

Fusion = Literal["mean", "mean_sq", "staple"]


class Estimate(NamedTuple):
    """What a network knows about x_t (B, C, *S): the clean map and, if it learns one, the variance logit v."""

    x0: torch.Tensor
    v: torch.Tensor | None = None


# (x_t (B, C, *S), index into the schedule, a fraction where the sampler's grid has one) -> Estimate
Denoise = Callable[[torch.Tensor, float], Estimate]


class Posterior(NamedTuple):
    """q(x_after | x_t, x0): its mean is from_x0 x0 + from_xt x_t; log variances it can have, from least to most."""

    from_x0: torch.Tensor
    from_xt: torch.Tensor
    log_least: torch.Tensor
    log_most: torch.Tensor


class LinearSchedule:
    """beta rises linearly from 1e-4 to 0.02, times 1000 / N where there are N steps; float64 tables."""

    def __init__(self, timesteps: int = 1000) -> None:
        if timesteps <= 20:
            raise ValueError(
                f"a linear schedule needs more than 20 steps (its last beta would reach 1), got {timesteps}"
            )
        scale = 1000 / timesteps
        betas = torch.linspace(scale * 1e-4, scale * 0.02, timesteps, dtype=torch.float64)
        self.alphas_cumprod = torch.cumprod(1 - betas, dim=0)

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def time(self, index: float) -> float:
        """The time a network trained with 1000 steps is told at this index."""
        return index * 1000 / len(self)

    def alpha_bar(self, index: float) -> float:
        """Between indices the logarithm is linear; 1 at a negative index, where no noise is left."""
        if index < 0:
            return 1.0
        grid = np.arange(len(self))
        return float(np.exp(np.interp(index, grid, self.alphas_cumprod.log().numpy())))

    def add_noise(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t of x0 and eps (B, C, *S) at indices t (B,)."""
        now = self.alphas_cumprod.to(x0.device)[t].view(-1, *[1] * (x0.ndim - 1))
        return now.sqrt().float() * x0 + (1 - now).sqrt().float() * eps

    def predict_x0(self, x_t: torch.Tensor, eps: torch.Tensor, index: float) -> torch.Tensor:
        """The clean map that x_t and eps (B, C, *S) imply."""
        now = self.alpha_bar(index)
        return (1 / now) ** 0.5 * x_t - (1 / now - 1) ** 0.5 * eps

    def posterior(self, t: torch.Tensor, after: torch.Tensor) -> Posterior:
        """From indices t to earlier ones (any shape, -1: no noise is left), in float64."""
        table = torch.cat([self.alphas_cumprod, torch.ones(1, dtype=torch.float64)]).to(t.device)  # [-1] is 1
        now, then = table[t], table[after]
        beta = 1 - now / then
        variance = beta * (1 - then) / (1 - now)
        return Posterior(
            beta * then.sqrt() / (1 - now), (1 - then) * (now / then).sqrt() / (1 - now), variance.log(), beta.log()
        )


def respaced(timesteps: int, steps: int) -> list[int]:
    """`steps` indices spread evenly from T-1 to 0, in call order (guided diffusion's respacing)."""
    if not 1 <= steps <= timesteps:
        raise ValueError(f"steps must lie between 1 and {timesteps}, got {steps}")
    stride = (timesteps - 1) / max(1, steps - 1)
    return [round(i * stride) for i in range(steps)][::-1] if steps > 1 else [timesteps - 1]


def ddpm(
    denoise: Denoise,
    x_T: torch.Tensor,
    schedule: LinearSchedule,
    steps: int,
    draw: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """Ancestral sampling with the learned-range variance; `draw` gives fresh noise like x_T."""
    x_t = x_T
    for t, after in _pairs(respaced(len(schedule), steps)):
        x0, v = denoise(x_t, t)
        if after < 0:
            return x0
        step = schedule.posterior(torch.tensor(t), torch.tensor(after))
        share = 0 if v is None else (v + 1) / 2
        log_variance = share * float(step.log_most) + (1 - share) * torch.tensor(float(step.log_least))
        x_t = float(step.from_x0) * x0 + float(step.from_xt) * x_t + torch.exp(0.5 * log_variance) * draw()
    raise AssertionError("a grid ends with no noise left")


def ddim(
    denoise: Denoise,
    x_T: torch.Tensor,
    schedule: LinearSchedule,
    steps: int,
    eta: float = 0.0,
    draw: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor:
    """DDIM on the evenly spread grid; `draw` gives the noise of every step where eta > 0."""
    if eta and draw is None:
        raise ValueError("eta > 0 needs the noise of every step")
    x_t = x_T
    for t, after in _pairs(respaced(len(schedule), steps)):
        x0 = denoise(x_t, t).x0
        now, then = schedule.alpha_bar(t), schedule.alpha_bar(after)
        eps = (x_t - now**0.5 * x0) / (1 - now) ** 0.5
        sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
        x_t = then**0.5 * x0 + max(0.0, 1 - then - sigma**2) ** 0.5 * eps
        if sigma and draw is not None:
            x_t = x_t + sigma * draw()
    return x_t


def _pairs(grid: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(grid, [*grid[1:], -1], strict=True)


def dpm_grid(schedule: LinearSchedule, steps: int) -> list[float]:
    """Indices of DPM-Solver's steps + 1 points, evenly spread in time."""
    return np.linspace(len(schedule) - 1, 0, steps + 1).tolist()


def dpm_solver(denoise: Denoise, x_T: torch.Tensor, schedule: LinearSchedule, steps: int) -> torch.Tensor:
    """DPM-Solver++ 2M (data prediction, midpoint) in `steps` calls; ends at index 0, which keeps a trace of noise.

    The last of less than 15 steps is of first order, as diffusers' DPMSolverMultistepScheduler has it.
    """
    grid = dpm_grid(schedule, steps)
    bars = np.array([schedule.alpha_bar(index) for index in grid])
    alphas, sigmas = np.sqrt(bars), np.sqrt(1 - bars)
    lambdas = np.log(alphas / sigmas)
    x_t, before = x_T, None
    for i in range(steps):
        x0 = denoise(x_t, grid[i]).x0
        h = lambdas[i + 1] - lambdas[i]
        slope = x0
        if before is not None and not (i == steps - 1 and steps < 15):
            slope = x0 + float(h / (lambdas[i] - lambdas[i - 1]) / 2) * (x0 - before)
        x_t = float(sigmas[i + 1] / sigmas[i]) * x_t - float(alphas[i + 1] * np.expm1(-h)) * slope
        before = x0
    return x_t


def dynamic_threshold(x0: torch.Tensor, ratio: float = 0.995) -> torch.Tensor:
    """Clip every sample at its own quantile of |x0|, at least 1, and scale it back to [-1, 1]."""
    limit = torch.quantile(x0.abs().flatten(1), ratio, dim=1).clamp(min=1).view(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-limit, limit) / limit


def z_score(x: torch.Tensor) -> torch.Tensor:
    """Each sample of (B, ...) minus its mean, by its unbiased standard deviation."""
    axes = tuple(range(1, x.ndim))
    return (x - x.mean(axes, keepdim=True)) / x.std(axes, keepdim=True)


def sample_generators(generator: torch.Generator, samples: int) -> list[torch.Generator]:
    """One generator per sample of an image; the k-th is the same however many there are."""
    seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(samples)]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw_each(generators: Sequence[torch.Generator], shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Standard normal noise (B, *shape), row i from `generators[i]` alone."""
    return torch.stack([torch.randn(*shape, generator=g) for g in generators]).to(device)


def fuse(samples: torch.Tensor, fusion: Fusion) -> torch.Tensor:
    """One map (B, C, *S) of samples (B, n, C, *S): their mean, its square (MedSegDiff's "staple"), or STAPLE.

    STAPLE sees the samples cut at one half; raises ValueError where SimpleITK is missing.
    """
    if fusion == "staple":
        maps = [_staple(one) for image in samples.transpose(1, 2) for one in image]
        return torch.stack(maps).view(len(samples), *samples.shape[2:]).to(samples.device)
    mean = samples.mean(dim=1)
    return mean.square() if fusion == "mean_sq" else mean


def _staple(samples: torch.Tensor) -> torch.Tensor:
    """Probability map (*S) of samples (n, *S)."""
    itk = _simple_itk()
    masks = samples > 0.5
    if bool((masks == masks[:1]).all()):  # nothing to weigh up, and all empty is undefined
        return masks[0].float()
    images = [itk.GetImageFromArray(mask.cpu().numpy().astype(np.uint8)) for mask in masks]
    return torch.from_numpy(itk.GetArrayFromImage(itk.STAPLE(images, 1.0))).float()


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise ValueError("fusion=staple needs SimpleITK; pip install SimpleITK, or choose fusion=mean") from error
    return SimpleITK
