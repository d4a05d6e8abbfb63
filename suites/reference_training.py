"""The reference implementation of a training step's cost: what the official code does, in plain float32."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


class OfficialTraining:
    """Trains an SDSeg model step by step as the release does.

    Every mask is encoded in every step, each attention block of the U-Net is computed again for its gradients, AdamW
    and the average of the weights go through the parameters one by one, and the loss is read in every step.
    """

    def __init__(self, model: Any, lr: float, weight_decay: float, ema_decay: float) -> None:
        self.model, self.ema_decay, self.updates = model.train(), ema_decay, 0
        groups = model.parameter_groups()
        self.base = [lr * group.pop("lr_scale") for group in groups]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, foreach=False, fused=False)
        self.shadow = {name: p.detach().clone() for name, p in model.averaged.named_parameters()}
        for module in model.averaged.modules():
            if type(module).__name__ == "Attention":
                module.forward = partial(checkpoint, module.forward, use_reentrant=False)

    def step(self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], lr_factor: float) -> float:
        """One update from images (B, C, H, W) in [-1, 1] and masks (B, L, H, W) bool; returns the loss."""
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * lr_factor
        device = next(self.model.parameters()).device
        loss = self.model.loss(image.to(device), mask.to(device), draws).total
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._average()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        self.updates += 1
        decay = min(self.ema_decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self.model.averaged.named_parameters():
            shadow = self.shadow[name]
            shadow.sub_((1 - decay) * (shadow - parameter))
