"""TransU-Net (R50-ViT-B/16): a ResNet, a vision transformer on its deepest map, a decoder with the ResNet's maps.

Module names are those of the released checkpoints; `baselines.networks.trans_unet_weights` reads those and the
weights that training starts from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d, pad, scaled_dot_product_attention

from baselines.networks.timm_parts import edges, timm_module
from baselines.networks.trans_unet_weights import load_weights

_HEAD = 512  # channels between tokens and decoder, whatever the size


class TransUNet(nn.Module):
    """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1] whose sides divide by 16; grey ones are shown as RGB.

    `image_size` fixes the position embedding. `skips` says how many of the ResNet's maps the decoder sees. Raises
    ValueError naming the option that does not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: int | Sequence[int] = 224,
        hidden: int = 768,
        mlp: int = 3072,
        heads: int = 12,
        layers: int = 12,
        units: Sequence[int] = (3, 4, 9),
        width: int = 64,
        decoder: Sequence[int] = (256, 128, 64, 16),
        skips: int = 3,
        dropout: float = 0.1,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        size = edges(image_size, spatial_dims, 16)
        _check(hidden, heads, width, skips)
        self.channels = 3 if in_channels == 1 else in_channels
        self.grid = (size[0] // 16, size[1] // 16)
        trunk = Trunk(self.channels, width, units)
        embeddings = Embeddings(trunk, 16 * width, hidden, self.grid[0] * self.grid[1], dropout)
        encoder = Encoder([Layer(hidden, mlp, heads, dropout) for _ in range(layers)], hidden)
        self.transformer = nn.ModuleDict({"embeddings": embeddings, "encoder": encoder})
        shown = [channels if i < skips else 0 for i, channels in enumerate((8 * width, 4 * width, width, 0))]
        self.decoder = Decoder(hidden, decoder, shown)
        self.segmentation_head = nn.Sequential(nn.Conv2d(decoder[-1], out_channels, 3, padding=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits at the image's size."""
        tokens, maps = self.transformer["embeddings"](image.expand(-1, self.channels, -1, -1))
        tokens = self.transformer["encoder"](tokens)
        rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
        deepest = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        return self.segmentation_head(self.decoder(deepest, maps))

    def load_pretrained(self, weights: str) -> None:
        """Start from a file: a released checkpoint, Google's R50+ViT-B_16.npz, or timm's vit_base_r50_s16_224.

        Read as data. Raises ValueError naming the file and what does not fit.
        """
        load_weights(self, weights)


def _check(hidden: int, heads: int, width: int, skips: int) -> None:
    if hidden % heads:
        raise ValueError(f"method.options.options.hidden={hidden}: does not divide by heads={heads}")
    if width % 32:
        raise ValueError(f"method.options.options.width={width}: expected a multiple of 32, one for each group")
    if skips not in range(4):
        raise ValueError(f"method.options.options.skips={skips}: expected 0 to 3")


class Unit(nn.Module):
    """A bottleneck (B, C, h, w) -> (B, 4 `width`, h / stride, w / stride), activated behind its sum."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1, self.gn1 = _standardised(channels, width, 1), _group_norm(width)
        self.conv2, self.gn2 = _standardised(width, width, 3, stride), _group_norm(width)
        self.conv3, self.gn3 = _standardised(width, out, 1), _group_norm(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = _standardised(channels, out, 1, stride)
            self.gn_proj = nn.GroupNorm(out, out, eps=1e-5)  # of every channel by itself, other than in the original

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """relu(x, projected where its shape changes, + the three convolutions)."""
        rest = x if self.downsample is None else self.gn_proj(self.downsample(x))
        x = self.gn1(self.conv1(x)).relu()
        x = self.gn2(self.conv2(x)).relu()
        return (rest + self.gn3(self.conv3(x))).relu()


def _standardised(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Module:
    return timm_module().StdConv2d(channels, out, kernel, stride, padding=kernel // 2, eps=1e-5)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Trunk(nn.Module):
    """The ResNet: its deepest map (B, 16 `width`, H / 16, W / 16), and three before it, the deepest first."""

    def __init__(self, channels: int, width: int, units: Sequence[int]) -> None:
        super().__init__()
        root = {"conv": _standardised(channels, width, 7, 2), "gn": _group_norm(width), "relu": nn.ReLU()}
        self.root = nn.Sequential(OrderedDict(root))
        blocks, before = OrderedDict[str, nn.Module](), width
        for level, count in enumerate(units):
            middle, block = width * 2**level, OrderedDict[str, nn.Module]()
            for unit in range(count):
                block[f"unit{unit + 1}"] = Unit(before, middle, 2 if level and not unit else 1)
                before = 4 * middle
            blocks[f"block{level + 1}"] = nn.Sequential(block)
        self.body = nn.Sequential(blocks)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Without padding the pool loses a row and a column, which only the decoder's map gets back, as zeros."""
        first = self.root(image)
        maps, x = [first], max_pool2d(first, 3, 2)
        for block in self.body:
            x = block(x)
            maps.append(x)
        height, width = image.shape[-2:]
        shown = [
            pad(x, (0, width // stride - x.shape[-1], 0, height // stride - x.shape[-2]))
            for x, stride in zip(maps, (2, 4, 8), strict=False)
        ]
        return x, shown[::-1]


class Embeddings(nn.Module):
    """Tokens (B, N, hidden) of an image, row by row, and the ResNet's maps."""

    def __init__(self, trunk: Trunk, channels: int, hidden: int, count: int, dropout: float) -> None:
        super().__init__()
        self.hybrid_model = trunk
        self.patch_embeddings = nn.Conv2d(channels, hidden, 1)
        self.position_embeddings = nn.Parameter(torch.zeros(1, count, hidden))
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """There is no class token."""
        deepest, maps = self.hybrid_model(image)
        tokens = self.patch_embeddings(deepest).flatten(2).transpose(1, 2)
        return self.dropout(tokens + self.position_embeddings), maps


class Attention(nn.Module):
    """Self-attention with the four projections apart, as the checkpoints have them."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, hidden) to the same."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and MLP, each behind a norm; dropout in the MLP alone."""

    def __init__(self, hidden: int, mlp: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.LayerNorm(hidden, eps=1e-6), nn.LayerNorm(hidden, eps=1e-6)
        self.ffn = timm_module().Mlp(hidden, mlp, drop=dropout)
        self.attn = Attention(hidden, heads)
        for linear in (self.ffn.fc1, self.ffn.fc2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, hidden) to the same."""
        x = x + self.attn(self.attention_norm(x))
        return x + self.ffn(self.ffn_norm(x))


class Encoder(nn.Module):
    """The layers, and a last norm."""

    def __init__(self, layers: Sequence[Layer], hidden: int) -> None:
        super().__init__()
        self.layer, self.encoder_norm = nn.ModuleList(layers), nn.LayerNorm(hidden, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, hidden) to the same."""
        for layer in self.layer:
            x = layer(x)
        return self.encoder_norm(x)


class DecoderBlock(nn.Module):
    """Twice the size, a map of the ResNet beside it, two convolutions."""

    def __init__(self, channels: int, shown: int, out: int) -> None:
        super().__init__()
        self.shown = shown
        self.conv1, self.conv2 = _convolution(channels + shown, out), _convolution(out, out)

    def forward(self, x: torch.Tensor, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """(B, C, h, w) to (B, out, 2h, 2w)."""
        x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv2(self.conv1(torch.cat([x, *maps], 1)))


class Decoder(nn.Module):
    """From the tokens' map (B, hidden, H / 16, W / 16) to (B, channels[-1], H, W)."""

    def __init__(self, hidden: int, channels: Sequence[int], shown: Sequence[int]) -> None:
        super().__init__()
        self.conv_more = _convolution(hidden, _HEAD)
        sizes = zip([_HEAD, *channels[:-1]], shown, channels, strict=True)
        self.blocks = nn.ModuleList(DecoderBlock(*size) for size in sizes)

    def forward(self, x: torch.Tensor, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """`maps`: those of the ResNet, the deepest first."""
        x = self.conv_more(x)
        for i, block in enumerate(self.blocks):
            x = block(x, maps[i : i + 1] if block.shown else [])
        return x


def _convolution(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
