"""MedSegDiff as something to train and to predict with: loss on a batch, ensembles of samples, fusion, decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from baselines.diffusion import (
    Estimate,
    Fusion,
    LinearSchedule,
    ddim,
    ddpm,
    dpm_solver,
    draw_each,
    dynamic_threshold,
    fuse,
    sample_generators,
    z_score,
)
from baselines.medsegdiff.config import MedSegDiffConfig
from baselines.medsegdiff.loss import Losses, mask_error, medsegdiff_loss, per_sample
from baselines.medsegdiff.network import Guide, MedSegDiffNetwork
from baselines.medsegdiff.paper import anchor_error
from baselines.whole_network import WholeNetwork
from sdseg.control import derangement, draw_times, network_input
from sdseg.labels import Prediction

Sampler = Literal["dpm", "ddpm", "ddim", "official"]


class MedSegDiff(WholeNetwork):
    """Pixel-space diffusion of masks in {0, 1}; images come in [-1, 1] and are seen in [0, 1], as released."""

    def __init__(self, config: MedSegDiffConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = LinearSchedule()
        self.network = MedSegDiffNetwork(config)
        self.whole_batch = config.control == "shuffled"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, for the optimiser; the highway network's learn faster where the configuration says so."""
        highway = list(self.network.hwm.parameters())
        known = {id(p) for p in highway}
        rest = [p for p in self.network.parameters() if id(p) not in known]
        return [{"params": rest, "lr_scale": 1.0}, {"params": highway, "lr_scale": self.config.highway_lr_scale}]

    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Times (B,) and noise (B, L, H, W) of a training step, with control=shuffled partners (B,) too."""
        steps, late = len(self.schedule), self.config.late_times
        if late and self.config.control != "none":
            t = (steps * torch.rand(count, generator=generator) ** (1 / (1 + late))).long().clamp(max=steps - 1)
        else:
            t = draw_times(self.config.control, count, steps, generator)
        noise = torch.randn(count, self.config.labels, *size, generator=generator)
        return (t, noise, derangement(count, generator)) if self.whole_batch else (t, noise)

    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Losses:
        """For images (B, C, H, W) in [-1, 1] and masks (B, L, H, W), bool or soft in [0, 1]."""
        errors = self.errors((image + 1) / 2, mask, *draws)
        return medsegdiff_loss(*errors, weight=1.0 if self.config.version == "v2_paper" else 10.0)

    forward = loss

    def errors(
        self,
        image: torch.Tensor,
        mask: torch.Tensor,
        t: torch.Tensor,
        noise: torch.Tensor,
        partner: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The three losses per sample (B,), for images in [0, 1]; without diffusion there is no bound."""
        t, noise = t.to(image.device), noise.to(image.device)
        x0 = binarise(mask, self.config.mask_binarise)
        other = x0 if partner is None else x0[partner.to(x0.device)]
        x_t = network_input(self.config.control, other, noise, t, self.schedule.add_noise)
        eps, v, cal, logit = self.network(image, x_t, t)
        noise_error, bound, calibration = per_sample(eps, v, cal, x0, x_t, noise, t, self.schedule)
        if logit is not None:
            noise_error = mask_error(logit, x0)
        elif self.config.estimate_weight or self.config.prediction == "x0":
            now = self.schedule.alphas_cumprod.to(t.device)[t].float().view(-1, 1, 1, 1)
            error = ((x_t - (1 - now).sqrt() * eps) / now.sqrt() - x0).square().mean((1, 2, 3))
            predicts_noise = self.config.prediction is None
            noise_error = noise_error + self.config.estimate_weight * error if predicts_noise else error
        if self.config.control == "none":
            bound = torch.zeros_like(bound)
        if self.config.version == "v2_paper":
            calibration = anchor_error(cal, x0, t)
        return noise_error, bound, calibration

    @torch.no_grad()
    def predict(
        self,
        image: torch.Tensor,
        generators: Sequence[torch.Generator],
        sampler: Sampler = "dpm",
        steps: int = 10,
        samples: int = 1,
        fusion: Fusion = "mean",
        eta: float = 0.0,
        mixing: Literal["calibrated", "none"] = "calibrated",
        decision: Literal["half", "official"] = "half",
        max_batch: int = 32,
    ) -> Prediction:
        """Segment images (B, C, H, W) by `samples` samples each, which run together in batches of `max_batch`.

        All noise of image i's k-th sample follows from `generators[i]` and k: no batch changes it. The defaults are
        what training validates with. `mixing` is V1's, of a sample with the calibrated map. A network that was trained
        as a control sees what it saw then; without diffusion (`none`) there is one sample of one call.
        """
        samples = 1 if self.config.control == "none" else samples
        image = ((image + 1) / 2).contiguous(memory_format=torch.channels_last)
        own = [generator for g in generators for generator in sample_generators(g, samples)]
        rows = torch.arange(len(image), device=image.device).repeat_interleave(samples)
        drawn = []
        with _channels_last(self.network):
            guide = self.network.guide(image)
            for start in range(0, len(rows), max_batch):
                part = rows[start : start + max_batch]
                run = _Run(self, image[part], guide and guide.rows(part), own[start : start + max_batch])
                drawn.append(run.sample(sampler, steps, eta, mixing))
        maps = torch.cat(drawn).unflatten(0, (len(image), samples))
        if fusion != "mean_sq":  # the release squares the mean of samples as they are
            maps = maps.clamp(0, 1)
        score = fuse(maps, fusion).clamp(0, 1)
        return Prediction(score, decide(score, decision))


