"""The published MedSegDiff V1 and V2 beside the released code's values: minutes and gigabytes, with -m full."""

from __future__ import annotations

import pytest
import torch

from baselines.medsegdiff.loss import medsegdiff_loss
from baselines.medsegdiff.model import MedSegDiff
from baselines.medsegdiff.official import load_official
from tests.parity.medsegdiff import Golden, check, check_gradients, check_losses

pytestmark = pytest.mark.full
golden = Golden()
VARIANTS = {
    "zero": ["t0", "t500", "t999"],
    "random": ["t500"],
    "amp": ["t0", "t500"],
    "amp_random": ["t500"],
}


def full_size(version: str, variant: str = "zero") -> MedSegDiff:
    """The published network; `random` puts the golden data's convolution in the bottleneck, `amp` amplifies."""
    bottleneck = "seeded" if variant.endswith("random") else "zero"
    state = golden.state(f"{version}_full", amplified=variant.startswith("amp"))
    model = load_official(state, mask_binarise="gt0", v1_bottleneck=bottleneck)
    if bottleneck == "seeded":
        model.network.bottleneck_weight, model.network.bottleneck_bias = golden.bottleneck()
    return model


def check_network(model: MedSegDiff, values: dict[str, torch.Tensor], prefix: str, time: str) -> None:
    """Noise, variance logit and calibrated map at one time."""
    image, x_t = golden.image("image", 1, 3, 256, 256), golden.input("x_t", 1, 1, 256, 256)
    with torch.no_grad():
        net = model.network(image, x_t, torch.tensor([int(time[1:])]))
    limits = golden.tolerance
    for name in ("eps", "v", "cal"):
        wanted = values.get(f"{prefix}{time}/{name}", values.get(name))
        limit = limits["net_cal" if name == "cal" else "net_eps_v"]["strict"]
        check(f"{prefix}{time}/{name}", getattr(net, name)[..., ::3, ::3], wanted, limit)


def check_training(model: MedSegDiff, tag: str, time: int) -> None:
    """Losses and gradients on one image."""
    image, noise = golden.image("loss256/image", 1, 3, 256, 256), golden.input("loss256/noise", 1, 1, 256, 256)
    mask = golden.tensors("losses")["full/mask_u8x4"].float() / 4
    losses = model.errors(image, mask, torch.tensor([time]), noise)
    check_losses(golden, tag, losses)
    medsegdiff_loss(*losses).total.backward()
    check_gradients(golden, tag, model)


def test_v2() -> None:
    model, values = full_size("v2"), golden.tensors("net_v2_full")
    for time in ("t0", "t500", "t999"):
        check_network(model, values, "", time)
    check_training(model, "v2_full_t500", 500)


@pytest.mark.parametrize("variant", VARIANTS)
def test_v1(variant: str) -> None:
    model, values = full_size("v1", variant), golden.tensors("net_v1_full")
    for time in VARIANTS[variant]:
        check_network(model, values, f"{variant}/", time)
    if variant == "zero":
        check_training(model, "v1_full_zero_t0", 0)
    if variant == "amp_random":
        check_training(model, "v1_full_amp_random_t500", 500)
