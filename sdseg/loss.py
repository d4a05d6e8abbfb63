"""The training loss: noise loss plus latent-estimation loss, both mean absolute errors (paper Eq. 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sdseg.schedule import NoiseSchedule, PredictionType


class Losses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    noise: torch.Tensor  # error of the network's target; the noise in the paper
    latent: torch.Tensor  # error of the estimated clean latent


def sdseg_loss(
    output: torch.Tensor,
    z0: torch.Tensor,
    eps: torch.Tensor,
    z_t: torch.Tensor,
    t: torch.Tensor,
    schedule: NoiseSchedule,
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
