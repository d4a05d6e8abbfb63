"""Where networks for RGB images start: encoders of timm, and files with weights of an encoder or a whole network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from baselines.networks.timm_parts import fill_from, read_checkpoint, timm_module
from sdseg.weights.pretrained import part

# Where the classifiers of torchvision, timm and EfficientNet-PyTorch begin, which segmentation does without.
_CLASSIFIERS = ("fc.", "_fc.", "classifier.", "head.", "conv_head.", "bn2.")


def check_rgb(network: str, dims: int, channels: int) -> None:
    """Raises ValueError where a network that sees RGB images, as ImageNet's are, is to see something else."""
    if dims != 2:
        raise ValueError(f"method.options.dims={dims}: {network} sees images; use dims=2")
    if channels != 3:
        raise ValueError(
            f"{network} is shown {channels} channels: it sees RGB images, and grey ones with "
            "method.options.normalise=imagenet"
        )


def timm_encoder(name: str) -> nn.Module:
    """An encoder of timm that gives a list of maps, finest first; ValueError where timm is missing or lacks it."""
    create = timm_module("models").create_model
    try:
        return create(name, features_only=True)
    except RuntimeError as error:
        raise ValueError(f"method.options.options.encoder={name}: {str(error).splitlines()[0]}") from error


def start_from(weights: str, network: nn.Module, encoder: nn.Module, head: str, expected: str) -> None:
    """Fill `network` from a file, or its `encoder` alone where no tensor of the file has `head` in its name.

    Raises ValueError naming the file, what does not fit, and what was `expected`.
    """
    state = read_checkpoint(weights, head)
    if any(name.startswith(head) for name in state):
        fill_from(network, weights, expected, lambda: state)
    else:
        fill_from(encoder, weights, expected, lambda: _encoder_state(state, encoder))


def _encoder_state(state: Mapping[str, torch.Tensor], encoder: nn.Module) -> dict[str, torch.Tensor]:
    """An encoder file's tensors under the encoder's names, without wrappers and the classifier."""
    wanted = encoder.state_dict()
    for prefix in ("module.", "encoder.", "backbone.", "model."):
        state = part(state, prefix) or state
    wrapper = "model." if all(name.startswith("model.") for name in wanted) else ""  # around timm's networks
    kept = ((name, tensor) for name, tensor in state.items() if not name.startswith(_CLASSIFIERS))
    loaded = {wrapper + _flattened(name, wrapper, wanted): tensor for name, tensor in kept}
    # Files older than these counters, which only a norm without momentum reads, lack them.
    counters = {n: t for n, t in wanted.items() if n.endswith("num_batches_tracked") and n not in loaded}
    return {**loaded, **counters}


def _flattened(name: str, wrapper: str, wanted: Mapping[str, torch.Tensor]) -> str:
    # Where timm takes features out of a network, its list `stages` becomes modules stages_0, stages_1, ...
    flat = name.replace(".", "_", 1)
    return flat if wrapper + flat in wanted else name
