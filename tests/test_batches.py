"""Batches: the same content whoever takes which rows."""

from __future__ import annotations

import pytest
import torch

from sdseg.batches import (
    StepSampler,
    draw_orientations,
    flip,
    random_crop,
    step_generator,
    training_batches,
)
from sdseg.recipe import Recipe
from tests.training_fixtures import items

BOTH = ("horizontal", "vertical")
RECIPE = Recipe(steps=6, batch_size=4, lr=1)


def test_every_epoch_visits_every_item_once() -> None:
    flat = [i for batch in StepSampler(10, 4, 0, 0, 5) for i in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert list(StepSampler(10, 4, 0, 3, 5)) == list(StepSampler(10, 4, 0, 0, 5))[3:]


def test_flips_by_orientation() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2).repeat(4, 1, 1, 1)
    mask = image > 1
    flip(image, mask, BOTH, torch.arange(4))
    assert image.flatten(1).tolist() == [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    assert torch.equal(mask, image > 1)


@pytest.mark.parametrize(("flips", "ways"), [((), {0}), (("vertical",), {0, 1}), (BOTH, {0, 1, 2, 3})])
def test_orientations_are_drawn_evenly(flips: tuple[str, ...], ways: set[int]) -> None:
    drawn = draw_orientations(4000, flips, step_generator(0, 0))
    assert set(drawn.tolist()) == ways
    assert torch.bincount(drawn).float() / 4000 == pytest.approx(1 / len(ways), abs=0.03)


def test_crops_are_of_one_place() -> None:
    image = torch.rand(8, 3, 12, 10)
    places = torch.rand(8, 2)
    cut, mask = random_crop(image, image[:, :1] > 0.5, 6, places)
    assert cut.shape == (8, 3, 6, 6)
    assert torch.equal(mask, cut[:, :1] > 0.5)
    whole, _ = random_crop(image, image[:, :1] > 0.5, 99, places)
    assert torch.equal(whole, image)


@pytest.mark.parametrize("crop", [None, 5])
def test_shares_make_the_whole_batch(crop: int | None) -> None:
    recipe = RECIPE.model_copy(update={"crop": crop})
    whole = list(training_batches(items(), recipe, 0, 0))
    shares = [list(training_batches(items(), recipe, 0, 0, slice(a, a + 2))) for a in (0, 2)]
    assert len(whole) == 6
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.image, torch.cat([first.image, second.image]))
        assert torch.equal(batch.mask, torch.cat([first.mask, second.mask]))
        assert (batch.key is None) == (crop is not None)
        if batch.key is not None:
            assert torch.equal(batch.key, torch.cat([first.key, second.key]))


def test_a_key_names_one_picture() -> None:
    seen: dict[int, torch.Tensor] = {}
    recipe = RECIPE.model_copy(update={"steps": 60})
    for batch in training_batches(items(5), recipe, 0, 0):
        for image, key in zip(batch.image, batch.key.tolist(), strict=True):
            assert torch.equal(image, seen.setdefault(key, image))
    assert sorted(seen) == list(range(5 * recipe.orientations))
    assert len({tuple(image.flatten().tolist()) for image in seen.values()}) == 20


def test_workers_and_restarts_bring_the_same() -> None:
    whole = list(training_batches(items(), RECIPE, 0, 0))
    late = list(training_batches(items(), RECIPE.model_copy(update={"workers": 1}), 0, 4))
    for a, b in zip(whole[4:], late, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.key, b.key)