@contextmanager
def _channels_last(module: nn.Module) -> Iterator[None]:
    # A third faster on a CPU. The weights themselves come back, so that training goes on to the same bits.
    weights = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d)]
    before = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for weight, data in zip(weights, before, strict=True):
            weight.data = data


class _Run:
    """One batch of samples on its way from noise to masks."""

    def __init__(
        self, model: MedSegDiff, image: torch.Tensor, guide: Guide | None, generators: Sequence[torch.Generator]
    ) -> None:
        self.model, self.image, self.guide, self.generators = model, image, guide, generators
        self.cal: torch.Tensor | None = None if guide is None else guide.cal
        self.v = image  # variance logit of the latest call
        self.seen: torch.Tensor | None = None  # what the network sees whatever x_t is
        self.shape = (model.config.labels, *image.shape[-2:])

    def draw(self) -> torch.Tensor:
        return draw_each(self.generators, self.shape, self.image.device)

    def denoise(
        self, schedule: LinearSchedule, clip: Callable[[torch.Tensor], torch.Tensor], last: float
    ) -> Callable[[torch.Tensor, float], Estimate]:
        """The network as samplers want it; at the index `last` it keeps the calibrated map and the variance logit."""

        def call(x_t: torch.Tensor, index: float) -> Estimate:
            x_t = x_t if self.seen is None else self.seen
            t = torch.full((len(x_t),), schedule.time(index), device=x_t.device)
            eps, v, cal, _ = self.model.network(self.image, x_t, t, self.guide, calibrate=index <= last)
            if index <= last:
                self.cal, self.v = cal, v
            return Estimate(clip(schedule.predict_x0(x_t, eps, index)), v)

        return call

    def sample(self, sampler: Sampler, steps: int, eta: float, mixing: str) -> torch.Tensor:
        """Maps (R, L, H, W); V1's are mixed with the calibrated map."""
        x_T = self.draw()
        schedule, mixes = self.model.schedule, self.model.config.version == "v1" and mixing == "calibrated"
        control, latest = self.model.config.control, len(schedule) - 1
        self.seen = {"random": x_T, "none": torch.zeros_like(x_T)}.get(control or "")
        if sampler == "official":
            x = self._official(x_T, LinearSchedule(steps))
            return mix_quarter(x, self.cal) if mixes and self.cal is not None else x
        if control == "none":
            x = self.denoise(schedule, _clamp, latest)(x_T, latest).x0
        elif sampler == "dpm":
            final = latest / steps  # where the last call is
            x = dpm_solver(self.denoise(schedule, dynamic_threshold, final * (1 + 1e-6)), x_T, schedule, steps)
        elif sampler == "ddpm":
            x = ddpm(self.denoise(schedule, _clamp, 0), x_T, schedule, steps, self.draw)
        elif sampler == "ddim":
            x = ddim(self.denoise(schedule, _clamp, 0), x_T, schedule, steps, eta, self.draw)
        else:
            raise ValueError(f"sampler={sampler}: known are dpm, ddpm, ddim, official")
        return mix(x, self.cal) if mixes and self.cal is not None else x

    def _official(self, x_T: torch.Tensor, schedule: LinearSchedule) -> torch.Tensor:
        # The release solves on as many betas as it has steps, then calls the network once more and returns what that
        # says of the variance, as z-scores.
        denoise = self.denoise(schedule, dynamic_threshold, 0)
        denoise(dpm_solver(denoise, x_T, schedule, len(schedule)), 0)
        return z_score(self.v)


def _clamp(x0: torch.Tensor) -> torch.Tensor:
    return x0.clamp(-1, 1)


def binarise(mask: torch.Tensor, rule: Literal["ge_half", "gt0"]) -> torch.Tensor:
    """Masks in {0, 1} of soft ones in [0, 1]; the release calls every trace foreground."""
    soft = mask.float()
    return (soft > 0 if rule == "gt0" else soft >= 0.5).float()


def mix(sample: torch.Tensor, cal: torch.Tensor) -> torch.Tensor:
    """V1's answer of samples and calibrated maps (B, L, H, W): half and half, or where they disagree mostly the map.

    They disagree below a soft Dice of 0.65, found for each sample.
    """
    axes = tuple(range(1, sample.ndim))
    seen = (sample > 0).float()
    dice = 2 * (seen * cal).sum(axes, keepdim=True) / (seen + cal).sum(axes, keepdim=True)
    return torch.where(dice < 0.65, mix_quarter(sample, cal), (0.5 * cal + 0.5 * sample).clamp(0, 1))


def mix_quarter(sample: torch.Tensor, cal: torch.Tensor) -> torch.Tensor:
    """The calibrated map and a quarter of the sample, as the release's fast sampler always mixes."""
    return (cal + 0.25 * sample).clamp(0, 1)


def decide(score: torch.Tensor, decision: Literal["half", "official"]) -> torch.Tensor:
    """Masks of fused maps (B, L, H, W): above one half, or above one half of a map's own maximum, as released."""
    if decision == "official":
        peak = score.amax((-2, -1), keepdim=True)
        return (score > 0.5 * peak) & (peak > 0)
    return score > 0.5
