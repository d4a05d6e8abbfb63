"""Pretrained weights to start training from: the U-Net of another model, and the autoencoder's encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from sdseg.weights.names import Row, rename, unet_rows
from sdseg.weights.reading import read_state_dict
from sdseg.weights.shapes import HEADS, unet_shape

if TYPE_CHECKING:  # a network that is not ours needs `fill` without the seconds that diffusers takes
    from diffusers import AutoencoderKL, UNet2DModel

    from sdseg.vision_encoder import VisionEncoder

UNET, OWN_UNET = "model.diffusion_model.", "denoiser.unet."


def part(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The entries below a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def release_unet(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[Row]]:
    """A U-Net in the release's names (without prefix) under ours, and the rows that renamed it."""
    shape = unet_shape(state)
    rows = unet_rows(shape.blocks, shape.attention)
    return rename(state, rows, HEADS), rows


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], rows: list[Row]) -> None:
    """Load all of a module; raises ValueError naming, as the source does, what is missing or has another shape."""
    theirs = {name: row.theirs for row in rows for name in row.ours}
    wanted = module.state_dict()
    missing = [theirs.get(name, name) for name in wanted if name not in tensors]
    if missing:
        raise ValueError(f"{missing[0]} is missing" + (f" (and {len(missing) - 1} more)" if missing[1:] else ""))
    for name, tensor in tensors.items():
        if name not in wanted:
            raise ValueError(f"{theirs.get(name, name)} belongs to another network")
        if tensor.shape != wanted[name].shape:
            expected = f"not {tuple(wanted[name].shape)} as this model needs"
            raise ValueError(f"{theirs.get(name, name)} has shape {tuple(tensor.shape)}, {expected}")
    module.load_state_dict(dict(tensors))


def load_denoiser(unet: UNet2DModel, source: Path | str) -> int:
    """Start a U-Net from a checkpoint of the released code, of latent diffusion (CompVis), or a saved model's folder.

    Raw weights, never the averaged ones. Input channels that the source lacks start at zero; the class embedding
    stays as it is. A cross-attention network takes what has the same name and shape. Returns the number of tensors
    taken; raises ValueError naming the source and what does not fit.
    """
    try:
        tensors, rows = _read_unet(Path(source))
        tensors.pop("class_embedding.weight", None)
        own = unet.state_dict()
        _widen(tensors, own["conv_in.weight"])
        if any(".transformer." in name for name in own):
            alike = {name: tensors.get(_self_attention_name(name)) for name in own}
            taken = {n: t for n, t in alike.items() if t is not None and t.shape == own[n].shape}
            unet.load_state_dict(taken, strict=False)
            return len(taken)
        kept = {name: tensor for name, tensor in own.items() if name == "class_embedding.weight"}
        fill(unet, {**tensors, **kept}, rows)
        return len(tensors)
    except ValueError as error:
        raise ValueError(f"{source}: no fitting U-Net ({error}); its architecture must be the model's") from error


def _read_unet(path: Path) -> tuple[dict[str, torch.Tensor], list[Row]]:
    state = read_state_dict(path)
    for prefix in (UNET, OWN_UNET):
        state = part(state, prefix) or state
    if "input_blocks.0.0.weight" in state:
        return release_unet(state)
    if "conv_in.weight" in state and "time_embedding.linear_1.weight" in state:
        return state, []
    raise ValueError(f"expected names below {UNET} or those of diffusers' UNet2DModel, found {next(iter(state))}")


def _widen(tensors: dict[str, torch.Tensor], own: torch.Tensor) -> None:
    # [pretrained | zeros]: the network begins as one that does not see the condition.
    weight = tensors.get("conv_in.weight")
    if weight is not None and weight.shape[1] < own.shape[1]:
        zeros = weight.new_zeros(len(weight), own.shape[1] - weight.shape[1], *weight.shape[2:])
        tensors["conv_in.weight"] = torch.cat([weight, zeros], dim=1)


def _self_attention_name(name: str) -> str:
    # Where the norm and the output bias of the self-attention were that a transformer has replaced.
    norm = name.replace(".transformer.norm.", ".group_norm.")
    return norm.replace(".transformer.proj_out.bias", ".to_out.0.bias")


def load_vision_encoder(vision_encoder: VisionEncoder, autoencoder: AutoencoderKL) -> None:
    """Start the vision encoder as the autoencoder's encoder, as released; the 1x1 convolution `out` stays random.

    Raises ValueError where the two have different widths.
    """
    try:
        fill(vision_encoder.encoder, autoencoder.encoder.state_dict(), [])
    except ValueError as error:
        raise ValueError(f"the vision encoder cannot start as the autoencoder's: {error}") from error
