"""SSFormer's golden data: values of the released code on procedural weights, and the limits to compare within."""

from __future__ import annotations

import numpy as np
import torch

from baselines.networks.ssformer import Size, SSFormer
from baselines.normalising import normalised
from tests.parity import procedural
from tests.parity.folder import GoldenFolder


class Golden(GoldenFolder):
    """The whole folder."""

    def __init__(self) -> None:
        super().__init__("ssformer", "manifest_L.json")

    def empty_network(self, config: str) -> SSFormer:
        """The network of a configuration, with weights of its own."""
        shape = self.json("config")["configs"][config]
        widths, depths = (tuple(shape[key]) for key in ("embed_dims", "depths"))
        return SSFormer(3, shape["classes"], Size(widths, depths, shape["decoder_dim"], ""))

    def official_state(self, config: str) -> dict[str, torch.Tensor]:
        """A complete procedural checkpoint under the released names."""
        tensors = self.json(f"manifest_{config}")["tensors"]
        return {key: procedural.weight(key, entry["shape"], self.salt) for key, entry in tensors.items()}

    def network(self, config: str, training: bool = False) -> SSFormer:
        """That checkpoint's network; in training without dropout and stochastic depth."""
        network = self.empty_network(config)
        network.load_state_dict(self.official_state(config))
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "drop_path"):
                module.drop_path = 0.0
        return network.train(training)

    def seen(self, name: str, *shape: int) -> torch.Tensor:
        """An image as the network is shown it."""
        return normalised(2 * self.image(name, *shape) - 1, "imagenet")

    def soft_masks(self, names: list[str], side: int) -> torch.Tensor:
        """Masks (B, 1, side, side) of 255 inside and 96 in a ring around, over 255."""
        inside, around = (
            torch.stack([procedural.ellipse(name, self.salt, side, scale) for name in names]) for scale in (1.0, 1.2)
        )
        return (255.0 * inside + 96.0 * (around & ~inside)).unsqueeze(1) / 255

    def unpacked(self, name: str, width: int, file: str) -> np.ndarray:
        """A mask (H, width) bool that is stored as bits."""
        return np.unpackbits(self.tensors(file)[name].numpy(), axis=-1)[:, :width] > 0


def thinned(x: torch.Tensor, stored: str | None) -> torch.Tensor:
    """The part of a tensor that a note like "[:, ::4, :]" says."""
    if stored is None:
        return x
    strides = [int(part.rpartition("::")[2]) if "::" in part else 1 for part in stored.strip("[.]").split(",") if part]
    return x[(..., *(slice(None, None, stride) for stride in strides))]
