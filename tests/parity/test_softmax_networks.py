"""TransU-Net and SwinU-Net: networks, losses, gradients and optimiser steps beside the released code's values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sdseg.training.recipe import Recipe
from tests.parity import folder, procedural
from tests.parity.golden_softmax import Golden, masks, without_drops

FULL = pytest.mark.full
FOLDERS = {name: Golden(name) for name in ("transunet", "swinunet")}
CONFIGS = {
    "transunet": (
        *("full224", "full256", "full512", "binary224", "binary256", "tiny64", "tiny96"),
        *("tiny64_skip0", "tiny64_skip1", "tiny64_skip2"),
    ),
    "swinunet": ("full224", "binary224", "full256_window8", "binary256_window8", "tiny64", "small224"),
}
ITEMS = [
    *(("transunet", item, "tiny64", "image", 2, 64) for item in ("tiny64", "tiny64_amp")),
    ("transunet", "tiny64_gray", "tiny64", "image_gray", 1, 64),
    *(("transunet", f"tiny64_skip{n}", f"tiny64_skip{n}", "image", 2, 64) for n in range(3)),
    ("transunet", "tiny96", "tiny96", "image96", 1, 96),
    *(
        pytest.param("transunet", item, item.removesuffix("_amp"), f"image{size}", 1, size, marks=FULL)
        for item, size in (("full224", 224), ("full224_amp", 224), ("full256", 256), ("full512", 512))
    ),
    ("swinunet", "tiny64", "tiny64", "image", 2, 64),
    ("swinunet", "tiny64_gray", "tiny64", "image_gray", 1, 64),
    ("swinunet", "small224", "small224", "image224", 1, 224),
    pytest.param("swinunet", "full224", "full224", "image224", 1, 224, marks=FULL),
    pytest.param("swinunet", "full256_window8", "full256_window8", "image256", 1, 256, marks=FULL),
]


@pytest.fixture(params=["transunet", "swinunet"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return FOLDERS[request.param]


def test_every_tensor_of_the_checkpoint_has_its_name_and_shape(golden: Golden) -> None:
    seen = 0
    for config in CONFIGS[golden.name]:
        if not (golden.folder / f"manifest_{config}.json").is_file():
            continue
        with torch.device("meta"):
            network = golden.network(config)
        assert {k: list(v.shape) for k, v in network.state_dict().items()} == golden.manifest(config)
        parameters = sum(p.numel() for p in network.parameters())
        assert parameters == golden.json(f"manifest_{config}")["parameters"]
        assert parameters == golden.json("config")["parameters"][config]
        seen += 1
    assert seen >= 2


@pytest.mark.parametrize(("name", "item", "config", "image", "count", "size"), ITEMS)
def test_every_stage_and_the_logits(
    name: str, item: str, config: str, image: str, count: int, size: int, tmp_path: Path
) -> None:
    golden = FOLDERS[name]
    golden.tensors("net", f"{item}/"), golden.path(f"manifest_{config}.json")
    network = golden.loaded(config, tmp_path)
    if item.endswith("_amp"):  # with positions that are large enough to be seen
        positions = network.transformer["embeddings"].position_embeddings
        key = "transformer.embeddings.position_embeddings"
        positions.data = procedural.normal(key, positions.shape, golden.salt)
    shown = golden.image(image, count, 1 if item.endswith("gray") else 3, size, size)
    seen, checked = golden.stages(network, shown), golden.json("stats")[item]
    for stage in checked:
        golden.check(item, stage, seen["logits" if stage == "logits" else golden.own_name(stage)])
    if (crop := golden.tensors("net", f"{item}/").get("logits_crop")) is not None:
        start = {224: 96, 256: 112, 512: 240}[size]
        part = seen["logits"][..., start : start + 32, start : start + 32]
        folder.check(f"{item} crop", part, crop, golden._limit(item, "logits"))


@pytest.mark.parametrize("item", ["lossonly", "lossonly_all_background", "lossonly_confident_x20"])
def test_losses_of_given_logits(golden: Golden, item: str) -> None:
    expected, label = golden.json("losses")[item], golden.tensors("losses")["lossonly/label_u8"]
    logits = 2 * golden.input("lossonly/logits", 2, 4, 16, 16)
    if "all_background" in item:
        label = torch.zeros_like(label)
    losses = golden.objective.loss(logits * 20 if "x20" in item else logits, masks(label))
    for part in ("ce", "dice", "total"):
        assert getattr(losses, part).item() == pytest.approx(expected[part], rel=0, abs=1e-5), part


TAGS = [("transunet", "tiny64_eval"), ("transunet", "tiny64_train_nodropout"), ("swinunet", "tiny64_nodropout")]


@pytest.mark.parametrize(("name", "tag"), TAGS)
def test_losses_gradients_and_statistics(name: str, tag: str, tmp_path: Path) -> None:
    golden = FOLDERS[name]
    network, limits = golden.loaded("tiny64", tmp_path), golden.tolerance
    if "nodropout" in tag:
        without_drops(network)
    image = golden.image("loss/image_6" if name == "transunet" else "loss/image", 2, 3, 64, 64)
    losses = golden.objective.loss(network(image), masks(golden.tensors("losses")["tiny64/label_u8"]))
    for part, value in golden.json("losses")[tag].items():
        assert getattr(losses, part).item() == pytest.approx(value, rel=0, abs=limits["losses"]), part
    named = dict(network.named_parameters())
    gradients = dict(zip(named, torch.autograd.grad(losses.total, list(named.values())), strict=True))
    norms, rule = golden.json("grad_norms")[tag], limits["grad_norms"]
    assert norms.keys() == gradients.keys()
    for key, norm in norms.items():
        assert abs(gradients[key].norm().item() - norm) <= rule["rel"] * norm + rule["abs"], key
    stored, buffers = golden.tensors("losses", f"{tag}/"), dict(network.named_buffers())
    for key in [key for key in stored if key.startswith("grad/")]:
        limit = limits["gradients_rel_to_max"] * float(stored[key].abs().max()) + rule["abs"]
        folder.check(key, gradients[key.removeprefix("grad/")], stored[key], limit)
    for key in [key for key in stored if key.startswith("buffer/")]:
        folder.check(key, buffers[key.removeprefix("buffer/")], stored[key], 1e-5)


@pytest.mark.full
def test_losses_at_full_size(golden: Golden, tmp_path: Path) -> None:
    network, expected = golden.loaded("full224", tmp_path), golden.json("losses")["full224_eval"]
    label = golden.tensors("losses", "full224/")["label_u8"]
    with torch.no_grad():
        logits = network(golden.image("loss224/image", 1, 3, 224, 224))
    losses = golden.objective.loss(logits, masks(label, 8))
    for part, value in expected.items():
        assert getattr(losses, part).item() == pytest.approx(value, rel=0, abs=golden.tolerance["losses"]), part


def test_three_steps_of_the_projects_own_training(golden: Golden, tmp_path: Path) -> None:
    network, document = without_drops(golden.loaded("tiny64", tmp_path)), golden.json("optim")
    loop, limits = golden.training_loop(network, tmp_path), golden.tolerance["optimizer"]
    weights = dict(network.named_parameters())
    before = {name: tensor.detach().clone() for name, tensor in weights.items()}
    for step, expected in enumerate(document["steps"]):
        (losses,) = loop.step(golden.step_batch(step))
        assert loop.optimizer.param_groups[0]["lr"] == pytest.approx(expected["lr_used"], rel=1e-9)
        for part in ("ce", "dice", "total"):
            assert losses[part].item() == pytest.approx(expected[part], rel=0, abs=limits["losses"]), (step, part)
        for name, norm in expected["norm"].items():
            assert weights[name].double().norm().item() == pytest.approx(norm, rel=limits["norm_rel"]), (step, name)
        for name, moved in expected["moved"].items():
            way = (weights[name].detach() - before[name]).double().norm().item()
            assert way == pytest.approx(moved, rel=limits["moved_rel"]), (step, name)
    image, mask, _ = golden.step_batch(2)
    with torch.no_grad():
        after = golden.objective.loss(network.eval()(image), mask)
    assert after.total.item() == pytest.approx(document["after"]["total"], rel=0, abs=limits["losses"])


def test_the_learning_rate_of_every_iteration() -> None:
    stored = FOLDERS["transunet"].json("optim")["lr_used_at_iteration"]
    recipe = Recipe(steps=stored["max_iterations"], batch_size=24, lr=stored["base_lr"], decay="poly")
    for iteration, rate in stored["lr"].items():
        assert recipe.lr * recipe.lr_factor(int(iteration)) == pytest.approx(rate, rel=1e-9), iteration


def test_what_rounding_hides_is_as_released() -> None:
    """Within the limits above another epsilon of these norms would pass."""
    norms = {
        name: module.eps
        for name, module in FOLDERS["transunet"].network("tiny64").named_modules()
        if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm)
    }
    assert {eps for name, eps in norms.items() if name.endswith("gn_proj")} == {1e-5}
    assert {eps for name, eps in norms.items() if not name.endswith("gn_proj")} == {1e-6}
    assert len(norms) > 20


@pytest.mark.parametrize(("config", "window"), [("tiny64", 4), ("full224", 7)])
def test_windows_and_their_masks_are_those_of_the_release(config: str, window: int) -> None:
    golden = FOLDERS["swinunet"]
    tables, seen = golden.tensors("net", "tables/"), set[int]()
    for name, buffer in golden.network(config).named_buffers():
        if name.endswith("relative_position_index") and len(buffer) == window**2:
            assert torch.equal(buffer, tables[f"relative_position_index/window{window}"]), name
        elif name.endswith("attn_mask"):
            side = round(len(buffer) ** 0.5) * window
            if (packed := tables.get(f"attn_mask_packed/res{side}_window{window}")) is None:
                continue
            bits = torch.from_numpy(np.unpackbits(packed.numpy(), axis=-1)[..., : window**2]).bool()
            assert torch.equal(buffer, torch.where(bits, -100.0, 0.0)), name
            seen.add(side)
    assert seen == ({16} if window == 4 else {14, 28})
