"""Checkpoints that the released Diff-U-Net code trained, read as data; the network's shape is read off the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from baselines.diff_unet.network import DiffUNet
from sdseg.weights import read_state_dict


def load_official(source: Path | str | Mapping[str, torch.Tensor]) -> DiffUNet:
    """The network of a checkpoint file or of its tensors by name, saved from one process or several ("module.").

    A run's model ("network.") is one too.

    Raises ValueError naming the file, and the tensor that is missing or does not fit.
    """
    named = source if isinstance(source, Mapping) else read_state_dict(Path(source))
    origin = "state dict" if isinstance(source, Mapping) else str(source)
    state = {name.removeprefix("module.").removeprefix("network."): tensor for name, tensor in named.items()}
    try:
        network = _empty_network(state)
        network.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{origin}: not a Diff-U-Net checkpoint ({reason}); expected the tensors embed_model.* and model.* that "
            "the released code saves"
        ) from error
    return network.eval()


def _empty_network(state: Mapping[str, torch.Tensor]) -> DiffUNet:
    encoder = ["conv_0", *(f"down_{i}.convs" for i in range(1, 5))]
    first = state["embed_model.conv_0.conv_0.conv.weight"]
    last = state["model.final_conv.weight"]
    features = [state[f"embed_model.{block}.conv_1.conv.weight"].shape[0] for block in encoder] + [last.shape[1]]
    return DiffUNet(first.ndim - 2, first.shape[1], last.shape[0], features)
