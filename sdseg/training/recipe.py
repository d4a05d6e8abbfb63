"""How to train: one recipe for every method that learns by gradient steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# The released schedule's first factor; it rises from here to 1.
_WARMUP_START = 1e-6
_POLY_EXPONENT = 0.9


class Recipe(BaseModel):
    """Settings of the training loop. The paper's: lr 4e-5, warm-up 10,000, 100,000 steps, batch 4, EMA 0.9999."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(gt=0)
    # Of all processes together; each takes its share, in `accumulate` parts one after the other.
    batch_size: int = Field(gt=0)
    accumulate: int = Field(default=1, gt=0)
    lr: float = Field(gt=0)
    # AdamW, or SGD with momentum (not Nesterov's); `momentum` is of SGD alone.
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: int = Field(default=0, ge=0)
    decay: Literal["constant", "cosine", "poly"] = "constant"
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    max_grad_norm: float | None = Field(default=None, gt=0)
    flips: tuple[Literal["horizontal", "vertical"], ...] = ("horizontal", "vertical")
    # Random crop of every training image: the side of a square in the plane, or an edge per axis. Which share of the
    # crops is centred on a pixel of the mask. Whole images are validated and predicted.
    crop: Annotated[int, Field(gt=0)] | tuple[Annotated[int, Field(gt=0)], ...] | None = None
    crops_on_target: float = Field(default=0.0, ge=0, le=1)
    validate_every: int = Field(default=2000, gt=0)
    checkpoint_every: int = Field(default=500, gt=0)
    precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = Field(default=0, ge=0)
    # What makes a step cheaper and changes no more than rounding (see `sdseg.training.acceleration`).
    cache_latents: bool = True
    channels_last: bool = False
    compile: bool = False
    checkpoint_activations: bool = False
    # Shares of the training at which a method that can shows what it has come to (see `sdseg.training.traces`), and of
    # how many validation items; the weights are the same with and without.
    keep: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None
    keep_cases: int | None = Field(default=None, gt=0)

    @property
    def orientations(self) -> int:
        """In how many ways the flips can show one image."""
        return int(2 ** len(self.flips))

    def seen(self, size: Sequence[int]) -> tuple[int, ...]:
        """Edges of what a training step sees of items of this size (H, W) or (D, H, W)."""
        if not isinstance(self.crop, int):
            return self.crop or tuple(size)
        return (*size[:-2], *(min(self.crop, edge) for edge in size[-2:]))

    def lr_factor(self, step: int) -> float:
        """Multiple of `lr` in the step with this index: the released linear warm-up, then constant, cosine or poly.

        Cosine ends at 0. Poly is (1 - i / n)^0.9 of the n steps after the warm-up, where i lags one step behind, as in
        the released TransU-Net and its descendants: the first two steps have the whole rate.
        """
        if step < self.warmup:
            return _WARMUP_START + (1 - _WARMUP_START) * step / self.warmup
        if self.decay == "constant":
            return 1.0
        done, steps = step - self.warmup, max(1, self.steps - self.warmup)
        if self.decay == "poly":
            return (1 - max(0, done - 1) / steps) ** _POLY_EXPONENT
        share = done / steps
        return 0.5 * (1 + math.cos(math.pi * share))
