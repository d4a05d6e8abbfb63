"""Fast mode's light mask decoder: latents to soft masks at a small part of the frozen decoder's cost."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from sdseg.architecture import ARCHITECTURES, Architecture
from sdseg.files import write_atomically
from sdseg.mask_codec import MaskCodec

LIGHT_DECODER = Path(__file__).parents[1] / "assets" / "tiny_light_decoder.safetensors"
_REMEDY = "python -m sdseg.fast.light_decoder_training --architecture {} --autoencoder FOLDER --out FILE makes one"
_LIMIT = 3.0  # latents are squashed beyond so many standard deviations


class LightShape(BaseModel):
    """Width and depth on the latent grid; `downsampling` is pixels per latent cell and side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_channels: int
    downsampling: int
    width: int
    blocks: int

    @classmethod
    def of(cls, architecture: Architecture) -> LightShape:
        """The shape that suits an autoencoder: a cell of more pixels needs more channels."""
        cell = architecture.downsampling
        width, blocks = (48, 3) if cell <= 4 else (128, 4)
        return cls(latent_channels=architecture.latent_channels, downsampling=cell, width=width, blocks=blocks)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.conv2.parameters():  # every block begins as nothing
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class LightDecoder(nn.Module):
    """Residual blocks on the latent grid, a sub-pixel step to four thin maps, and one convolution at full size.

    No normalisation and no attention: what the frozen decoder spends at full size is what a mask needs least.
    `teacher` is `decoder_hash` of the autoencoder whose decoder this one imitates.
    """

    spread: torch.Tensor

    def __init__(self, shape: LightShape, teacher: str, spread: float = 1.0) -> None:
        super().__init__()
        self.shape, self.teacher = shape, teacher
        self.register_buffer("spread", torch.tensor(float(spread)))  # std of the latents of masks
        width, cell, thin = shape.width, shape.downsampling, 4
        self.net = nn.Sequential(
            nn.Conv2d(shape.latent_channels, width, 3, padding=1),
            *(_Block(width) for _ in range(shape.blocks)),
            nn.ReLU(),
            nn.Conv2d(width, thin * cell**2, 3, padding=1),
            nn.ReLU(),
            nn.PixelShuffle(cell),
            nn.Conv2d(thin, 1, 3, padding=1),
        )

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 1, H, W), about [-1, 1], of latents (B, c, h, w) that are not scaled."""
        limit = _LIMIT * self.spread
        return self.net(_LIMIT * torch.tanh(latent / limit))

    def save(self, path: Path) -> None:
        """Write weights in float16, with what they are for in the metadata."""
        weights = {k: v.half().contiguous() for k, v in self.state_dict().items()}
        metadata = {"light_decoder": self.shape.model_dump_json(), "teacher": self.teacher}
        write_atomically(path, lambda part: save_file(weights, part, metadata))


def decoder_hash(autoencoder: AutoencoderKL) -> str:
    """Names an autoencoder's decoder by its float32 weights, wherever they lie; compute it before any cast."""
    found = hashlib.sha256()
    for part in (autoencoder.post_quant_conv, autoencoder.decoder):
        for key, value in sorted(part.state_dict().items()):
            found.update(key.encode())
            found.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def load_light_decoder(architecture: Architecture, path: str | Path | None = None) -> LightDecoder:
    """The light decoder of a file, or the shipped one of the `tiny` architecture.

    Raises ValueError where there is none, or where the file is another thing or made for another latent grid.
    """
    name = next((name for name, known in ARCHITECTURES.items() if known == architecture), "NAME")
    remedy = _REMEDY.format(name)
    if path is None and architecture != ARCHITECTURES["tiny"]:
        raise ValueError(f"no light decoder ships for this architecture; {remedy}, then inference.light_decoder=FILE")
    path = Path(path or LIGHT_DECODER)
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            shape = LightShape.model_validate_json(facts["light_decoder"])
            weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        light = LightDecoder(shape, facts["teacher"])
        light.load_state_dict(weights)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a light decoder ({type(error).__name__}: {reason}); {remedy}") from error
    grid, wanted = (shape.latent_channels, shape.downsampling), LightShape.of(architecture)
    if grid != (wanted.latent_channels, wanted.downsampling):
        raise ValueError(f"{path}: a light decoder for {grid[1]} pixels per latent cell, not {wanted.downsampling}")
    return light.requires_grad_(False).eval()


def use_light_decoder(codec: MaskCodec, architecture: Architecture, path: str | Path | None = None) -> None:
    """Let a codec decode through its light decoder. Call it after the codec's weights are loaded, before any cast.

    Raises ValueError as `load_light_decoder` does, and where the file imitates another autoencoder.
    """
    light = load_light_decoder(architecture, path)
    if light.teacher != decoder_hash(codec.autoencoder):
        raise ValueError(
            f"{path or LIGHT_DECODER}: this light decoder imitates another autoencoder than the model's;"
            " train one on the model's own, or decode exactly (inference.decoder=frozen)"
        )
    codec.light = light.to(codec.latent_scale.device)
