"""What a training keeps to look at later: small arrays of a few validation items, at the moments a recipe asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdseg.files import write_atomically
from sdseg.training.batches import step_generator
from sdseg.training.recipe import Recipe

# (images (B, C, *S), masks (B, L, *S) bool, a generator per image) -> named arrays
Look = Callable[[torch.Tensor, torch.Tensor, Sequence[torch.Generator]], Mapping[str, np.ndarray]]
CASES = 4


class Traces:
    """Writes `traces/step-000123.npz` below `workdir`, where the recipe says `keep` and a method has something to show.

    A file holds `case` (B,), `image` (B, C, *S) uint8 and `mask` (B, L, *S) bool of validation items, and what `look`
    gives. The noise of an item is that of its validation.
    """

    def __init__(self, look: Look | None, data: Any, recipe: Recipe, workdir: Path, seed: int) -> None:
        self.look, self.data, self.folder, self.seed = look, data, workdir / "traces", seed
        shares = (recipe.keep or ()) if look else ()
        self.steps = {round(share * recipe.steps) for share in shares}
        self.chosen = typical_items(data, recipe.keep_cases or CASES) if self.steps else []

    def write(self, step: int, device: torch.device) -> None:
        """Look at the model as it is, `step` steps into its training; a file that is there is written again."""
        assert self.look is not None
        items = [self.data[index] for index in self.chosen]
        image, mask = (torch.stack([item[name] for item in items]) for name in ("image", "mask"))
        generators = [step_generator(self.seed, index, purpose=3) for index in self.chosen]
        with torch.no_grad():
            seen = self.look(image.to(device), mask.to(device), generators)
        grey = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        case = [str(item.get("case_id", index)) for item, index in zip(items, self.chosen, strict=True)]
        content: dict[str, Any] = {"case": np.array(case), "image": grey.numpy(), "mask": mask.numpy(), **seen}

        def store(path: Path) -> None:
            with path.open("wb") as file:
                np.savez_compressed(file, **content)

        write_atomically(self.folder / f"step-{step:06d}.npz", store)


def typical_items(data: Any, count: int) -> list[int]:
    """One item of each of `count` equal parts of the data: of those that show something the one of median area."""
    areas = [int(data[index]["mask"].sum()) for index in range(len(data))]
    chosen = []
    for part in np.array_split(np.arange(len(data)), min(count, len(data))):
        shown = sorted((index for index in part if areas[index]), key=lambda index: areas[index])
        chosen.append(int(shown[len(shown) // 2] if shown else part[0]))
    return chosen
