"""MedSegDiff's samplers, fusion and decision beside the released code's values, on a closed-form network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from baselines.diffusion import (
    Denoise,
    Estimate,
    LinearSchedule,
    ddim,
    ddpm,
    dpm_grid,
    dpm_solver,
    dynamic_threshold,
    fuse,
    respaced,
    z_score,
)
from baselines.medsegdiff.model import decide, mix, mix_quarter
from tests.parity.medsegdiff import Golden, check, standin

golden = Golden()


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    """Samplers' values."""
    return golden.tensors("samplers")


class Network:
    """The stand-in as samplers call it; remembers states and clean maps by index."""

    def __init__(self, image: torch.Tensor, schedule: LinearSchedule, shift: float = 0.0) -> None:
        self.image, self.schedule, self.shift = image, schedule, shift
        self.times: list[float] = []
        self.states: list[torch.Tensor] = []
        self.clean: list[torch.Tensor] = []
        self.output = self.cal = image

    def denoise(self, clip: Callable[[torch.Tensor], torch.Tensor]) -> Denoise:
        def call(x_t: torch.Tensor, index: float) -> Estimate:
            time = self.schedule.time(index)
            t = torch.full((len(x_t),), time)
            self.output, self.cal = standin(torch.cat([self.image, x_t], 1), t, self.shift)
            eps, v = self.output.chunk(2, dim=1)
            self.times.append(time)
            self.states.append(x_t)
            self.clean.append(clip(self.schedule.predict_x0(x_t, eps, index)))
            return Estimate(self.clean[-1], v)

        return call


class Noise:
    """The golden data's numbered draws; draw 0 is the start."""

    def __init__(self, *shape: int) -> None:
        self.count, self.shape = -1, shape

    def __call__(self) -> torch.Tensor:
        self.count += 1
        return golden.input(f"noise/{self.count}", *self.shape)


def clamp(x0: torch.Tensor) -> torch.Tensor:
    return x0.clamp(-1, 1)


def check_path(tag: str, network: Network, end: torch.Tensor, values: dict[str, torch.Tensor], steps: int) -> None:
    """States after a step, and the clean maps used in it; the golden index counts down from steps - 1."""
    limit, states = golden.tolerance["ddpm"], [*network.states[1:], end]
    names = [name for name in values if name.startswith(f"{tag}/after_index")]
    assert names
    for name in names:
        position = steps - 1 - int(name.split("/")[1].removeprefix("after_index"))
        if name.endswith("sample"):
            check(name, states[position], values[name], limit)
            continue
        # Near t = 999 a clean map holds one rounding of the noise 157 times.
        rounding = 2**-22 * (1 / network.schedule.alpha_bar(network.times[position]) - 1) ** 0.5
        check(name, network.clean[position], values[name], limit + rounding)
    check(f"{tag}/sample", end, values[f"{tag}/sample"], limit)


