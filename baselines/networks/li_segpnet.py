"""A network like Li-SegPNet (Sharma et al. 2023), of which no code is public: an approximation at any size.

The paper's abstract names modified triplet attention, ASPP and skip connections with attention gating; how they are
put together here, and every width, is our choice (docs/peers.md).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

from baselines.networks.starting import check_rgb, start_from, timm_encoder

_RATES = (6, 12, 18)


class LiSegPNet(nn.Module):
    """Logits (B, L, H, W) of images (B, 3, H, W) whose sides divide by 32.

    Two encoders side by side: timm's classifier `encoder`, and a light one of 1, 2, 4 and 8 times `width` that takes
    in the other's map at every level. Raises ValueError naming the option.
    """

    def __init__(
        self, in_channels: int, out_channels: int, encoder: str = "resnet50", width: int = 32, spatial_dims: int = 2
    ) -> None:
        super().__init__()
        check_rgb("Li-SegPNet", spatial_dims, in_channels)
        backbone: Any = timm_encoder(encoder)
        self.encoder_name, self.backbone = encoder, backbone
        theirs = backbone.feature_info.channels()  # of five maps, at 1/2 to 1/32
        widths = [width * 2**level for level in range(4)]
        before = [3, *widths[:-1]]
        fused = zip(before, theirs, widths, strict=False)
        self.encode = nn.ModuleList(
            nn.Sequential(_Conv(ours + other, after, 1), ResidualBlock(after, after)) for ours, other, after in fused
        )
        self.attend = nn.ModuleList(TripletAttention(after) for after in widths)
        self.bridge = nn.Sequential(_Conv(widths[-1] + theirs[-1], widths[-1], 1), Aspp(widths[-1]))
        decoded = [widths[-1], *(width * factor for factor in (4, 2, 1, 1))]
        self.skips = nn.ModuleList(
            GatedSkip(skip, incoming) for skip, incoming in zip(reversed(widths), decoded, strict=False)
        )
        self.decode = nn.ModuleList(ResidualBlock(2 * incoming, after) for incoming, after in pairwise(decoded))
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits at the image's size."""
        *maps, last = self.backbone(image)
        x = image
        skips: list[torch.Tensor] = []
        for encode, attend, theirs in zip(self.encode, self.attend, maps, strict=True):
            skips.append(encode(torch.cat([max_pool2d(x, 2) if skips else _half(x), theirs], dim=1)))
            x = attend(skips[-1])
        x = self.bridge(torch.cat([max_pool2d(x, 2), last], dim=1))
        for skip, decode in zip(self.skips, self.decode, strict=True):
            x = interpolate(x, scale_factor=2, mode="nearest")
            x = decode(torch.cat([skip(skips.pop(), x), x], dim=1))
        return interpolate(self.head(x), scale_factor=2, mode="bilinear")

    def load_pretrained(self, weights: str) -> None:
        """Start from a file, read as data: the classifier in timm's names, or a whole network of a run."""
        expected = f"the encoder {self.encoder_name} in timm's names, or the whole network"
        start_from(weights, self, self.backbone, "bridge.", expected)


class _Conv(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, before: int, after: int, kernel: int, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        conv = nn.Conv2d(before, after, kernel, padding=padding, dilation=dilation, bias=False)
        super().__init__(conv, nn.BatchNorm2d(after), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside one of 1x1, added: (B, after, H, W) of (B, before, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(_Conv(before, after, 3), _Conv(after, after, 3))
        self.short = _Conv(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same grid."""
        return self.deep(x) + self.short(x)


class TripletAttention(nn.Module):
    """Weights from mean and maximum over channels, rows and columns; the three results are mixed, not averaged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1), nn.Sigmoid()) for _ in range(3)
        )
        self.mix = _Conv(3 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        turned = [(x.transpose(1, axis), axis) for axis in (1, 2, 3)]
        weighed = [
            (t * gate(torch.stack([t.mean(1), t.amax(1)], dim=1))).transpose(1, axis)
            for (t, axis), gate in zip(turned, self.gates, strict=True)
        ]
        return self.mix(torch.cat(weighed, dim=1))


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: four convolutions that see ever further, and the mean of the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        dilated = [_Conv(width, width, 3, dilation=rate) for rate in _RATES]
        self.branches = nn.ModuleList([_Conv(width, width, 1), *dilated])
        # Without a norm, which has nothing to go by in a batch of one mean.
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.ReLU())
        self.mix = _Conv((len(self.branches) + 1) * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        pooled = self.pooled(x).expand(-1, -1, *x.shape[2:])
        return self.mix(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))


class GatedSkip(nn.Module):
    """The encoder's map (B, skip, H, W), gated by the decoder's (B, width, H, W), added to it and attended."""

    def __init__(self, skip: int, width: int) -> None:
        super().__init__()
        self.of_skip, self.of_decoder = nn.Conv2d(skip, width, 1), nn.Conv2d(width, width, 1)
        self.gate = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 1, 1), nn.Sigmoid())
        self.reduce, self.attend = _Conv(skip, width, 1), TripletAttention(width)

    def forward(self, skip: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        """(B, width, H, W)."""
        gated = skip * self.gate(self.of_skip(skip) + self.of_decoder(decoded))
        return self.attend(self.reduce(gated) + decoded)


def _half(image: torch.Tensor) -> torch.Tensor:
    return interpolate(image, scale_factor=0.5, mode="area")
