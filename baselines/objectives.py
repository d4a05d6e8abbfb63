"""What a supervised network is trained for: its loss, and what its logits mean as a score and a mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from sdseg.labels import Prediction


class Objective(Protocol):
    """A loss and the decision that belongs to it; masks are (B, L, *S) bool, logits (B, K, *S) with K = channels(L)."""

    def channels(self, labels: int) -> int:
        """How many output channels K a network needs for L labels."""

    def loss(self, logits: torch.Tensor, mask: torch.Tensor) -> Any:
        """A NamedTuple of scalars: the `total` and its parts, which are logged."""

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Of every channel, (B, K, *S) float32; what is resized before the decision."""

    def decide(self, probabilities: torch.Tensor) -> Prediction:
        """Score and mask (B, L, *S)."""


class DiceBceLosses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    dice: torch.Tensor
    bce: torch.Tensor


class DiceBce:
    """Soft Dice over the batch + binary cross-entropy of every label; score = sigmoid, mask = score > 0.5."""

    def channels(self, labels: int) -> int:
        """One a label."""
        return labels

    def loss(self, logits: torch.Tensor, mask: torch.Tensor) -> DiceBceLosses:
        """Dice is of the rows at hand together, so that a batch in several parts or processes is not quite the same."""
        from monai.losses import DiceLoss  # here: it takes seconds, and a prediction needs none

        target = mask.to(logits.dtype)
        dice = DiceLoss(sigmoid=True, batch=True)(logits, target)
        bce = binary_cross_entropy_with_logits(logits, target)
        return DiceBceLosses(dice + bce, dice.detach(), bce.detach())

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Sigmoid."""
        return logits.float().sigmoid()

    def decide(self, probabilities: torch.Tensor) -> Prediction:
        """Labels may overlap."""
        return Prediction(probabilities, probabilities > 0.5)


class PixelDiceLosses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    pixel_dice: torch.Tensor
    bce: torch.Tensor


class SSFormerReleased(DiceBce):
    """SSFormer's loss as released: binary cross-entropy + a "Dice" of single pixels.

    The release takes the sigmoid twice, so that its loss stays far above 0; scores and masks are those of one.
    """

    def __init__(self, sigmoids: int = 2) -> None:
        if sigmoids not in (1, 2):
            raise ValueError(f"method.options.objective.sigmoids={sigmoids}: expected 2, as released, or 1")
        self.sigmoids = sigmoids

    def loss(self, logits: torch.Tensor, mask: torch.Tensor) -> PixelDiceLosses:  # type: ignore[override]
        """Masks may be soft, as the release's resized ones are."""
        shown = logits.sigmoid() if self.sigmoids == 2 else logits
        share, target = shown.sigmoid(), mask.to(logits.dtype)
        dice = (1 - (2 * share * target + 1) / (share + target + 1)).mean()
        bce = binary_cross_entropy_with_logits(shown, target)
        return PixelDiceLosses(dice + bce, dice.detach(), bce.detach())


class CeDiceLosses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    ce: torch.Tensor
    dice: torch.Tensor


class CeDice:
    """TransU-Net's loss: `ce` x cross-entropy + `dice` x Dice of a softmax over the background and the labels.

    Dice has squared denominators and sums over the batch; the background and absent classes count in its mean.
    """

    smooth = 1e-5

    def __init__(self, ce: float = 0.5, dice: float = 0.5) -> None:
        self.ce, self.dice = ce, dice

    def channels(self, labels: int) -> int:
        """The background's, then one a label."""
        return labels + 1

    def loss(self, logits: torch.Tensor, mask: torch.Tensor) -> CeDiceLosses:
        """Raises ValueError where labels overlap: a pixel has one class."""
        if bool((mask.sum(1) > 1).any()):
            raise ValueError(
                "method.options.objective=ce_dice: labels of this dataset overlap, and a pixel has one class here; "
                "use method.options.objective=dice_bce"
            )
        target = torch.cat([~mask.any(1, keepdim=True), mask], 1).to(logits.dtype)
        ce = cross_entropy(logits, target.argmax(1))
        share, over = logits.softmax(1), [0, *range(2, logits.ndim)]
        overlap, sizes = (share * target).sum(over), (share**2).sum(over) + (target**2).sum(over)
        dice = (1 - (2 * overlap + self.smooth) / (sizes + self.smooth)).mean()
        return CeDiceLosses(self.ce * ce + self.dice * dice, ce.detach(), dice.detach())

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Softmax."""
        return logits.float().softmax(1)

    def decide(self, probabilities: torch.Tensor) -> Prediction:
        """The most probable class, the background among them."""
        classes = torch.arange(1, probabilities.shape[1], device=probabilities.device)
        mask = probabilities.argmax(1, keepdim=True) == classes.view(1, -1, *[1] * (probabilities.ndim - 2))
        return Prediction(probabilities[:, 1:], mask)


_OBJECTIVES: dict[str, type] = {"dice_bce": DiceBce, "ce_dice": CeDice, "ssformer_released": SSFormerReleased}


def build_objective(choice: str | Mapping[str, Any]) -> Objective:
    """An objective by its name, or by a mapping with `name` and its own options; ValueError naming what is unknown."""
    name, options = (choice, {}) if isinstance(choice, str) else (choice.get("name"), {**choice})
    options.pop("name", None)
    if name not in _OBJECTIVES:
        raise ValueError(f"method.options.objective={name}: known are {', '.join(_OBJECTIVES)}")
    try:
        return _OBJECTIVES[name](**options)
    except TypeError as error:
        raise ValueError(f"method.options.objective={name}: {error}") from error
