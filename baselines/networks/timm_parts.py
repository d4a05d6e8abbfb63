"""What the networks on timm's layers share: the package where it is asked for, sizes, files of released checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

import sdseg  # noqa: F401 - first, so that timm can import torchvision
from sdseg.weights import read_state_dict
from sdseg.weights.pretrained import fill, part

# What a counter of operations leaves in a checkpoint.
_COUNTED = ("total_ops", "total_params")


def timm_module(name: str = "layers") -> ModuleType:
    """`timm.NAME`; raises ValueError saying how to get timm."""
    try:
        return import_module(f"timm.{name}")
    except ImportError as error:
        raise ValueError("needs timm: pip install 'sdseg-bench[networks]'") from error


def edges(image_size: int | Sequence[int] | None, spatial_dims: int, divisor: int) -> tuple[int, int]:
    """(H, W) of an option that is an edge or two; raises ValueError for volumes, or sides that do not divide."""
    if spatial_dims != 2:
        raise ValueError(f"method.options.dims={spatial_dims}: this network sees images; use dims=2")
    if image_size is None:
        raise ValueError("method.options.input_size=null: this network has a fixed size; give an edge in pixels")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height % divisor or width % divisor or not height or not width:
        raise ValueError(f"method.options.input_size={image_size}: expected multiples of {divisor}")
    return height, width


def read_checkpoint(weights: str, marker: str) -> dict[str, torch.Tensor]:
    """Tensors of a file by name, without wrappers: `marker` is how a name begins that the whole network has."""
    state = read_state_dict(Path(weights))
    prefix = next((name.partition(marker)[0] for name in state if marker in name), "")
    return {k: v for k, v in part(state, prefix).items() if not k.endswith(_COUNTED)}


def fill_from(module: nn.Module, weights: str, expected: str, read: Callable[[], Mapping[str, torch.Tensor]]) -> None:
    """Load all of `module` from what `read` gives; raises ValueError with one line that names the file."""
    try:
        fill(module, read(), [])
    except ValueError as error:
        raise ValueError(f"method.options.weights={weights}: does not fit ({error}); expected {expected}") from error
