"""Files that TransU-Net and SwinU-Net start from: Google's, timm's, Swin's, the released ones; what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.networks.swin_unet import SwinUNet
from baselines.networks.timm_parts import timm_module
from baselines.networks.trans_unet import TransUNet
from baselines.networks.trans_unet_weights import google_names, resized_positions, timm_names
from tests.parity import folder, procedural
from tests.parity.golden_softmax import Golden

TRANS, SWIN = Golden("transunet"), Golden("swinunet")


def google_file(path: Path, changes: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    """Write an .npz as the golden data maps it, with the parts of a classifier; what it must give, by our names."""
    mapping, shapes = TRANS.json("pretrained")["mapping_tiny64"], TRANS.manifest("tiny64")
    state = {name: procedural.weight(f"start/{name}", shapes[name], TRANS.salt) for name in mapping}
    arrays = {"cls": np.zeros((1, 1, 48)), "head/kernel": np.zeros((48, 9)), "head/bias": np.zeros(9)}
    for name, entry in mapping.items():
        arrays[entry["npz"]] = _google_layout(state[name], entry["npz"], entry["how"])
    arrays |= changes or {}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return state


def _google_layout(tensor: torch.Tensor, name: str, how: str) -> np.ndarray:
    array = tensor.numpy()
    if how == "drop the first token":
        return np.concatenate([np.full((1, 1, array.shape[2]), 9.0, np.float32), array], 1)
    if how == "HWIO to OIHW":
        return array.transpose(2, 3, 1, 0)
    if how == "flatten":
        return array.reshape(3, 16) if "Attention" in name else array.reshape(1, 1, 1, -1)
    if how.startswith("reshape"):  # three heads of 16
        return array.T.reshape((3, 16, 48) if "/out/" in name else (48, 3, 16))
    return array.T if how == "transpose" else array


def tiny() -> TransUNet:
    return TRANS.network("tiny64")


def test_googles_file_fills_resnet_and_transformer_and_leaves_the_decoder(tmp_path: Path) -> None:
    state, network = google_file(tmp_path / "R50+ViT-B_16.npz"), tiny()
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_pretrained(str(tmp_path / "R50+ViT-B_16.npz"))
    document = TRANS.json("pretrained")
    assert state.keys() | set(document["not_loaded_tiny64"]) == fresh.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name] if name in state else fresh[name]), name


def test_the_names_in_googles_file_and_in_timms_are_those_of_the_full_network() -> None:
    with torch.device("meta"):
        network = TRANS.network("full224")
        theirs = timm_module("models").create_model("vit_base_r50_s16_224")
    own = network.transformer.state_dict()
    shapes, names = TRANS.json("pretrained")["npz_full224"], google_names(own)
    assert set(names.values()) == set(shapes)
    assert all(np.prod(shapes[names[n]]) == t.numel() for n, t in own.items() if "position" not in n)
    given, names = theirs.state_dict(), timm_names(own)
    assert set(given) - set(names.values()) == {"cls_token"}
    for name, tensor in own.items():
        wanted = tuple(given[names[name]].shape)
        if ".qkv." in names[name]:
            wanted = (wanted[0] // 3, *wanted[1:])
        assert tuple(tensor.shape) == wanted or name == "embeddings.position_embeddings", name


def test_timms_file_fills_the_same(tmp_path: Path) -> None:
    google_file(tmp_path / "start.npz")
    one, other = tiny(), tiny()
    one.load_pretrained(str(tmp_path / "start.npz"))
    state: dict[str, torch.Tensor] = {"cls_token": torch.zeros(1, 1, 48), "head.weight": torch.zeros(9, 48)}
    own = one.transformer.state_dict()
    for name, theirs in timm_names(own).items():
        if ".qkv." not in theirs:
            state[theirs] = own[name]
        elif ".query." in name:
            rest = [own[name.replace("query", part)] for part in ("key", "value")]
            state[theirs] = torch.cat([own[name], *rest])
    state["pos_embed"] = torch.cat([torch.full((1, 1, 48), 9.0), state["pos_embed"]], 1)
    torch.save(state, tmp_path / "timm.bin")
    other.load_pretrained(str(tmp_path / "timm.bin"))
    for name, tensor in other.transformer.state_dict().items():
        assert torch.equal(tensor, own[name]), name


@pytest.mark.parametrize(("before", "after"), [(3, 4), (3, 6), (7, 4), (7, 6)])
def test_positions_of_another_grid_are_those_of_the_release(before: int, after: int) -> None:
    given = procedural.normal(f"npz/posembed_grid{before}", (1, before**2 + 1, 48), TRANS.salt)
    stored = TRANS.tensors("pretrained", f"posembed/from{before}_to{after}")[""]
    limit = TRANS.tolerance["position_embedding"]
    folder.check(f"{before} to {after}", resized_positions(given, (after, after))[..., ::4], stored, limit)


NORM = "Transformer/encoder_norm/scale"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({NORM: None}, rf"{NORM} is missing"),
        ({"Transformer/encoderblock_2/LayerNorm_0/bias": np.zeros(48)}, r"encoderblock_2/\S+ belongs to another"),
        ({"embedding/kernel": np.zeros((1, 1, 512, 64), np.float32)}, r"patch_embeddings\.weight has shape \(64, 512"),
        ({NORM: np.zeros(40, np.float32)}, r"encoder_norm\.weight has shape \(40,\)"),
        ({"Transformer/posembed_input/pos_embedding": np.zeros((1, 12, 48), np.float32)}, "11 positions are no square"),
        ({"conv_root/kernel": np.array([{}], dtype=object)}, "pickle"),
    ],
    ids=["missing", "deeper", "wider", "norm", "positions", "objects"],
)
def test_a_google_file_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    google_file(tmp_path / "other.npz", changes)
    with pytest.raises(ValueError, match=rf"weights=\S+other\.npz: .*{reason}.*; expected a released") as caught:
        tiny().load_pretrained(str(tmp_path / "other.npz"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["gone.npz", "text.npz", "gone.pth"])
def test_what_is_no_file_of_weights_is_named(tmp_path: Path, name: str) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("no arrays")
    with pytest.raises(ValueError, match=rf"{name}: no"):
        tiny().load_pretrained(str(tmp_path / name))


def swin_file(path: Path, timm: bool = False, **changes: Any) -> dict[str, torch.Tensor]:
    """An ImageNet Swin with a block more in its third stage, in its own names or timm's; its tensors by its own."""
    shapes = {k.removeprefix("swin_unet."): v for k, v in SWIN.manifest("tiny64").items()}
    wanted = ("patch_embed.", "layers.", "norm.")
    state = {k: procedural.weight(f"start/{k}", v, SWIN.salt) for k, v in shapes.items() if k.startswith(wanted)}
    more = {k.replace("blocks.2", "blocks.3"): v + 1 for k, v in state.items() if k.startswith("layers.2.blocks.2.")}
    state |= (
        more | {"head.weight": torch.zeros(9, 128), "layers.0.blocks.1.attn_mask": torch.zeros(16, 16, 16)} | changes
    )
    written = state
    if timm:
        written = {k: v for k, v in state.items() if ".downsample." not in k}
        for i in range(3):
            for leaf in ("reduction.weight", "norm.weight", "norm.bias"):
                written[f"layers.{i + 1}.downsample.{leaf}"] = state[f"layers.{i}.downsample.{leaf}"]
    torch.save({"model": {k: v for k, v in written.items() if v is not None}}, path)
    return state


