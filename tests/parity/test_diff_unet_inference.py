"""Diff-U-Net's sampling, fusion and sliding windows beside the released code's values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.diff_unet.sampling import (
    alphas_cumprod,
    ddim_logits,
    fused_map,
    sampling_timesteps,
)
from baselines.sliding_window import slide
from tests.parity.golden_diff_unet import Golden

SIZES = ["btcv_small", pytest.param("btcv_full", marks=pytest.mark.full)]
WINDOW = (32, 32, 32)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden()


def denoiser(golden: Golden, config: str):
    channels = golden.json("config")["configs"][config]["image_channels"]
    network, image = golden.network(config), golden.image("image", 1, channels, *WINDOW)
    maps = network.embed_model(image)
    return lambda x_t, t: network.model(image, x_t, t, maps)


def test_respaced_schedule(golden: Golden) -> None:
    tables, times = golden.tensors("sampling", "tables/respaced10/"), sampling_timesteps(10)
    assert times == tables["timestep_map"].tolist()
    np.testing.assert_allclose(alphas_cumprod()[times], tables["alphas_cumprod"].numpy(), rtol=1e-12)


@pytest.mark.parametrize("config", SIZES)
@torch.no_grad()
def test_ten_steps_and_their_sum(golden: Golden, config: str) -> None:
    expected, limits = golden.tensors("sampling", f"{config}/"), golden.tolerance
    denoise, start = denoiser(golden, config), golden.input("noise/0", 1, 13, *WINDOW)
    logits = list(ddim_logits(denoise, start, 10))
    assert len(logits) == 10
    for name in [name for name in expected if name.startswith("step")]:
        found = logits[int(name[4 : name.index("/")])]
        golden.check(f"{config} {name}", found, expected[name], limits["sampling_step_logits"])
    last = logits[-1].clamp(-1, 1)  # the last step returns the clean mask itself
    for name in ("last_pred_xstart", "final_sample"):
        golden.check(f"{config} {name}", last, expected[name], limits["sampling_final_sample"])
    fused = sum(x.clamp(-1, 1) for x in logits)
    assert torch.equal(fused, fused_map(lambda *_: logits.pop(0), start[None], 10, "sum"))
    golden.check(f"{config} sum", fused, expected["sum_fused"], limits["sampling_sum_fused"])
    bits = np.unpackbits(expected["sum_fused_mask"].numpy()).astype(bool).reshape(fused.shape)
    differs = (fused.sigmoid() > 0.5) != torch.from_numpy(bits)
    assert not bool((differs & (fused.abs() >= limits["sampling_mask_ignore_abs_sum_below"])).any())
    assert 0.1 < bits.mean() < 0.9


@pytest.mark.full
@torch.no_grad()
def test_uncertainty_fusion_of_four_runs(golden: Golden) -> None:
    start = torch.stack([golden.input(f"noise/{11 * run}", 1, 3, *WINDOW) for run in range(4)])
    fused = fused_map(denoiser(golden, "brats_small"), start, 10, "uncertainty")
    expected = golden.tensors("sampling", "brats_small/")["suf_fused"]
    golden.check("uncertainty", fused, expected, golden.tolerance["suf_end_to_end"])


@pytest.mark.parametrize(
    ("fusion", "name", "scale", "shape"),
    [
        ("uncertainty", "suf", 8, (4, 10, 1, 3, 8, 8, 8)),
        ("sum", "sum", 2, (1, 10, 1, 13, 8, 8, 8)),
        ("last", "last", 2, (1, 10, 1, 13, 8, 8, 8)),
    ],
)
def test_fusion_of_given_steps(golden: Golden, fusion, name: str, scale: int, shape: tuple[int, ...]) -> None:
    stack = scale * golden.input("suf/logits" if name == "suf" else "sum/logits", *shape)
    steps = iter(stack.unbind(1))
    fused = fused_map(lambda *_: next(steps).flatten(0, 1), torch.zeros_like(stack[:, 0]), 10, fusion)
    limit = golden.tolerance["fusion_suf" if name == "suf" else "fusion_sum_last"]
    golden.check(name, fused, golden.tensors("fusion")[f"{name}/fused"], limit)


def test_sliding_windows_lie_and_blend_as_released(golden: Golden) -> None:
    document, stored = golden.json("sliding"), golden.tensors("sliding")
    for toy in document["toy"]:
        ramp = torch.linspace(-0.1, 0.1, toy["roi"][0]).view(-1, 1, 1)
        seen: list[list[int]] = []

        def predict(windows: torch.Tensor, places: list[list[int]], ramp=ramp, seen=seen) -> torch.Tensor:
            seen.extend(places)
            windows = (windows + 1) / 2
            p = (windows - windows.mean(dim=(1, 2, 3, 4), keepdim=True)).tanh() + ramp
            return torch.cat([p, p * p], dim=1)

        volume = golden.input(f"sliding/{toy['index']}", 1, 1, *toy["volume"]) * 2 - 1  # beyond it lies -1
        out = slide(volume, toy["roi"], predict, toy["overlap"], 5)
        assert len(seen) == toy["windows"]
        golden.check(f"toy{toy['index']}", out, stored[f"toy{toy['index']}/out"], golden.tolerance["sliding"])


def test_sliding_windows_start_where_the_release_starts_them(golden: Golden) -> None:
    for grid in [grid for grid in golden.json("sliding")["grids"] if grid["windows"] < 40]:
        seen: list[list[int]] = []

        def predict(windows: torch.Tensor, places: list[list[int]], seen=seen) -> torch.Tensor:
            seen.extend(places)
            return windows

        slide(torch.zeros(1, 1, *grid["volume"]), (96, 96, 96), predict, grid["overlap"], 1)
        starts = [sorted({place[axis] for place in seen}) for axis in (1, 2, 3)]
        assert (starts, len(seen)) == (grid["starts_per_axis"], grid["windows"])
