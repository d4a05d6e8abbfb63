"""Reverse processes: the single step, and DDIM against diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from sdseg.sampling import ddim, ddim_timesteps, euler, single_step
from sdseg.schedule import NoiseSchedule, RectifiedFlow

SCHEDULE = NoiseSchedule.scaled_linear()


def smooth(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A stand-in network: some fixed smooth function of its inputs."""
    return torch.tanh(z_t * 0.7 + t.view(-1, 1, 1, 1) / 1000)


def test_grids() -> None:
    assert ddim_timesteps(1000, 10, "leading") == (
        [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
        [801, 701, 601, 501, 401, 301, 201, 101, 1, 0],
    )
    assert ddim_timesteps(1000, 4) == ([999, 749, 499, 249], [749, 499, 249, -1])


def test_one_trailing_step_is_the_single_step() -> None:
    z_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ddim(smooth, z_T, SCHEDULE, 1), single_step(smooth, z_T, SCHEDULE))


def test_ddim_on_the_trailing_grid_equals_diffusers() -> None:
    z_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler = DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0155,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="sample",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(4)
    z_t = z_T
    for t in scheduler.timesteps:
        z_t = scheduler.step(smooth(z_t, t.expand(2)), t, z_t).prev_sample
    torch.testing.assert_close(ddim(smooth, z_T, SCHEDULE, 4), z_t, rtol=1e-4, atol=1e-4)


def test_eta_needs_noise_and_bad_steps_are_refused() -> None:
    z_T = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match="eta"):
        ddim(smooth, z_T, SCHEDULE, 2, eta=1.0)
    with pytest.raises(ValueError, match="steps"):
        ddim(smooth, z_T, SCHEDULE, 0)


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_euler_is_exact_where_the_velocity_is_constant(steps: int) -> None:
    flow, velocity = RectifiedFlow(), torch.tensor([[[[3.0, -1.0]]]])
    times: list[int] = []

    def denoise(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        times.append(int(t))
        return flow.predict_z0(z_t, velocity, t, "flow")

    z_T = torch.tensor([[[[0.5, 0.25]]]])
    torch.testing.assert_close(euler(denoise, z_T, flow, steps), z_T + velocity)
    assert times == ddim_timesteps(1000, steps)[0]


def test_euler_steps_by_hand() -> None:
    """Of a velocity that is the place: each of four steps adds a quarter of it."""
    flow = RectifiedFlow()
    z_T = torch.full((1, 1, 1, 1), 16.0)
    end = euler(lambda z_t, t: flow.predict_z0(z_t, z_t, t, "flow"), z_T, flow, 4)
    torch.testing.assert_close(end, torch.full((1, 1, 1, 1), 16.0 * 1.25**4))
    one = euler(lambda z_t, t: flow.predict_z0(z_t, z_t, t, "flow"), z_T, flow, 1)
    torch.testing.assert_close(one, torch.full((1, 1, 1, 1), 32.0))  # the single step's estimate
    torch.testing.assert_close(one, single_step(lambda z_t, t: flow.predict_z0(z_t, z_t, t, "flow"), z_T, flow))
