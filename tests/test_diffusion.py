"""Pixel-space samplers against diffusers' own, noise per sample, and fusion."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

from baselines.diffusion import (
    Estimate,
    LinearSchedule,
    ddim,
    ddpm,
    dpm_grid,
    dpm_solver,
    draw_each,
    dynamic_threshold,
    fuse,
    respaced,
    sample_generators,
    z_score,
)

SCHEDULE = LinearSchedule()
BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(x_t: torch.Tensor, t: float) -> torch.Tensor:
    """A stand-in: noise and variance logit as smooth functions of their inputs."""
    return torch.cat([torch.sin(x_t + t / 500), torch.tanh(0.3 * x_t - t / 900)], dim=1)


def denoise(clip):
    def call(x_t: torch.Tensor, index: float) -> Estimate:
        eps, v = network(x_t, index).chunk(2, dim=1)
        return Estimate(clip(SCHEDULE.predict_x0(x_t, eps, index)), v)

    return call


def start() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=generator(5))


def test_ddpm_equals_diffusers() -> None:
    scheduler = DDPMScheduler(**BETAS, variance_type="learned_range", clip_sample=True, clip_sample_range=1.0)
    scheduler.set_timesteps(timesteps=respaced(1000, 30))
    expected, noise = start(), generator(7)
    for t in scheduler.timesteps:
        expected = scheduler.step(network(expected, float(t)), int(t), expected, generator=noise).prev_sample
    own = generator(7)
    found = ddpm(
        denoise(lambda x: x.clamp(-1, 1)), start(), SCHEDULE, 30, lambda: torch.randn(2, 1, 8, 8, generator=own)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


# A count that divides 999: diffusers tells the network whole times only.
def test_dpm_solver_equals_diffusers() -> None:
    scheduler = DPMSolverMultistepScheduler(
        **BETAS,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        thresholding=True,
        dynamic_thresholding_ratio=0.995,
        sample_max_value=1e6,
        timestep_spacing="linspace",
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(37)
    assert dpm_grid(SCHEDULE, 37)[:-1] == pytest.approx(scheduler.timesteps.tolist())
    expected = start()
    for t in scheduler.timesteps:
        expected = scheduler.step(network(expected, float(t))[:, :1], t, expected).prev_sample
    found = dpm_solver(denoise(dynamic_threshold), start(), SCHEDULE, 37)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_every_sampler_finds_what_a_perfect_network_knows() -> None:
    clean = start().tanh()

    def perfect(x_t: torch.Tensor, index: float) -> Estimate:
        return Estimate(clean, torch.zeros_like(clean))

    def draw() -> torch.Tensor:
        return torch.randn(2, 1, 8, 8, generator=generator(3))

    for found in (
        ddim(perfect, start(), SCHEDULE, 10),
        ddim(perfect, start(), SCHEDULE, 10, eta=1.0, draw=draw),
        ddpm(perfect, start(), SCHEDULE, 10, draw),
    ):
        torch.testing.assert_close(found, clean, rtol=0, atol=1e-5)
    # DPM-Solver keeps the schedule's first noise level, 1 %.
    assert 0 < float((dpm_solver(perfect, start(), SCHEDULE, 50) - clean).abs().max()) < 0.05


def test_fifty_betas_instead_of_a_thousand_leave_a_trace_of_noise() -> None:
    """The release's fast sampler solves on other noise levels than the network was trained with."""
    wrong = LinearSchedule(50)
    for index, theirs, ours in ((49, -5.88, -4.87), (0, 3.11, 4.61)):
        for schedule, expected in ((wrong, theirs), (SCHEDULE, ours)):
            now = schedule.alpha_bar(index if schedule is wrong else wrong.time(index))
            assert 0.5 * math.log(now / (1 - now)) == pytest.approx(expected, abs=0.01)
    clean, x_T = torch.ones(1, 1, 64, 64), torch.randn(1, 1, 64, 64, generator=generator(1))

    def end(schedule: LinearSchedule) -> float:
        def perfect(x_t: torch.Tensor, index: float) -> Estimate:  # reads x_t as if the training's levels held
            now = SCHEDULE.alpha_bar(schedule.time(index))
            eps = (x_t - now**0.5 * clean) / (1 - now) ** 0.5
            return Estimate(dynamic_threshold(schedule.predict_x0(x_t, eps, index)))

        return float(dpm_solver(perfect, x_T, schedule, 50).mean())

    assert end(SCHEDULE) == pytest.approx(1, abs=2e-3)
    assert end(wrong) < 0.96


def test_steps_must_fit() -> None:
    assert respaced(1000, 1) == [999]
    assert respaced(1000, 4) == [999, 666, 333, 0]
    with pytest.raises(ValueError, match="between 1 and 1000"):
        respaced(1000, 1001)
    with pytest.raises(ValueError, match="eta > 0"):
        ddim(denoise(torch.tanh), start(), SCHEDULE, 5, eta=1.0)


def test_noise_of_a_sample_depends_on_its_image_and_number_alone() -> None:
    few, many = (sample_generators(generator(1), n) for n in (2, 5))
    device = torch.device("cpu")
    noise = draw_each(many, (1, 4, 4), device)
    assert torch.equal(draw_each(few, (1, 4, 4), device), noise[:2])
    other = draw_each(sample_generators(generator(2), 5), (1, 4, 4), device)
    flat = torch.cat([noise, other]).flatten(1)
    assert len({tuple(row.tolist()) for row in flat}) == 10


def test_fusion_by_mean_and_by_its_square() -> None:
    samples = torch.tensor([0.0, 1.0, 1.0, 1.0]).view(1, 4, 1, 1, 1).expand(2, 4, 1, 3, 3)
    assert torch.equal(fuse(samples, "mean"), torch.full((2, 1, 3, 3), 0.75))
    assert torch.equal(fuse(samples, "mean_sq"), torch.full((2, 1, 3, 3), 0.5625))


def test_z_scores_are_of_each_sample() -> None:
    x = torch.randn(3, 1, 8, 8, generator=generator()) * torch.tensor([1.0, 5.0, 0.1]).view(3, 1, 1, 1) + 2
    found = z_score(x)
    torch.testing.assert_close(found[1:2], z_score(x[1:2]))
    torch.testing.assert_close(found.std((1, 2, 3)), torch.ones(3))


def test_staple_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ValueError, match="pip install SimpleITK"):
        fuse(torch.rand(1, 3, 1, 4, 4), "staple")


def test_staple_outvotes_a_careless_sample() -> None:
    pytest.importorskip("SimpleITK")
    mask = torch.zeros(8, 8)
    mask[2:6, 2:6] = 1
    careless = torch.rand(8, 8, generator=generator()).round()
    samples = torch.stack([mask, mask, mask, careless]).view(1, 4, 1, 8, 8)
    assert torch.equal(fuse(samples, "staple")[0, 0] > 0.5, mask > 0)
    empty = fuse(torch.zeros(1, 3, 1, 8, 8), "staple")
    assert torch.equal(empty, torch.zeros(1, 1, 8, 8))
