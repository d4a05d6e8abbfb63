"""The highway network: a plain U-Net that sees the clean image and gives a calibrated map and anchors.

Modules are named as in the release, so that its checkpoints need no other names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

from baselines.medsegdiff.config import MedSegDiffConfig


class ConvUnit(nn.Module):
    """Convolution, dropout of whole channels, batch norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.dropout = nn.Dropout2d(dropout)
        self.instnorm = nn.BatchNorm2d(outputs)
        self.activation = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return self.activation(self.instnorm(self.dropout(self.conv(x))))


class Stage(nn.Module):
    """Some units in a row."""

    def __init__(self, widths: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ConvUnit(a, b, dropout) for a, b in pairwise(widths)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, widths[0], H, W) -> (B, widths[-1], H, W)."""
        return self.blocks(x)


class FFParser(nn.Module):
    """A learned complex weight per channel and frequency of maps (B, channels, side, side)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.complex_weight = nn.Parameter(0.02 * torch.randn(channels, side, side // 2 + 1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter (B, C, side, side); raises ValueError for another side."""
        if x.shape[-2:] != (side := self.complex_weight.shape[1], side):
            raise ValueError(f"V1's frequency filter takes maps of {side} x {side}, not {tuple(x.shape[-2:])}")
        spectrum = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.complex_weight.contiguous())
        return torch.fft.irfft2(spectrum, s=x.shape[-2:], norm="ortho")


class HighwayOutput(NamedTuple):
    """The calibrated map, and the deepest and the decoder's features, coarsest first."""

    cal: torch.Tensor  # (B, L, H, W) in [0, 1]
    bottleneck: torch.Tensor
    decoded: list[torch.Tensor]

    def anchors(self, width: int) -> torch.Tensor:
        """What V2 adds after the denoiser's first convolution (B, width, H, W)."""
        size = self.cal.shape[-2:]
        first, second = (_resize(x, size) for x in (self.decoded[-2], self.decoded[-3]))
        return torch.cat([first, first, second], dim=1)[:, :width]


class Highway(nn.Module):
    """Encoder by max pooling, decoder by bilinear enlarging; V1 multiplies filtered denoiser features in."""

    def __init__(self, config: MedSegDiffConfig) -> None:
        super().__init__()
        base, stages = config.highway_base, range(config.poolings)
        down = [min(base * 2**d, 15 * base) for d in stages]
        self.bottleneck_channels = down[-1]
        deepest = min(base * 2**config.poolings, 15 * base)
        encoder = [
            Stage([a, b, b], dropout=config.highway_dropout)
            for a, b in zip([config.channels, *down[:-1]], down, strict=True)
        ]
        bottom = nn.Sequential(
            Stage([down[-1], deepest], dropout=config.highway_dropout),
            Stage([deepest, down[-1]], dropout=config.highway_dropout),
        )
        self.conv_blocks_context = nn.ModuleList([*encoder, bottom])
        # Each decoder stage ends in the width that the next one's skip has.
        ends = [*down[-2::-1], base]
        self.conv_blocks_localization = nn.ModuleList(
            nn.Sequential(Stage([2 * skip, skip]), Stage([skip, end]))
            for skip, end in zip(reversed(down), ends, strict=True)
        )
        self.seg_outputs = nn.ModuleList([nn.Conv2d(base, config.labels, 1, bias=False)])
        if config.modulated:
            taken, sides = down[: config.modulated], [config.image_size >> (d + 1) for d in stages]
            given = config.widths
            self.conv_trans_blocks_a = nn.ModuleList(nn.Conv2d(g, w, 1) for g, w in zip(given, taken, strict=False))
            self.conv_trans_blocks_b = nn.ModuleList(nn.Conv2d(w, 1, 1) for w in taken)
            self.ffparser = nn.ModuleList(FFParser(w, side) for w, side in zip(taken, sides, strict=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: torch.Tensor, features: Sequence[torch.Tensor] = ()) -> HighwayOutput:
        """For images (B, C, H, W) in [0, 1]; `features` are V1's maps of the denoiser's down-samplers."""
        x, skips = image, []
        for d, stage in enumerate(self.conv_blocks_context[:-1]):
            x = stage(x)
            skips.append(x)
            x = max_pool2d(x, 2)
            if d < len(features):
                x = self._modulate(x, features[d], d)
        bottleneck = x = self.conv_blocks_context[-1](x)
        decoded = []
        for stage in self.conv_blocks_localization:
            skip = skips.pop()
            x = stage(torch.cat([_resize(x, skip.shape[-2:]), skip], dim=1))
            decoded.append(x)
        return HighwayOutput(self.seg_outputs[0](x).sigmoid(), bottleneck, decoded)

    def _modulate(self, x: torch.Tensor, feature: torch.Tensor, d: int) -> torch.Tensor:
        h = self.ffparser[d](self.conv_trans_blocks_a[d](feature))
        return x * self.conv_trans_blocks_b[d](h) * h.mean((2, 3), keepdim=True)


def _resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return interpolate(x, tuple(size), mode="bilinear", align_corners=False)
