"""Sizes and ranges change as documented, and equal sizes change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.datasets.geometry import resample_mask, to_method_size, to_native_size
from bench.types import TaskSpec


def spec(size: tuple[int, int], intensity: tuple[float, float] = (0.0, 255.0), dims: int = 2) -> TaskSpec:
    return TaskSpec(1, ("a",), size, dims, intensity)


def test_intensities_are_clipped_and_mapped() -> None:
    image = np.array([[[-1000, -175, 37.5, 250, 3000]]], dtype=np.float32)
    mapped = to_method_size(image, spec((1, 5), (-175.0, 250.0)))
    assert mapped.tolist() == [[[-1.0, -1.0, 0.0, 1.0, 1.0]]]
    assert mapped.dtype == torch.float32


def test_volumes_keep_their_depth() -> None:
    volume = torch.arange(4.0)[None, :, None, None].expand(1, 4, 6, 9)
    resized = to_method_size(volume, spec((3, 5), (0.0, 3.0), dims=3))
    assert resized.shape == (1, 4, 3, 5)
    expected = torch.tensor([-1, -1 / 3, 1 / 3, 1])[None, :, None, None].expand_as(resized)
    torch.testing.assert_close(resized, expected)


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((1, 64, 64), dtype=np.float32)
    stripes[:, :, ::2] = 255
    # Skipping every other column would give all -1 or all 1.
    inner = to_method_size(stripes, spec((16, 16)))[0, :, 2:-2]
    assert inner.abs().max() < 0.1


@pytest.mark.parametrize("shape", [(2, 7, 9), (2, 3, 7, 9)])
def test_equal_sizes_are_the_identity(shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(0)
    score = torch.rand(shape, generator=rng)
    mask = torch.rand(shape, generator=rng) > 0.5
    back, same = to_native_size(score, mask, shape[1:])
    assert torch.equal(back, score)
    assert torch.equal(same, mask)
    image = torch.randint(0, 256, (1, *shape[1:]), generator=rng).float()
    assert torch.equal(to_method_size(image, spec((7, 9))), image / 255 * 2 - 1)


def test_mask_is_cut_at_one_half() -> None:
    mask = torch.tensor([[[1, 1, 1, 0, 0, 0, 0, 0]] * 2], dtype=torch.bool)
    # Pairs of columns: full, half, empty, empty; the triangular filter reaches into the neighbours:
    # second pixel = (1 * 1 + 3 * 1 + 3 * 0 + 1 * 0) / 8 = 0.5, which counts as inside.
    assert resample_mask(mask, (1, 4)).tolist() == [[[True, True, False, False]]]


@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), value=st.booleans())
def test_constant_masks_stay_constant(height: int, width: int, value: bool) -> None:
    mask = torch.full((1, 11, 6), value)
    assert torch.equal(resample_mask(mask, (height, width)), torch.full((1, height, width), value))


@settings(max_examples=6, deadline=None)
@given(factor=st.integers(2, 4), seed=st.integers(0, 99))
def test_there_and_back_keeps_blocks(factor: int, seed: int) -> None:
    blocks = torch.rand((2, 3, 3), generator=torch.Generator().manual_seed(seed)) > 0.5
    mask = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    larger = resample_mask(mask, (24 * factor, 24 * factor))
    agree = (resample_mask(larger, (24, 24)) == mask).float().mean()
    assert agree > 0.9
    assert larger.float().mean() == pytest.approx(mask.float().mean().item(), abs=0.05)


def test_score_stays_in_range_on_the_way_back() -> None:
    score = torch.rand((1, 8, 8), generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    back, mask = to_native_size(score, score > 0.5, (30, 21))
    assert back.shape == mask.shape == (1, 30, 21)
    assert back.min() >= 0
    assert back.max() <= 1
