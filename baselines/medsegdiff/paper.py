"""The conditioning that MedSegDiff-V2's paper describes and its release lacks: an approximation from the text.

Uncertain spatial attention joins the highway's last features to the denoiser's first; the SS-Former, cross-attention
between spectra behind a band-pass filter that knows the time, joins the two bottlenecks. The paper leaves open widths,
normalisation and the filter's network; no released code or weights exist to compare with.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, pad

from baselines.medsegdiff.loss import dice_error

ANCHOR_EVERY, CROSS_ENTROPY_WEIGHT = 5, 10.0


class UncertainSpatialAttention(nn.Module):
    """h + sigmoid(conv(anchor)) h; the anchor is the larger of the guide's features and of these smoothed."""

    def __init__(self, guide_channels: int, channels: int, radius: int = 2) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.zeros(()))
        self.weigh = nn.Conv2d(guide_channels, channels, 1)
        self.radius = radius

    def forward(self, h: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """Features h (B, channels, H, W) by those of the guide (B, guide_channels, H, W)."""
        anchor = torch.maximum(self._smoothed(guide), guide)
        return h + self.weigh(anchor).sigmoid() * h

    def _smoothed(self, x: torch.Tensor) -> torch.Tensor:
        offset = torch.arange(-self.radius, self.radius + 1, device=x.device)
        kernel = torch.exp(-0.5 * (offset / self.log_sigma.exp()) ** 2)
        kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
        x = conv2d(pad(x, (self.radius, self.radius, 0, 0), "replicate"), kernel, groups=x.shape[1])
        return conv2d(pad(x, (0, 0, self.radius, self.radius), "replicate"), kernel.mT, groups=x.shape[1])


class BandPass(nn.Module):
    """A factor in (0, 1) for every frequency of a spectrum, by its place and the time.

    The paper filters the affinity of all pairs of frequencies; one factor per query and per key is its separable case.
    """

    def __init__(self, time_channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.place = nn.Linear(2, hidden)
        self.time = nn.Linear(time_channels, 2 * hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, spectrum: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """Filter a complex spectrum (B, C, H, W) with time embeddings (B, time_channels)."""
        axes = [torch.fft.fftfreq(n, device=emb.device) for n in spectrum.shape[-2:]]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (H, W, 2)
        scale, shift = self.time(emb)[:, None, None].chunk(2, dim=-1)
        h = torch.nn.functional.silu(self.place(places) * (1 + scale) + shift)
        return spectrum * self.out(h).sigmoid().movedim(-1, 1)


class SpectrumAttention(nn.Module):
    """Cross-attention whose affinity is formed and filtered among frequencies and brought back to space."""

    def __init__(self, channels: int, other: int, time_channels: int, groups: int) -> None:
        super().__init__()
        self.norm, self.norm_other = nn.GroupNorm(groups, channels), nn.GroupNorm(1, other)
        self.query, self.key, self.value = (nn.Conv2d(n, channels, 1) for n in (channels, other, other))
        self.filter_query, self.filter_key = BandPass(time_channels), BandPass(time_channels)
        self.out = nn.Conv2d(channels, channels, 1)
        wide, last = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, channels, 1)
        self.mlp = nn.Sequential(nn.GroupNorm(groups, channels), wide, nn.SiLU(), last)
        for parameter in (*self.out.parameters(), *last.parameters()):  # begins as the identity, as the denoiser does
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, other: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """x (B, channels, H, W) enriched by `other` (B, other, H, W)."""
        seen = self.norm_other(other)
        query = self.filter_query(torch.fft.fft2(self.query(self.norm(x)), norm="ortho"), emb).flatten(2)
        key = self.filter_key(torch.fft.fft2(self.key(seen), norm="ortho"), emb).flatten(2)
        affinity = torch.fft.ifft2(query.mT @ key, norm="ortho").real / x.shape[1]  # (B, HW, HW)
        value = self.value(seen).flatten(2).mT
        x = x + self.out((affinity @ value).mT.reshape(x.shape))
        return x + self.mlp(x)


class SSFormer(nn.Module):
    """The guide's embedding learns of the noisy one, then the noisy one of that."""

    def __init__(self, channels: int, guide_channels: int, time_channels: int, groups: int) -> None:
        super().__init__()
        self.semantic = SpectrumAttention(guide_channels, channels, time_channels, 1)
        self.noisy = SpectrumAttention(channels, guide_channels, time_channels, groups)

    def forward(self, h: torch.Tensor, guide: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """The denoiser's bottleneck (B, C, H, W) with that of the guide, brought to its size."""
        guide = interpolate(guide, h.shape[-2:], mode="bilinear", align_corners=False)
        return self.noisy(h, self.semantic(guide, h, emb), emb)


def anchor_error(cal: torch.Tensor, x0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Dice + 10 x cross-entropy (B,) of calibrated maps (B, L, H, W) at every fifth time, else 0."""
    axes = tuple(range(1, x0.ndim))
    right = torch.where(x0 > 0.5, cal, 1 - cal).clamp(min=1e-6)
    return torch.where(t % ANCHOR_EVERY == 0, dice_error(cal, x0) - CROSS_ENTROPY_WEIGHT * right.log().mean(axes), 0.0)
