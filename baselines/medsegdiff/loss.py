"""MedSegDiff's training loss: noise error, variational bound that trains the variance alone, calibrated map."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from baselines.diffusion import LinearSchedule

_BIN = 1 / 255  # half the width of a grey level on [-1, 1]


class Losses(NamedTuple):
    """Total and its parts, scalars; `noise` is the mask's error where that is what the network predicts."""

    total: torch.Tensor
    noise: torch.Tensor
    bound: torch.Tensor
    calibration: torch.Tensor


def per_sample(
    eps: torch.Tensor,
    v: torch.Tensor,
    cal: torch.Tensor,
    x0: torch.Tensor,
    x_t: torch.Tensor,
    noise: torch.Tensor,
    t: torch.Tensor,
    schedule: LinearSchedule,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise error, bound in bits per pixel, calibration error, each (B,); maps (B, L, H, W), t (B,)."""
    axes = tuple(range(1, x0.ndim))
    bound = _bound(eps.detach(), v, x0, x_t, t, schedule).mean(axes)
    return (noise - eps).square().mean(axes), bound, (x0 - cal).square().mean(axes)


def dice_error(probability: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """1 - soft Dice (B,) of maps in [0, 1] with masks (B, L, H, W); one pixel more on both sides, for empty ones."""
    axes = tuple(range(1, x0.ndim))
    return 1 - (2 * (probability * x0).sum(axes) + 1) / (probability.sum(axes) + x0.sum(axes) + 1)


def mask_error(logit: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """Dice + cross-entropy (B,) of predicted clean masks (B, L, H, W)."""
    entropy = binary_cross_entropy_with_logits(logit, x0, reduction="none")
    return dice_error(logit.sigmoid(), x0) + entropy.flatten(1).mean(1)


def medsegdiff_loss(
    noise: torch.Tensor, bound: torch.Tensor, calibration: torch.Tensor, weight: float = 10.0
) -> Losses:
    """The released total of errors per sample: noise + bound + 10 x calibration."""
    parts = noise.mean(), bound.mean(), calibration.mean()
    return Losses(parts[0] + parts[1] + weight * parts[2], *(p.detach() for p in parts))


def _bound(
    eps: torch.Tensor, v: torch.Tensor, x0: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, schedule: LinearSchedule
) -> torch.Tensor:
    """KL divergence of the step from the true posterior, at t = 0 the discretised likelihood; bits per element."""
    shape = (-1, *[1] * (x0.ndim - 1))
    step = schedule.posterior(t, t - 1)
    # The posterior's variance is 0 at t = 0; the release takes the next one's.
    least = schedule.posterior(t.clamp(min=1), t.clamp(min=1) - 1).log_least
    from_x0, from_xt, low, high = (x.float().view(shape) for x in (step.from_x0, step.from_xt, least, step.log_most))
    now = schedule.alphas_cumprod.to(t.device)[t]
    estimate = (1 / now).sqrt().float().view(shape) * x_t - (1 / now - 1).sqrt().float().view(shape) * eps
    share = (v + 1) / 2
    log_variance = share * high + (1 - share) * low
    mean = from_x0 * estimate + from_xt * x_t
    true_mean = from_x0 * x0 + from_xt * x_t
    divergence = 0.5 * (
        log_variance - low - 1 + torch.exp(low - log_variance) + (true_mean - mean).square() * torch.exp(-log_variance)
    )
    likelihood = _discretised_log_likelihood(x0, mean, 0.5 * log_variance)
    return torch.where(t.view(shape) == 0, -likelihood, divergence) / math.log(2)


def _discretised_log_likelihood(x: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    # Probability of the grey level that x falls into; the outermost levels reach to infinity.
    def distribution(edge: torch.Tensor) -> torch.Tensor:
        z = (edge - mean) * torch.exp(-log_scale)
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    upper, lower = distribution(x + _BIN), distribution(x - _BIN)
    inside = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return inside.clamp(min=1e-12).log()
