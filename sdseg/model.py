"""SDSeg itself: frozen mask codec, vision encoder, denoising U-Net, and the two verbs loss and predict."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sdseg.alignment import FeatureAlignment
from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.control import derangement, network_input
from sdseg.denoiser import Denoiser
from sdseg.files import write_atomically
from sdseg.labels import Prediction, choose_class, class_masks, class_scores, decide, of_label
from sdseg.loss import Draws, Losses, pixel_loss, sdseg_loss
from sdseg.mask_codec import MaskCodec, build_autoencoder, load_autoencoder, load_tiny_codec
from sdseg.sampling import Denoise, Spacing, follow, single_step
from sdseg.schedule import schedule_of
from sdseg.vision_encoder import VisionEncoder
from sdseg.weights import load_denoiser, load_vision_encoder
from sdseg.weights.shapes import check_size

# Rows of one call to the networks, where several samples of an image share it.
_TOGETHER = 32


class SDSeg(nn.Module):
    """Latent-diffusion segmentation with a single reverse step.

    With several labels every label is a binary mask of its own, told apart by a class embedding that is
    added to the time embedding (as the released multi-class code does). `teacher` stands in for the one that
    `config.alignment` names.
    """

    def __init__(self, config: SDSegConfig, teacher: nn.Module | None = None) -> None:
        super().__init__()
        shape = config.architecture
        tiny = shape == ARCHITECTURES["tiny"]
        self.config = config
        self.schedule = schedule_of(config.prediction, config.schedule)
        self.codec = MaskCodec(load_tiny_codec() if tiny else build_autoencoder(shape))
        kind = config.vision_encoder
        self.vision_encoder = None if kind == "frozen" else VisionEncoder(shape, light=kind == "light")
        self.denoiser = Denoiser(shape, config.classes, config.conditioning, amplified=config.prediction == "eps")
        self.alignment = FeatureAlignment(config.alignment, shape, teacher) if config.alignment else None
        if self.alignment is not None:
            self.alignment.watch(self.denoiser.unet.down_blocks)
        # Remembers the moments of masks by key, while training (see `sdseg.training.latent_cache`).
        self.cache: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    @property
    def trained(self) -> nn.ModuleDict:
        """The parts that training changes (paper Fig. 1)."""
        parts: dict[str, nn.Module] = {"denoiser": self.denoiser}
        if self.vision_encoder is not None:
            parts["vision_encoder"] = self.vision_encoder
        if self.alignment is not None:
            parts["alignment"] = self.alignment
        return nn.ModuleDict(parts)

    @property
    def averaged(self) -> nn.Module:
        """The part whose weights are averaged over training: the U-Net alone, as released."""
        return self.denoiser

    @property
    def whole_batch(self) -> bool:
        """Whether the loss of a case needs the other cases of its batch."""
        return self.config.control == "shuffled"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters for the optimiser; `lr_scale` multiplies the learning rate of a group."""
        embedding = self.denoiser.unet.class_embedding
        scaled = list(embedding.parameters()) if embedding is not None and self.config.label_lr_scale != 1 else []
        rest = [p for p in self.trained.parameters() if not any(p is s for s in scaled)]
        groups: list[dict[str, Any]] = [{"params": rest, "lr_scale": 1.0}]
        return groups + ([{"params": scaled, "lr_scale": self.config.label_lr_scale}] if scaled else [])

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(c, h, w) of the latent of an image; raises ValueError where the sides do not divide."""
        factor = self.config.architecture.downsampling * 2 ** (len(self.config.architecture.unet_widths) - 1)
        if height % factor or width % factor:
            raise ValueError(f"image size {height} x {width} is not divisible by {factor}, as this model needs")
        cell = self.config.architecture.downsampling
        return self.config.architecture.latent_channels, height // cell, width // cell

    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None:
        """Load pretrained parts and set the latent scale from training masks, batches of (B, L, H, W).

        Raises ValueError where there is no pretrained codec: a random one must not be frozen.
        """
        if self.alignment is not None:
            self.alignment.load()  # refuses here rather than in the first step
        if self.config.architecture != ARCHITECTURES["tiny"]:
            load_autoencoder(self.codec.autoencoder, self.config.autoencoder)
            if self.vision_encoder is not None and self.vision_encoder.like_codec:
                load_vision_encoder(self.vision_encoder, self.codec.autoencoder)
        if self.config.denoiser_weights is not None:
            load_denoiser(self.denoiser.unet, self.config.denoiser_weights)
        scale = self.config.latent_scale
        if isinstance(scale, float):
            self.codec.latent_scale.fill_(scale)
            return
        self.codec.fit_scale(self._scale_batches(islice(masks, 1 if scale == "first_batch" else None), generator))

    def _scale_batches(
        self, masks: Iterable[torch.Tensor], generator: torch.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        device = self.codec.latent_scale.device
        for mask in masks:
            flat = class_masks(mask.to(device), self.config).flatten(0, 1).unsqueeze(1)
            yield flat, self._noise(len(flat), flat.shape[-2:], generator).to(device)

    def _noise(self, count: int, size: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        return torch.randn((count, *self.latent_shape(*size)), generator=generator)

    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> Draws:
        """The random numbers of a training step on `count` images of (H, W); `generator` is a CPU one."""
        last = len(self.schedule) - 1
        low = last if self.config.timesteps == "last" else 0
        u = torch.rand(count, generator=generator)
        posterior, eps = (self._noise(count, size, generator) for _ in range(2))
        t = torch.randint(low, last + 1, (count,), generator=generator)
        partner = derangement(count, generator) if self.whole_batch else None
        return Draws(u, posterior, eps if self.config.noise == "gaussian" else torch.zeros_like(eps), t, partner)

    def condition(self, image: torch.Tensor) -> torch.Tensor:
        """z_c (B, c, h, w) of images (B, C, H, W) in [-1, 1]."""
        if self.vision_encoder is None:
            return self.codec.condition(image)
        return self.vision_encoder(image)

    def denoise(self, z_t: torch.Tensor, condition: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """What the configured prediction names (B, c, h, w): the noise, z0 or v."""
        output = self.denoiser(z_t, condition, t, label)
        if not (self.config.architecture.precondition and self.config.prediction == "eps"):
            return output
        signal, noise = self.schedule.coefficients(t, z_t)
        return noise * z_t + signal * output

    def loss(self, image: torch.Tensor, mask: torch.Tensor, draws: Draws, key: torch.Tensor | None = None) -> Losses:
        """Eq. 3 for images (B, C, H, W) in [-1, 1] and masks (B, L, H, W) bool, plus the pixel loss where weighted.

        `key` (B,) tells the cache which (item, flip) a mask is; None where it has no name.
        """
        draws = Draws(*(x.to(image.device) for x in draws if x is not None))
        classes = class_masks(mask, self.config)
        label = choose_class(classes, draws.class_u, self.config)
        z0 = self._latent(classes, label, draws.posterior, key)
        z_t = self._seen(z0, classes, label, draws, key)
        output = self.denoise(z_t, self.condition(image), draws.t, label)
        config = self.config
        losses = sdseg_loss(output, z0, draws.eps, z_t, draws.t, self.schedule, config.prediction, config.latent_weight)
        if config.pixel_weight:
            estimate = self.schedule.predict_z0(z_t, output, draws.t, config.prediction)
            pixel = pixel_loss(self.codec.decode(estimate), of_label(classes, label))
            losses = losses._replace(total=losses.total + config.pixel_weight * pixel, pixel=pixel.detach())
        if self.alignment is not None:
            alignment = self.alignment(image)
            total = losses.total + self.alignment.config.weight * alignment
            losses = losses._replace(total=total, alignment=alignment.detach())
        return losses

    forward = loss

    def _latent(
        self, classes: torch.Tensor, label: torch.Tensor, posterior: torch.Tensor, key: torch.Tensor | None
    ) -> torch.Tensor:
        # z0 (B, c, h, w) of the masks (B, K, H, W) that `label` (B,) picks.
        one = of_label(classes, label)
        if self.cache is None or key is None:
            moments = self.codec.moments(one)
        else:
            moments = self.cache(one, key.to(label.device) * classes.shape[1] + label)
        return self.codec.sample(moments, posterior)

    def _seen(
        self, z0: torch.Tensor, classes: torch.Tensor, label: torch.Tensor, draws: Draws, key: torch.Tensor | None
    ) -> torch.Tensor:
        # z_t, or what stands in its place. Without noise there is none: even sqrt(alpha_bar) z0 would hand the network
        # its target. A partner shows its mask of the same label.
        control = "none" if self.config.noise == "zeros" else self.config.control
        if (other := draws.partner) is not None:
            keys = None if key is None else key[other.to(key.device)]
            z0 = self._latent(classes[other], label, draws.posterior[other], keys) if self.config.classes else z0[other]
        return network_input(control, z0, draws.eps, draws.t, self.schedule.add_noise)

    @torch.no_grad()
    def predict(
        self,
        image: torch.Tensor,
        generators: Sequence[torch.Generator],
        steps: int = 1,
        eta: float = 0.0,
        spacing: Spacing = "trailing",
        noise: Literal["gaussian", "zeros"] | None = None,
        samples: int = 1,
    ) -> Prediction:
        """Segment images (B, C, H, W); the noise of image i comes from `generators[i]` alone.

        `steps`, `eta` and `spacing` are those of `follow`; one is the paper's single step. `noise` is the start z_T, by
        default as in training. All labels of an image share it, as in the released multi-class code. The mean score of
        `samples` is what decides; the first of them is the single one. A control sees what it saw in training.
        """
        steps, samples = (1, 1) if self.config.control == "none" else (steps, samples)
        condition, scores = self.condition(image), []
        each = max(1, _TOGETHER // len(image))
        for first in range(0, samples, each):
            count = min(each, samples - first)
            later = steps if eta and steps > 1 else 0
            drawn = [[self._noise_each(image, generators) for _ in range(1 + later)] for _ in range(count)]
            z_T, *step_noise = (torch.cat(one) for one in zip(*drawn, strict=True))
            z_T = z_T if (noise or self.config.noise) == "gaussian" else torch.zeros_like(z_T)
            denoise, repeat = self.reverse(condition.repeat(count, 1, 1, 1))
            fresh = [repeat(n) for n in step_noise] or None
            start = repeat(z_T)
            see = partial(_blind, denoise, start) if self.config.control == "random" else denoise
            z0 = follow(see, start, self.schedule, steps, eta, spacing, fresh)
            scores.append(self._scores(z0).unflatten(0, (count, -1)))
        return decide(torch.cat(scores).mean(dim=0), self.config)

    @torch.no_grad()
    def single_step(self, image: torch.Tensor, z_T: torch.Tensor) -> Prediction:
        """The paper's inference for images (B, C, H, W) and their starts z_T (B, c, h, w)."""
        return self.answer(image, self.estimate(image, z_T))

    @torch.no_grad()
    def estimate(self, image: torch.Tensor, z_T: torch.Tensor) -> torch.Tensor:
        """The clean latent (B * K, c, h, w) that one step from z_T finds, before it is decoded."""
        denoise, repeat = self.reverse(self.condition(image))
        return single_step(denoise, repeat(z_T), self.schedule)

    def reverse(self, condition: torch.Tensor) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]:
        """The U-Net with conditions (B, c, h, w) as (z_t, t) -> z0, and what repeats a tensor for its K classes."""
        classes = max(1, self.config.classes)

        def repeat(x: torch.Tensor) -> torch.Tensor:
            return x.repeat_interleave(classes, dim=0)

        label = torch.arange(classes, device=condition.device).repeat(len(condition))
        condition = repeat(condition)

        def denoise(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            output = self.denoise(z_t, condition, t, label)
            return self.schedule.predict_z0(z_t, output, t, self.config.prediction)

        return denoise, repeat

    def answer(self, image: torch.Tensor, z0: torch.Tensor) -> Prediction:
        """Score and mask of images (B, C, H, W) from their clean latents (B * K, c, h, w)."""
        return decide(self._scores(z0), self.config)

    def _scores(self, z0: torch.Tensor) -> torch.Tensor:
        pixels = self.codec.decode(z0)
        return class_scores(pixels.unflatten(0, (-1, max(1, self.config.classes))), self.config)

    def _noise_each(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        if len(generators) != len(image):
            raise ValueError(f"{len(image)} images need as many generators, got {len(generators)}")
        return torch.cat([self._noise(1, image.shape[-2:], g) for g in generators]).to(image.device)

    def drop_alignment(self) -> None:
        """Leave behind what served training alone: the projector and the teacher."""
        if self.alignment is not None:
            self.alignment.unwatch()
            self.alignment = None
            self.config = self.config.model_copy(update={"alignment": None})

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors`: what prediction needs, the codec included."""
        folder = Path(folder)
        weights = {k: v.contiguous() for k, v in self.state_dict().items() if not k.startswith("alignment.")}
        write_atomically(folder / "model.safetensors", lambda path: save_file(weights, path))
        text = json.dumps(self.config.model_dump() | {"alignment": None}, indent=1) + "\n"
        write_atomically(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SDSeg:
        """The model that `save_pretrained` wrote; raises ValueError naming a file that cannot be read."""
        folder = Path(folder)
        try:
            config = SDSegConfig.model_validate_json((folder / "config.json").read_bytes())
            check_size(lambda: cls(config), folder / "model.safetensors")
            model = cls(config)
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except Exception as error:
            raise ValueError(f"{folder}: not a saved SDSeg model ({str(error).splitlines()[0]})") from error
        return model.eval()


def _blind(denoise: Denoise, start: torch.Tensor, _: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return denoise(start, t)  # whatever the sampler has come to
