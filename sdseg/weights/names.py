"""The released code's tensor names beside diffusers', row by row, for both directions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch


class Row(NamedTuple):
    """One tensor of the release and the one of diffusers (or the three: q, k, v) that hold the same numbers."""

    theirs: str
    ours: tuple[str, ...]
    ones: int = 0  # axes of length 1 at the end of the release's 1x1 convolution where we have a linear layer

    def to_ours(self, tensor: torch.Tensor, heads: int) -> dict[str, torch.Tensor]:
        """The release's tensor under our names."""
        tensor = tensor.reshape(tensor.shape[: tensor.ndim - self.ones])
        if len(self.ours) == 1:
            return {self.ours[0]: tensor}
        parts = tensor.reshape(heads, 3, -1, *tensor.shape[1:])  # (head, {q, k, v}, width, ...)
        return {name: parts[:, i].flatten(0, 1) for i, name in enumerate(self.ours)}

    def to_theirs(self, tensors: Mapping[str, torch.Tensor], heads: int) -> torch.Tensor:
        """The release's tensor out of ours."""
        own = [tensors[name] for name in self.ours]
        tensor = own[0]
        if len(own) == 3:
            parts = [x.reshape(heads, -1, *x.shape[1:]) for x in own]
            tensor = torch.stack(parts, dim=1).flatten(0, 2)
        return tensor.reshape(*tensor.shape, *[1] * self.ones)


def _layer(theirs: str, *ours: str, ones: int = 0) -> Iterator[Row]:
    yield Row(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), ones)
    yield Row(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours))


def _unet_resnet(theirs: str, ours: str) -> Iterator[Row]:
    yield from _layer(f"{theirs}.in_layers.0", f"{ours}.norm1")
    yield from _layer(f"{theirs}.in_layers.2", f"{ours}.conv1")
    yield from _layer(f"{theirs}.emb_layers.1", f"{ours}.time_emb_proj")
    yield from _layer(f"{theirs}.out_layers.0", f"{ours}.norm2")
    yield from _layer(f"{theirs}.out_layers.3", f"{ours}.conv2")
    yield from _layer(f"{theirs}.skip_connection", f"{ours}.conv_shortcut")


def _unet_attention(theirs: str, ours: str) -> Iterator[Row]:
    yield from _layer(f"{theirs}.norm", f"{ours}.group_norm")
    yield from _layer(f"{theirs}.qkv", f"{ours}.to_q", f"{ours}.to_k", f"{ours}.to_v", ones=1)
    yield from _layer(f"{theirs}.proj_out", f"{ours}.to_out.0", ones=1)


def unet_rows(blocks: int, attention: tuple[bool, ...]) -> list[Row]:
    """Rows of the U-Net `model.diffusion_model` with `blocks` per level; some name layers that a level lacks."""
    levels, rows = len(attention), [Row("label_emb.weight", ("class_embedding.weight",))]
    pairs = (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"))
    for theirs, ours in (*pairs, ("input_blocks.0.0", "conv_in"), ("out.0", "conv_norm_out"), ("out.2", "conv_out")):
        rows += _layer(theirs, ours)
    for level in range(levels):
        first, ours = 1 + level * (blocks + 1), f"down_blocks.{level}"
        for j in range(blocks):
            rows += _unet_resnet(f"input_blocks.{first + j}.0", f"{ours}.resnets.{j}")
            rows += _unet_attention(f"input_blocks.{first + j}.1", f"{ours}.attentions.{j}")
        rows += _unet_resnet(f"input_blocks.{first + blocks}.0", f"{ours}.downsamplers.0")
    for i in (0, 1):
        rows += _unet_resnet(f"middle_block.{2 * i}", f"mid_block.resnets.{i}")
    rows += _unet_attention("middle_block.1", "mid_block.attentions.0")
    for up, attends in enumerate(reversed(attention)):
        first, ours = up * (blocks + 1), f"up_blocks.{up}"
        for j in range(blocks + 1):
            rows += _unet_resnet(f"output_blocks.{first + j}.0", f"{ours}.resnets.{j}")
            if attends:
                rows += _unet_attention(f"output_blocks.{first + j}.1", f"{ours}.attentions.{j}")
        # The upsampler follows the attention, where there is one.
        rows += _unet_resnet(f"output_blocks.{first + blocks}.{1 + attends}", f"{ours}.upsamplers.0")
    return rows


def _codec_resnet(theirs: str, ours: str) -> Iterator[Row]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield from _layer(f"{theirs}.{name}", f"{ours}.{name}")
    yield from _layer(f"{theirs}.nin_shortcut", f"{ours}.conv_shortcut")


def _coder_rows(part: str) -> Iterator[Row]:
    for theirs, ours in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")):
        yield from _layer(f"{part}.{theirs}", f"{part}.{ours}")
    for i in (0, 1):
        yield from _codec_resnet(f"{part}.mid.block_{i + 1}", f"{part}.mid_block.resnets.{i}")
    theirs, ours = f"{part}.mid.attn_1", f"{part}.mid_block.attentions.0"
    yield from _layer(f"{theirs}.norm", f"{ours}.group_norm")
    for a, b in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        yield from _layer(f"{theirs}.{a}", f"{ours}.{b}", ones=2)


def encoder_rows(blocks: int, levels: int) -> list[Row]:
    """Rows of `encoder.*` in the autoencoder and in the vision encoder, and of the latter's `out`."""
    rows = [*_coder_rows("encoder"), *_layer("out", "out")]
    for i in range(levels):
        theirs, ours = f"encoder.down.{i}", f"encoder.down_blocks.{i}"
        for j in range(blocks):
            rows += _codec_resnet(f"{theirs}.block.{j}", f"{ours}.resnets.{j}")
        rows += _layer(f"{theirs}.downsample.conv", f"{ours}.downsamplers.0.conv")
    return rows


def codec_rows(blocks: int, levels: int) -> list[Row]:
    """Rows of the whole autoencoder, in the release's names without `first_stage_model`."""
    rows = [*encoder_rows(blocks, levels), *_coder_rows("decoder")]
    for name in ("quant_conv", "post_quant_conv"):
        rows += _layer(name, name)
    for i in range(levels):
        theirs, ours = f"decoder.up.{levels - 1 - i}", f"decoder.up_blocks.{i}"
        for j in range(blocks + 1):
            rows += _codec_resnet(f"{theirs}.block.{j}", f"{ours}.resnets.{j}")
        rows += _layer(f"{theirs}.upsample.conv", f"{ours}.upsamplers.0.conv")
    return rows


def rename(state: Mapping[str, torch.Tensor], rows: Iterable[Row], heads: int = 1) -> dict[str, torch.Tensor]:
    """The release's tensors under our names; raises ValueError for a name that no row has, or an odd shape."""
    known = {row.theirs: row for row in rows}
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name not in known:
            raise ValueError(f"{name} belongs to another network than the released one")
        try:
            renamed.update(known[name].to_ours(tensor, heads))
        except RuntimeError as error:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, which does not split into its parts") from error
    return renamed


def rename_back(tensors: Mapping[str, torch.Tensor], rows: Iterable[Row], heads: int = 1) -> dict[str, torch.Tensor]:
    """Our tensors (weights, gradients, ...) under the release's names; rows of absent tensors are skipped."""
    there = [row for row in rows if all(name in tensors for name in row.ours)]
    return {row.theirs: row.to_theirs(tensors, heads) for row in there}
