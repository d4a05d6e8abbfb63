"""One adapter for every discriminative network: image in, one logit per label and pixel out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from monai.losses import DiceLoss
from torch import nn

from baselines.whole_network import WholeNetwork
from sdseg.labels import Prediction
from sdseg.recipe import Recipe
from sdseg.segmenter import TrainedSegmenter


class Losses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    dice: torch.Tensor
    bce: torch.Tensor


class Supervised(WholeNetwork):
    """A network trained with Dice + binary cross-entropy; score = sigmoid, mask = score > 0.5."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dice = DiceLoss(sigmoid=True, batch=True)
        self.bce = nn.BCEWithLogitsLoss()

    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """A training step has nothing random."""
        return ()

    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Losses:
        """Dice + BCE for images (B, C, *S) in [-1, 1] and masks (B, L, *S) bool.

        Dice is of the rows at hand together, so that a batch in several parts or processes is not quite the same.
        """
        logits = self.network(image)
        target = mask.to(logits.dtype)
        dice, bce = self.dice(logits, target), self.bce(logits, target)
        return Losses(dice + bce, dice.detach(), bce.detach())

    forward = loss

    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """Score and mask (B, L, *S); deterministic, so the generators are not used."""
        score = self.network(image).float().sigmoid()
        return Prediction(score, score > 0.5)


def supervised_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    network: str,
    options: dict[str, Any] | None = None,
    dims: int = 2,
) -> TrainedSegmenter:
    """A network by dotted name, called as `network(spatial_dims=, in_channels=, out_channels=, **options)`."""
    module, _, name = network.rpartition(".")
    build: Callable[..., nn.Module] = getattr(import_module(module), name)
    torch.manual_seed(seed)  # the initial weights
    built = build(spatial_dims=dims, in_channels=task.channels, out_channels=len(task.labels), **(options or {}))
    return TrainedSegmenter(Supervised(built), Recipe.model_validate(recipe), seed, device, dims)
