"""One adapter for every discriminative network: image in, logits per pixel out, and an objective that reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from baselines.normalising import check_normalise, normalised
from baselines.objectives import DiceBce, Objective, build_objective
from baselines.sliding_window import check_windows, slide
from baselines.whole_network import WholeNetwork
from sdseg.labels import Prediction
from sdseg.training.recipe import Recipe
from sdseg.training.segmenter import TrainedSegmenter
from sdseg.weights import read_state_dict
from sdseg.weights.pretrained import fill, part


class Supervised(WholeNetwork):
    """A network trained for an `objective`, by default Dice + binary cross-entropy.

    It predicts with sliding windows of `window` voxels per axis, or whole images where that is None. The network is
    shown sides that divide by `divisor`: black is added around and cut off its answer. `weights` is where training
    starts: a file of the network, or what its `load_pretrained` takes. With an `input_size` it is shown images of that
    size, bilinearly: the loss is taken there, and the probabilities are brought back before the decision. `normalise`
    says which values it expects (`baselines.normalising`).
    """

    def __init__(
        self,
        network: nn.Module,
        window: Sequence[int] | None = None,
        divisor: int = 1,
        weights: str | None = None,
        objective: Objective | None = None,
        input_size: Sequence[int] | None = None,
        normalise: str = "none",
    ) -> None:
        super().__init__()
        self.network, self.window, self.divisor, self.weights = network, window, divisor, weights
        self.objective = objective or DiceBce()
        self.input_size, self.normalise = input_size, normalise

    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None:
        """Load the weights to start from; raises ValueError naming them and what does not fit."""
        if self.weights is None:
            return
        own_way: Callable[[str], None] | None = getattr(self.network, "load_pretrained", None)
        if own_way is not None:
            own_way(self.weights)
            return
        try:
            state = read_state_dict(Path(self.weights))
            fill(self.network, part(state, "network.") or state, [])  # the former of a model of this class
        except ValueError as error:
            raise ValueError(f"method.options.weights={self.weights}: {error}") from error

    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """A training step has nothing random."""
        return ()

    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Any:
        """The objective's losses for images (B, C, *S) in [-1, 1] and masks (B, L, *S) bool."""
        size = self.input_size or image.shape[2:]
        if mask.shape[2:] != torch.Size(size):
            mask = _resized(mask.to(image.dtype), size) > 0.5
        return self.objective.loss(self.logits(_resized(image, size)), mask)

    forward = loss

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """The network's answer (B, K, *S) to images (B, C, *S) in [-1, 1] of any size that it is shown."""
        missing = [-side % self.divisor for side in image.shape[2:]]
        if not any(missing):
            return self.network(normalised(image, self.normalise))
        amounts = [n for more in reversed(missing) for n in (more // 2, more - more // 2)]
        logits = self.network(normalised(pad(image, amounts, value=-1.0), self.normalise))
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
            logits = self.logits(_resized(image, self.input_size or image.shape[2:]))
        else:
            logits = slide(image, self.window, lambda x, _: self.logits(x), overlap, sw_batch_size, blend)
        return self.objective.decide(_resized(self.objective.probabilities(logits), image.shape[2:]))


def _resized(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return x if x.shape[2:] == torch.Size(size) else interpolate(x, tuple(size), mode="bilinear", align_corners=False)


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
    objective: str | Mapping[str, Any] = "dice_bce",
    input_size: int | Sequence[int] | None = None,
    normalise: str = "none",
) -> TrainedSegmenter:
    """A network by dotted name, called as `network(spatial_dims=, in_channels=, out_channels=, **options)`.

    With a `window` it trains on random crops of that size. `objective` is a name of `baselines.objectives`, or a
    mapping of the name and its options; `input_size` an edge or (H, W). `divisor`, `normalise` and `weights` as in
    `Supervised`, the rest as in its `predict`. Raises ValueError naming an option that does not fit.
    """
    check_windows(task, dims, window, overlap, sw_batch_size, blend)
    settings = Recipe.model_validate({**recipe, "crop": window} if window else recipe)
    grid = _input_grid(input_size, dims, window)
    if grid is None:
        _check_grid(task, window, settings.crop, divisor)
    aim, channels = build_objective(objective), check_normalise(normalise, task.channels, "method.options.normalise")
    module, _, name = network.rpartition(".")
    build: Callable[..., nn.Module] = getattr(import_module(module), name)
    torch.manual_seed(seed)  # the initial weights
    shape = {"spatial_dims": dims, "in_channels": channels, "out_channels": aim.channels(len(task.labels))}
    built = build(**shape, **(options or {}))
    inference = {"overlap": overlap, "sw_batch_size": sw_batch_size, "blend": blend} if window else {}
    model = Supervised(built, tuple(window) if window else None, divisor, weights, aim, grid, normalise)
    return TrainedSegmenter(model, settings, seed, device, dims, inference=inference)


def _input_grid(size: int | Sequence[int] | None, dims: int, window: Sequence[int] | None) -> tuple[int, ...] | None:
    if size is None:
        return None
    if dims != 2 or window:
        raise ValueError(f"method.options.input_size={size}: for whole images, not for windows or volumes; use null")
    edges = (size, size) if isinstance(size, int) else tuple(size)
    if len(edges) != 2 or min(edges) < 1:
        raise ValueError(f"method.options.input_size={list(edges)}: expected an edge or two, in pixels, or null")
    return edges


def _check_grid(task: Any, window: Sequence[int] | None, crop: int | Sequence[int] | None, divisor: int) -> None:
    edges = window or ([crop] * 2 if isinstance(crop, int) else crop) or task.image_size
    # Instance normalisation needs more than one voxel on the coarsest grid.
    if divisor > 1 and math.prod(-(-edge // divisor) for edge in edges) < 2:
        what = "method.options.window" if window else "train.crop" if crop else "image_size"
        raise ValueError(f"{what}={list(edges)}: this network needs one edge of more than {divisor}")
