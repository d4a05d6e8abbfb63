"""Trains the tiny mask autoencoder in `assets`: `python -m sdseg.training.codec_training --out FILE`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from sdseg.architecture import ARCHITECTURES
from sdseg.loss import pixel_loss
from sdseg.mask_codec import TINY_CODEC, MaskCodec, build_autoencoder
from sdseg.training.procedural_masks import draw_masks

log = logging.getLogger(__name__)


def codec_loss(autoencoder: AutoencoderKL, mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """BCE + Dice + L1 of the reconstruction from a noisy latent, and a weak KL term.

    The noise (up to 0.7 of the latents' spread) teaches the decoder to forgive the errors that a denoiser makes.
    """
    posterior = autoencoder.encode((mask.float() * 2 - 1).expand(-1, 3, -1, -1)).latent_dist
    latent = posterior.mean
    level = 0.7 * torch.rand(len(mask), 1, 1, 1, generator=generator) * latent.detach().std()
    noisy = latent + level * torch.randn(latent.shape, generator=generator)
    pixels = autoencoder.decode(noisy).sample
    distance = (pixels - (2 * mask.float() - 1)).abs().mean()
    return pixel_loss(pixels, mask) + 0.2 * distance + 1e-6 * posterior.kl().mean()


def mask_dice(predicted: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Dice (B,) of masks (B, 1, H, W) bool; NaN where both are empty."""
    overlap, total = (predicted & mask).sum((1, 2, 3)), predicted.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    return 2 * overlap / total


@torch.no_grad()
def reconstruction_dice(autoencoder: AutoencoderKL, mask: torch.Tensor, noise_level: float = 0.0) -> float:
    """Mean Dice of masks (B, 1, H, W) bool after encoding and decoding; latent noise in units of their std."""
    codec = MaskCodec(autoencoder)
    latent = codec.encode(mask)
    generator = torch.Generator().manual_seed(0)
    latent = latent + noise_level * latent.std() * torch.randn(latent.shape, generator=generator)
    return float(mask_dice(codec.decode_score(latent) > 0.5, mask).nanmean())


def train_tiny_codec(steps: int, batch: int, seed: int = 0) -> AutoencoderKL:
    """Train on procedural masks of 64 and 128 pixels; logs the held-out reconstruction Dice."""
    torch.manual_seed(seed)
    autoencoder = build_autoencoder(ARCHITECTURES["tiny"]).train()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    held_out = draw_masks(128, 64, torch.Generator().manual_seed(seed + 1))
    for step in range(1, steps + 1):
        size, count = (128, batch // 4) if step % 4 == 0 else (64, batch)
        loss = codec_loss(autoencoder, draw_masks(count, size, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            scores = [reconstruction_dice(autoencoder.eval(), held_out, level) for level in (0.0, 0.5)]
            autoencoder.requires_grad_(True).train()
            log.info("step %d loss %.4f held-out Dice %.4f, with latent noise 0.5 %.4f", step, loss.item(), *scores)
    return autoencoder.eval()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TINY_CODEC)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.out != TINY_CODEC and arguments.out.exists():
        parser.exit(2, f"error: {arguments.out}: exists; move it away or choose another --out\n")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    autoencoder = train_tiny_codec(arguments.steps, arguments.batch)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in autoencoder.state_dict().items()}, arguments.out)


if __name__ == "__main__":
    main()
