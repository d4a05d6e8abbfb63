"""PSNR, SSIM and MS-SSIM per image."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics import perceptual
from bench.metrics.perceptual import mean_squared_error, ms_ssim, psnr, ssim, undefined_reason
from sdseg.torchvision_ops import declare_missing_operators


def _maps(n: int, side: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(n, 1, side, side, generator=generator)
    noise = 0.2 * torch.rand(n, 1, side, side, generator=generator) * torch.arange(1, n + 1).view(-1, 1, 1, 1)
    return a, (a + noise).clamp(0, 1)


def _torchmetrics():
    declare_missing_operators()  # torchmetrics imports torchvision where it finds one
    import torchmetrics.functional.image

    return torchmetrics.functional.image


def test_psnr_on_paper():
    a = torch.zeros(3, 1, 10, 10)
    b = torch.zeros(3, 1, 10, 10)
    b[0] += 0.1  # error 0.01 -> 20 dB
    b[1, 0, 0, 0] = 1.0  # error 1/100 -> 20 dB
    assert mean_squared_error(a, b).tolist() == pytest.approx([0.01, 0.01, 0.0])
    assert psnr(a, b).tolist() == pytest.approx([20.0, 20.0, math.inf])


@pytest.mark.parametrize("side", [24, 180])
def test_batches_equal_single_calls_of_torchmetrics(side, monkeypatch):
    monkeypatch.setattr(perceptual, "_PIXELS_AT_ONCE_CPU", 2 * side * side)  # 5 images in chunks of 2
    a, b = _maps(5, side)
    library = _torchmetrics()
    for index in range(5):
        x, y = a[index : index + 1].double(), b[index : index + 1].double()  # its float32 is off by 4e-6
        expected = float(library.peak_signal_noise_ratio(x, y, data_range=1.0))
        assert psnr(a, b)[index].item() == pytest.approx(expected, abs=1e-4)
        expected = float(library.structural_similarity_index_measure(x, y, data_range=1.0))
        assert ssim(a, b)[index].item() == pytest.approx(expected, abs=1e-6)
        if side >= 176:
            expected = float(library.multiscale_structural_similarity_index_measure(x, y, data_range=1.0))
            assert ms_ssim(a, b)[index].item() == pytest.approx(expected, abs=1e-6)


def test_identical_maps_agree_fully():
    a, _ = _maps(2, 180)
    for maps in (a, torch.zeros_like(a)):
        assert ssim(maps, maps).tolist() == pytest.approx([1, 1])
        assert ms_ssim(maps, maps).tolist() == pytest.approx([1, 1])
        assert psnr(maps, maps).tolist() == [math.inf] * 2


def test_ssim_is_nearly_blind_to_a_small_target():
    present = torch.zeros(1, 1, 256, 256)
    present[..., 100:110, 100:110] = 1
    assert ssim(present, torch.zeros_like(present)).item() == pytest.approx(0.995, abs=1e-3)


def test_small_images_are_undefined_with_a_reason():
    a, b = _maps(2, 175)
    assert ms_ssim(a, b).isnan().all()
    assert "176 x 176" in (undefined_reason("MS-SSIM", 175, 400) or "")
    assert undefined_reason("MS-SSIM", 176, 400) is None
    assert not ms_ssim(*_maps(1, 176)).isnan().any()
    assert ssim(*_maps(2, 10)).isnan().all()
    assert undefined_reason("PSNR", 1, 1) is None


def test_an_empty_batch_has_no_values():
    empty = torch.zeros(0, 1, 180, 180)
    assert len(ssim(empty, empty)) == len(ms_ssim(empty, empty)) == len(psnr(empty, empty)) == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_symmetric_and_bounded(seed):
    a, b = _maps(2, 16, seed)
    assert torch.allclose(ssim(a, b), ssim(b, a), atol=1e-6)
    assert (ssim(a, b) <= 1 + 1e-6).all()
    assert torch.equal(psnr(a, b), psnr(b, a))
    assert (psnr(a, b) >= 0).all()