@pytest.mark.parametrize("timm", [False, True])
def test_an_imagenet_swin_fills_the_encoder_and_its_mirror_image(tmp_path: Path, timm: bool) -> None:
    state, network = swin_file(tmp_path / "swin.pth", timm), SWIN.network("tiny64")
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_pretrained(str(tmp_path / "swin.pth"))
    document, own = SWIN.json("pretrained")["tiny64"], network.state_dict()
    for name in document["loaded_same_name"]:
        assert torch.equal(own[name], state[name.removeprefix("swin_unet.")]), name
    for name, theirs in document["loaded_mirrored"].items():
        assert torch.equal(own[name], state[theirs]), name
    for name in document["left_at_initialisation"]:
        assert torch.equal(own[name], fresh[name]), name
    loaded = (*document["loaded_same_name"], *document["loaded_mirrored"], *document["left_at_initialisation"])
    assert {name for name in loaded if "index" not in name and "mask" not in name} == set(own)


def test_timms_swin_t_has_the_names_that_the_full_network_takes() -> None:
    with torch.device("meta"):
        theirs = timm_module("models").create_model("swin_tiny_patch4_window7_224").state_dict()
        network = SWIN.network("full224").swin_unet
    document = SWIN.json("pretrained")["full224_from_swin_tiny_2262"]
    for name, source in document["loaded_mirrored"].items():
        assert theirs[source].shape == network.state_dict()[name.removeprefix("swin_unet.")].shape, name
    for i in range(3):
        reduction = network.layers[i].downsample.reduction.weight
        assert theirs[f"layers.{i + 1}.downsample.reduction.weight"].shape == reduction.shape


