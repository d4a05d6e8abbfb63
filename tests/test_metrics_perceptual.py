"""PSNR, SSIM and MS-SSIM per pair of maps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.perceptual import undefined_reason
from bench.metrics.structural import pair_ms_ssim, pair_ssim

FIRST, SECOND = torch.arange(3), torch.arange(3, 6)


def _maps(side: int, seed: int = 0) -> torch.Tensor:
    """Three maps, then the same with more and more noise, (6, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(3, side, side, generator=generator)
    noise = 0.2 * torch.rand(3, side, side, generator=generator) * torch.arange(1, 4).view(-1, 1, 1)
    return torch.cat([a, (a + noise).clamp(0, 1)])


def test_identical_maps_agree_fully():
    maps = _maps(180)
    for same in (maps, torch.zeros_like(maps)):
        assert torch.stack(pair_ms_ssim(same, FIRST, FIRST)).flatten().tolist() == pytest.approx([1] * 6)


def test_small_images_are_undefined_with_a_reason():
    assert "176 x 176" in (undefined_reason("MS-SSIM", 175, 400) or "")
    assert undefined_reason("MS-SSIM", 176, 400) is None
    assert undefined_reason("SSIM", 10, 10)
    assert undefined_reason("PSNR", 1, 1) is None
    assert not pair_ms_ssim(_maps(176), FIRST, SECOND)[1].isnan().any()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_symmetric_and_bounded(seed):
    maps = _maps(16, seed)
    assert torch.allclose(pair_ssim(maps, FIRST, SECOND), pair_ssim(maps, SECOND, FIRST), atol=1e-6)
    assert (pair_ssim(maps, FIRST, SECOND) <= 1 + 1e-6).all()
