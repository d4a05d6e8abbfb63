"""NoiseSchedule against the released numbers and against diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from sdseg.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.scaled_linear()


@pytest.mark.parametrize(
    ("t", "alpha_bar"),
    [(0, 0.9985), (100, 0.8288), (250, 0.5355), (500, 0.1501), (750, 0.01739), (999, 6.687e-4)],
)
def test_released_values(t: int, alpha_bar: float) -> None:
    assert float(SCHEDULE.alphas_cumprod[t]) == pytest.approx(alpha_bar, rel=5e-4)


def test_equals_diffusers() -> None:
    other = DDIMScheduler(beta_start=0.0015, beta_end=0.0155, beta_schedule="scaled_linear")
    torch.testing.assert_close(SCHEDULE.alphas_cumprod, other.alphas_cumprod, rtol=2e-5, atol=0)
    z0, eps, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 400, 999])
    torch.testing.assert_close(SCHEDULE.add_noise(z0, eps, t), other.add_noise(z0, eps, t), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "z0", "v"])
def test_predict_z0_inverts_add_noise(prediction) -> None:
    z0, eps, t = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8), torch.tensor([0, 250, 750, 999])
    z_t = SCHEDULE.add_noise(z0, eps, t)
    output = SCHEDULE.target(z0, eps, t, prediction)
    torch.testing.assert_close(SCHEDULE.predict_z0(z_t, output, t, prediction), z0, rtol=0, atol=2e-4)
    torch.testing.assert_close(SCHEDULE.predict_eps(z_t, z0, t), eps, rtol=0, atol=1e-4)


def test_an_eps_error_is_amplified_38_7_times_at_the_last_step() -> None:
    t, zero = torch.tensor([999]), torch.zeros(1, 4, 2, 2)
    error = SCHEDULE.predict_z0(zero, zero + 1, t).abs()
    torch.testing.assert_close(error, torch.full_like(error, 38.659), rtol=1e-4, atol=0)


def test_stays_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        z0 = SCHEDULE.predict_z0(torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2).bfloat16(), torch.tensor([999]))
    assert z0.dtype == torch.float32
