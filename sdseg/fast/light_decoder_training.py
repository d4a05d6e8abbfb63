"""Distils a light mask decoder: `python -m sdseg.fast.light_decoder_training [--architecture paper]`."""

from __future__ import annotations

import argparse
import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from sdseg.architecture import ARCHITECTURES, Architecture
from sdseg.fast.light_decoder import LIGHT_DECODER, LightDecoder, LightShape, decoder_hash
from sdseg.files import write_atomically
from sdseg.mask_codec import MaskCodec, build_autoencoder, load_autoencoder, load_tiny_codec
from sdseg.training.batches import step_generator
from sdseg.training.checkpoint import read_checkpoint
from sdseg.training.codec_training import mask_dice
from sdseg.training.procedural_masks import draw_masks

log = logging.getLogger(__name__)

_GRIDS = ((16, 8), (32, 2))  # (latent cells per side, masks per batch); every fourth batch is of the second kind
_REUSE, _POOL = 8, 128  # the frozen decoder is slow: it answers every eighth step, and its last answers serve on
_RATE = 3e-3
_INTERVAL = 100  # steps between two states on disk


class Lesson(NamedTuple):
    """What the student sees and what the frozen decoder made of it."""

    latent: torch.Tensor  # (B, c, h, w), not scaled
    score: torch.Tensor  # (B, 1, H, W) in [0, 1]
    mask: torch.Tensor  # (B, 1, H, W) bool, where the latent comes from


