"""SwinU-Net: Swin transformer blocks down and up, in timm's layers, under the released checkpoints' names."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import interpolate

from baselines.networks.timm_parts import edges, fill_from, read_checkpoint, timm_module

_EXPECTED = "a released SwinU-Net of this size, or an ImageNet Swin of these widths in its own names or timm's"
# Constants of the geometry, which older files hold.
_COMPUTED = ("relative_position_index", "attn_mask")
_TABLE = "relative_position_bias_table"


class SwinUNet(nn.Module):
    """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1] of exactly `image_size`; grey ones are shown as RGB.

    Every map must divide by `window` or be no larger: 224 with 7, 256 with 8. Raises ValueError naming the option that
    does not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: int | Sequence[int] = 224,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.2,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        size = edges(image_size, spatial_dims, 4 * 2 ** (len(depths) - 1))
        maps = [(size[0] // 4 // 2**i, size[1] // 4 // 2**i) for i in range(len(depths))]
        _check(maps, embed_dim, heads, window)
        self.channels = 3 if in_channels == 1 else in_channels
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").split(tuple(depths))
        stages = [
            StageShape(embed_dim * 2**i, maps[i], heads[i], window, rates[i].tolist()) for i in range(len(depths))
        ]
        self.swin_unet = Swin(self.channels, out_channels, size, stages)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits at the image's size."""
        return self.swin_unet(image.expand(-1, self.channels, -1, -1))

    def load_pretrained(self, weights: str) -> None:
        """Start from a file: a released checkpoint, or an ImageNet Swin, which the decoder mirrors; read as data.

        Raises ValueError naming the file and what does not fit.
        """
        state = read_checkpoint(weights, "swin_unet.")
        state = {name: tensor for name, tensor in state.items() if not name.endswith(_COMPUTED)}
        whole = any(name.startswith("swin_unet.") for name in state)
        network = self if whole else self.swin_unet
        fill_from(network, weights, _EXPECTED, lambda: state if whole else _started(network.state_dict(), state))


def _check(maps: Sequence[tuple[int, int]], embed_dim: int, heads: Sequence[int], window: int) -> None:
    if len(heads) != len(maps):
        raise ValueError(f"method.options.options.heads={list(heads)}: expected {len(maps)}, one for each of depths")
    for i, (side, count) in enumerate(zip(maps, heads, strict=True)):
        if (embed_dim * 2**i) % count:
            raise ValueError(
                f"method.options.options.embed_dim={embed_dim}: stage {i} does not divide by {count} heads"
            )
        if any(edge > window and edge % window for edge in side):
            raise ValueError(
                f"method.options.options.window={window}: does not divide the map of {side[0]} x {side[1]} in stage "
                f"{i}; 7 fits an input_size of 224, 8 one of 256"
            )


class StageShape(NamedTuple):
    """Channels, map (H, W), heads, nominal window, and the rate of stochastic depth of every block."""

    dim: int
    size: tuple[int, int]
    heads: int
    window: int
    rates: list[float]


def _blocks(shape: StageShape) -> nn.Sequential:
    """Blocks on maps (B, H, W, dim), every second one with shifted windows."""
    block = timm_module("models.swin_transformer").SwinTransformerBlock
    dim, size, heads, window, rates = shape
    return nn.Sequential(
        *(
            # It cuts window and shift itself where the map is no larger.
            block(dim, size, heads, window_size=window, shift_size=window // 2 if i % 2 else 0, drop_path=rate)
            for i, rate in enumerate(rates)
        )
    )


class Expand(nn.Module):
    """Maps (B, H, W, dim) `factor` times as large, with `out` channels."""

    def __init__(self, dim: int, factor: int, out: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand, self.norm = nn.Linear(dim, factor**2 * out, bias=False), nn.LayerNorm(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The new channels are read as (row, column, channel)."""
        x = self.expand(x).unflatten(-1, (self.factor, self.factor, -1))  # (B, H, W, row, column, out)
        return self.norm(x.transpose(2, 3).flatten(3, 4).flatten(1, 2))


class Swin(nn.Module):
    """What the checkpoints call `swin_unet`: stages down, and the same ones up with the inputs of those beside them."""

    def __init__(self, channels: int, out_channels: int, size: tuple[int, int], stages: Sequence[StageShape]) -> None:
        super().__init__()
        layers, swin = timm_module("layers"), timm_module("models.swin_transformer")
        dim, deepest = stages[0].dim, stages[-1].dim
        self.patch_embed = layers.PatchEmbed(size, 4, channels, dim, nn.LayerNorm, flatten=False, output_fmt="NHWC")
        self.layers = nn.ModuleList()
        for shape in stages:
            last = {"downsample": swin.PatchMerging(shape.dim)} if shape is not stages[-1] else {}
            self.layers.append(nn.Sequential(OrderedDict({"blocks": _blocks(shape), **last})))
        self.norm = nn.LayerNorm(deepest)
        self.layers_up = nn.ModuleList([Expand(deepest, 2, deepest // 2)])
        self.concat_back_dim = nn.ModuleList([nn.Identity()])
        for shape in stages[-2::-1]:
            last = {"upsample": Expand(shape.dim, 2, shape.dim // 2)} if shape is not stages[0] else {}
            self.layers_up.append(nn.Sequential(OrderedDict({"blocks": _blocks(shape), **last})))
            self.concat_back_dim.append(nn.Linear(2 * shape.dim, shape.dim))
        self.norm_up = nn.LayerNorm(dim)
        self.up = Expand(dim, 4, dim)
        self.output = nn.Conv2d(dim, out_channels, 1, bias=False)
        for linear in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W)."""
        x, inputs = self.patch_embed(image), []
        for stage in self.layers:
            inputs.append(x)
            x = stage(x)
        x = self.layers_up[0](self.norm(x))
        # The deepest stage's own input is not used again.
        for stage, linear, beside in zip(self.layers_up[1:], self.concat_back_dim[1:], inputs[-2::-1], strict=True):
            x = stage(linear(torch.cat([x, beside], -1)))
        return self.output(self.up(self.norm_up(x)).permute(0, 3, 1, 2))


def _started(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Encoder and its mirror image in the decoder from an ImageNet Swin, the rest as it is; more blocks are cut off."""
    stages = 1 + max(int(name.split(".")[1]) for name in own if name.startswith("layers."))
    if f"layers.{stages - 1}.downsample.reduction.weight" in state:  # timm's merging stands before its stage
        state = {re.sub(r"^layers\.(\d+)\.downsample", _stage_before, name): x for name, x in state.items()}

    def source(name: str) -> str | None:
        up = re.fullmatch(r"layers_up\.(\d+)\.(blocks\..*)", name)
        if up:
            return f"layers.{stages - 1 - int(up[1])}.{up[2]}"
        return name if name.startswith(("patch_embed.", "layers.", "norm.")) else None

    started = {}
    for name, tensor in own.items():
        theirs = source(name)
        if theirs is not None and theirs not in state:
            raise ValueError(f"{theirs} is missing")
        taken = tensor if theirs is None else state[theirs]
        started[name] = _resized_table(taken, tensor) if name.endswith(_TABLE) else taken
    return started


def _stage_before(name: re.Match[str]) -> str:
    return f"layers.{int(name[1]) - 1}.downsample"


def _resized_table(table: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """A bias ((2w-1)^2, heads) of another window w, bicubically."""
    side, wanted = round(len(table) ** 0.5), round(len(own) ** 0.5)
    if side == wanted or side**2 != len(table):
        return table
    plane = table.T.unflatten(1, (side, side))[None]
    return interpolate(plane, (wanted, wanted), mode="bicubic", align_corners=False)[0].flatten(1).T
