"""Checkpoints trained with the released MedSegDiff code: their names beside ours, and loading them as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from baselines.medsegdiff.config import MedSegDiffConfig
from baselines.medsegdiff.model import MedSegDiff
from sdseg.weights import read_state_dict
from sdseg.weights.names import Row, rename, rename_back, unet_rows

_HIGHWAY = "hwm."


def rows(config: MedSegDiffConfig) -> list[Row]:
    """The denoiser's tensors in the release and in diffusers; some name layers that a level lacks."""
    named = unet_rows(config.blocks, config.attention)
    for level in range(len(config.widths) - 1):
        up = len(config.widths) - 1 - level  # the level that up block number `level` works on
        place = 1 + config.attention[up]
        down_name = f"input_blocks.{(level + 1) * (config.blocks + 1)}.0.op"
        up_name = f"output_blocks.{level * (config.blocks + 1) + config.blocks}.{place}.conv"
        for leaf in ("weight", "bias"):
            named.append(Row(f"{down_name}.{leaf}", (f"down_blocks.{level}.downsamplers.0.conv.{leaf}",)))
            named.append(Row(f"{up_name}.{leaf}", (f"up_blocks.{level}.upsamplers.0.conv.{leaf}",)))
    return named


def load_official(source: Path | str | Mapping[str, torch.Tensor], **options: Any) -> MedSegDiff:
    """The model of a released checkpoint (`savedmodel*.pt`, or the averaged `emasavedmodel*.pt`), or of its tensors.

    The shape is read off the tensors; `options` are further fields of MedSegDiffConfig. A file is read as data, and
    nothing in it runs. Raises ValueError naming the file and the tensor that is missing, surplus or misshapen.
    """
    if isinstance(source, Mapping):
        return _build(source, options)
    try:
        return _build(read_state_dict(Path(source)), options)
    except ValueError as error:
        text = str(error).splitlines()[0]
        if text.startswith(str(source)):
            raise
        raise ValueError(f"{source}: no MedSegDiff checkpoint ({text})") from error


def to_official(model: MedSegDiff, tensors: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Tensors named as in `model.network` (its weights, or gradients) under the release's names.

    Raises ValueError for `v2_paper`, which the release does not have.
    """
    if model.config.version == "v2_paper":
        raise ValueError("the released code has no v2_paper; only v1 and v2 have its names")
    tensors = model.network.state_dict() if tensors is None else tensors
    core = {n.removeprefix("unet."): t for n, t in tensors.items() if n.startswith("unet.")}
    highway = {n: t for n, t in tensors.items() if n.startswith(_HIGHWAY)}
    return rename_back(core, rows(model.config)) | highway


def _build(given: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> MedSegDiff:
    state = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    config = MedSegDiffConfig.model_validate({**_shape(state, options.get("image_size", 256)), **options})
    model = MedSegDiff(config)
    core = {name: tensor for name, tensor in state.items() if not name.startswith(_HIGHWAY)}
    known = rows(config)
    theirs = {f"unet.{name}": row.theirs for row in known for name in row.ours}
    tensors = {f"unet.{name}": tensor for name, tensor in rename(core, known).items()}
    tensors |= {name: tensor for name, tensor in state.items() if name.startswith(_HIGHWAY)}
    wanted = model.network.state_dict()
    for name in [*wanted, *tensors]:
        shown = theirs.get(name, name)
        if name not in tensors:
            raise ValueError(f"{shown} is missing")
        if name not in wanted:
            raise ValueError(f"{shown} belongs to another network")
        if tensors[name].shape != wanted[name].shape:
            raise ValueError(f"{shown} has shape {tuple(tensors[name].shape)}, expected {tuple(wanted[name].shape)}")
    model.network.load_state_dict(tensors)
    return model.eval()


def _shape(state: Mapping[str, torch.Tensor], size: int) -> dict[str, Any]:
    """What the tensors tell of the configuration; `size` counts for V2 alone, whose tensors do not tell it."""
    needed = ("input_blocks.0.0.weight", "out.2.weight", "hwm.conv_blocks_context.0.blocks.0.conv.weight")
    for name in needed:
        if name not in state:
            raise ValueError(f"{name} is missing")
    stem, out = state[needed[0]], state[needed[1]]
    width, labels = stem.shape[0], out.shape[0] // 2
    downs = sorted(int(n.split(".")[1]) for n in state if n.startswith("input_blocks.") and n.endswith(".op.weight"))
    levels, blocks = len(downs) + 1, (downs[0] - 1 if downs else _count(state, "input_blocks.") - 1)
    firsts = [1 + level * (blocks + 1) for level in range(levels)]
    outputs = [state.get(f"input_blocks.{i}.0.out_layers.3.weight") for i in firsts]
    if any(x is None for x in outputs):
        raise ValueError("the denoiser's levels do not have the same number of residual blocks")
    attends = [level for level, i in enumerate(firsts) if f"input_blocks.{i}.1.qkv.weight" in state]
    filters = state.get("hwm.ffparser.0.complex_weight")
    size = size if filters is None else 2 * filters.shape[1]
    return {
        "version": "v2" if filters is None else "v1",
        "channels": stem.shape[1] - labels,
        "labels": labels,
        "image_size": size,
        "width": width,
        "channel_mult": tuple(x.shape[0] // width for x in outputs if x is not None),
        "blocks": blocks,
        "attention_px": size >> attends[0] if attends else 1,
        "poolings": _count(state, "hwm.conv_blocks_context.") - 1,
    }


def _count(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
