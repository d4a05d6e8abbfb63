"""Weights for TransU-Net: released checkpoints, and what training starts from in Google's or timm's names."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from baselines.networks.timm_parts import fill_from, read_checkpoint

if TYPE_CHECKING:
    from baselines.networks.trans_unet import TransUNet

_EXPECTED = "a released TransU-Net of this size, Google's R50+ViT-B_16.npz, or timm's vit_base_r50_s16_224"
_POSITIONS = "embeddings.position_embeddings"
# Our names below `transformer.`, and how the two sources write them; <n> counts from 0 there.
_TIMM = (
    (r"embeddings\.hybrid_model\.root\.", "patch_embed.backbone.stem."),
    (r"embeddings\.hybrid_model\.body\.block(\d)\.unit(\d+)\.", r"patch_embed.backbone.stages.<\1>.blocks.<\2>."),
    (r"\bgn(\d?)\.", r"norm\1."),
    (r"\bgn_proj\.", "downsample.norm."),
    (r"downsample\.weight", "downsample.conv.weight"),
    (r"embeddings\.patch_embeddings", "patch_embed.proj"),
    (rf"{_POSITIONS}", "pos_embed"),
    (r"encoder\.encoder_norm", "norm"),
    (r"encoder\.layer\.", "blocks."),
    (r"attention_norm", "norm1"),
    (r"ffn_norm", "norm2"),
    (r"ffn\.", "mlp."),
    (r"attn\.out", "attn.proj"),
    (r"attn\.(query|key|value)", "attn.qkv"),
)
_GOOGLE = (
    (r"embeddings\.hybrid_model\.root\.(\w+)", r"\1_root"),
    (r"embeddings\.hybrid_model\.body\.", ""),
    (r"downsample\.", "conv_proj."),
    (r"embeddings\.patch_embeddings", "embedding"),
    (rf"{_POSITIONS}", "Transformer.posembed_input.pos_embedding"),
    (r"encoder\.encoder_norm", "Transformer.encoder_norm"),
    (r"encoder\.layer\.(\d+)", r"Transformer.encoderblock_\1"),
    (r"attention_norm", "LayerNorm_0"),
    (r"ffn_norm", "LayerNorm_2"),
    (r"ffn\.fc(\d)", r"MlpBlock_3.Dense_<\1>"),
    (r"attn\.", "MultiHeadDotProductAttention_1."),
)
# Parts of a classifier that TransU-Net does without.
_UNUSED = ("cls", "cls_token", "head", "pre_logits", "fc_norm")
_PROJECTIONS = ("query", "key", "value")


def load_weights(network: TransUNet, weights: str) -> None:
    """Fill the network, or its ResNet and transformer, from a file; raises ValueError naming it."""
    if weights.endswith(".npz"):
        fill_from(network.transformer, weights, _EXPECTED, lambda: _from_google(network, _read_npz(weights)))
        return
    state = read_checkpoint(weights, "transformer.embeddings.")
    if any(name.startswith("patch_embed.backbone.") for name in state):
        fill_from(network.transformer, weights, _EXPECTED, lambda: _from_timm(network, state))
    else:
        fill_from(network, weights, _EXPECTED, lambda: state)


def _read_npz(weights: str) -> dict[str, np.ndarray]:
    try:
        with np.load(Path(weights), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"method.options.weights={weights}: no arrays by name ({reason}); expected {_EXPECTED}"
        ) from error


def timm_names(own: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """timm's names of what lies below `transformer.`, by ours; query, key and value have one."""
    return {name: _renamed(name, _TIMM) for name in own}


def google_names(own: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Google's names of what lies below `transformer.`, by ours."""
    names = {}
    for name, tensor in own.items():
        weight = "kernel" if tensor.ndim > 1 else "scale"
        names[name] = re.sub(r"weight$", weight, _renamed(name, _GOOGLE)).replace(".", "/")
    return names


def _renamed(name: str, rows: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rows:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"<(\d+)>", lambda number: str(int(number[1]) - 1), name)


def _from_timm(network: TransUNet, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    taken = _taken(timm_names(network.transformer.state_dict()), state)
    for name, tensor in taken.items():
        if (projection := name.split(".")[-2]) in _PROJECTIONS:
            taken[name] = tensor.chunk(3)[_PROJECTIONS.index(projection)]
    return {**taken, _POSITIONS: resized_positions(taken[_POSITIONS], network.grid)}


def _from_google(network: TransUNet, arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    own = network.transformer.state_dict()
    given = _taken(google_names(own), arrays)
    taken = {name: torch.from_numpy(array.astype(np.float32)) for name, array in given.items()}
    positions = resized_positions(taken.pop(_POSITIONS), network.grid)
    return {_POSITIONS: positions, **{name: _turned(tensor, own[name].shape) for name, tensor in taken.items()}}


def _turned(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """HWIO to OIHW, (in, out) with heads apart to (out, in), norms flat; as it is where its size is another."""
    if len(shape) == tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1)
    if tensor.numel() != shape.numel():
        return tensor
    return tensor.reshape(shape[::-1]).T if len(shape) == 2 else tensor.reshape(shape)


def _taken(theirs: Mapping[str, str], given: Mapping) -> dict:
    """What the source has under its names, by ours; ValueError naming what is missing or left over."""
    if missing := [name for name in theirs.values() if name not in given]:
        raise ValueError(f"{missing[0]} is missing" + (f" (and {len(missing) - 1} more)" if missing[1:] else ""))
    left = given.keys() - set(theirs.values())
    if strange := sorted(name for name in left if re.split(r"[./]", name)[0] not in _UNUSED):
        raise ValueError(f"{strange[0]} belongs to another network")
    return {name: given[key] for name, key in theirs.items()}


def resized_positions(positions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Embeddings (1, 1 + g x g, D) without the class token, at another grid (H, W): (1, H x W, D)."""
    tokens = positions[:, 1:]
    side = round(tokens.shape[1] ** 0.5)
    if side**2 != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} positions are no square")
    if (side, side) == grid:
        return tokens
    plane = tokens.unflatten(1, (side, -1)).permute(0, 3, 1, 2)
    return interpolate(plane, grid, mode="bilinear", align_corners=True).flatten(2).transpose(1, 2)
