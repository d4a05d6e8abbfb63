"""Training batches whose content depends on (seed, step) alone: any worker or process count, any restart, the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Sampler

from sdseg.training.recipe import Recipe

_AXES = {"horizontal": -1, "vertical": -2}
_MOST_DIMS = 3
# Images are in [-1, 1]; beyond their edge is what is darkest.
_OUTSIDE = -1.0


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
    image: torch.Tensor, mask: torch.Tensor, size: Sequence[int], place: torch.Tensor, on_target: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """A box of `size` of one image (C, *S) in [-1, 1] and its mask (L, *S), where `place` (2 + dims,) in [0, 1) says.

    What is smaller gets a dark border. The share `on_target` of all places is centred on a pixel of the mask.
    """
    image, mask = _bordered(image, size, _OUTSIDE), _bordered(mask, size, False)
    room = torch.tensor([edge - n for edge, n in zip(image.shape[1:], size, strict=True)])
    start = (place[2 : 2 + len(size)] * (room + 1)).long()
    targets = mask.any(dim=0).nonzero() if place[0] < on_target else ()
    if len(targets):
        centre = targets[int(place[1] * len(targets))]
        start = (centre - torch.tensor(size) // 2).clamp(min=0).minimum(room)
    cut = (slice(None), *(slice(a, a + n) for a, n in zip(start.tolist(), size, strict=True)))
    return image[cut], mask[cut]


def _bordered(x: torch.Tensor, size: Sequence[int], value: float) -> torch.Tensor:
    # Smaller half in front, as sliding windows are padded.
    short = [max(n - edge, 0) for n, edge in zip(size, x.shape[1:], strict=True)]
    amounts = [n for missing in reversed(short) for n in (missing // 2, missing - missing // 2)]
    return pad(x, amounts, value=value) if any(amounts) else x


def training_batches(
    data: Any, recipe: Recipe, seed: int, start: int, share: slice = slice(None), pin_memory: bool = False
) -> Iterator[TrainingBatch]:
    """Rows `share` of the batches of steps `start`..`recipe.steps`-1, cropped and flipped.

    Everything random is drawn for the whole batch, so that it does not matter who takes which rows.
    """
    sampler = StepSampler(len(data), recipe.batch_size, seed, start, recipe.steps, share)
    crops = recipe.crop is not None  # before stacking: whole volumes differ in depth
    loader = DataLoader(
        data,
        batch_sampler=sampler,
        num_workers=recipe.workers,
        collate_fn=list if crops else _stack,
        pin_memory=pin_memory,
    )
    for step, (indices, loaded) in enumerate(zip(sampler, loader, strict=True), start):
        generator = step_generator(seed, step, purpose=1)
        orientation = draw_orientations(recipe.batch_size, recipe.flips, generator)[share]
        if crops:
            places = torch.rand(recipe.batch_size, 2 + _MOST_DIMS, generator=generator)[share]
            image, mask = _stack(_cropped(item, recipe, place) for item, place in zip(loaded, places, strict=True))
        else:
            image, mask = loaded
        flip(image, mask, recipe.flips, orientation)
        key = None if crops else torch.tensor(indices) * recipe.orientations + orientation
        yield TrainingBatch(image, mask, key)


def _cropped(item: dict[str, Any], recipe: Recipe, place: torch.Tensor) -> dict[str, Any]:
    size = recipe.seen(item["image"].shape[1:])
    image, mask = random_crop(item["image"], item["mask"], size, place, recipe.crops_on_target)
    return {"image": image, "mask": mask}


def _stack(cropped: Iterable[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    items = list(cropped)
    return torch.stack([i["image"] for i in items]), torch.stack([i["mask"] for i in items])
