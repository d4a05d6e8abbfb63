"""A folder of golden data, and how far a value may lie from one in it."""

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

from tests.parity import procedural

log = logging.getLogger(__name__)


class GoldenFolder:
    """The folder that SDSEG_GOLDEN names, or its subfolder `name`, where it has the file `known`; else the tests' own.

    What only the complete data has skips the test that asks for it.
    """

    def __init__(self, name: str, known: str) -> None:
        here = Path(__file__).parents[1] / "data" / f"golden_{name}"
        named = Path(os.environ.get("SDSEG_GOLDEN") or here)
        self.folder = next((path for path in (named / name, named) if (path / known).is_file()), here)
        self._files: dict[str, dict[str, torch.Tensor]] = {}

    def path(self, name: str) -> Path:
        """A file."""
        if not (path := self.folder / name).is_file():
            pytest.skip(f"{name} is not here; name the folder of the golden data in SDSEG_GOLDEN")
        return path

    def json(self, name: str) -> Any:
        """A document's content."""
        return json.loads(self.path(f"{name}.json").read_text())

    def tensors(self, name: str, prefix: str = "") -> dict[str, torch.Tensor]:
        """The tensors of a file whose names begin with `prefix`, without it."""
        if name not in self._files:
            self._files[name] = load_file(self.path(f"{name}.safetensors"))
        chosen = {k.removeprefix(prefix): v for k, v in self._files[name].items() if k.startswith(prefix)}
        if not chosen:
            pytest.skip(f"{prefix}* is not in {name}.safetensors; name the whole golden data in SDSEG_GOLDEN")
        return chosen

    @cached_property
    def salt(self) -> str:
        """What every name is seeded with."""
        return self.json("config")["salt"]

    @cached_property
    def tolerance(self) -> dict[str, Any]:
        """The limits."""
        return self.json("tolerances")

    def input(self, name: str, *shape: int) -> torch.Tensor:
        """A standard normal input or noise."""
        return procedural.tensor(name, shape, self.salt)

    def image(self, name: str, *shape: int) -> torch.Tensor:
        """An image in [0, 1]."""
        return self.input(name, *shape).sigmoid()


def check(item: str, actual: torch.Tensor, expected: torch.Tensor, limit: float) -> None:
    """Equal shapes, and no element further away than `limit`."""
    assert actual.shape == expected.shape, item
    difference = float((actual.detach() - expected.float()).abs().max())
    log.info("%s: %.1e (limit %.1e)", item, difference, limit)
    assert difference <= limit, f"{item}: {difference:.2e} > {limit:.2e}"