def test_bias_tables_of_another_window_are_interpolated(tmp_path: Path) -> None:
    # A plane that rises along the rows stays one, nearly.
    state = swin_file(tmp_path / "swin.pth")
    table = torch.arange(7.0).repeat_interleave(7)[:, None].repeat(1, 2)
    state["layers.0.blocks.0.attn.relative_position_bias_table"] = table
    torch.save(state, tmp_path / "swin.pth")
    network = SwinUNet(3, 4, 128, 16, (2, 1, 3, 2), (2, 4, 8, 16), 8)
    network.load_pretrained(str(tmp_path / "swin.pth"))
    resized = network.swin_unet.layers[0].blocks[0].attn.relative_position_bias_table.T.unflatten(1, (15, 15))
    assert resized.shape == (2, 15, 15)
    assert torch.allclose(resized[:, :, :1].expand_as(resized), resized, atol=1e-5)
    inner = resized[0, 3:-3, 7]
    torch.testing.assert_close(inner, (torch.arange(3.0, 12.0) + 0.5) * 7 / 15 - 0.5, atol=0.06, rtol=0)
    assert torch.equal(network.swin_unet.layers_up[3].blocks[0].attn.relative_position_bias_table.T, resized.flatten(1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"norm.bias": None}, r"norm\.bias is missing"),
        ({"patch_embed.proj.weight": torch.zeros(24, 3, 4, 4)}, r"patch_embed\.proj\.weight has shape \(24, 3, 4, 4\)"),
    ],
)
def test_a_swin_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    swin_file(tmp_path / "other.pth", **changes)
    with pytest.raises(
        ValueError, match=rf"weights=\S+other\.pth: does not fit \({reason}.*; expected a released Swin"
    ):
        SWIN.network("tiny64").load_pretrained(str(tmp_path / "other.pth"))


@pytest.mark.parametrize("golden", [TRANS, SWIN], ids=["transunet", "swinunet"])
def test_a_released_checkpoint_of_other_classes_is_refused(golden: Golden, tmp_path: Path) -> None:
    state = golden.official_state("tiny64")
    head = next(name for name in state if name.endswith(("segmentation_head.0.weight", "output.weight")))
    torch.save({**state, head: state[head][:2]}, tmp_path / "binary.pth")
    with pytest.raises(
        ValueError, match=r"binary\.pth: does not fit \(.*weight has shape \(2, .*; expected a released"
    ):
        golden.network("tiny64").load_pretrained(str(tmp_path / "binary.pth"))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (TransUNet, {"image_size": None}, "input_size=null: this network has a fixed size"),
        (TransUNet, {"image_size": 100}, "input_size=100: expected multiples of 16"),
        (TransUNet, {"hidden": 50, "heads": 12}, "hidden=50: does not divide by heads=12"),
        (TransUNet, {"width": 48}, "width=48: expected a multiple of 32"),
        (TransUNet, {"skips": 4}, "skips=4: expected 0 to 3"),
        (SwinUNet, {"image_size": 240}, "input_size=240: expected multiples of 32"),
        (SwinUNet, {"image_size": 256}, "window=7: does not divide the map of 64 x 64 in stage 0"),
        (SwinUNet, {"heads": (3, 6)}, r"heads=\[3, 6\]: expected 4"),
        (SwinUNet, {"embed_dim": 16}, "embed_dim=16: stage 0 does not divide by 3 heads"),
        (SwinUNet, {"spatial_dims": 3}, "dims=3: this network sees images"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(network: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        network(3, 2, **options)
