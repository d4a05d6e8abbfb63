"""SSFormer (Wang et al. 2022): a pyramid transformer, and a decoder that fuses its maps step by step.

Written from a description of the release (Qiming-Huang/ssformer, without a licence); the tensors have its names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import nn
from torch.nn.functional import interpolate

from baselines.networks.mit import MixTransformer
from baselines.networks.starting import check_rgb, start_from, timm_encoder

Encoder = Literal["mit", "pvt_v2"]


class Size(NamedTuple):
    """Of the encoder's four stages the widths and depths, the decoder's width, and the PVTv2 of this size."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    decoder: int
    pvt: str


# S and L are the paper's, with MiT-B2 and B4; tiny has B0.
SIZES = {
    "tiny": Size((32, 64, 160, 256), (2, 2, 2, 2), 64, "pvt_v2_b0"),
    "S": Size((64, 128, 320, 512), (3, 4, 6, 3), 256, "pvt_v2_b2"),
    "L": Size((64, 128, 320, 512), (3, 8, 27, 3), 256, "pvt_v2_b4"),
}


class SSFormer(nn.Module):
    """Logits (B, L, H, W) of standardised images (B, 3, H, W); sides of at least 29 pixels that divide by 4.

    `size` is a name of SIZES, or a Size. The encoder "mit" is the paper's; with "pvt_v2", which is timm's, this is
    another network. Raises ValueError naming the option that does not fit, or the package that is missing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: str | Size = "L",
        encoder: Encoder = "mit",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        check_rgb("SSFormer", spatial_dims, in_channels)
        if encoder not in get_args(Encoder):
            raise ValueError(f"method.options.options.encoder={encoder}: known are mit, pvt_v2")
        if isinstance(size, str) and size not in SIZES:
            raise ValueError(f"method.options.options.size={size}: known are {', '.join(SIZES)}")
        shape = SIZES[size] if isinstance(size, str) else size
        self.encoder_name = encoder
        self.backbone = MixTransformer(shape.widths, shape.depths) if encoder == "mit" else timm_encoder(shape.pvt)
        self.decode_head = ProgressiveLocalityDecoder(shape.widths, shape.decoder, out_channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits at the image's size."""
        logits = self.decode_head(self.backbone(image))
        return interpolate(logits, scale_factor=4, mode="bilinear", align_corners=True)

    def load_pretrained(self, weights: str) -> None:
        """Start from a file, read as data: a checkpoint of the release or of a run, or the encoder alone.

        An encoder is in the names of SegFormer's release or of timm. Raises ValueError naming what does not fit.
        """
        expected = f"the encoder {self.encoder_name} of this size, or the whole SSFormer in its release's names"
        start_from(weights, self, self.backbone, "decode_head.", expected)


class ProgressiveLocalityDecoder(nn.Module):
    """Logits (B, L, h, w) of four maps, whose finest is (B, widths[0], h, w)."""

    def __init__(self, widths: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        for level, incoming in enumerate(widths, 1):
            self.add_module(f"linear_c{level}", _local_emphasis(incoming, width))
        for name in ("linear_fuse34", "linear_fuse2", "linear_fuse1"):
            self.add_module(name, _fusion(2 * width, width))
        # In every checkpoint of the release, and never used: without gradients.
        self.linear_fuse = _fusion(4 * width, width).requires_grad_(False)
        self.dropout = nn.Dropout(0.1)
        self.linear_pred = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Every level goes straight to the finest grid; then the coarsest two are fused, and the others added."""
        emphasised = [self.get_submodule(f"linear_c{level}")(x) for level, x in enumerate(maps, 1)]
        x, *others = (interpolate(x, maps[0].shape[2:], mode="bilinear") for x in reversed(emphasised))
        for name, other in zip(("linear_fuse34", "linear_fuse2", "linear_fuse1"), others, strict=True):
            x = self.get_submodule(name)(torch.cat([x, other], dim=1))
        return self.linear_pred(self.dropout(x))


def _local_emphasis(incoming: int, width: int) -> nn.Module:
    first, second = (nn.Conv2d(before, width, 3, padding=1, bias=False) for before in (incoming, width))
    return nn.Sequential(OrderedDict(proj=nn.Sequential(first, nn.ReLU(), second, nn.ReLU())))


def _fusion(incoming: int, width: int) -> nn.Module:
    conv = nn.Conv2d(incoming, width, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(width), act=nn.ReLU()))
