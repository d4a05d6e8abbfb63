"""Diff-Trans as something to train and to predict with: the noise's error, and the mean of DDIM samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from baselines.diff_trans.network import DiffTrans, DiffTransConfig
from baselines.diffusion import Estimate, LinearSchedule, ddim, draw_each, fuse, sample_generators
from baselines.whole_network import WholeNetwork
from sdseg.labels import Prediction


class Losses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    noise: torch.Tensor
    estimate: torch.Tensor


class TrainableDiffTrans(WholeNetwork):
    """Diffusion of masks in {-1, 1}; images come in [-1, 1]."""

    def __init__(self, config: DiffTransConfig) -> None:
        super().__init__()
        self.config, self.schedule = config, LinearSchedule()
        self.network = DiffTrans(config)

    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Times (B,) and noise (B, L, H, W) of a training step."""
        t = torch.randint(0, len(self.schedule), (count,), generator=generator)
        return t, torch.randn(count, self.config.labels, *size, generator=generator)

    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Losses:
        """Mean squared error of the noise, for images (B, C, H, W) in [-1, 1] and masks (B, L, H, W) bool."""
        t, noise = (x.to(image.device) for x in draws)
        x0 = 2 * mask.float() - 1
        x_t = self.schedule.add_noise(x0, noise, t)
        eps = self.predict_eps(self.network.guide(image), x_t, t)
        signal, sigma = self._coefficients(t)
        error = (eps - noise).square().mean()
        # Where little of the mask is left, the noise's error hardly counts what the image shows.
        estimate = ((x_t - sigma * eps) / signal - x0).square().mean()
        total = error + self.config.estimate_weight * estimate if self.config.estimate_weight else error
        return Losses(total, error.detach(), estimate.detach())

    forward = loss

    def predict_eps(self, guide: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise in x_t (B, L, H, W) at times t (B,), in float32 whatever autocast says: its error is amplified."""
        with torch.autocast(x_t.device.type, enabled=False):
            output = self.network(guide.float(), x_t.float(), t)
        if not self.config.precondition:
            return output
        signal, sigma = self._coefficients(t)
        return sigma * x_t + signal * output

    def _coefficients(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        now = self.schedule.alphas_cumprod.to(t.device)[t.long()].view(-1, 1, 1, 1)
        return now.sqrt().float(), (1 - now).sqrt().float()

    @torch.no_grad()
    def predict(
        self,
        image: torch.Tensor,
        generators: Sequence[torch.Generator],
        steps: int = 10,
        samples: int = 1,
        eta: float = 0.0,
        max_batch: int = 32,
    ) -> Prediction:
        """Segment images (B, C, H, W) by the mean of `samples` samples, `max_batch` of which share a call.

        All noise of image i's k-th sample follows from `generators[i]` and k: no batch changes it.
        """
        guide = self.network.guide(image)
        own = [generator for g in generators for generator in sample_generators(g, samples)]
        rows = torch.arange(len(image), device=image.device).repeat_interleave(samples)
        drawn = [
            self._sample(guide[rows[start : start + max_batch]], own[start : start + max_batch], image, steps, eta)
            for start in range(0, len(rows), max_batch)
        ]
        maps = (torch.cat(drawn).unflatten(0, (len(image), samples)) + 1) / 2
        score = fuse(maps.clamp(0, 1), "mean")
        return Prediction(score, score > 0.5)

    def _sample(
        self,
        guide: torch.Tensor,
        generators: Sequence[torch.Generator],
        image: torch.Tensor,
        steps: int,
        eta: float,
    ) -> torch.Tensor:
        shape = (self.config.labels, *image.shape[-2:])

        def draw() -> torch.Tensor:
            return draw_each(generators, shape, image.device)

        def denoise(x_t: torch.Tensor, index: float) -> Estimate:
            t = torch.full((len(x_t),), int(index), device=x_t.device)
            eps = self.predict_eps(guide, x_t, t)
            return Estimate(self.schedule.predict_x0(x_t, eps, index).clamp(-1, 1))

        return ddim(denoise, draw(), self.schedule, steps, eta, draw)
