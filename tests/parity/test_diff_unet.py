"""Diff-U-Net's network, losses, gradients and learning rate beside the released code's values."""

from __future__ import annotations

import pytest
import torch

from baselines.diff_unet.model import TrainableDiffUNet
from baselines.diff_unet.network import DiffUNet
from sdseg.training.recipe import Recipe
from tests.parity.golden_diff_unet import Golden

FULL = pytest.mark.full
SIZES = ["btcv_small", pytest.param("btcv_full", marks=FULL)]
WINDOWS = [
    ("btcv_small", 2, (32, 32, 32)),
    ("btcv_small", 1, (34, 37, 32)),  # odd edges
    pytest.param("btcv_full", 1, (32, 32, 32), marks=FULL),
    pytest.param("btcv_full", 1, (64, 64, 64), marks=FULL),
]
TIMES = {"t0": [0], "t500": [500], "t999": [999], "tmix": [111, 888]}


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden()


@pytest.mark.parametrize("config", ["btcv_small", "brats_small", "btcv_full", "binary_full", "brats_full"])
def test_every_tensor_of_the_checkpoint_has_its_name_and_shape(golden: Golden, config: str) -> None:
    manifest, settings = golden.json(f"manifest_{config}"), golden.json("config")["configs"][config]
    with torch.device("meta"):
        network = DiffUNet(3, settings["image_channels"], settings["num_classes"], settings["features"])
    state = network.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == {k: v["shape"] for k, v in manifest["tensors"].items()}
    assert sum(p.numel() for p in network.parameters()) == manifest["parameters"]


@pytest.mark.parametrize(("config", "count", "size"), WINDOWS)
@torch.no_grad()
def test_image_maps_and_logits(golden: Golden, config: str, count: int, size: tuple[int, ...]) -> None:
    network, limit = golden.network(config), golden.tolerance["embeddings_logits"]["strict"]
    channels = golden.json("config")["configs"][config]["image_channels"]
    folder = f"{config}/{'x'.join(map(str, size))}/"
    expected = golden.tensors("net", folder)
    image, x_t = golden.image("image", count, channels, *size), golden.input("x_t", count, network.labels, *size)
    maps = network.embed_model(image)
    every, stride = 16 if config.endswith("full") else 4, 5 if size[0] == 64 else 3
    for level, found in enumerate(maps):
        name = f"embedding{level}"
        thinned = stride if found.shape[-1] > 4 else 1
        golden.check(folder + name, found[:, ::every], expected.pop(name), limit, thinned)
    assert expected
    for name, stored in expected.items():
        t = torch.tensor(TIMES[name.removesuffix("/logits")])
        logits = network.model(image, x_t, t.expand(count), maps)
        golden.check(folder + name, logits, stored, limit, stride)


def step_losses(golden: Golden, config: str, t: int):
    size = (1, 13, 32, 32, 32)
    organs = golden.tensors("losses")["label_u8_32"]
    mask = torch.stack([organs == k for k in range(1, 14)])[None]
    image = golden.image("loss/image", 1, 1, *size[2:]) * 2 - 1
    model = TrainableDiffUNet(golden.network(config))
    return model, model.loss_at(image, mask, torch.tensor([t]), golden.input("loss/noise", *size))


@pytest.mark.parametrize("config", SIZES)
@pytest.mark.parametrize("t", [0, 999])
@torch.no_grad()
def test_losses(golden: Golden, config: str, t: int) -> None:
    losses, expected = step_losses(golden, config, t)[1], golden.json("losses")[config][f"t{t}"]
    assert set(losses._fields) == set(expected)
    for name, value in expected.items():
        assert getattr(losses, name).item() == pytest.approx(value, rel=0, abs=golden.tolerance["losses"]), name


@pytest.mark.parametrize("config", SIZES)
def test_gradients(golden: Golden, config: str) -> None:
    model, losses = step_losses(golden, config, 500)
    named = dict(model.network.named_parameters())
    gradients = dict(zip(named, torch.autograd.grad(losses.total, list(named.values())), strict=True))
    expected, limit = golden.json("grad_norms")[config], golden.tolerance["grad_norms"]
    assert set(expected) == set(gradients)
    for name, norm in expected.items():
        found = gradients[name].norm().item()
        assert abs(found - norm) <= limit["rel"] * norm + limit["abs"], name
    for name, stored in golden.tensors("losses", f"{config}/grad_t500/").items():
        # Single numbers differ more than norms: rounding decides which of two almost equal voxels is the largest.
        coarse = 10 * limit["rel"] * float(stored.abs().max()) + limit["abs"]
        golden.check(name, gradients[name][None], stored[None], coarse)


@pytest.mark.parametrize("data", ["btcv", "brats"])
def test_cosine_part_of_the_learning_rate_is_the_release_s(golden: Golden, data: str) -> None:
    schedule = golden.json("losses")["lr_schedule"][data]
    base, warmup = schedule["base_lr"], schedule["warmup_epochs"]
    recipe = Recipe(steps=schedule["max_epochs"], batch_size=1, lr=base, warmup=warmup, decay="cosine")
    for epoch, rate in schedule["lr_at_epoch"].items():
        ours = base * recipe.lr_factor(int(epoch))
        # The release's warm-up ends one epoch earlier.
        assert ours == pytest.approx(rate, rel=1e-9, abs=base * (1.01 / warmup if int(epoch) < warmup else 1e-12))
