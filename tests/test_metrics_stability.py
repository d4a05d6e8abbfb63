"""Agreement of repeated draws: every pair counts, nothing is left out."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from bench.errors import InputError
from bench.metrics.stability import STABILITY_METRICS, case_stability
from sdseg.torchvision_ops import declare_missing_operators


def _draws(shape: tuple[int, ...], draws: int = 3, labels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.random((1, labels, *shape))
    scores = (0.7 * base + 0.3 * rng.random((draws, labels, *shape))).astype(np.float32)
    return scores, scores > 0.5


def _single(function, a: np.ndarray, b: np.ndarray) -> float:
    x, y = (torch.from_numpy(m.astype(np.float32))[None, None] for m in (a, b))
    return float(function(x, y, data_range=1.0))


def _torchmetrics():
    declare_missing_operators()  # torchmetrics imports torchvision where it finds one
    import torchmetrics.functional.image

    return torchmetrics.functional.image


def _loop(maps: np.ndarray) -> dict[str, float]:
    """The definition, one pair and one slice at a time."""
    library = _torchmetrics()
    slices = maps.reshape(len(maps), -1, *maps.shape[-2:])
    pairs = [(a, b) for i, j in combinations(slices, 2) for a, b in zip(i, j, strict=True)]
    functions = {
        "SSIM": library.structural_similarity_index_measure,
        "MS-SSIM": library.multiscale_structural_similarity_index_measure,
    }
    values = {name: np.mean([_single(f, a, b) for a, b in pairs]) for name, f in functions.items()}
    error = np.mean([np.mean((a.astype(float) - b.astype(float)) ** 2) for a, b in pairs])
    return values | {"PSNR": -10 * math.log10(error)}


@pytest.mark.parametrize("shape", [(176, 180), (2, 176, 176)])
def test_batched_equals_a_loop_over_pairs(shape):
    labels = 2 if len(shape) == 2 else 1
    scores, masks = _draws(shape, labels=labels)
    masks[1] = masks[0]  # an identical pair takes the short way
    values = case_stability(scores, masks, None)
    for label in range(labels):
        for kind, maps in (("score", scores), ("seg", masks)):
            for metric, expected in _loop(maps[:, label]).items():
                assert values[f"{metric}/{kind}", label] == pytest.approx(expected, abs=2e-5), (metric, kind)
            assert math.isnan(values[f"LPIPS/{kind}", label])


def test_every_metric_of_the_list_for_every_label():
    values = case_stability(*_draws((20, 20)))
    assert values.keys() == {(metric.name, label) for metric in STABILITY_METRICS for label in range(2)}


def test_dice_and_flips_on_paper():
    masks = np.zeros((3, 1, 4, 4), bool)
    masks[0, 0, 0, :2] = masks[1, 0, 0, 1:3] = True  # Dice 1/2 between them; the third draw is empty: 0, 0
    values = case_stability(masks.astype(np.float16), masks)
    assert values["Dice/pairs", 0] == pytest.approx(0.5 / 3)
    assert values["flip_rate", 0] == 3 / 16
    # errors: 2, 2 and 2 of 16 pixels
    assert values["PSNR/seg", 0] == pytest.approx(-10 * math.log10(2 / 16))
    assert math.isnan(values["SSIM/seg", 0])  # 4 px are too few


def test_identical_draws_agree_fully_even_when_empty():
    for filled in (False, True):
        masks = np.full((4, 1, 180, 180), filled)
        values = case_stability(masks.astype(np.float32), masks)
        assert values["Dice/pairs", 0] == 1
        assert values["flip_rate", 0] == 0
        assert values["PSNR/score", 0] == values["PSNR/seg", 0] == math.inf
        assert values["SSIM/seg", 0] == values["MS-SSIM/seg", 0] == 1


def test_an_identical_pair_is_counted_and_not_dropped():
    masks = np.zeros((3, 1, 20, 20), bool)
    masks[2, 0, :10] = True  # pairs: identical empty 1, appears 0, appears 0
    values = case_stability(masks.astype(np.float32), masks)
    assert values["Dice/pairs", 0] == pytest.approx(1 / 3)
    assert values["PSNR/seg", 0] == pytest.approx(-10 * math.log10((0 + 0.5 + 0.5) / 3))


def test_dice_of_a_volume_is_not_the_mean_over_slices():
    masks = np.zeros((2, 1, 2, 4, 4), bool)
    masks[:, 0, 0] = True  # 16 voxels in both draws
    masks[1, 0, 1, 0, 0] = True  # one more in the second
    values = case_stability(masks.astype(np.float32), masks)
    assert values["Dice/pairs", 0] == pytest.approx(32 / 33)


def test_the_order_of_draws_does_not_matter():
    scores, masks = _draws((24, 24), draws=4)
    forward, backward = case_stability(scores, masks), case_stability(scores[::-1], masks[::-1])
    assert forward.keys() == backward.keys()
    for key, value in forward.items():
        assert value == pytest.approx(backward[key], abs=1e-6, nan_ok=True)


def test_one_draw_has_no_stability():
    scores, masks = _draws((20, 20), draws=1)
    assert case_stability(scores, masks) == {}


def test_an_undefined_score_stays_undefined():
    scores, masks = _draws((20, 20))
    scores[0, 0, 0, 0] = math.nan
    values = case_stability(scores, masks)
    assert math.isnan(values["PSNR/score", 0])
    assert math.isnan(values["SSIM/score", 0])
    assert not math.isnan(values["PSNR/score", 1])


def test_other_shapes_are_refused():
    scores, masks = _draws((20, 20))
    with pytest.raises(InputError, match="expected two arrays"):
        case_stability(scores[..., :10], masks)
    with pytest.raises(InputError, match="masks bool"):
        case_stability(scores, scores)
