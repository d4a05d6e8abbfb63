"""NoiseSchedule: its inverse and its arithmetic; the numbers are in tests/parity."""

from __future__ import annotations

import pytest
import torch

from sdseg.schedule import NoiseSchedule, RectifiedFlow, schedule_of

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


def test_a_flow_is_a_straight_path_to_pure_noise() -> None:
    z0, eps = torch.tensor([[[[2.0]]]]), torch.tensor([[[[-6.0]]]])
    flow, t = RectifiedFlow(), torch.tensor([249, 499, 749, 999])
    path = flow.add_noise(z0.expand(4, 1, 1, 1), eps.expand(4, 1, 1, 1), t).flatten()
    torch.testing.assert_close(path, torch.tensor([0.0, -2.0, -4.0, -6.0]))
    velocity = flow.target(z0, eps, t, "flow")
    assert float(velocity) == 8.0  # towards the data
    clean = flow.predict_z0(path.view(4, 1, 1, 1), velocity.expand(4, 1, 1, 1), t, "flow")
    torch.testing.assert_close(clean.flatten(), torch.full((4,), 2.0))
    torch.testing.assert_close(flow.predict_eps(path.view(4, 1, 1, 1), clean, t).flatten(), torch.full((4,), -6.0))


def test_the_linear_schedule_is_leafs() -> None:
    assert float(NoiseSchedule.linear().alphas_cumprod[-1]) == pytest.approx(1.946e-4, rel=1e-3)
    linear, ours = schedule_of("z0", "linear"), schedule_of("z0")
    assert isinstance(linear, NoiseSchedule)
    assert isinstance(ours, NoiseSchedule)
    assert torch.equal(linear.alphas_cumprod, NoiseSchedule.linear().alphas_cumprod)
    assert torch.equal(ours.alphas_cumprod, SCHEDULE.alphas_cumprod)
    assert isinstance(schedule_of("flow"), RectifiedFlow)