@pytest.mark.parametrize("name", ["n1000", "n50"])
def test_schedule(values: dict[str, torch.Tensor], name: str) -> None:
    schedule, table = LinearSchedule(int(name[1:])), f"tables/{name}"
    torch.testing.assert_close(schedule.alphas_cumprod, values[f"{table}/alphas_cumprod"], rtol=1e-12, atol=0)
    t = torch.arange(len(schedule))
    step = schedule.posterior(t, t - 1)
    torch.testing.assert_close(step.from_x0, values[f"{table}/posterior_mean_coef1"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(step.from_xt, values[f"{table}/posterior_mean_coef2"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(step.log_most.exp(), values[f"{table}/betas"], rtol=1e-9, atol=0)
    clipped = values[f"{table}/posterior_log_variance_clipped"]
    torch.testing.assert_close(step.log_least[1:], clipped[1:], rtol=1e-9, atol=0)


def test_respaced_schedule(values: dict[str, torch.Tensor]) -> None:
    grid = respaced(1000, 50)[::-1]
    assert grid == values["tables/respaced50/timestep_map"].tolist()
    step = LinearSchedule().posterior(torch.tensor(grid), torch.tensor([-1, *grid[:-1]]))
    torch.testing.assert_close(step.from_x0, values["tables/respaced50/posterior_mean_coef1"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("tag", "steps", "shift"),
    [
        pytest.param("ddpm1000", 1000, 0.0, marks=pytest.mark.full),
        ("ddpm_respaced50", 50, 3.0),
        ("ddpm_respaced50_lowcal", 50, -2.0),
    ],
)
def test_ddpm_and_v1s_mixing(values: dict[str, torch.Tensor], tag: str, steps: int, shift: float) -> None:
    schedule, noise = LinearSchedule(), Noise(2, 1, 32, 32)
    network = Network(values["image"], schedule, shift)
    end = ddpm(network.denoise(clamp), noise(), schedule, steps, noise)
    check_path(tag, network, end, values, steps)
    check(f"{tag}/cal", network.cal, values[f"{tag}/cal"], 1e-6)
    # The golden batch of two shares one decision; as one sample of two channels it does so here.
    mixed = mix(end.transpose(0, 1), network.cal.transpose(0, 1)).transpose(0, 1)
    check(f"{tag}/cal_out", mixed, values[f"{tag}/cal_out"], golden.tolerance["ddpm"])


@pytest.mark.parametrize("eta", [0, 1])
def test_ddim(values: dict[str, torch.Tensor], eta: int) -> None:
    schedule, noise = LinearSchedule(), Noise(2, 1, 32, 32)
    network = Network(values["image"], schedule)
    end = ddim(network.denoise(clamp), noise(), schedule, 50, float(eta), noise)
    check_path(f"ddim50_repaired_eta{eta}", network, end, values, 50)


@pytest.mark.parametrize(("tag", "timesteps"), [("dpm_n1000", 1000), ("dpm_release_n50", 50)])
def test_dpm_solver_and_what_the_release_returns(values: dict[str, torch.Tensor], tag: str, timesteps: int) -> None:
    schedule, limit = LinearSchedule(timesteps), golden.tolerance["dpm_corrected"]["own_solver"]
    network = Network(values["image"][:1], schedule)
    denoise = network.denoise(dynamic_threshold)
    end = dpm_solver(denoise, golden.input("noise/0", 1, 1, 32, 32), schedule, 50)
    assert len(network.times) == 50
    for call in (1, 2, 10, 25, 49):
        check(f"{tag} before call {call}", network.states[call], values[f"{tag}/x_before_call{call}"], limit)
    check(f"{tag} end", end, values[f"{tag}/corrected/x_end"], limit)
    v = denoise(end, dpm_grid(schedule, 50)[-1]).v  # the release's 51st call
    torch.testing.assert_close(torch.tensor(network.times), values[f"{tag}/model_times"], rtol=0, atol=1e-3)
    official = golden.tolerance["dpm_official"]
    level = (1 - schedule.alpha_bar(0)) ** 0.5  # the stand-in divides by it
    check(f"{tag} noise", network.output[:, :1], values[f"{tag}/official/sample_ch0_eps"], limit / level)
    check(f"{tag} z-score", z_score(v), values[f"{tag}/official/sample_ch1_zscored"], official)
    mixed = mix_quarter(z_score(v), network.cal)
    check(f"{tag} mixed", mixed, values[f"{tag}/official/cal_out"], official)
    # Nothing like the mask that the solver had found.
    assert float((z_score(v) - end).abs().max()) > 1


def test_fusion() -> None:
    data, limit = golden.tensors("fusion"), golden.tolerance["fusion"]
    for kind in ("maps01", "maps_raw"):
        samples = data[kind].transpose(0, 1)  # (1, 5, 1, 32, 32)
        check(f"mean {kind}", fuse(samples, "mean"), data[f"mean_{kind}"], limit)
        check(f"mean_sq {kind}", fuse(samples, "mean_sq")[0], data[f"v2_staple_{kind}"], limit)
    check("mean_sq of V1", fuse(data["maps01"].transpose(0, 1), "mean_sq"), data["v1_staple_maps01"], limit)
    check("z-score", z_score(data["norm_input"]), data["norm_output"], limit)


def test_official_decision() -> None:
    for pixels in golden.tensors("metric_pairs")["pairs48/pred"]:
        # The middle threshold of the released evaluation.
        peak = pixels.float().max()
        middle = pixels.float() / peak > 0.5 if peak else torch.zeros_like(pixels, dtype=torch.bool)
        assert torch.equal(decide(pixels.float()[None, None], "official")[0, 0], middle)
