"""A rewrite of a trained decoder that changes its arithmetic and not its answer, up to float32 rounding."""

from __future__ import annotations

import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn


@torch.no_grad()
def fold_upsampling(decoder: nn.Module) -> None:
    """Replace doubling by nearest neighbour and the 3x3 convolution after it by one transposed convolution, in place.

    Two neighbours that are equal need one product: 4 instead of 9 per output pixel, exact at the borders too. In the
    KL-f8 decoder that is 97 of 620 GFLOP.
    """
    for name, module in list(decoder.named_modules()):
        if isinstance(module, Upsample2D) and module.use_conv and not module.use_conv_transpose:
            parent, _, child = name.rpartition(".")
            decoder.get_submodule(parent)._modules[child] = _Doubling(module.conv)


class _Doubling(nn.Module):
    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = convolution.weight, convolution.bias
        out, into = weight.shape[:2]
        # Every source pixel stands for 2 x 2 equal ones: its kernel is the full correlation of theirs.
        square = torch.ones(1, 1, 2, 2, device=weight.device, dtype=torch.float64)
        kernel = nn.functional.conv_transpose2d(weight.double().flip(-1, -2).reshape(-1, 1, 3, 3), square)
        self.conv = nn.ConvTranspose2d(into, out, 4, stride=2, padding=1, bias=bias is not None, device=weight.device)
        self.conv.weight.copy_(kernel.reshape(out, into, 4, 4).transpose(0, 1))
        if bias is not None and self.conv.bias is not None:
            self.conv.bias.copy_(bias)
        self.conv.requires_grad_(False)

    def forward(self, hidden: torch.Tensor, output_size: object = None) -> torch.Tensor:
        return self.conv(hidden)
