"""Diff-U-Net's golden data: values of the released code on procedural weights, and the limits to compare within."""

from __future__ import annotations

import json
import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from baselines.diff_unet.loading import load_official
from baselines.diff_unet.network import DiffUNet
from tests.parity import procedural

HERE = Path(__file__).parents[1] / "data" / "golden_diffunet"

log = logging.getLogger(__name__)


def golden_folder() -> Path:
    """The folder that SDSEG_GOLDEN names (or its subfolder `diffunet`), else what ships with the tests."""
    named = Path(os.environ.get("SDSEG_GOLDEN") or HERE)
    known = (path for path in (named / "diffunet", named) if (path / "manifest_btcv_small.json").is_file())
    return next(known, HERE)


class Golden:
    """The whole folder; files and tensors that only the complete one has skip the test that asks for them."""

    def __init__(self) -> None:
        self.folder = golden_folder()
        self.salt: str = self.json("config")["salt"]
        self.tolerance: dict[str, Any] = self.json("tolerances")
        self._files: dict[str, dict[str, torch.Tensor]] = {}

    def json(self, name: str) -> Any:
        """A document."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            pytest.skip(f"{path.name} is not here; name the folder of the golden data in SDSEG_GOLDEN")
        return json.loads(path.read_text())

    def tensors(self, file: str, prefix: str = "") -> dict[str, torch.Tensor]:
        """The tensors of a file whose names begin with `prefix`, without it."""
        if file not in self._files:
            self._files[file] = load_file(self.folder / f"{file}.safetensors")
        found = {k.removeprefix(prefix): v for k, v in self._files[file].items() if k.startswith(prefix)}
        if not found:
            pytest.skip(f"{prefix}* is not in {file}.safetensors; name the whole golden data in SDSEG_GOLDEN")
        return found

    def input(self, name: str, *shape: int) -> torch.Tensor:
        """A standard normal input or noise."""
        return procedural.tensor(name, shape, self.salt)

    def image(self, name: str, *shape: int) -> torch.Tensor:
        """An image in [0, 1]."""
        return self.input(name, *shape).sigmoid()

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
        actual = actual.detach()[(..., *[slice(None, None, stride)] * len(spatial))]
        assert actual.shape == expected.shape, item
        difference = float((actual - expected).abs().max())
        log.info("%s: %.1e (limit %.1e)", item, difference, limit)
        assert difference <= limit, f"{item}: {difference:.2e} > {limit:.2e}"
