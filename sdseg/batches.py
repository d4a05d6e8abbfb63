"""Training batches whose content depends on (seed, step) alone: any worker or process count, any restart, the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from sdseg.recipe import Recipe

_AXES = {"horizontal": -1, "vertical": -2}


class TrainingBatch(NamedTuple):
    """Rows of a global batch; `key` (B,) names each mask by item and flip, None where a crop leaves it no name."""

    image: torch.Tensor  # (B, C, *S)
    mask: torch.Tensor  # (B, L, *S) bool
    key: torch.Tensor | None


def step_generator(seed: int, step: int, purpose: int = 0, part: int = 0) -> torch.Generator:
    """A fresh CPU generator for one training step, or for a part of its batch."""
    state = np.random.SeedSequence([seed, step, purpose, part]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class StepSampler(Sampler[list[int]]):
    """Index lists of steps `start`..`stop`-1, cut from an endless row of seeded permutations; rows `share` of each."""

    def __init__(
        self, count: int, batch_size: int, seed: int, start: int, stop: int, share: slice = slice(None)
    ) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.start, self.stop, self.share = start, stop, share

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            positions = range(step * self.batch_size, (step + 1) * self.batch_size)[self.share]
            yield [int(self._epoch(p // self.count)[p % self.count]) for p in positions]

    def _epoch(self, epoch: int) -> np.ndarray:
        if getattr(self, "_cached", (None,))[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
            self._cached: tuple[Any, ...] = (epoch, order)
        return self._cached[1]


def draw_orientations(count: int, flips: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """One number (B,) per item: bit k says whether it is flipped along `flips[k]`, with probability one half."""
    orientation = torch.zeros(count, dtype=torch.long)
    for bit in range(len(flips)):
        orientation += (torch.rand(count, generator=generator) < 0.5).long() << bit
    return orientation


def flip(image: torch.Tensor, mask: torch.Tensor, flips: Sequence[str], orientation: torch.Tensor) -> None:
    """Bring each (image, mask) of a batch into its orientation (B,), in place."""
    for i, bits in enumerate(orientation.tolist()):
        axes = [_AXES[name] for bit, name in enumerate(flips) if bits >> bit & 1]
        if axes:
            image[i], mask[i] = image[i].flip(axes), mask[i].flip(axes)


def random_crop(
    image: torch.Tensor, mask: torch.Tensor, size: int, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A square (at most `size` per side) of image (B, C, *S) and mask (B, L, *S) at `places` (B, 2) in [0, 1)."""
    height, width = (min(size, side) for side in image.shape[-2:])
    rows = (places[:, 0] * (image.shape[-2] - height + 1)).long().tolist()
    columns = (places[:, 1] * (image.shape[-1] - width + 1)).long().tolist()
    cut = [
        (i[..., r : r + height, c : c + width], m[..., r : r + height, c : c + width])
        for i, m, r, c in zip(image, mask, rows, columns, strict=True)
    ]
    return torch.stack([i for i, _ in cut]), torch.stack([m for _, m in cut])


def training_batches(
    data: Any, recipe: Recipe, seed: int, start: int, share: slice = slice(None), pin_memory: bool = False
) -> Iterator[TrainingBatch]:
    """Rows `share` of the batches of steps `start`..`recipe.steps`-1, flipped and cropped.

    Everything random is drawn for the whole batch, so that it does not matter who takes which rows.
    """
    sampler = StepSampler(len(data), recipe.batch_size, seed, start, recipe.steps, share)
    loader = DataLoader(
        data, batch_sampler=sampler, num_workers=recipe.workers, collate_fn=_stack, pin_memory=pin_memory
    )
    for step, (items, (image, mask)) in enumerate(zip(sampler, loader, strict=True), start):
        generator = step_generator(seed, step, purpose=1)
        orientation = draw_orientations(recipe.batch_size, recipe.flips, generator)[share]
        flip(image, mask, recipe.flips, orientation)
        if recipe.crop is None:
            yield TrainingBatch(image, mask, torch.tensor(items) * recipe.orientations + orientation)
            continue
        places = torch.rand(recipe.batch_size, 2, generator=generator)[share]
        yield TrainingBatch(*random_crop(image, mask, recipe.crop, places), None)


def _stack(items: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([i["image"] for i in items]), torch.stack([i["mask"] for i in items])
