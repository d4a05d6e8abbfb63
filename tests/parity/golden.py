"""The golden data: values of the released code, procedural weights for the loader, and the limits to compare within."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any

import torch
from safetensors import safe_open

from tests.parity import procedural
from tests.parity.folder import GoldenFolder, check, log

UNET = "model.diffusion_model."
MARGIN = 10  # over float32's own error in the released code
_VARIANTS = {"multiclass": "multiclass_additional_keys", "attn_all": "attn_all_additional_keys"}


class Golden(GoldenFolder):
    """One configuration of the golden data, `tiny` or `full`."""

    def __init__(self, size: str) -> None:
        super().__init__("sdseg", "manifest_tiny.json")
        self.size = size
        self.batch, self.side = (2, 64) if size == "tiny" else (1, 256)
        self.latent = self.side // 8

    @cached_property
    def salt(self) -> str:
        """What every name is seeded with: in the metadata of the tensors, or in a json file beside them."""
        with safe_open(self.path("tiny.safetensors"), "pt") as file:
            metadata = file.metadata() or {}
        documents = [metadata, *(json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json")))]
        return next(d["salt"] for d in documents if isinstance(d, dict) and "salt" in d)

    @cached_property
    def values(self) -> dict[str, torch.Tensor]:
        """Tensors to compare with."""
        return self.tensors(self.size)

    @cached_property
    def scalars(self) -> dict[str, Any]:
        """Numbers to compare with."""
        return self.json(self.size)

    @cached_property
    def tolerance(self) -> dict[str, Any]:
        """Errors of float32 in the released code."""
        return self.json("tolerance")

    def input(self, name: str, *shape: int, image: bool = False) -> torch.Tensor:
        """A procedural input of this configuration."""
        return procedural.tensor(f"{self.size}/{name}", shape, self.salt, image)

    def masks(self, name: str, count: int) -> torch.Tensor:
        """Ellipses (count, 1, side, side) bool."""
        names = [f"{self.size}/{name}/mask_{i}" for i in range(count)]
        return torch.stack([procedural.ellipse(n, self.salt, self.side) for n in names]).unsqueeze(1)

    def official_state(self, variant: str | None = None, own_ema: bool = False) -> dict[str, torch.Tensor]:
        """A complete procedural checkpoint under the released names; averaged weights equal the raw ones or not."""
        manifest, config = self.json(f"manifest_{self.size}"), self.json(f"config_{self.size}")
        shapes = {k: v["shape"] for group in manifest["groups"].values() for k, v in group.items()}
        for key, entry in manifest[_VARIANTS[variant]].items() if variant else ():
            shapes[key] = entry["shape"]
            # An attention pushes the upsampler behind it from place 1 to place 2.
            if moved := re.fullmatch(rf"({UNET}output_blocks\.\d+)\.2\.(.*)", key):
                shapes.pop(f"{moved[1]}.1.{moved[2]}", None)
        state = self.tensors("schedule")
        state.pop("lvlb_weights")
        state["scale_factor"] = torch.tensor(config["diffusion"]["scale_factor"])
        state["model_ema.decay"] = torch.tensor(0.9999)
        state["model_ema.num_updates"] = torch.tensor(0, dtype=torch.int32)
        named = [key for key in shapes if key.startswith((UNET, "first_stage_model.", "cond_stage_model."))]
        state |= {key: procedural.weight(key, shapes[key], self.salt) for key in named}
        for key in [key for key in named if key.startswith(UNET)]:
            flat = f"model_ema.diffusion_model{key.removeprefix(UNET).replace('.', '')}"
            state[flat] = procedural.weight(flat, shapes[key], self.salt) if own_ema else state[key]
        return state

    def check(self, item: str, actual: torch.Tensor, expected: torch.Tensor | None = None) -> None:
        """Compare a tensor item within ten times the error that float32 has in the released code."""
        expected = self.values[item] if expected is None else expected
        limit = MARGIN * self.tolerance[self.size][re.sub(r"\.(f16|crop)$", "", item)]["max_abs_diff"]
        if expected.dtype == torch.float16:  # stored coarsely
            limit += float(expected.abs().max()) * 2**-11
        check(f"{self.size} {item}", actual, expected, limit)

    def check_number(self, item: str, actual: float, expected: float, section: str, floor: float = 1e-5) -> None:
        """Compare a number within ten times float32's relative error, at least `floor`."""
        limit = max(floor, MARGIN * self.tolerance[section].get(item, {"rel": 0.0})["rel"])
        difference = abs(actual - expected) / abs(expected)
        log.info("%s %s: relative %.1e (limit %.1e)", self.size, item, difference, limit)
        assert difference <= limit, f"{item}: {actual} instead of {expected}"

    def check_mask(self, item: str, score: torch.Tensor, mask: torch.Tensor) -> None:
        """Equal masks, except where the score is within 1e-3 of one half."""
        differs = mask != self.values[item].bool()
        log.info("%s %s: %d pixels differ", self.size, item, int(differs.sum()))
        assert not bool((differs & ((score - 0.5).abs() > 1e-3)).any())
