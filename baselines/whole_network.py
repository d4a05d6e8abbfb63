"""What the training loop asks of a model that learns with all of its one network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class WholeNetwork(nn.Module):
    """Everything in `network` is trained and averaged alike; a subclass adds draw, loss and predict."""

    network: Any

    @property
    def trained(self) -> nn.Module:
        """All of it."""
        return self.network

    @property
    def averaged(self) -> nn.Module:
        """All weights; statistics of a batch norm are no weights and not averaged."""
        return self.network

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, for the optimiser."""
        return [{"params": list(self.network.parameters()), "lr_scale": 1.0}]

    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None:
        """Nothing depends on the data before training."""
