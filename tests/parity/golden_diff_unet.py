"""Diff-U-Net's golden data: values of the released code on procedural weights, and the limits to compare within."""

from __future__ import annotations

from functools import cached_property

import torch

from baselines.diff_unet.loading import load_official
from baselines.diff_unet.network import DiffUNet
from tests.parity import folder, procedural


class Golden(folder.GoldenFolder):
    """The whole folder."""

    def __init__(self) -> None:
        super().__init__("diffunet", "manifest_btcv_small.json")

    def official_state(self, config: str) -> dict[str, torch.Tensor]:
        """A complete procedural checkpoint under the released names."""
        tensors = self.json(f"manifest_{config}")["tensors"]
        return {key: procedural.weight(key, entry["shape"], self.salt) for key, entry in tensors.items()}

    @cached_property
    def _networks(self) -> dict[str, DiffUNet]:
        return {}

    def network(self, config: str) -> DiffUNet:
        """That checkpoint through the project's own loader."""
        if config not in self._networks:
            self._networks[config] = load_official(self.official_state(config))
        return self._networks[config]

    def check(
        self, item: str, actual: torch.Tensor, expected: torch.Tensor, limit: float, stride: int | None = None
    ) -> None:
        """Compare with a map (B, C, *S) that was stored with one stride along every axis of S."""
        spatial = actual.shape[2:]
        if stride is None:
            stride = next(s for s in range(1, 9) if [-(-n // s) for n in spatial] == list(expected.shape[2:]))
        folder.check(item, actual[(..., *[slice(None, None, stride)] * len(spatial))], expected, limit)
