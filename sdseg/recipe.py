"""How to train: one recipe for every method that learns by gradient steps."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """Settings of the training loop. The paper's: lr 4e-5, warm-up 10,000, 100,000 steps, batch 4, EMA 0.9999."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: int = Field(default=0, ge=0)
    decay: Literal["constant", "cosine"] = "constant"
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    max_grad_norm: float | None = None
    flips: tuple[Literal["horizontal", "vertical"], ...] = ("horizontal", "vertical")
    # In-plane size of a random crop of every training image; whole images are validated and predicted.
    crop: int | None = Field(default=None, gt=0)
    validate_every: int = Field(default=2000, gt=0)
    checkpoint_every: int = Field(default=500, gt=0)
    precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = Field(default=0, ge=0)

    def lr_factor(self, step: int) -> float:
        """Multiple of `lr` in the step with this index: linear warm-up, then constant or cosine to zero."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.decay == "constant":
            return 1.0
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * share))