class Teacher:
    """A frozen autoencoder that decodes noisy latents of procedural masks; lesson i depends on (seed, i) alone."""

    def __init__(self, autoencoder: AutoencoderKL, seed: int = 0, grids: Sequence[tuple[int, int]] = _GRIDS) -> None:
        self.codec, self.seed, self.grids = MaskCodec(autoencoder), seed, grids
        self.cell = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        first = torch.cat([self.codec.encode(self._masks(i)[0]).flatten() for i in range(len(grids))])
        self.spread = float(first.std())
        self._lessons: OrderedDict[int, Lesson] = OrderedDict()

    def _masks(self, index: int) -> tuple[torch.Tensor, torch.Generator]:
        generator = step_generator(self.seed, index, purpose=11)
        cells, count = self.grids[-1] if index % 4 == 3 else self.grids[0]
        return draw_masks(count, cells * self.cell, generator).to(self.codec.latent_scale.device), generator

    def lesson(self, index: int) -> Lesson:
        """Latents with noise up to 0.7 of their spread, as for the codec; one in eight a blend with twice the noise."""
        if index not in self._lessons:
            mask, generator = self._masks(index)
            latent = self.codec.encode(mask)
            level, wild, share = torch.rand(3, len(mask), 1, 1, 1, generator=generator).to(latent.device)
            blend = torch.lerp(latent, latent.roll(1, 0), share)
            noise = torch.randn(latent.shape, generator=generator).to(latent.device)
            wild = wild < 1 / 8
            latent = torch.where(wild, blend, latent) + (1 + wild.float()) * 0.7 * level * self.spread * noise
            self._lessons[index] = Lesson(latent, self.answer(latent), mask)
            if len(self._lessons) > _POOL:
                self._lessons.popitem(last=False)
        return self._lessons[index]

    @torch.no_grad()
    def answer(self, latent: torch.Tensor) -> torch.Tensor:
        """The frozen decoder's score (B, 1, H, W) of latents that are not scaled."""
        return self.codec.decode_score(latent * self.codec.latent_scale)

    def lesson_of_step(self, step: int) -> Lesson:
        """One of the latest lessons, chosen by (seed, step)."""
        newest = step // _REUSE
        back = torch.randint(min(newest + 1, _POOL // 2), (1,), generator=step_generator(self.seed, step, purpose=12))
        return self.lesson(newest - int(back))


def distillation_loss(pixels: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """L1 to the teacher's score (B, 1, H, W) as pixels, and BCE on the side of one half where it lies."""
    distance = (pixels - (2 * score - 1)).abs().mean()
    return distance + F.binary_cross_entropy_with_logits(4 * pixels, (score > 0.5).float())


class Fidelity(NamedTuple):
    """Means over held-out masks."""

    agreement: float  # Dice of the student's masks against the teacher's
    teacher: float  # Dice of the teacher's masks against the true ones
    student: float


@torch.no_grad()
def compare(light: LightDecoder, teacher: Teacher, size: int, count: int, noise_level: float, seed: int) -> Fidelity:
    """Both decoders on `count` held-out masks of `size` pixels; latent noise in units of the latents' spread."""
    generator = torch.Generator().manual_seed(seed)
    dices = []
    for _ in range(count):
        mask = draw_masks(1, size, generator).to(teacher.codec.latent_scale.device)
        latent = teacher.codec.encode(mask)
        noise = torch.randn(latent.shape, generator=generator).to(latent.device)
        latent = latent + noise_level * teacher.spread * noise
        exact, fast = teacher.answer(latent) > 0.5, light(latent) > 0
        dices.append(torch.stack([mask_dice(fast, exact), mask_dice(exact, mask), mask_dice(fast, mask)]))
    return Fidelity(*torch.cat(dices, dim=1).nanmean(1).tolist())


def train_light_decoder(
    autoencoder: AutoencoderKL, architecture: Architecture, steps: int, workfile: Path, seed: int = 0
) -> LightDecoder:
    """Distil; a killed training goes on from the state that `workfile` holds, toward `steps` in all.

    Raises ValueError where that file is of another autoencoder's training.
    """
    torch.manual_seed(seed)
    teacher = Teacher(autoencoder, seed)
    light = LightDecoder(LightShape.of(architecture), decoder_hash(autoencoder), teacher.spread)
    light.to(teacher.codec.latent_scale.device)
    optimizer = torch.optim.AdamW(light.parameters(), lr=_RATE, weight_decay=1e-4)
    start = _resume(workfile, light, optimizer)
    for step in range(start, steps):
        warm, done = min(1.0, (step + 1) / 100), step / steps
        for group in optimizer.param_groups:
            group["lr"] = _RATE * warm * (0.5 + 0.5 * math.cos(math.pi * done))
        lesson = teacher.lesson_of_step(step)
        loss = distillation_loss(light(lesson.latent), lesson.score)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(light.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % _INTERVAL == 0 or step + 1 == steps:
            _checkpoint(workfile, light, optimizer, step + 1)
            log.info("step %d of %d, loss %.4f", step + 1, steps, loss.item())
    return light.eval()


def _checkpoint(path: Path, light: LightDecoder, optimizer: Any, step: int) -> None:
    state = {"light": light.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "teacher": light.teacher}
    write_atomically(path, lambda part: torch.save(state, part))


def _resume(path: Path, light: LightDecoder, optimizer: Any) -> int:
    if not path.exists():
        return 0
    state = read_checkpoint(path)
    if not isinstance(state, dict) or state.get("teacher") != light.teacher:
        raise ValueError(f"{path}: no state of a training for this autoencoder; move it away to start anew")
    light.load_state_dict(state["light"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="tiny")
    parser.add_argument("--autoencoder", metavar="FOLDER", help="KL-f8 in diffusers' format; tiny has its own")
    parser.add_argument("--out", type=Path, help="default for tiny: the file that ships")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    architecture = ARCHITECTURES[arguments.architecture]
    try:
        autoencoder = _frozen(architecture, arguments.autoencoder).to(arguments.device)
        out = arguments.out or _default_out(architecture)
        if out != LIGHT_DECODER and out.exists():
            raise ValueError(f"{out}: exists; move it away or choose another --out")
        workfile = out.with_suffix(".training.pt")
        light = train_light_decoder(autoencoder, architecture, arguments.steps, workfile)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    light.save(out)
    workfile.unlink()
    for noise_level in (0.0, 0.5):
        fidelity = compare(light, Teacher(autoencoder), 256, 16, noise_level, seed=1)
        log.info("held out, latent noise %.1f: %s", noise_level, fidelity)


def _default_out(architecture: Architecture) -> Path:
    if architecture != ARCHITECTURES["tiny"]:
        raise ValueError("--out FILE is needed; only the tiny architecture has a shipped file to write")
    return LIGHT_DECODER


def _frozen(architecture: Architecture, source: str | None) -> AutoencoderKL:
    if architecture == ARCHITECTURES["tiny"] and source is None:
        return load_tiny_codec()
    autoencoder = build_autoencoder(architecture)
    load_autoencoder(autoencoder, source)
    return autoencoder


if __name__ == "__main__":
    main()
