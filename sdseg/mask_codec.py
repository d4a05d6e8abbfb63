"""Masks to latents and back through the frozen KL autoencoder (paper section 2.1, symbols E and D)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file
from torch import nn

from sdseg.architecture import ARCHITECTURES, Architecture

TINY_CODEC = Path(__file__).parent / "assets" / "tiny_codec.safetensors"


def build_autoencoder(shape: Architecture) -> AutoencoderKL:
    """The KL autoencoder of an architecture, randomly initialised."""
    levels = len(shape.codec_widths)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=shape.codec_widths,
        layers_per_block=shape.codec_blocks,
        latent_channels=shape.latent_channels,
        norm_num_groups=shape.norm_groups,
        mid_block_add_attention=shape.codec_attention,
    )


def load_tiny_codec(path: Path = TINY_CODEC) -> AutoencoderKL:
    """The shipped autoencoder of the `tiny` architecture (stored in float16, used in float32)."""
    autoencoder = build_autoencoder(ARCHITECTURES["tiny"])
    autoencoder.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return autoencoder


def load_autoencoder(autoencoder: AutoencoderKL, source: str | None) -> None:
    """Fill an autoencoder with pretrained weights in diffusers' format (a folder, or a name on the hub).

    Raises ValueError where there is no source, or where it does not fit.
    """
    if source is None:
        raise ValueError(
            "this architecture needs pretrained KL-f8 weights: method.options.autoencoder=FOLDER in diffusers' format"
        )
    try:
        autoencoder.load_state_dict(AutoencoderKL.from_pretrained(source).state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{source}: no fitting KL-f8 autoencoder ({str(error).splitlines()[0]})") from error
    autoencoder.requires_grad_(False).eval()


def _drop_light(module: nn.Module, weights: dict[str, torch.Tensor], prefix: str, _: object) -> None:
    for key in [k for k in weights if k.startswith(f"{prefix}light.")]:
        del weights[key]


def _miss_no_light(module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [k for k in keys.missing_keys if ".light." not in f".{k}"]


class MaskCodec(nn.Module):
    """A frozen autoencoder and the scale that gives its latents unit standard deviation."""

    latent_scale: torch.Tensor

    def __init__(self, autoencoder: AutoencoderKL, latent_scale: float = 1.0) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.register_buffer("latent_scale", torch.tensor(float(latent_scale)))
        # Decodes in the autoencoder's place (see `sdseg.fast.light_decoder`). Moves with the codec, but belongs to no
        # model: saved weights never hold it, so that an approximation cannot slip into the exact path.
        self.light: nn.Module | None = None
        self.register_state_dict_post_hook(_drop_light)
        self.register_load_state_dict_post_hook(_miss_no_light)

    def train(self, mode: bool = True) -> MaskCodec:
        """Stays in evaluation mode: the codec is frozen."""
        return super().train(False)

    @torch.no_grad()
    def moments(self, mask: torch.Tensor) -> torch.Tensor:
        """Posterior mean and log-variance (B, 2c, h, w), not scaled, of masks (B, 1, H, W) bool."""
        pixels = (mask.float() * 2 - 1).expand(-1, 3, -1, -1)
        return self.autoencoder.encode(pixels).latent_dist.parameters

    def sample(self, moments: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Scaled latent (B, c, h, w) of moments: a posterior sample where `noise` is given, else the mean."""
        posterior = DiagonalGaussianDistribution(moments.float())
        latent = posterior.mean if noise is None else posterior.mean + posterior.std * noise
        return latent * self.latent_scale

    def encode(self, mask: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Scaled latent (B, c, h, w) of masks (B, 1, H, W) bool."""
        return self.sample(self.moments(mask), noise)

    @torch.no_grad()
    def condition(self, image: torch.Tensor) -> torch.Tensor:
        """Latent mean (B, c, h, w), not scaled, of images (B, 1 or 3, H, W): the frozen vision encoder of Table 6."""
        return self.autoencoder.encode(image.expand(-1, 3, -1, -1)).latent_dist.mean

    def decode(self, z0: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W), about [-1, 1], of scaled latents; (B, 1, H, W) where a light decoder answers."""
        latent = z0 / self.latent_scale
        return self.autoencoder.decode(latent).sample if self.light is None else self.light(latent)

    def decode_score(self, z0: torch.Tensor) -> torch.Tensor:
        """Soft score (B, 1, H, W): clamp first, then the mean of the three channels, as released."""
        return ((self.decode(z0) + 1) / 2).clamp(0, 1).mean(dim=1, keepdim=True)

    @torch.no_grad()
    def fit_scale(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Set the scale to 1 / std (unbiased) of the latents sampled from (mask, noise) batches."""
        count, total, squares = 0, 0.0, 0.0
        for mask, noise in batches:
            latent = (self.encode(mask, noise) / self.latent_scale).double()
            count, total = count + latent.numel(), total + float(latent.sum())
            squares += float((latent**2).sum())
        variance = (squares - total**2 / count) / (count - 1)
        self.latent_scale.fill_(1.0 / max(variance**0.5, 1e-3))
