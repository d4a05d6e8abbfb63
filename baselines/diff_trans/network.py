"""Diff-Trans's network after its figures 1 to 3: cross attention of mask and image, then a multi-window Swin U-Net.

What the figures leave open, and what was chosen, is listed in `docs/peers.md`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import get_timestep_embedding
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from baselines.networks.swin_unet import Expand
from baselines.networks.timm_parts import timm_module

_STEM = 2  # the encoders halve the image
_PATCH = 2  # of the U-Net's tokens, on the encoders' map
_LEVELS = 4


class DiffTransConfig(BaseModel):
    """Sizes of the network; `attention_patch` is an edge on the encoders' map, `windows` one edge per branch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int = 3
    labels: int = 1
    image_size: tuple[int, int] = (256, 256)
    stem: int = Field(default=32, gt=0)  # channels of each encoder
    attention_patch: int = Field(default=8, gt=0)
    attention_width: int = Field(default=256, gt=0)
    attention_heads: int = Field(default=8, gt=0)
    # Adds the mask's own map to what attention makes of it; the figure shows no such path.
    keep_mask: bool = True
    width: int = Field(default=96, gt=0)  # of the first level, doubled by every merging
    heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    windows: tuple[int, ...] = (4, 8)
    # Helps for networks that must learn from nothing in minutes, as in `baselines.medsegdiff.config`.
    precondition: bool = False
    estimate_weight: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> DiffTransConfig:
        for edge in (_STEM * _PATCH * 2**_LEVELS, _STEM * self.attention_patch):
            if any(side % edge for side in self.image_size):
                raise ValueError(f"image_size={list(self.image_size)}: Diff-Trans takes multiples of {edge}")
        if self.attention_width % self.attention_heads or any(
            self.width * 2**i % heads for i, heads in enumerate(self.heads)
        ):
            raise ValueError("attention_width and the width of every level must divide by their heads")
        return self

    def tokens(self, level: int) -> tuple[int, int]:
        """(H, W) of the U-Net's tokens after so many mergings."""
        height, wide = (side // (_STEM * _PATCH * 2**level) for side in self.image_size)
        return height, wide


class CrossAttention(nn.Module):
    """Tokens of the mask ask tokens of both: (B, stem, h, w) of mask and image to a map like the mask's."""

    def __init__(self, config: DiffTransConfig) -> None:
        super().__init__()
        self.patch = config.attention_patch
        numbers, width = config.stem * self.patch**2, config.attention_width
        count = [side // (_STEM * self.patch) for side in config.image_size]
        names = ("mask", "image")
        self.encode = nn.ModuleDict({name: nn.Linear(numbers, width) for name in names})
        self.place = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(1, count[0] * count[1], width)) for name in names}
        )
        self.project = nn.ModuleDict({n: nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width)) for n in names})
        self.attention = nn.MultiheadAttention(width, config.attention_heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.out = nn.Linear(width, numbers)

    def tokens(self, name: str, features: torch.Tensor) -> torch.Tensor:
        """(B, N, width) of the map of the mask or the image."""
        patches = pixel_unshuffle(features, self.patch).flatten(2).transpose(1, 2)
        return self.project[name](self.encode[name](patches) + self.place[name])

    def forward(self, mask: torch.Tensor, image_tokens: torch.Tensor) -> torch.Tensor:
        """The map that the mask's features (B, stem, h, w) become."""
        asked = self.tokens("mask", mask)
        both = torch.cat([asked, image_tokens], dim=1)
        a = self.attention(asked, both, both, need_weights=False)[0]
        a = self.out(a + self.mlp(a))
        height, wide = (side // self.patch for side in mask.shape[-2:])
        return pixel_shuffle(a.transpose(1, 2).unflatten(2, (height, wide)), self.patch)


class MultiWindow(nn.Module):
    """MT module on tokens (B, H, W, C): branches of windows of their own, summed, then a block of shifted windows."""

    def __init__(self, width: int, size: tuple[int, int], heads: int, windows: Sequence[int], time: int) -> None:
        super().__init__()
        largest = max(windows)
        block = timm_module("models.swin_transformer").SwinTransformerBlock
        # timm cuts a window, and leaves out the shift, where the map is no larger.
        self.branches = nn.ModuleList(block(width, size, heads, window_size=window) for window in windows)
        self.shifted = block(width, size, heads, window_size=largest, shift_size=largest // 2)
        self.time = nn.Linear(time, 2 * width)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Scaled and shifted by the time (B, time) first."""
        scale, shift = self.time(time)[:, None, None].chunk(2, dim=-1)
        x = x * (1 + scale) + shift
        return self.shifted(torch.stack([branch(x) for branch in self.branches]).sum(dim=0))


class DiffTrans(nn.Module):
    """Predicts what the noise is of noisy masks (B, L, H, W) in [-1, 1], of images (B, C, H, W) in [-1, 1]."""

    def __init__(self, config: DiffTransConfig) -> None:
        super().__init__()
        self.config = config
        stem, width = config.stem, config.width
        self.image_encoder, self.mask_encoder = _encoder(config.channels, stem), _encoder(config.labels, stem)
        self.cross_attention = CrossAttention(config)
        self.embed = nn.Conv2d(stem, width, _PATCH, stride=_PATCH)
        self.place = nn.Parameter(0.02 * torch.randn(1, width, *config.tokens(0)))
        time = 4 * width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        levels = range(_LEVELS)
        deepest = 2**_LEVELS * width

        def module(channels: int, level: int) -> MultiWindow:
            heads = config.heads[min(level, _LEVELS - 1)]
            return MultiWindow(channels, config.tokens(level), heads, config.windows, time)

        self.down = nn.ModuleList(module(width * 2**i, i) for i in levels)
        merging = timm_module("models.swin_transformer").PatchMerging
        self.merge = nn.ModuleList(merging(width * 2**i) for i in levels)
        self.up = nn.ModuleList(module(deepest // 2**i, _LEVELS - i) for i in levels)
        self.expand = nn.ModuleList(Expand(deepest // 2**i, 2, deepest // 2 ** (i + 1)) for i in levels)
        self.final = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.labels * (_STEM * _PATCH) ** 2))

    def guide(self, image: torch.Tensor) -> torch.Tensor:
        """What is known of an image before any noise: its tokens (B, N, attention_width)."""
        return self.cross_attention.tokens("image", self.image_encoder(image))

    def forward(self, guide: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """(B, L, H, W) for noisy masks at times t (B,) on the scale 0..999, of images known by `guide`."""
        mask = self.mask_encoder(x_t)
        merged = self.cross_attention(mask, guide)
        x = (self.embed(merged + mask if self.config.keep_mask else merged) + self.place).permute(0, 2, 3, 1)
        time, skips = self.time(get_timestep_embedding(t, self.config.width)), []
        for module, merge in zip(self.down, self.merge, strict=True):
            x = merge(module(x, time))
            skips.append(x)
        skips.pop()  # the fourth block feeds the first of the decoder
        for module, expand in zip(self.up, self.expand, strict=True):
            x = expand(module(x, time))
            x = x + skips.pop() if skips else x
        return pixel_shuffle(self.final(x).permute(0, 3, 1, 2), _STEM * _PATCH)


def _encoder(channels: int, stem: int) -> nn.Sequential:
    groups = min(8, stem)
    return nn.Sequential(
        nn.Conv2d(channels, stem, 3, padding=1),
        nn.GroupNorm(groups, stem),
        nn.SiLU(),
        nn.Conv2d(stem, stem, 3, stride=_STEM, padding=1),
    )
