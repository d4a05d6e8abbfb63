"""Batches: the same content whoever takes which rows."""

from __future__ import annotations

import pytest
import torch

from sdseg.training.batches import (
    StepSampler,
    draw_orientations,
    flip,
    random_crop,
    step_generator,
    training_batches,
)
from sdseg.training.recipe import Recipe
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


def test_orientations_are_drawn_evenly() -> None:
    for flips, ways in (((), {0}), (("vertical",), {0, 1}), (BOTH, {0, 1, 2, 3})):
        drawn = draw_orientations(4000, flips, step_generator(0, 0))
        assert set(drawn.tolist()) == ways
        assert torch.bincount(drawn).float() / 4000 == pytest.approx(1 / len(ways), abs=0.03)


def test_a_square_crop_is_no_larger_than_the_image_and_leaves_the_depth() -> None:
    square = RECIPE.model_copy(update={"crop": 6})
    assert square.seen((9, 12, 5)) == (9, 6, 5)
    assert RECIPE.seen((12, 10)) == (12, 10)
    assert RECIPE.model_copy(update={"crop": (4, 8, 8)}).seen((9, 12, 5)) == (4, 8, 8)


def test_crops_of_a_volume_are_cut_in_place_or_centred_on_a_label() -> None:
    volume = torch.arange(10.0 * 12 * 14).view(1, 10, 12, 14)
    mask = torch.zeros(2, 10, 12, 14, dtype=torch.bool)
    mask[1, 7, 5, 9] = True
    place = torch.tensor([0.9, 0.0, 0.99, 0.0, 0.5])
    found, cut = random_crop(volume, mask, (4, 4, 4), place, on_target=0.5)
    assert torch.equal(found, volume[:, 6:10, :4, 5:9])
    assert torch.equal(cut, mask[:, 6:10, :4, 5:9])
    place[0] = 0.1
    found, cut = random_crop(volume, mask, (4, 4, 4), place, on_target=0.5)
    assert torch.equal(found, volume[:, 5:9, 3:7, 7:11])
    assert cut.sum() == 1


def test_a_volume_smaller_than_the_crop_gets_a_dark_border() -> None:
    ones = torch.ones(1, 3, 8, 8)
    found, cut = random_crop(ones, ones.bool(), (6, 4, 4), torch.full((5,), 0.9))
    assert found.shape == cut.shape == (1, 6, 4, 4)
    assert found[0, :, 0, 0].tolist() == [-1, 1, 1, 1, -1, -1]
    assert cut[0, :, 0, 0].tolist() == [False, True, True, True, False, False]


def test_volumes_of_different_depths_make_one_batch() -> None:
    depths = (5, 9, 12, 7)
    data = [{"image": torch.full((1, d, 8, 8), d / 12), "mask": torch.ones(1, d, 8, 8) > 0} for d in depths]
    batch = next(training_batches(data, RECIPE.model_copy(update={"crop": (4, 8, 8)}), 0, 0))
    assert batch.image.shape == (4, 1, 4, 8, 8)
    assert sorted((batch.image[:, 0, 0, 0, 0] * 12).round().int().tolist()) == sorted(depths)


@pytest.mark.parametrize("crop", [None, 5])
def test_shares_make_the_whole_batch(crop: int | None) -> None:
    recipe = RECIPE.model_copy(update={"crop": crop, "steps": 3})
    whole = list(training_batches(items(), recipe, 0, 0))
    shares = [list(training_batches(items(), recipe, 0, 0, slice(a, a + 2))) for a in (0, 2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.image, torch.cat([first.image, second.image]))
        assert torch.equal(batch.mask, torch.cat([first.mask, second.mask]))
        assert torch.equal(batch.mask, batch.image[:, :1] > 0.5)  # of one place
        assert batch.image.shape[-1] == (crop or 8)
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
