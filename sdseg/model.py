"""SDSeg itself: frozen mask codec, trainable vision encoder, denoising U-Net, and the two verbs loss and predict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import nn

from sdseg.architecture import ARCHITECTURES, Architecture
from sdseg.denoiser import Denoiser
from sdseg.files import write_atomically
from sdseg.loss import Losses, sdseg_loss
from sdseg.mask_codec import MaskCodec, build_autoencoder, load_autoencoder, load_tiny_codec
from sdseg.sampling import ddim, single_step
from sdseg.schedule import NoiseSchedule, PredictionType
from sdseg.vision_encoder import VisionEncoder


class Prediction(NamedTuple):
    """Soft score (B, L, H, W) in [0, 1] and boolean mask of the same shape."""

    score: torch.Tensor
    mask: torch.Tensor


class SDSegConfig(BaseModel):
    """Everything that defines a model besides its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture
    labels: int = 1
    prediction: PredictionType = "eps"
    latent_weight: float = 1.0
    autoencoder: str | None = None  # folder or hub name of pretrained weights, for a codec that does not ship


class SDSeg(nn.Module):
    """Latent-diffusion segmentation with a single reverse step.

    With several labels every label is a binary mask of its own, told apart by a class embedding that is
    added to the time embedding (as the released multi-class code does).
    """

    def __init__(self, config: SDSegConfig) -> None:
        super().__init__()
        shape = config.architecture
        tiny = shape == ARCHITECTURES["tiny"]
        self.config = config
        self.schedule = NoiseSchedule.scaled_linear()
        self.codec = MaskCodec(load_tiny_codec() if tiny else build_autoencoder(shape))
        self.vision_encoder = VisionEncoder(shape)
        self.denoiser = Denoiser(shape, classes=config.labels if config.labels > 1 else 0)

    @property
    def trained(self) -> nn.ModuleDict:
        """The parts that training changes (paper Fig. 1)."""
        return nn.ModuleDict({"vision_encoder": self.vision_encoder, "denoiser": self.denoiser})

    @property
    def averaged(self) -> nn.Module:
        """The part whose weights are averaged over training: the U-Net alone, as released."""
        return self.denoiser

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(c, h, w) of the latent of an image; raises ValueError where the sides do not divide."""
        factor = self.config.architecture.downsampling * 2 ** (len(self.config.architecture.unet_widths) - 1)
        if height % factor or width % factor:
            raise ValueError(f"image size {height} x {width} is not divisible by {factor}, as this model needs")
        cell = self.config.architecture.downsampling
        return self.config.architecture.latent_channels, height // cell, width // cell

    def prepare(self, mask: torch.Tensor, generator: torch.Generator) -> None:
        """Set the latent scale from a first training batch of masks (B, L, H, W).

        Loads the pretrained codec first; raises ValueError where there is none: a random one must not be frozen.
        """
        if self.config.architecture != ARCHITECTURES["tiny"]:
            load_autoencoder(self.codec.autoencoder, self.config.autoencoder)
        flat = mask.flatten(0, 1).unsqueeze(1)
        self.codec.fit_scale(flat, self._noise(len(flat), flat, generator))

    def _noise(self, count: int, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shape = (count, *self.latent_shape(*pixels.shape[-2:]))
        return torch.randn(shape, generator=generator).to(pixels.device)

    def _denoise(
        self, z_t: torch.Tensor, condition: torch.Tensor, t: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        output = self.denoiser(z_t, condition, t, label)
        if not (self.config.architecture.precondition and self.config.prediction == "eps"):
            return output
        signal, noise = self.schedule.coefficients(t, z_t)
        return noise * z_t + signal * output

    def loss(self, image: torch.Tensor, mask: torch.Tensor, generator: torch.Generator) -> Losses:
        """Eq. 3 for images (B, C, H, W) in [-1, 1] and masks (B, L, H, W) bool; CPU `generator` draws everything."""
        count, labels = mask.shape[:2]
        label = torch.randint(labels, (count,), generator=generator).to(mask.device)
        one = mask[torch.arange(count, device=mask.device), label].unsqueeze(1)  # (B, 1, H, W)
        z0 = self.codec.encode(one, self._noise(count, image, generator)).float()
        eps = self._noise(count, image, generator)
        t = torch.randint(len(self.schedule), (count,), generator=generator).to(image.device)
        z_t = self.schedule.add_noise(z0, eps, t)
        output = self._denoise(z_t, self.vision_encoder(image), t, label)
        return sdseg_loss(output, z0, eps, z_t, t, self.schedule, self.config.prediction, self.config.latent_weight)

    forward = loss

    @torch.no_grad()
    def predict(
        self,
        image: torch.Tensor,
        generators: Sequence[torch.Generator],
        steps: int = 1,
        eta: float = 0.0,
        spacing: Literal["trailing", "leading"] = "trailing",
    ) -> Prediction:
        """Segment images (B, C, H, W); the noise of image i comes from `generators[i]` alone.

        `steps` = 1 is the paper's single step, more is DDIM with `eta` and `spacing`. All labels of an image share
        its noise, as in the released multi-class code.
        """
        z_T = self._noise_each(image, generators)
        condition = self.vision_encoder(image)
        labels = self.config.labels
        z_T, condition = (x.repeat_interleave(labels, dim=0) for x in (z_T, condition))
        label = torch.arange(labels, device=image.device).repeat(len(image))

        def denoise(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            output = self._denoise(z_t, condition, t, label)
            return self.schedule.predict_z0(z_t, output, t, self.config.prediction)

        if steps == 1:
            z0 = single_step(denoise, z_T, self.schedule)
        else:
            noise = None
            if eta:
                drawn = [self._noise_each(image, generators) for _ in range(steps)]
                noise = [n.repeat_interleave(labels, dim=0) for n in drawn]
            z0 = ddim(denoise, z_T, self.schedule, steps, eta, spacing, noise)
        score = self.codec.decode_score(z0).view(len(image), labels, *image.shape[-2:])
        return Prediction(score, score > 0.5)

    def _noise_each(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        if len(generators) != len(image):
            raise ValueError(f"{len(image)} images need as many generators, got {len(generators)}")
        return torch.cat([self._noise(1, image, generator) for generator in generators])

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` (all weights, codec included)."""
        folder = Path(folder)
        weights = {k: v.contiguous() for k, v in self.state_dict().items()}
        write_atomically(folder / "model.safetensors", lambda path: save_file(weights, path))
        text = json.dumps(self.config.model_dump(), indent=1) + "\n"
        write_atomically(folder / "config.json", lambda path: path.write_text(text))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SDSeg:
        """The model that `save_pretrained` wrote; raises ValueError naming a file that cannot be read."""
        folder = Path(folder)
        try:
            model = cls(SDSegConfig.model_validate_json((folder / "config.json").read_bytes()))
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except Exception as error:
            raise ValueError(f"{folder}: not a saved SDSeg model ({str(error).splitlines()[0]})") from error
        return model.eval()
