"""The trainable vision encoder: image to condition latent (tau_theta in the paper)."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.vae import Encoder
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from sdseg.architecture import Architecture


class VisionEncoder(nn.Module):
    """The autoencoder's encoder followed by a 1x1 convolution from moments to condition.

    As released: dropout in its residual blocks, no quant_conv, and an output that is not latent-scaled. `light` is a
    variant of ours at a tenth of the arithmetic: squares of pixels become channels before the first layer, so that
    nothing is computed at full size.
    """

    def __init__(self, shape: Architecture, light: bool = False) -> None:
        super().__init__()
        self.like_codec = shape.encoders_alike and not light  # and may start from it
        widths, blocks = shape.vision_widths, shape.vision_blocks
        if light:
            widths, blocks = widths[:2], 2 * blocks
        square = shape.downsampling // 2 ** (len(widths) - 1)
        self.squares = nn.PixelUnshuffle(square)
        self.encoder = Encoder(
            in_channels=3 * square**2,
            out_channels=shape.latent_channels,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=blocks,
            norm_num_groups=shape.norm_groups,
            mid_block_add_attention=shape.vision_attention,
        )
        self.out = nn.Conv2d(2 * shape.latent_channels, shape.latent_channels, 1)
        for module in self.encoder.modules():
            if isinstance(module, ResnetBlock2D):
                module.dropout.p = shape.dropout

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Condition latent (B, c, h, w) of images (B, 1 or 3, H, W) in [-1, 1]; one channel is repeated."""
        return self.out(self.encoder(self.squares(image.expand(-1, 3, -1, -1))))
