"""The denoising U-Net: input [z_t, z_c] on the channel axis, or z_t alone with cross-attention to z_c."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from sdseg.architecture import Architecture
from sdseg.cross_attention import set_context, use_cross_attention


def build_unet(shape: Architecture, classes: int = 0, conditioning: str = "concat") -> UNet2DModel:
    """The latent-diffusion U-Net in diffusers' terms; `classes` > 0 adds a class embedding to the time."""
    attends = shape.attention_levels
    down = ["AttnDownBlock2D" if a else "DownBlock2D" for a in attends]
    # The release resamples with residual blocks; diffusers' attention blocks do so by their type
    # argument, its plain blocks only under another name.
    down = ["ResnetDownsampleBlock2D" if d == "DownBlock2D" else d for d in down[:-1]] + down[-1:]
    up = ["AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attends)]
    up = [*up[:-1], "UpBlock2D" if not attends[0] else up[-1]]
    unet = UNet2DModel(
        in_channels=(2 if conditioning == "concat" else 1) * shape.latent_channels,
        out_channels=shape.latent_channels,
        layers_per_block=shape.unet_blocks,
        block_out_channels=shape.unet_widths,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        downsample_type="resnet",
        upsample_type="resnet",
        resnet_time_scale_shift="scale_shift",
        norm_eps=1e-5,
        norm_num_groups=shape.norm_groups,
        attn_norm_num_groups=shape.norm_groups,
        flip_sin_to_cos=True,
        freq_shift=0,
        act_fn="silu",
        dropout=shape.dropout,
        num_class_embeds=classes or None,
    )
    _fix_head_count(unet, shape.heads)
    _start_at_zero(unet)
    if conditioning == "cross_attention":
        use_cross_attention(unet, shape.heads, shape.latent_channels, shape.norm_groups)
    return unet


def _fix_head_count(unet: UNet2DModel, heads: int) -> None:
    # diffusers fixes the head size; the released network has the same number of heads at every width.
    for module in unet.modules():
        if isinstance(module, Attention):
            module.heads = heads
            module.scale = (module.inner_dim // heads) ** -0.5


def _start_at_zero(unet: UNet2DModel) -> None:
    # As in the release: every residual branch and the output begin as nothing.
    branches = [m.conv2 for m in unet.modules() if isinstance(m, ResnetBlock2D)]
    branches += [m.to_out[0] for m in unet.modules() if isinstance(m, Attention)]
    for layer in [*branches, unet.conv_out]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class Denoiser(nn.Module):
    """f(z_t, t; z_c) of the paper. Runs in float32 whatever autocast says, unless `amplified` is false.

    Where noise is predicted its error is amplified 38.7 times; a clean latent's is not.
    """

    def __init__(
        self, shape: Architecture, classes: int = 0, conditioning: str = "concat", amplified: bool = True
    ) -> None:
        super().__init__()
        self.unet = build_unet(shape, classes, conditioning)
        self.classes, self.conditioning, self.amplified = classes, conditioning, amplified

    def forward(
        self, z_t: torch.Tensor, condition: torch.Tensor, t: torch.Tensor, label: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Network output (B, c, h, w) for z_t and condition (B, c, h, w), t (B,), label ids (B,)."""
        device = z_t.device.type
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device) and not self.amplified):
            z_t, condition = z_t.float(), condition.float()
            if self.conditioning == "concat":
                z_t = torch.cat([z_t, condition], dim=1)
            else:
                set_context(self.unet, condition)
            return self.unet(z_t, t, class_labels=label if self.classes else None).sample
