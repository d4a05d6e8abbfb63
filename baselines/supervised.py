"""One adapter for every discriminative network: image in, one logit per label and pixel out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from baselines.sliding_window import check_windows, slide
from baselines.whole_network import WholeNetwork
from sdseg.labels import Prediction
from sdseg.training.recipe import Recipe
from sdseg.training.segmenter import TrainedSegmenter
from sdseg.weights import read_state_dict
from sdseg.weights.pretrained import fill


class Losses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    dice: torch.Tensor
    bce: torch.Tensor


class Supervised(WholeNetwork):
    """A network trained with Dice + binary cross-entropy; score = sigmoid, mask = score > 0.5.

    It predicts with sliding windows of `window` voxels per axis, or whole images where that is None. The network is
    shown sides that divide by `divisor`: black is added around and cut off its answer. `weights` is where training
    starts: a file of the network, or what its `load_pretrained` takes.
    """

    def __init__(
        self,
        network: nn.Module,
        window: Sequence[int] | None = None,
        divisor: int = 1,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.network, self.window, self.divisor, self.weights = network, window, divisor, weights

    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None:
        """Load the weights to start from; raises ValueError naming them and what does not fit."""
        if self.weights is None:
            return
        own_way: Callable[[str], None] | None = getattr(self.network, "load_pretrained", None)
        if own_way is not None:
            own_way(self.weights)
            return
        try:
            fill(self.network, read_state_dict(Path(self.weights)), [])
        except ValueError as error:
            raise ValueError(f"method.options.weights={self.weights}: {error}") from error

    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """A training step has nothing random."""
        return ()

    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Losses:
        """Dice + BCE for images (B, C, *S) in [-1, 1] and masks (B, L, *S) bool.

        Dice is of the rows at hand together, so that a batch in several parts or processes is not quite the same.
        """
        from monai.losses import DiceLoss  # here: it takes seconds, and a prediction needs none

        logits = self.logits(image)
        target = mask.to(logits.dtype)
        dice = DiceLoss(sigmoid=True, batch=True)(logits, target)
        bce = binary_cross_entropy_with_logits(logits, target)
        return Losses(dice + bce, dice.detach(), bce.detach())

    forward = loss

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """The network's answer (B, L, *S) to images (B, C, *S) in [-1, 1] of any size."""
        missing = [-side % self.divisor for side in image.shape[2:]]
        if not any(missing):
            return self.network(image)
        amounts = [n for more in reversed(missing) for n in (more // 2, more - more // 2)]
        logits = self.network(pad(image, amounts, value=-1.0))
        inside = (slice(m // 2, m // 2 + n) for m, n in zip(missing, image.shape[2:], strict=True))
        return logits[(..., *inside)]

    def predict(
        self,
        image: torch.Tensor,
        generators: Sequence[torch.Generator],
        overlap: float = 0.5,
        sw_batch_size: int = 1,
        blend: str = "gaussian",
    ) -> Prediction:
        """Score and mask (B, L, *S); deterministic, so the generators are not used. The options are of windows."""
        if self.window is None:
            logits = self.logits(image)
        else:
            logits = slide(image, self.window, lambda x, _: self.logits(x), overlap, sw_batch_size, blend)
        score = logits.float().sigmoid()
        return Prediction(score, score > 0.5)


def supervised_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    network: str,
    options: dict[str, Any] | None = None,
    dims: int = 2,
    window: Sequence[int] | None = None,
    divisor: int = 1,
    weights: str | None = None,
    overlap: float = 0.5,
    sw_batch_size: int = 1,
    blend: str = "gaussian",
) -> TrainedSegmenter:
    """A network by dotted name, called as `network(spatial_dims=, in_channels=, out_channels=, **options)`.

    With a `window` it trains on random crops of that size. `divisor` and `weights` as in `Supervised`, the rest as in
    its `predict`. Raises ValueError naming an option that does not fit.
    """
    check_windows(task, dims, window, overlap, sw_batch_size, blend)
    settings = Recipe.model_validate({**recipe, "crop": window} if window else recipe)
    _check_grid(task, window, settings.crop, divisor)
    module, _, name = network.rpartition(".")
    build: Callable[..., nn.Module] = getattr(import_module(module), name)
    torch.manual_seed(seed)  # the initial weights
    built = build(spatial_dims=dims, in_channels=task.channels, out_channels=len(task.labels), **(options or {}))
    inference = {"overlap": overlap, "sw_batch_size": sw_batch_size, "blend": blend} if window else {}
    model = Supervised(built, tuple(window) if window else None, divisor, weights)
    return TrainedSegmenter(model, settings, seed, device, dims, inference=inference)


def _check_grid(task: Any, window: Sequence[int] | None, crop: int | Sequence[int] | None, divisor: int) -> None:
    edges = window or ([crop] * 2 if isinstance(crop, int) else crop) or task.image_size
    # Instance normalisation needs more than one voxel on the coarsest grid.
    if divisor > 1 and math.prod(-(-edge // divisor) for edge in edges) < 2:
        what = "method.options.window" if window else "train.crop" if crop else "image_size"
        raise ValueError(f"{what}={list(edges)}: this network needs one edge of more than {divisor}")
