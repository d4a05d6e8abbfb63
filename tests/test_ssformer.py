"""SSFormer as a method: its checkpoints, its encoders, images of any size, its objectives."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sdseg  # noqa: F401 - first, so that torchvision can be imported
from baselines.networks.mit import _Block
from baselines.networks.ssformer import SSFormer
from baselines.supervised import supervised_segmenter
from bench.build import build_segmenter
from bench.config import compose_config
from bench.types import TaskSpec

RECIPE = {"steps": 2, "batch_size": 2, "lr": 1e-3, "validate_every": 2, "checkpoint_every": 2, "ema_decay": 0.0}
METHODS = {"ssformer": "approximation", "ssformer_s": "approximation", "ssformer_pvt": "variant"}


def build(channels: int = 3, labels: int = 1, options: dict[str, Any] | None = None, **more: Any):
    task = SimpleNamespace(channels=channels, labels=("a", "b")[:labels], image_size=(40, 56), dims=2)
    settings = {"divisor": 32, "normalise": "imagenet", **more}
    network = "baselines.networks.ssformer.SSFormer"
    return supervised_segmenter(task, 0, "cpu", RECIPE, network, {"size": "tiny", **(options or {})}, **settings)


def image(count: int, channels: int, *size: int) -> torch.Tensor:
    return torch.rand((count, channels, *size), generator=torch.Generator().manual_seed(1)) * 2 - 1


def saved(path: Path, state: dict[str, torch.Tensor]) -> str:
    torch.save(state, path)
    return str(path)


def test_a_checkpoint_of_the_release_is_where_training_starts(tmp_path: Path) -> None:
    torch.manual_seed(5)
    official = SSFormer(3, 1, "tiny").state_dict()
    file = {f"module.{name}": tensor for name, tensor in official.items()}
    # A profiler leaves counters in every module.
    file |= {"module.total_ops": torch.zeros(1), "module.backbone.block1.0.total_params": torch.zeros(1)}
    model = build(weights=saved(tmp_path / "release.pth", file)).model
    model.prepare([], torch.Generator())
    assert all(torch.equal(tensor, official[name]) for name, tensor in model.network.state_dict().items())
    with pytest.raises(ValueError, match=r"release\.pth: does not fit \(decode_head\.linear_pred\.weight has"):
        build(labels=2, weights=str(tmp_path / "release.pth")).model.prepare([], torch.Generator())


@pytest.mark.parametrize("encoder", ["mit", "pvt_v2"])
def test_an_imagenet_encoder_is_where_training_starts(tmp_path: Path, encoder: str) -> None:
    model = build(options={"encoder": encoder}, weights=str(tmp_path / "encoder.pth")).model
    decoder = {name: tensor.clone() for name, tensor in model.network.decode_head.state_dict().items()}
    wanted = {name: tensor + 1 for name, tensor in model.network.backbone.state_dict().items()}
    # timm's list of stages is flattened where features are taken out of it; the releases' files end in a classifier.
    file = {name.replace("stages_", "stages."): tensor for name, tensor in wanted.items()}
    saved(tmp_path / "encoder.pth", {**file, "head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)})
    model.prepare([], torch.Generator())
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.network.backbone.state_dict().items())
    assert all(torch.equal(tensor, decoder[name]) for name, tensor in model.network.decode_head.state_dict().items())


@pytest.mark.parametrize(("size", "input_size"), [((40, 56), None), ((21, 35), None), ((40, 56), 96)])
def test_grey_images_of_any_size_are_segmented_at_their_size(size: tuple[int, int], input_size: int | None) -> None:
    segmenter = build(channels=1, labels=2, input_size=input_size)
    seen: list[torch.Tensor] = []
    segmenter.model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    score, mask = segmenter.predict(image(2, 1, *size), [torch.Generator()] * 2)
    assert score.shape == mask.shape == (2, 2, *size)
    assert score.std() > 0
    edges = [input_size] * 2 if input_size else [-(-edge // 32) * 32 for edge in size]
    assert [tuple(x.shape) for x in seen] == [(2, 3, *edges)]
    assert seen[0].min().item() >= -2.12  # black, of ImageNet's mean and deviation


@pytest.mark.parametrize("objective", ["dice_bce", "ssformer_released"])
def test_it_trains(tmp_path: Path, objective: str) -> None:
    segmenter = build(objective=objective)
    before = {name: parameter.clone() for name, parameter in segmenter.model.named_parameters()}
    shown = [{"image": one, "mask": one[:1] > 0.3, "case_id": str(i)} for i, one in enumerate(image(3, 3, 40, 56))]
    segmenter.fit(shown, shown[:1], tmp_path)
    still = {name for name, parameter in segmenter.model.named_parameters() if torch.equal(parameter, before[name])}
    # What the release never uses has no gradient, and no weight decay either.
    assert still == {f"network.decode_head.linear_fuse.{name}" for name in ("conv.weight", "bn.weight", "bn.bias")}


def test_stochastic_depth_leaves_branches_out_and_keeps_their_mean() -> None:
    block = _Block(16, 1, 1, drop_path=0.25).train()
    torch.manual_seed(0)
    kept = block._kept(torch.ones(4000, 1, 1))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(block.eval()._kept(kept), kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, "normalise=imagenet: for 1 or 3 channels"),
        ({"channels": 1, "normalise": "none"}, "shown 1 channels: it sees RGB images, and grey ones with .*=imagenet"),
        ({"options": {"size": "M"}}, r"options\.size=M: known are tiny, S, L"),
        ({"options": {"encoder": "resnet"}}, r"options\.encoder=resnet: known are mit, pvt_v2"),
        ({"objective": {"name": "ssformer_released", "sigmoids": 3}}, r"objective\.sigmoids=3: expected 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_are_what_they_are_called(method: str) -> None:
    small, published = (
        compose_config([f"profile={name}", f"method={method}"])["method"] for name in ("smoke", "paper")
    )
    assert small["fidelity"] == METHODS[method]
    assert published["fidelity"] == ("variant" if method == "ssformer_pvt" else "reimplemented")
    assert published["options"]["input_size"] == 352
    assert published["options"]["options"]["size"] == ("S" if method == "ssformer_s" else "L")
    config = compose_config(["profile=smoke", f"method={method}", "device=cpu"])
    segmenter = build_segmenter(config, TaskSpec(3, ("a",), (64, 64), 2))
    assert sum(p.numel() for p in segmenter.model.parameters()) < 5e6
