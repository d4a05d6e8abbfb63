"""Diff-U-Net's two networks: MONAI's BasicUNet encoder for the image, a time-conditioned BasicUNet as denoiser.

Parameter names are those of the release (ge-xing/Diff-UNet, BTCV/unet/basic_unet.py and basic_unet_denose.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.nets.basic_unet import BasicUNet, Down, TwoConv
from torch import nn
from torch.nn.functional import pad, silu

PUBLISHED_FEATURES = (64, 64, 128, 256, 512, 64)

_ACTIVATION = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})
_NORM = ("instance", {"affine": True})
_TIME, _TIME_WIDTH = 128, 512  # they do not follow the features


class DiffUNet(nn.Module):
    """Image encoder and denoiser, in two or three dimensions; six `features` as BasicUNet takes them."""

    def __init__(
        self, dims: int, image_channels: int, labels: int, features: Sequence[int] = PUBLISHED_FEATURES
    ) -> None:
        super().__init__()
        self.labels = labels
        self.embed_model = ImageEncoder(dims, image_channels, features)
        self.model = Denoiser(dims, image_channels, labels, features)

    def forward(self, image: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Logits (B, L, *S) of the clean mask, from image (B, C, *S) in [0, 1], noisy mask (B, L, *S) and t (B,)."""
        return self.model(image, x_t, t, self.embed_model(image))


class ImageEncoder(nn.Module):
    """The encoder half of BasicUNet."""

    def __init__(self, dims: int, image_channels: int, features: Sequence[int]) -> None:
        super().__init__()
        self.conv_0 = TwoConv(dims, image_channels, features[0], _ACTIVATION, _NORM, bias=True)
        for level, (before, after) in enumerate(pairwise(features[:5]), 1):
            self.add_module(f"down_{level}", Down(dims, before, after, _ACTIVATION, _NORM, bias=True))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Five maps (B, features[i], *S / 2**i)."""
        maps: list[torch.Tensor] = []
        for block in self.children():
            maps.append(block(maps[-1] if maps else image))
        return maps


class Denoiser(BasicUNet):
    """BasicUNet whose double convolutions take the time, and whose encoder takes the image's maps."""

    def __init__(self, dims: int, image_channels: int, labels: int, features: Sequence[int]) -> None:
        super().__init__(dims, image_channels + labels, labels, features, _ACTIVATION, _NORM)
        self.temb = TimeEmbedding()
        self.add_module("conv_0", _TimedTwoConv(self.conv_0))
        self._downs = (self.down_1, self.down_2, self.down_3, self.down_4)
        self._ups = (self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1)
        for block in (*self._downs, *self._ups):
            block.convs = _TimedTwoConv(block.get_submodule("convs"))

    def forward(  # type: ignore[override]
        self, image: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, maps: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Logits (R * B, L, *S); x_t and t hold R blocks of the B images, which share the images' maps."""
        temb = self.temb(t)
        repeats = len(x_t) // len(image)
        x = self.conv_0(torch.cat([image.repeat(repeats, *[1] * (image.ndim - 1)), x_t], dim=1), temb)
        skips = [_add_to_blocks(x, maps[0])]
        for (pool, convs), image_map in zip(self._downs, maps[1:], strict=True):
            skips.append(_add_to_blocks(convs(pool(skips[-1]), temb), image_map))
        x = skips.pop()
        for up in self._ups:
            skip = skips.pop()
            x = up.convs(torch.cat([skip, _grown(up.upsample(x), skip)], dim=1), temb)
        return self.final_conv(x)


class TimeEmbedding(nn.Module):
    """Sines first, then cosines, and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.ModuleList([nn.Linear(_TIME, _TIME_WIDTH), nn.Linear(_TIME_WIDTH, _TIME_WIDTH)])

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """(B, 512) of times (B,) on the scale 0..999."""
        half = _TIME // 2
        step = -math.log(10000) / (half - 1)
        angles = t.float()[:, None] * torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * step)
        first, second = self.dense
        return second(silu(first(torch.cat([angles.sin(), angles.cos()], dim=1))))


class _TimedTwoConv(nn.Module):
    """The two convolutions of a TwoConv with the time added between them."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.conv_0, self.conv_1 = plain.get_submodule("conv_0"), plain.get_submodule("conv_1")
        self.temb_proj = nn.Linear(_TIME_WIDTH, plain.get_parameter("conv_1.conv.weight").shape[0])

    def forward(self, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        shift = self.temb_proj(silu(temb))
        return self.conv_1(self.conv_0(x) + shift.view(*shift.shape, *[1] * (x.ndim - 2)))


def _add_to_blocks(x: torch.Tensor, image_map: torch.Tensor) -> torch.Tensor:
    # x (R * B, C, *S), map (B, C, *S): added without repeating the map.
    return (x.unflatten(0, (-1, len(image_map))) + image_map).flatten(0, 1)


def _grown(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    # Max pooling of an odd edge loses a voxel; it comes back as a copy of its neighbour.
    missing = [n for axis in range(x.ndim - 1, 1, -1) for n in (0, like.shape[axis] - x.shape[axis])]
    return pad(x, missing, "replicate") if any(missing) else x
