"""Networks of libraries through the supervised adapter: sizes, weights to start from, windows, padding, training."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sdseg  # noqa: F401 - first, so that torchvision can be imported
from baselines.networks import swin_unetr as swin_module
from baselines.networks.encoder_unet import EncoderUNet
from baselines.supervised import supervised_segmenter
from bench.build import build_segmenter
from bench.config import compose_config
from bench.types import TaskSpec

IMAGES = SimpleNamespace(channels=3, labels=("a", "b"), image_size=(40, 56), dims=2)
VOLUMES = SimpleNamespace(channels=1, labels=("a",), image_size=(24, 40), dims=3)
CUBES = SimpleNamespace(channels=1, labels=("a",), image_size=(20, 24), dims=3)
RECIPE = {"steps": 2, "batch_size": 2, "lr": 1e-3, "validate_every": 2, "checkpoint_every": 1, "ema_decay": 0.5}
ENCODER = "baselines.networks.encoder_unet.EncoderUNet"
SWIN = "baselines.networks.swin_unetr.swin_unetr"
SMALL_SWIN = {"feature_size": 12, "attention_window": 4}
METHODS = ("unet_resnet50", "unet_efficientnet", "unet_pvt", "unet_mit", "swin_unetr", "swin_unetr_3d")


def build(task: Any = IMAGES, network: str = ENCODER, **options: Any):
    inner = {"encoder": "tu-test_efficientnet"} if network == ENCODER else SMALL_SWIN
    inner = {**inner, **options.pop("options", {})}
    recipe = {**RECIPE, **options.pop("recipe", {})}
    padded = {"divisor": 32} if network == SWIN else {}
    three = {"dims": 3, "window": (8, 24, 40)} if task.dims == 3 else {}
    return supervised_segmenter(task, 0, "cpu", recipe, network, inner, **{**padded, **three, **options})


def image(task: Any, count: int = 2, depth: int = 8) -> torch.Tensor:
    size = (*([depth] if task.dims == 3 else []), *task.image_size)
    return torch.rand((count, task.channels, *size), generator=torch.Generator().manual_seed(1)) * 2 - 1


def items(task: Any, count: int = 3) -> list[dict[str, Any]]:
    repeat = [1] * task.dims
    return [
        {"image": one, "mask": one[:1].repeat(len(task.labels), *repeat) > 0.3, "case_id": str(i)}
        for i, one in enumerate(image(task, count))
    ]


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def resnet_file(folder: Path, name: str = "encoder.pth", **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    # As torchvision wrote them before batch norm counted: a classifier, and no counters.
    state = EncoderUNet(3, 1, "resnet18").unet.encoder.state_dict()
    generator = torch.Generator().manual_seed(7)
    state = {k: torch.rand(v.shape, generator=generator) for k, v in state.items() if v.is_floating_point()}
    state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000), **changes}
    torch.save({k: v for k, v in state.items() if v is not None}, folder / name)
    return folder / name, state


@pytest.mark.parametrize(
    ("network", "options", "expected"),
    [
        (ENCODER, {"encoder": "resnet50"}, 32.52),
        (ENCODER, {"encoder": "efficientnet-b5"}, 31.22),
        (ENCODER, {"encoder": "tu-pvt_v2_b2"}, 28.13),
        (ENCODER, {"encoder": "mit_b2"}, 27.48),
        (SWIN, {"spatial_dims": 2}, 25.12),
        (SWIN, {"spatial_dims": 3}, 62.19),
    ],
    ids=["resnet50", "efficientnet-b5", "pvt-b2", "mit-b2", "swin 2-D", "swin 3-D"],
)
def test_published_sizes(
    monkeypatch: pytest.MonkeyPatch, network: str, options: dict[str, Any], expected: float
) -> None:
    if network == ENCODER:
        # MiT reads numbers off a tensor while it builds.
        with torch.device("cpu" if options["encoder"].startswith("mit") else "meta"):
            found = EncoderUNet(3, 1, **options)
    else:
        # MONAI reads numbers off a tensor while it builds: no meta device, so nothing is drawn instead.
        for draw in ("trunc_normal_", "kaiming_uniform_", "xavier_uniform_"):
            monkeypatch.setattr(torch.nn.init, draw, lambda tensor, *_, **__: tensor)
        found = swin_module.swin_unetr(options["spatial_dims"], 1, 1)
    assert millions(found) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("task", "network"), [(IMAGES, ENCODER), (CUBES, SWIN)])
def test_trains_loads_and_predicts_any_size(tmp_path: Path, task: Any, network: str) -> None:
    short = {"recipe": {"steps": 1, "batch_size": 1 if task.dims == 3 else 2}, "overlap": 0.0}
    fitted, again = build(task, network, **short), build(task, network, **short)
    before = [p.clone() for p in fitted.model.parameters()]
    fitted.fit(items(task), items(task, 1), tmp_path)
    assert not all(torch.equal(a, b) for a, b in zip(before, fitted.model.parameters(), strict=True))
    again.load(tmp_path)
    shown = image(task, 1)
    first, second = (s.predict(shown, [torch.Generator()]) for s in (fitted, again))
    assert first.score.shape == (1, len(task.labels), *shown.shape[2:])
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.mask, first.score > 0.5)
    assert first.score.std() > 0


def test_padding_adds_black_and_takes_it_off_again() -> None:
    model = build(network=SWIN).model
    seen: list[torch.Tensor] = []

    class Echo(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x[:, :2]

    model.network = Echo()
    shown = image(IMAGES)
    assert torch.equal(model.logits(shown), shown[:, :2])
    assert seen[0].shape == (2, 3, 64, 64)
    assert torch.equal(seen[0][:, :, 12:52, 4:60], shown)
    assert seen[0][:, :, :12].eq(-1).all()


def test_grey_images_are_shown_as_rgb_and_standardised() -> None:
    grey = torch.linspace(-1, 1, 32 * 32).view(1, 1, 32, 32)
    network = EncoderUNet(1, 1, "resnet18", normalise="imagenet").eval()
    seen: list[torch.Tensor] = []
    network.unet.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(grey)
    assert seen[0][0, :, -1, -1].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], abs=1e-4)
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-4)
    assert EncoderUNet(4, 1, "resnet18", normalise="none").unet.encoder.conv1.in_channels == 4


def test_batch_norms_follow_as_fast_as_asked() -> None:
    modules = EncoderUNet(3, 1, "tu-test_efficientnet", norm_momentum=0.25).modules()
    assert {m.momentum for m in modules if isinstance(m, torch.nn.BatchNorm2d)} == {0.25}


def test_an_encoder_file_in_torchvisions_names_is_where_training_starts(tmp_path: Path) -> None:
    path, state = resnet_file(tmp_path)
    model = build(weights=str(path), options={"encoder": "resnet18"}).model
    fresh = {name: value.clone() for name, value in model.network.unet.decoder.state_dict().items()}
    model.prepare([], torch.Generator())
    own = model.network.unet.encoder.state_dict()
    assert all(torch.equal(state[name], own[name]) for name in own if name in state)
    assert all(torch.equal(fresh[name], value) for name, value in model.network.unet.decoder.state_dict().items())


def test_timms_names_fit_timms_encoders(tmp_path: Path) -> None:
    network = EncoderUNet(3, 1, "tu-test_efficientnet")
    state = {n.removeprefix("model."): t + 1 for n, t in network.unet.encoder.state_dict().items()}
    torch.save({**state, "classifier.weight": torch.zeros(10, 512)}, tmp_path / "timm.bin")
    network.load_pretrained(str(tmp_path / "timm.bin"))
    assert torch.equal(network.unet.encoder.state_dict()["model.conv_stem.weight"], state["conv_stem.weight"])


def test_encoders_that_are_transformers_start_from_their_releases_files(tmp_path: Path) -> None:
    # With classifiers; timm's stages are a list.
    timms = import_module("timm").create_model("pvt_v2_b0").state_dict()
    segformers = {**EncoderUNet(3, 1, "mit_b0").unet.encoder.state_dict(), "head.weight": torch.zeros(1000, 256)}
    for encoder, state, name in (
        ("tu-pvt_v2_b0", timms, "stages.1.blocks.0.attn.kv.weight"),
        ("mit_b0", segformers, "block2.0.attn.kv.weight"),
    ):
        state = {n: torch.full_like(tensor, 0.5) for n, tensor in state.items()}
        torch.save(state, tmp_path / "encoder.pth")
        network = EncoderUNet(3, 1, encoder).eval()
        network.load_pretrained(str(tmp_path / "encoder.pth"))
        assert all(tensor.eq(0.5).all() for tensor in network.unet.encoder.state_dict().values())
        torch.save({n: tensor for n, tensor in state.items() if n != name}, tmp_path / "short.pth")
        with pytest.raises(ValueError, match=rf"short\.pth: does not fit .*attn\.kv\.weight is missing.*{encoder}"):
            network.load_pretrained(str(tmp_path / "short.pth"))


@pytest.mark.parametrize("encoder", ["tu-pvt_v2_b0", "mit_b0"])
@pytest.mark.parametrize("size", [(33, 47), (64, 40)])
@torch.no_grad()
def test_encoders_that_are_transformers_take_images_of_any_size(encoder: str, size: tuple[int, int]) -> None:
    assert EncoderUNet(3, 1, encoder).eval()(torch.zeros(1, 3, *size)).shape == (1, 1, *size)


def test_a_whole_network_is_taken_from_a_run_or_from_the_library(tmp_path: Path) -> None:
    trained, fresh = build(), build(network=SWIN)
    trained.fit(items(IMAGES), items(IMAGES, 1), tmp_path)
    again = build(weights=str(tmp_path / "model.safetensors")).model
    torch.manual_seed(3)
    for parameter in again.parameters():
        parameter.data.normal_()
    again.prepare([], torch.Generator())
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    changed = {name: value + 1 for name, value in fresh.model.network.state_dict().items()}
    save_file(changed, tmp_path / "swin.safetensors")
    started = build(network=SWIN, weights=str(tmp_path / "swin.safetensors")).model
    started.prepare([], torch.Generator())
    assert all(torch.equal(value, changed[name]) for name, value in started.network.state_dict().items())
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    segmenter = build(network=SWIN, weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match=r"weights=.*other\.safetensors: \S+ is missing"):
        segmenter.fit(items(IMAGES), items(IMAGES, 1), tmp_path / "new")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layer1.0.conv1.weight": None}, r"layer1\.0\.conv1\.weight is missing"),
        ({"layer3.7.conv1.weight": torch.zeros(1)}, r"layer3\.7\.conv1\.weight belongs to another network"),
        ({"conv1.weight": torch.zeros(64, 1, 7, 7)}, r"conv1\.weight has shape \(64, 1, 7, 7\)"),
    ],
    ids=["missing", "of a deeper network", "of grey images"],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path, _ = resnet_file(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"encoder\.pth: does not fit \({reason}.*encoder resnet18"):
        EncoderUNet(3, 1, "resnet18").load_pretrained(str(path))


def test_a_name_is_downloaded_and_a_failed_download_says_how_to_use_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resnet = {"encoder": "resnet18"}
    state = {name: value + 1 for name, value in EncoderUNet(3, 1, **resnet).unet.encoder.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    hub = "segmentation_models_pytorch.encoders.hf_hub_download"
    monkeypatch.setattr(hub, lambda *_, filename, **__: str(tmp_path / filename))
    model = build(weights="imagenet", options=resnet).model
    model.prepare([], torch.Generator())
    assert all(torch.equal(state[n], t) for n, t in model.network.unet.encoder.state_dict().items())

    def offline(*_: object, **__: object) -> str:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(hub, offline)
    with pytest.raises(ValueError, match=r"weights=imagenet: cannot be had .*\(no route to host\); .* weights=FILE"):
        build(weights="imagenet", options=resnet).model.prepare([], torch.Generator())
    with pytest.raises(ValueError, match=r"weights=imagnet: no such file.* are called imagenet, ssl, swsl"):
        build(weights="imagnet", options=resnet).model.prepare([], torch.Generator())
    with pytest.raises(ValueError, match=r"gone\.pth: no such file"):
        build(weights=str(tmp_path / "gone.pth")).model.prepare([], torch.Generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"encoder": "resnet5"}}, r"encoder=resnet5: Wrong encoder name `resnet5`; resnet50 and"),
        ({"options": {"normalise": "mean"}}, "normalise=mean: known are none, unit, imagenet"),
        ({"task": SimpleNamespace(**{**vars(IMAGES), "channels": 4})}, "normalise=imagenet: for 1 or 3 channels"),
        ({"dims": 3}, "dims=3 needs volumes"),
        ({"task": VOLUMES}, "dims=3: these encoders see images"),
        ({"window": (8, 8, 8)}, r"window=\[8, 8, 8\]: expected 2 edges"),
        ({"overlap": 1.0}, r"overlap=1\.0"),
        ({"sw_batch_size": 0}, "sw_batch_size=0"),
        ({"blend": "linear"}, "blend=linear"),
        ({"network": SWIN, "options": {"feature_size": 16}}, "feature_size=16: expected a multiple of 12"),
        (
            {"network": SWIN, "recipe": {"crop": 32}},
            r"train\.crop=\[32, 32\]: this network needs one edge of more than 32",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(("network", "missing"), [(ENCODER, "segmentation_models_pytorch"), (SWIN, "einops")])
def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, network: str, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(swin_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"needs {missing.replace('_', '-')}: pip install 'sdseg-bench\[networks\]'"):
        build(network=network)


@pytest.mark.parametrize("method", METHODS)
def test_the_configuration_says_what_is_built_and_where_it_starts(method: str) -> None:
    small, published = (
        compose_config([f"profile={profile}", f"method={method}", *more])["method"]
        for profile, more in (("smoke", []), ("paper", ["method.options.weights=imagenet"]))
    )
    assert not small["pretrained"]
    assert published["pretrained"] == "imagenet"
    one_name = method in ("unet_efficientnet", "unet_pvt", "unet_mit")
    assert small["fidelity"] == ("library" if one_name else "approximation")
    assert published["fidelity"] == "library"
    three = method.endswith("3d")
    task = TaskSpec(1 if three else 3, ("a",), (64, 64), 3 if three else 2)
    segmenter = build_segmenter(compose_config(["profile=smoke", f"method={method}", "device=cpu"]), task)
    assert segmenter.dims == (3 if three else 2)
    assert millions(segmenter.model) < 15


def test_volumes_are_seen_in_padded_windows(tmp_path: Path) -> None:
    segmenter = build(VOLUMES, SWIN, overlap=0.0, window=(8, 24, 36))
    seen: list[tuple[int, ...]] = []

    class Echo(torch.nn.Conv3d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return super().forward(x)

    segmenter.model.network = Echo(1, 1, 1)
    segmenter.fit(items(VOLUMES), items(VOLUMES, 1), tmp_path)
    training, validation = seen[:2], seen[2:]
    assert training == [(2, 1, 32, 32, 64)] * 2
    assert len(validation) == 2  # a volume 40 wide needs two windows 36 wide
    found = segmenter.predict(image(VOLUMES), [torch.Generator()] * 2).score
    with torch.inference_mode():
        whole = torch.nn.functional.conv3d(image(VOLUMES), *segmenter.model.network.parameters()).sigmoid()
    torch.testing.assert_close(found, whole)
