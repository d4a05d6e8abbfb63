"""Agreement of repeated draws: every pair counts, nothing is left out."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics import perceptual, structural
from bench.metrics.released_stability import eight_bit, released_pairs
from bench.metrics.stability import (
    MASK_STABILITY,
    PAPER_METRICS,
    STRICT_METRICS,
    case_stability,
    mask_stability,
    paper_stability,
    stability_metrics,
)
from bench.protocols import PROTOCOLS, build_protocol
from bench.protocols.stability import protocol_stability, stability_mode
from sdseg.torchvision_ops import declare_missing_operators


def _draws(shape: tuple[int, ...], draws: int = 3, labels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.random((1, labels, *shape))
    scores = (0.7 * base + 0.3 * rng.random((draws, labels, *shape))).astype(np.float32)
    return scores, scores > 0.5


def _single(function, a: np.ndarray, b: np.ndarray) -> float:
    x, y = (torch.from_numpy(m.astype(np.float32))[None, None] for m in (a, b))
    return float(function(x, y, data_range=1.0))


def _loop(maps: np.ndarray) -> dict[str, float]:
    """The definition, one pair and one slice at a time."""
    declare_missing_operators()  # torchmetrics imports torchvision where it finds one
    import torchmetrics.functional.image as library

    slices = maps.reshape(len(maps), -1, *maps.shape[-2:])
    pairs = [(a, b) for i, j in combinations(slices, 2) for a, b in zip(i, j, strict=True)]
    functions = {"SSIM": library.structural_similarity_index_measure}
    if maps.shape[-1] >= 176:
        functions["MS-SSIM"] = library.multiscale_structural_similarity_index_measure
    values = {name: np.mean([_single(f, a, b) for a, b in pairs]) for name, f in functions.items()}
    error = np.mean([np.mean((a.astype(float) - b.astype(float)) ** 2) for a, b in pairs])
    return values | {"PSNR": -10 * math.log10(error)}


@pytest.mark.parametrize(("shape", "labels"), [((2, 24, 30), 2), ((176, 180), 1)])
def test_batched_equals_a_loop_over_pairs(shape, labels):
    scores, masks = _draws(shape, labels=labels)
    masks[1] = masks[0]  # an identical pair takes the short way
    values = case_stability(scores, masks, None)
    for label in range(labels):
        for kind, maps in (("score", scores), ("seg", masks)):
            for metric, expected in _loop(maps[:, label]).items():
                assert values[f"{metric}/{kind}", label] == pytest.approx(expected, abs=2e-5), (metric, kind)
            assert math.isnan(values[f"LPIPS/{kind}", label])


def test_every_metric_of_the_list_for_every_label():
    scores, masks = _draws((20, 20))
    values = case_stability(scores, masks)
    assert values.keys() == {(metric, label) for metric in STRICT_METRICS for label in range(2)}
    values = paper_stability(scores, masks, masks[0])
    assert values.keys() == {(metric, label) for metric in PAPER_METRICS for label in range(2)}


def test_without_scores_there_are_masks_only():
    scores, masks = _draws((20, 20))
    both, masks_only = case_stability(scores, masks), case_stability(None, masks)
    assert masks_only == pytest.approx({k: v for k, v in both.items() if "/score" not in k[0]}, nan_ok=True)
    assert not [name for name, _ in paper_stability(None, masks, masks[0]) if name.endswith("/score")]


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
        masks = np.full((3, 1, 176, 176), filled)
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


def test_batches_of_any_size_give_the_same_values(monkeypatch):
    scores, masks = _draws((32, 32), draws=4, labels=1)
    expected = case_stability(scores, masks) | paper_stability(scores, masks, masks[0])
    for module, name in ((perceptual, "_PIXELS_AT_ONCE_CPU"), (structural, "_PIXELS_CPU")):
        monkeypatch.setattr(module, name, 4 * 32 * 32)  # four of the six pairs, then two
    values = case_stability(scores, masks) | paper_stability(scores, masks, masks[0])
    assert values == pytest.approx(expected, abs=1e-6, nan_ok=True)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 10**6))
def test_the_order_of_draws_does_not_matter(order, seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((4, 1, 16, 16)).astype(np.float32)
    scores[3] = scores[rng.integers(4)]  # perhaps identical ones
    masks = scores > rng.uniform(0, 1.1)  # perhaps empty ones
    values, other = case_stability(scores, masks), case_stability(scores[order], masks[order])
    assert values == pytest.approx(other, abs=1e-6, nan_ok=True)


def test_a_lesion_that_comes_and_goes_is_seen():
    masks = np.zeros((2, 1, 256, 256), bool)
    masks[1, 0, 100:110, 100:110] = True
    values = case_stability(None, masks)
    assert values["SSIM/seg", 0] == pytest.approx(0.995, abs=1e-3)  # hardly anything
    assert values["Dice/pairs", 0] == 0
    assert values["flip_rate", 0] == 100 / 256**2
    assert values["volume_cv", 0] == pytest.approx(math.sqrt(2))  # sd of (0, 100) over their mean
    paper = paper_stability(None, masks, masks[1])
    assert math.isnan(paper["SSIM/seg", 0])  # the release drops the image, and says nothing
    assert (paper["empty_images/seg", 0], paper["images/SSIM/seg", 0]) == (1, 0)
    paper = paper_stability(None, masks[::-1], masks[1])
    assert (paper["empty_pairs/seg", 0], paper["images/SSIM/seg", 0]) == (1, 0)


def test_volume_spread_on_paper():
    masks = np.zeros((3, 2, 2, 4, 4), bool)
    for draw, count in enumerate((2, 4, 6)):
        masks[draw, 0].reshape(-1)[:count] = True
    values = mask_stability(masks)
    assert values["volume_cv", 0] == pytest.approx(2 / 4)
    assert math.isnan(values["volume_cv", 1])  # no volume, no spread
    assert values["Dice/pairs", 1] == 1


def test_one_draw_has_no_stability():
    scores, masks = _draws((20, 20), draws=1)
    assert case_stability(scores, masks) == paper_stability(scores, masks, masks[0]) == {}
    assert list(protocol_stability(build_protocol("sdseg"), masks[0], scores, masks)) == []


def test_an_undefined_score_stays_undefined():
    scores, masks = _draws((20, 20))
    scores[0, 0, 0, 0] = math.nan
    values = case_stability(scores, masks)
    assert math.isnan(values["PSNR/score", 0])
    assert math.isnan(values["SSIM/score", 0])
    assert not math.isnan(values["PSNR/score", 1])


def test_eight_bits_are_truncated():
    assert eight_bit(np.array([0, 0.5, 0.999, 1], np.float32)).tolist() == [0, 127, 254, 255]
    assert eight_bit(np.array([False, True])).tolist() == [0, 255]


def test_what_the_release_drops():
    maps = np.zeros((3, 4, 24, 24), np.uint8)  # 3 draws of 4 images
    maps[:, 0, :12] = 200  # all draws alike
    maps[0, 1, :12], maps[2, 1, 6:] = 100, 50  # draw 1 finds nothing
    maps[1:, 2, :12] = 255  # draw 0 finds nothing
    maps[:, 3, :12], maps[2, 3, 0] = 200, 100  # draw 1 is draw 0's like
    pairs = released_pairs(maps)
    assert pairs.empty_images.tolist() == [False, False, True, False]
    assert pairs.empty_pairs.tolist() == [[False, False], [True, False], [False, False], [False, False]]
    assert pairs.identical_pairs.tolist() == [[True, True], [False, False], [False, False], [True, False]]
    assert [len(pairs.per_image(name)) for name in ("LPIPS", "PSNR", "SSIM")] == [4, 2, 3]
    first = 12 * 24 * 100**2 - 6 * 24 * (100**2 - 50**2) + 12 * 24 * 50**2  # squared error of image 1, draw 2
    expected = [100**2 / (first / 24**2), 200**2 / (24 * 100**2 / 24**2)]  # the range is draw 0's maximum
    assert pairs.per_image("PSNR").tolist() == pytest.approx([10 * math.log10(x) for x in expected])
    assert pairs.per_image("SSIM")[0] == pytest.approx(1)  # identical pairs stay in
    assert math.isnan(pairs.mean("LPIPS"))  # no trunk here


def test_paper_mode_of_a_volume_counts_slices_with_a_reference():
    scores, masks = _draws((3, 24, 24), labels=1)
    reference = np.zeros((1, 3, 24, 24), bool)
    reference[0, 1, 3] = True
    values = paper_stability(scores, masks, reference)
    alone = paper_stability(scores[:, :, 1], masks[:, :, 1], reference[:, 1])
    assert values["slices_without_reference", 0] == 2
    assert (values["images/SSIM/score", 0], values["images/LPIPS/seg", 0]) == (1, 1)
    names = [name for name, _ in values if name.endswith(("score", "seg"))]
    assert {n: values[n, 0] for n in names} == pytest.approx({n: alone[n, 0] for n in names}, nan_ok=True)
    nothing = paper_stability(scores, masks, np.zeros_like(reference))
    assert math.isnan(nothing["SSIM/score", 0])
    assert (nothing["slices_without_reference", 0], nothing["images/SSIM/score", 0]) == (3, 0)


def test_only_sdseg_scores_as_the_paper():
    scores, masks = _draws((2, 16, 16))
    for name in PROTOCOLS:
        rows = list(protocol_stability(build_protocol(name, 12), masks[0], scores, masks))
        conventions = {metric: convention for _, metric, convention, _ in rows}
        assert conventions.keys() == stability_metrics(stability_mode(name)).keys()
        strict = {metric for metric, convention in conventions.items() if convention == "strict"}
        assert strict == (set(MASK_STABILITY) if name == "sdseg" else set(STRICT_METRICS))
    assert stability_mode("sdseg") == "paper"


def test_paper_mode_works_at_the_networks_size():
    scores, masks = _draws((32, 40), labels=1)
    rows = protocol_stability(build_protocol("sdseg", 16), masks[0], scores, masks)
    small = {metric: value for _, metric, _, value in rows}
    large = paper_stability(scores, masks, masks[0])
    assert small["SSIM/score"] != pytest.approx(large["SSIM/score", 0], abs=1e-3)
    assert small["flip_rate"] == mask_stability(masks)["flip_rate", 0]  # on the case's own grid
