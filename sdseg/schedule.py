"""The forward process (paper Eq. 1) and its inverse (Eq. 2), always in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

PredictionType = Literal["eps", "z0", "v", "flow"]


class Schedule:
    """A path from clean latents to noise on the training grid t = 0..T-1, and back.

    Error growth: at the released schedule's last step sigma = 38.7, so an error of the predicted noise
    counts 38.7 times in z0. Every method here therefore computes in float32, whatever autocast says.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def coefficients(self, t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of z0 and of the noise at times t (B,), shaped (B, 1, 1, 1) on the device of `like`."""
        raise NotImplementedError

    def add_noise(self, z0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Eq. 1: z_t of clean latents and noise (B, C, H, W) at times t (B,)."""
        signal, noise = self.coefficients(t, z0)
        return signal * z0.float() + noise * eps.float()

    def predict_z0(
        self, z_t: torch.Tensor, output: torch.Tensor, t: torch.Tensor, prediction: PredictionType = "eps"
    ) -> torch.Tensor:
        """Clean latent from the network's output; for `eps` this is Eq. 2."""
        signal, noise = self.coefficients(t, z_t)
        output, z_t = output.float(), z_t.float()
        if prediction == "z0":
            return output
        if prediction == "v":
            return signal * z_t - noise * output
        if prediction == "flow":
            return z_t + noise * output
        return (z_t - noise * output) / signal

    def predict_eps(self, z_t: torch.Tensor, z0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise that leads from z0 to z_t."""
        signal, noise = self.coefficients(t, z_t)
        return (z_t.float() - signal * z0.float()) / noise

    def target(self, z0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor, prediction: PredictionType) -> torch.Tensor:
        """What the network should put out."""
        if prediction == "z0":
            return z0
        if prediction == "v":
            signal, noise = self.coefficients(t, z0)
            return signal * eps - noise * z0
        return z0 - eps if prediction == "flow" else eps


@dataclass(frozen=True)
class NoiseSchedule(Schedule):
    """Cumulative noise coefficients: z_t = sqrt(alpha_bar_t) z0 + sqrt(1 - alpha_bar_t) eps."""

    alphas_cumprod: torch.Tensor  # (T,) float32

    @classmethod
    def scaled_linear(cls, start: float = 0.0015, end: float = 0.0155, timesteps: int = 1000) -> NoiseSchedule:
        """Linear in sqrt(beta), as Stable Diffusion and SDSeg use it."""
        betas = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1.0 - betas, dim=0).float())

    @classmethod
    def linear(cls, start: float = 0.0015, end: float = 0.0155, timesteps: int = 1000) -> NoiseSchedule:
        """Linear in beta, as LEAF uses it."""
        betas = torch.linspace(start, end, timesteps, dtype=torch.float64)
        return cls(torch.cumprod(1.0 - betas, dim=0).float())

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def coefficients(self, t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)."""
        alpha_bar = self.alphas_cumprod.to(like.device)[t].view(-1, *[1] * (like.ndim - 1))
        return alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """The straight path z_s = (1 - s) z0 + s eps with velocity z0 - eps (Liu et al. 2022, arXiv 2209.03003).

    The paper's time runs from noise at 0 to data at 1 and is 1 - s. On our grid s = (t + 1) / T, so that the last
    time is pure noise exactly, as everywhere here.
    """

    timesteps: int = 1000

    def __len__(self) -> int:
        return self.timesteps

    def coefficients(self, t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """1 - s and s."""
        s = ((t.to(like.device) + 1) / self.timesteps).float().view(-1, *[1] * (like.ndim - 1))
        return 1 - s, s


def schedule_of(prediction: PredictionType, schedule: Literal["linear"] | None = None) -> NoiseSchedule | RectifiedFlow:
    """The path that a prediction is trained on; `schedule` None is SDSeg's."""
    if prediction == "flow":
        return RectifiedFlow()
    return NoiseSchedule.linear() if schedule == "linear" else NoiseSchedule.scaled_linear()
