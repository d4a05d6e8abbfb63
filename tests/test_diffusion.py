"""Pixel-space samplers' ends, noise per sample, and fusion by STAPLE; the rest beside the release, in tests/parity."""

from __future__ import annotations

import sys

import pytest
import torch

from baselines.diffusion import (
    Estimate,
    LinearSchedule,
    ddim,
    ddpm,
    dpm_solver,
    draw_each,
    fuse,
    respaced,
    sample_generators,
)

SCHEDULE = LinearSchedule()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start() -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=generator(5))


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


def test_steps_must_fit() -> None:
    assert respaced(1000, 1) == [999]
    assert respaced(1000, 4) == [999, 666, 333, 0]
    with pytest.raises(ValueError, match="between 1 and 1000"):
        respaced(1000, 1001)
    with pytest.raises(ValueError, match="eta > 0"):
        ddim(lambda x_t, _: Estimate(x_t), start(), SCHEDULE, 5, eta=1.0)


def test_noise_of_a_sample_depends_on_its_image_and_number_alone() -> None:
    few, many = (sample_generators(generator(1), n) for n in (2, 5))
    device = torch.device("cpu")
    noise = draw_each(many, (1, 4, 4), device)
    assert torch.equal(draw_each(few, (1, 4, 4), device), noise[:2])
    other = draw_each(sample_generators(generator(2), 5), (1, 4, 4), device)
    flat = torch.cat([noise, other]).flatten(1)
    assert len({tuple(row.tolist()) for row in flat}) == 10


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
