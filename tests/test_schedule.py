"""NoiseSchedule: its inverse and its arithmetic; the numbers are in tests/parity."""

from __future__ import annotations

import pytest
import torch

from sdseg.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.scaled_linear()


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
