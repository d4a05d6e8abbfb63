"""The training loss: noise loss plus latent-estimation loss, both mean absolute errors (paper Eq. 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from sdseg.schedule import PredictionType, Schedule


class Draws(NamedTuple):
    """Everything random in a training step on B items; rows of it serve a part of the batch."""

    class_u: torch.Tensor  # (B,) in [0, 1): which class an item shows
    posterior: torch.Tensor  # (B, c, h, w) noise of the latent's posterior
    eps: torch.Tensor  # (B, c, h, w) noise of the forward process
    t: torch.Tensor  # (B,) time steps
    partner: torch.Tensor | None = None  # (B,) whose mask is noised, with control=shuffled


class Losses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    noise: torch.Tensor  # error of the network's target; the noise in the paper
    latent: torch.Tensor  # error of the estimated clean latent
    pixel: torch.Tensor | None = None  # Dice + BCE after the decoder, where it is weighted
    alignment: torch.Tensor | None = None  # negative cosine to the teacher's tokens, where there is one


def sdseg_loss(
    output: torch.Tensor,
    z0: torch.Tensor,
    eps: torch.Tensor,
    z_t: torch.Tensor,
    t: torch.Tensor,
    schedule: Schedule,
    prediction: PredictionType = "eps",
    latent_weight: float = 1.0,
) -> Losses:
    """Eq. 3 with lambda = `latent_weight`; all tensors (B, c, h, w), t (B,).

    With `prediction="z0"` the network's target is the clean latent itself, so that both terms are one and
    the total is that one error.
    """
    target = schedule.target(z0, eps, t, prediction)
    target_loss = (output.float() - target).abs().mean()
    if prediction == "z0":
        return Losses(target_loss, target_loss.detach(), target_loss.detach())
    latent_loss = (schedule.predict_z0(z_t, output, t, prediction) - z0).abs().mean()
    return Losses(target_loss + latent_weight * latent_loss, target_loss.detach(), latent_loss.detach())


# Steepness that turns decoded pixels about [-1, 1] into logits.
_LOGIT_SCALE = 4.0


def pixel_loss(pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """BCE + Dice of decoded pixels (B, 3, H, W), about [-1, 1], against masks (B, 1, H, W) bool."""
    logits, target = _LOGIT_SCALE * pixels.float(), mask.float().expand_as(pixels)
    probability = logits.sigmoid()
    overlap = (probability * target).sum((1, 2, 3))
    dice = (2 * overlap + 1) / (probability.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + 1 - dice.mean()
