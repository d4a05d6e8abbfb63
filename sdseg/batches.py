"""Training batches whose content depends on (seed, step) alone: any worker count, any restart, the same data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from sdseg.recipe import Recipe


def step_generator(seed: int, step: int, purpose: int = 0) -> torch.Generator:
    """A fresh CPU generator for one training step."""
    state = np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class StepSampler(Sampler[list[int]]):
    """Index lists of steps `start`..`stop`-1, cut from an endless row of seeded permutations."""

    def __init__(self, count: int, batch_size: int, seed: int, start: int, stop: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            positions = range(step * self.batch_size, (step + 1) * self.batch_size)
            yield [int(self._epoch(p // self.count)[p % self.count]) for p in positions]

    def _epoch(self, epoch: int) -> np.ndarray:
        if getattr(self, "_cached", (None,))[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
            self._cached: tuple[Any, ...] = (epoch, order)
        return self._cached[1]


def flip(image: torch.Tensor, mask: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> None:
    """Flip each (image, mask) of a batch in place, each allowed axis with probability one half."""
    axes = {"horizontal": -1, "vertical": -2}
    for name in recipe.flips:
        for i in torch.nonzero(torch.rand(len(image), generator=generator) < 0.5).flatten().tolist():
            image[i] = image[i].flip(axes[name])
            mask[i] = mask[i].flip(axes[name])


def random_crop(
    image: torch.Tensor, mask: torch.Tensor, size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same random square (at most `size` per side) of image (B, C, *S) and mask (B, L, *S), one place per item."""
    height, width = (min(size, side) for side in image.shape[-2:])
    places = torch.rand(len(image), 2, generator=generator)
    rows = (places[:, 0] * (image.shape[-2] - height + 1)).long().tolist()
    columns = (places[:, 1] * (image.shape[-1] - width + 1)).long().tolist()
    cut = [
        (i[..., r : r + height, c : c + width], m[..., r : r + height, c : c + width])
        for i, m, r, c in zip(image, mask, rows, columns, strict=True)
    ]
    return torch.stack([i for i, _ in cut]), torch.stack([m for _, m in cut])


def training_batches(data: Any, recipe: Recipe, seed: int, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(image (B, C, *S), mask (B, L, *S)) of steps `start`..`recipe.steps`-1."""
    sampler = StepSampler(len(data), recipe.batch_size, seed, start, recipe.steps)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=recipe.workers, collate_fn=_stack)
    for step, (image, mask) in enumerate(loader, start):
        generator = step_generator(seed, step, purpose=1)
        flip(image, mask, recipe, generator)
        yield (image, mask) if recipe.crop is None else random_crop(image, mask, recipe.crop, generator)


def _stack(items: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([i["image"] for i in items]), torch.stack([i["mask"] for i in items])
