"""A light vision encoder for a trained model, learned by the answers that the model's U-Net gives with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sdseg.arithmetic import full_float32
from sdseg.loss import Draws, Losses
from sdseg.model import SDSeg
from sdseg.sampling import single_step
from sdseg.vision_encoder import VisionEncoder


class Student(SDSeg):
    """A trained SDSeg with a light vision encoder in place of its own; all else is the teacher's, frozen and shared.

    It learns the clean latent that the teacher's single step finds from the same noise, not the teacher's condition:
    of that, only what the U-Net makes of it counts. It answers in one step; more were not learned.
    """

    def __init__(self, teacher: SDSeg) -> None:
        super().__init__(teacher.config.model_copy(update={"vision_encoder": "light", "alignment": None}))
        teacher.drop_alignment()
        teacher.requires_grad_(False).eval()
        self.denoiser, self.codec = teacher.denoiser, teacher.codec
        self.vision_encoder = VisionEncoder(self.config.architecture.model_copy(update={"dropout": 0.0}), light=True)
        self._teacher = (teacher,)  # in a tuple: no part of this model, and in none of its files

    @property
    def trained(self) -> nn.ModuleDict:
        """The light vision encoder alone."""
        assert self.vision_encoder is not None
        return nn.ModuleDict({"vision_encoder": self.vision_encoder})

    @property
    def averaged(self) -> nn.Module:
        """As `trained`."""
        return self.trained["vision_encoder"]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group at the recipe's rate."""
        return [{"params": list(self.trained.parameters()), "lr_scale": 1.0}]

    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None:
        """Nothing: the teacher brings weights and scale."""

    def train(self, mode: bool = True) -> Student:
        """The teacher's parts stay in evaluation mode: their dropout would be noise in the lesson."""
        super().train(mode)
        self.denoiser.eval()
        return self

    def loss(self, image: torch.Tensor, mask: torch.Tensor, draws: Draws, key: torch.Tensor | None = None) -> Losses:
        """Mean absolute error of the estimated clean latent for images (B, C, H, W); masks are not looked at."""
        z_T = Draws(*draws).eps.to(image.device)
        with full_float32():  # an error of a predicted noise counts 38.7 times in the clean latent
            with torch.no_grad(), answering_exactly(self):
                expected = self._estimate(image, z_T)
            error = (self._estimate(image, z_T) - expected).abs().mean()
        return Losses(error, error.detach(), error.detach())

    forward = loss

    def teacher_encoder(self) -> VisionEncoder | None:
        """The teacher's vision encoder, where this model lies; None where that is the codec's own."""
        encoder = self._teacher[0].vision_encoder
        return None if encoder is None else encoder.to(self.codec.latent_scale.device)

    def _estimate(self, image: torch.Tensor, z_T: torch.Tensor) -> torch.Tensor:
        denoise, repeat = self.reverse(self.condition(image))
        return single_step(denoise, repeat(z_T), self.schedule)


@contextmanager
def answering_exactly(model: SDSeg) -> Iterator[None]:
    """Let a model answer without its light parts: with the frozen decoder, and a student with its teacher's encoder."""
    light, encoder = model.codec.light, model.vision_encoder
    model.codec.light = None
    if isinstance(model, Student):
        model.vision_encoder = model.teacher_encoder()
    try:
        yield
    finally:
        model.codec.light, model.vision_encoder = light, encoder
