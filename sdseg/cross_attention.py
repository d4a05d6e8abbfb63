"""Cross-attention conditioning (Table 6, row 1): Stable Diffusion's transformer blocks in place of self-attention."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn


class ConditionedAttention(nn.Module):
    """Self-attention and cross-attention over the tokens last put into `context` (B, N, channels)."""

    context: torch.Tensor | None = None

    def __init__(self, width: int, heads: int, context_width: int, groups: int) -> None:
        super().__init__()
        self.transformer = Transformer2DModel(
            heads, width // heads, in_channels=width, norm_num_groups=groups, cross_attention_dim=context_width
        )
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.zeros_(self.transformer.proj_out.bias)

    def forward(self, hidden: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        """(B, width, h, w) to the same shape; other arguments of the block it replaces have no meaning here."""
        return self.transformer(hidden, encoder_hidden_states=self.context).sample


def use_cross_attention(unet: UNet2DModel, heads: int, context_width: int, groups: int) -> None:
    """Replace every attention of a U-Net, in place."""
    for module in list(unet.modules()):
        attentions = getattr(module, "attentions", None)
        for i, attention in enumerate(attentions or ()):
            if isinstance(attention, Attention):
                width = attention.to_q.in_features
                module.attentions[i] = ConditionedAttention(width, heads, context_width, groups)


def set_context(unet: UNet2DModel, condition: torch.Tensor) -> None:
    """Hand the condition latent (B, c, h, w) to every attention as h * w tokens."""
    tokens = condition.flatten(2).transpose(1, 2)
    for module in unet.modules():
        if isinstance(module, ConditionedAttention):
            module.context = tokens
