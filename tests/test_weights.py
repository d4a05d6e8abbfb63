"""Other people's checkpoints: renamed both ways, taken to start from, written as safetensors."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.cli import main
from sdseg.architecture import ARCHITECTURES
from sdseg.denoiser import UNet2DModel, build_unet
from sdseg.mask_codec import AutoencoderKL, load_autoencoder
from sdseg.model import SDSeg, SDSegConfig
from sdseg.vision_encoder import VisionEncoder
from sdseg.weights import load_denoiser, load_vision_encoder
from sdseg.weights.importing import import_weights
from sdseg.weights.names import Row
from sdseg.weights.official import sdseg_from_official, to_official
from tests.parity.golden import UNET, Golden
from tests.test_cli import make_folder

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("tiny")


@pytest.fixture(scope="module")
def state(golden: Golden) -> State:
    return golden.official_state()


@pytest.fixture(scope="module")
def model(state: State) -> SDSeg:
    return sdseg_from_official(state)


def below(state: State, prefix: str) -> State:
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def lsun(state: State) -> State:
    """As `state`'s U-Net would be without the condition: four input channels."""
    by_name = {name: tensor for name, tensor in state.items() if name.startswith(UNET)}
    return by_name | {f"{UNET}input_blocks.0.0.weight": state[f"{UNET}input_blocks.0.0.weight"][:, :4].clone()}


# names


def test_query_key_and_value_lie_head_by_head() -> None:
    row = Row("qkv.weight", ("q", "k", "v"), ones=1)
    # Two heads of width 1 on one channel: rows are q, k, v of head 0, then of head 1.
    tensor = torch.tensor([1.0, 2, 3, 4, 5, 6]).view(6, 1, 1)
    found = row.to_ours(tensor, heads=2)
    assert {name: part.flatten().tolist() for name, part in found.items()} == {"q": [1, 4], "k": [2, 5], "v": [3, 6]}
    assert torch.equal(row.to_theirs(found, heads=2), tensor)


@pytest.mark.parametrize("variant", ["attn_all", "multiclass"])
def test_there_and_back_is_the_same_to_the_bit(golden: Golden, variant: str | None) -> None:
    state = golden.official_state(variant)
    written = to_official(sdseg_from_official(state))
    assert set(written) == set(state)
    for name in [name for name in state if "." in name or name == "scale_factor"]:
        assert written[name].dtype == state[name].dtype
        assert torch.equal(written[name], state[name]), name


def test_paper_size_has_every_released_tensor() -> None:
    with torch.device("meta"):
        model = SDSeg(SDSegConfig(architecture=ARCHITECTURES["paper"]))
    counts = {"model.diffusion_model": 520, "model_ema": 522, "first_stage_model": 248, "cond_stage_model": 108}
    written = to_official(model)
    by_name = {prefix: sum(name.startswith(f"{prefix}.") for name in written) for prefix in counts}
    assert by_name == counts
    assert len(written) == sum(counts.values()) + 13


def test_averaged_weights_win_where_there_are_any(golden: Golden, state: State) -> None:
    own = golden.official_state(own_ema=True)
    flat = own["model_ema.diffusion_modelout2bias"]
    assert torch.equal(sdseg_from_official(own).denoiser.unet.conv_out.bias, flat)
    raw = {name: tensor for name, tensor in own.items() if not name.startswith("model_ema.")}
    for model in (sdseg_from_official(own, use_ema=False), sdseg_from_official(raw)):
        assert torch.equal(model.denoiser.unet.conv_out.bias, state[f"{UNET}out.2.bias"])


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


