"""The architecture behind a checkpoint of the released code, read off its names and shapes; the size of a saved one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import nn

from sdseg.architecture import Architecture

State = Mapping[str, torch.Tensor]

# Not to be read off: the release has 8 heads at every width, 32 groups in every norm, dropout 0.2 in training.
HEADS = 8


class UNetShape(NamedTuple):
    """Widths and attention per level, finest first, and residual blocks per level."""

    widths: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int


class CoderShape(NamedTuple):
    """Widths per level, finest first, residual blocks per level, and latent channels."""

    widths: tuple[int, ...]
    blocks: int
    latent_channels: int


def _count(state: State, prefix: str) -> int:
    # Entries prefix.0, prefix.1, ...
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _width(state: State, name: str) -> int:
    if name not in state:
        raise ValueError(f"{name} is missing")
    return state[name].shape[0]


def unet_shape(state: State) -> UNetShape:
    """Shape of a U-Net in the release's names without prefix; raises ValueError naming what is missing."""
    # The residual block that doubles the size ends every level but the last.
    upsamplers = [n for n in state if n.startswith("output_blocks.") and n.endswith(".in_layers.0.weight")]
    levels = 1 + sum(n.split(".")[2] != "0" for n in upsamplers)
    total = _count(state, "output_blocks.")
    if total < 2 * levels or total % levels:
        raise ValueError("input_blocks and output_blocks are not those of the released U-Net")
    blocks = total // levels - 1
    firsts = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    widths = tuple(_width(state, f"{first}.0.out_layers.3.weight") for first in firsts)
    return UNetShape(widths, tuple(f"{first}.1.qkv.weight" in state for first in firsts), blocks)


def coder_shape(state: State) -> CoderShape:
    """Shape of an encoder in the release's names (`encoder.*`); raises ValueError naming what is missing."""
    levels = _count(state, "encoder.down.")
    names = [f"encoder.down.{i}.block.0.conv1.weight" for i in range(levels)]
    latent = _width(state, "encoder.conv_out.weight") // 2
    return CoderShape(tuple(_width(state, n) for n in names), _count(state, "encoder.down.0.block."), latent)


def sdseg_architecture(unet: State, codec: State, vision: State) -> Architecture:
    """The architecture of a whole SDSeg checkpoint."""
    denoiser, mask, image = unet_shape(unet), coder_shape(codec), coder_shape(vision)
    return Architecture(
        latent_channels=mask.latent_channels,
        codec_widths=mask.widths,
        codec_blocks=mask.blocks,
        codec_attention=True,
        vision_widths=image.widths,
        vision_blocks=image.blocks,
        vision_attention=True,
        unet_widths=denoiser.widths,
        unet_blocks=denoiser.blocks,
        attention_levels=denoiser.attention,
        heads=HEADS,
    )


def check_size(build: Callable[[], nn.Module], weights: Path) -> None:
    """ValueError where a model is larger than the file of its weights, before any memory is taken for it."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that nobody wants now
        wanted = sum(tensor.numel() for tensor in build().state_dict().values())
    with safe_open(weights, "pt") as file:
        held = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    if wanted > held:
        raise ValueError(f"config.json is of a model of {wanted} numbers, model.safetensors holds {held}")
