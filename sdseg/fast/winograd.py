"""Convolutions in float32 on a CPU by Winograd's algorithm, as NNPACK, which torch brings along, computes them."""

from __future__ import annotations

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn import functional as F

# Below either, transforms cost what they save: at 32 x 32 one thread would gain a third, two lose a tenth.
_CHANNELS, _PIXELS = 64, 48 * 48
_LARGE = 256  # channels; a network without such a layer is faster in channels_last


def winograd_available() -> bool:
    """Whether torch was built with NNPACK and the processor can run it; asking makes it ready."""
    return hasattr(torch, "_nnpack_spatial_convolution") and bool(torch.backends.nnpack.is_available())


def gains(part: nn.Module) -> bool:
    """Whether a part that works on whole images has layers wide enough for it to gain as a whole."""
    return any(isinstance(m, nn.Conv2d) and min(m.weight.shape[:2]) >= _LARGE for m in part.modules())


def use_winograd(part: nn.Module) -> None:
    """Let a part compute its wide 3x3 convolutions with a fifth of the multiplications, in place, to predict only.

    Nothing else changes but rounding, at most about 1e-5 of a layer's largest value; weights keep their names. Rows
    of a batch are computed one by one, so that an answer has the same bits in any batch.
    """
    for name, module in list(part.named_modules()):
        if type(module) is nn.Conv2d:
            module.__class__ = _Convolution
        elif isinstance(module, ResnetBlock2D) and module.time_emb_proj is None:
            owner, _, child = name.rpartition(".")
            part.get_submodule(owner)._modules[child] = _Residual(module)


def _is_wide(convolution: nn.Conv2d) -> bool:
    same = (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (1, 1))
    return same and min(convolution.weight.shape[:2]) >= _CHANNELS


class _Convolution(nn.Conv2d):
    """Takes any layout and gives the plain one: one that wanders between layers is paid for in each."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        if not _is_wide(self) or x.shape[-2] * x.shape[-1] < _PIXELS:
            return super().forward(x)
        rows = [torch._nnpack_spatial_convolution(row, self.weight, self.bias, padding=1) for row in x.split(1)]
        return rows[0] if len(rows) == 1 else torch.cat(rows)


class _Residual(nn.Module):
    """A residual block of the autoencoder without its copies: SiLU and sum in place, no division by one."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = block.norm1, block.conv1, block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut

    def forward(self, x: torch.Tensor, temb: None = None) -> torch.Tensor:
        hidden = self.conv1(F.silu(self.norm1(x), inplace=True))
        hidden = self.conv2(F.silu(self.norm2(hidden), inplace=True))
        return hidden.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))