def test_what_is_wrong_with_a_checkpoint_is_named(golden: Golden, state: State) -> None:
    head, linear = f"{UNET}out.2.weight", torch.linspace(0.9985, 0.0002, 1000)
    multiclass = golden.official_state("multiclass")
    two = {n: t[:2] if "label_emb" in n else t for n, t in multiclass.items()}
    cases = [
        (below(state, UNET), "no tensors below model.diffusion_model., as SDSeg has; it holds"),
        (lsun(state), "no tensors below first_stage_model."),
        (without(state, head, "model_ema.diffusion_modelout2weight"), "model.diffusion_model.out.2.weight is missing"),
        (without(state, "model_ema.diffusion_modelout2weight"), "model_ema.diffusion_modelout2weight is missing"),
        (without(state, "first_stage_model.quant_conv.bias"), "first_stage_model.quant_conv.bias is missing"),
        (without(state, "scale_factor"), "scale_factor is missing"),
        ({**state, "cond_stage_model.out.weight": torch.ones(4, 7, 1, 1)}, r"out.weight has shape \(4, 7, 1, 1\)"),
        ({**state, "first_stage_model.encoder.down.3.attn.0.q.bias": torch.ones(1)}, "belongs to another network"),
        ({**state, "alphas_cumprod": linear}, "another noise schedule"),
        (two, "label_emb.weight has 2 rows"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            sdseg_from_official(wrong)


def test_a_model_that_the_release_has_no_words_for_is_refused(model: SDSeg) -> None:
    with pytest.raises(ValueError, match="the released code cannot hold this model: it needs prediction=eps"):
        to_official(SDSeg(SDSegConfig(architecture=ARCHITECTURES["tiny"])))
    options = {"architecture": model.config.architecture, "conditioning": "cross_attention"}
    with pytest.raises(ValueError, match="needs conditioning=concat"):
        to_official(SDSeg(SDSegConfig.model_validate(options)))


# weights to start from


def sources(state: State, model: SDSeg, folder: Path) -> dict[str, Path]:
    """The same raw U-Net in every form that `load_denoiser` takes."""
    torch.save({"state_dict": state}, folder / "sdseg.ckpt")
    save_file({n.removeprefix(UNET): t.contiguous() for n, t in state.items() if UNET in n}, folder / "b.safetensors")
    model.denoiser.unet.save_pretrained(folder / "diffusers")
    model.save_pretrained(folder / "own")
    names = {"official": "sdseg.ckpt", "bare": "b.safetensors", "diffusers": "diffusers", "own": "own"}
    return {kind: folder / name for kind, name in names.items()}


def test_denoiser_starts_from_any_source(state: State, model: SDSeg, tmp_path: Path) -> None:
    expected = model.denoiser.unet.state_dict()
    for kind, path in sources(state, model, tmp_path).items():
        unet = build_unet(model.config.architecture, classes=3)
        embedding = unet.class_embedding.weight.clone()
        assert load_denoiser(unet, path) == len(expected), kind
        for name, tensor in expected.items():
            assert torch.equal(unet.state_dict()[name], tensor), (kind, name)
        assert torch.equal(unet.class_embedding.weight, embedding)


def test_cross_attention_network_takes_what_fits(state: State, model: SDSeg, tmp_path: Path) -> None:
    torch.save({"state_dict": lsun(state)}, tmp_path / "lsun.ckpt")
    unet = build_unet(model.config.architecture, conditioning="cross_attention")
    before = copy.deepcopy(unet.state_dict())
    taken = load_denoiser(unet, tmp_path / "lsun.ckpt")
    own = unet.state_dict()
    attentions = sum(name.endswith("transformer.norm.weight") for name in own)
    # All that is no transformer, and of each of these the norm and the output's bias.
    assert taken == sum(".transformer." not in name for name in own) + 3 * attentions
    assert torch.equal(own["mid_block.attentions.0.transformer.norm.bias"], state[f"{UNET}middle_block.1.norm.bias"])
    inside = "mid_block.attentions.0.transformer.transformer_blocks.0.attn1.to_q.weight"
    assert torch.equal(own[inside], before[inside])


def test_u_net_that_does_not_fit_is_named(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pt")
    unet = build_unet(ARCHITECTURES["tiny"])
    with pytest.raises(ValueError, match=r"a\.pt: no fitting U-Net .*architecture"):
        load_denoiser(unet, tmp_path / "a.pt")
    torch.save(below(state, "first_stage_model."), tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"b\.pt: no fitting U-Net \(expected names below model\.diffusion_model\."):
        load_denoiser(unet, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="no weights; expected one of"):
        load_denoiser(unet, tmp_path)


@pytest.mark.parametrize(
    ("method", "takers"),
    [
        ("swin_unetr", ["swin_unetr weights"]),
        ("diff_unet", ["diff_unet weights"]),
        ("sdseg", ["sdseg denoiser_weights", "sdseg_pretrained weights"]),
    ],
)
def test_a_run_folder_gives_its_model_where_weights_are_asked_for(
    method: str, takers: list[str], tmp_path: Path
) -> None:
    data = f"dataset.root={make_folder(tmp_path / 'data')}"
    fit = ["fit", "dataset=folder", data, f"runs_dir={tmp_path}", "image_size=64", "train.steps=1", "threads=1"]
    assert main([*fit, f"method={method}"]) == 0
    (run,) = (path.parent for path in (tmp_path / "folder" / method).glob("*/config.yaml"))
    for taker, option in map(str.split, takers):
        assert main([*fit, f"method={taker}", f"method.options.{option}={run}", "seed=1"]) == 0
        (config,) = (tmp_path / "folder" / taker).glob("seed1-*/config.yaml")
        assert f"{option}: {run / 'model'}\n" in config.read_text()


def test_vision_encoder_starts_as_the_autoencoders(model: SDSeg) -> None:
    encoder = VisionEncoder(model.config.architecture)
    out = encoder.out.weight.clone()
    load_vision_encoder(encoder, model.codec.autoencoder)
    expected = model.codec.autoencoder.encoder.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in encoder.encoder.state_dict().items())
    assert torch.equal(encoder.out.weight, out)
    with pytest.raises(ValueError, match="cannot start as the autoencoder's"):
        load_vision_encoder(VisionEncoder(ARCHITECTURES["tiny"]), model.codec.autoencoder)


# the command


def test_sdseg_checkpoint_becomes_a_saved_model(state: State, model: SDSeg, tmp_path: Path) -> None:
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    line = import_weights(tmp_path / "last.ckpt", tmp_path / "out")
    assert "SDSeg of the released code with averaged U-Net, 6.7 M parameters" in line
    again = SDSeg.from_pretrained(tmp_path / "out")
    image, noise = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8, 8)
    assert torch.equal(again.single_step(image, noise).score, model.single_step(image, noise).score)
    card = (tmp_path / "out/README.md").read_text()
    assert "last.ckpt" in card
    assert 'license: "unknown"' in card
    assert str(tmp_path) not in card


def test_autoencoder_becomes_a_diffusers_folder(state: State, model: SDSeg, tmp_path: Path) -> None:
    codec = below(state, "first_stage_model.")
    torch.save({"state_dict": {**codec, "loss.logvar": torch.zeros(())}}, tmp_path / "kl.ckpt")
    assert "KL autoencoder of latent diffusion" in import_weights(tmp_path / "kl.ckpt", tmp_path / "kl")
    expected = model.codec.autoencoder.state_dict()
    for found in (AutoencoderKL.from_pretrained(tmp_path / "kl"), copy.deepcopy(model.codec.autoencoder)):
        load_autoencoder(found, str(tmp_path / "kl"))
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
    AutoencoderKL.from_pretrained(tmp_path / "kl").save_pretrained(tmp_path / "bin", safe_serialization=False)
    assert "diffusers' AutoencoderKL" in import_weights(tmp_path / "bin", tmp_path / "again")
    assert (tmp_path / "again/diffusion_pytorch_model.safetensors").is_file()


def test_autoencoder_of_stable_diffusion_is_taken(state: State, tmp_path: Path) -> None:
    mixed = {n: t for n, t in state.items() if n.startswith("first_stage_model.")}
    mixed[f"{UNET}input_blocks.1.1.transformer_blocks.0.norm1.weight"] = torch.ones(4)
    torch.save({"state_dict": mixed}, tmp_path / "sd.ckpt")
    assert "the autoencoder of a Stable Diffusion" in import_weights(tmp_path / "sd.ckpt", tmp_path / "sd")


def test_u_net_without_a_condition_becomes_a_diffusers_folder(state: State, model: SDSeg, tmp_path: Path) -> None:
    torch.save({"state_dict": lsun(state)}, tmp_path / "lsun.ckpt")
    line = import_weights(tmp_path / "lsun.ckpt", tmp_path / "lsun")
    assert "U-Net with 4 input channels and 8 heads" in line
    assert UNet2DModel.from_pretrained(tmp_path / "lsun").config.in_channels == 4
    for source in ("lsun.ckpt", "lsun"):
        unet = build_unet(model.config.architecture)
        load_denoiser(unet, tmp_path / source)
        assert torch.equal(unet.conv_in.weight[:, :4], model.denoiser.unet.conv_in.weight[:, :4])
        assert not unet.conv_in.weight[:, 4:].any()  # the condition's channels start at zero
        assert torch.equal(unet.conv_out.weight, model.denoiser.unet.conv_out.weight)


def test_command(state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(below(state, "first_stage_model."), tmp_path / "kl.ckpt")
    assert main(["import-weights", str(tmp_path / "kl.ckpt"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    (tmp_path / "folder").mkdir()
    torch.save(below(state, "cond_stage_model."), tmp_path / "part.ckpt")
    (tmp_path / "page.ckpt").write_text("<html>")
    for name in ("absent.ckpt", "folder", "part.ckpt", "page.ckpt"):
        assert main(["import-weights", str(tmp_path / name), "--out", str(tmp_path / "new")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / name}: ")
        assert error.count("\n") == 1
        assert not (tmp_path / "new").exists()
