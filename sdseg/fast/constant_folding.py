"""Rewrites of a trained model that change its arithmetic and not its answer, up to float32 rounding."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn


class FixedTime(nn.Module):
    """In the place of the time embedding of a U-Net whose every call has the same `t`."""

    def __init__(self, t: int) -> None:
        super().__init__()
        self.t = t

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The time steps (B,) themselves, which nobody reads; raises ValueError for another one than `t`."""
        # Looking at a value would make a GPU wait.
        looks = timesteps.device.type == "cpu" and not torch.compiler.is_compiling()
        if looks and bool((timesteps != self.t).any()):
            raise ValueError(f"this model was optimized for t = {self.t} alone; load it again for other time steps")
        return timesteps


@torch.no_grad()
def fold_time(unet: UNet2DModel, t: int) -> None:
    """Fold the time MLP and all its projections into the norms they modulate, in place; for calls at `t` alone.

    A block computes norm2(h) * (1 + scale) + shift, and scale and shift depend on t only: they join the norm's own
    affine. Raises ValueError where a class embedding is added to the time.
    """
    if unet.class_embedding is not None:
        raise ValueError("a class embedding is added to the time: there is no constant to fold")
    projection = unet.time_embedding.linear_1.weight
    embedding = unet.time_embedding(unet.time_proj(torch.tensor([t], device=projection.device)).to(projection.dtype))
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D) and block.time_emb_proj is not None:
            scale, shift = block.time_emb_proj(block.nonlinearity(embedding))[0].chunk(2)
            norm = block.norm2
            norm.bias.copy_(norm.bias * (1 + scale) + shift)
            norm.weight.mul_(1 + scale)
            block.time_emb_proj = None
            block.time_embedding_norm = "folded"  # neither of the two that diffusers adds a time in
    unet.time_proj, unet.time_embedding = FixedTime(t), nn.Identity()


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
