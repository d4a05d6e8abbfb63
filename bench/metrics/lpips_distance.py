"""LPIPS v0.1 with the AlexNet trunk: the heads are the `lpips` package's, the trunk is verified first."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from bench.metrics.lpips_trunk import TRUNK_SHA256, LpipsUnavailable, Trunk
from bench.metrics.perceptual import images_at_once

Features = list[torch.Tensor]  # one (N, C_k, H_k, W_k) per stage, of unit length along C_k


class Lpips:
    """LPIPS between maps in [0, 1], averaged over each image; one channel stands for three equal ones.

    `network` is the package's own module with the trunk in it.
    """

    def __init__(self, trunk: Trunk, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._trunk = trunk
        self.network = _network(trunk).to(self.device)

    def __reduce__(self) -> tuple[Any, ...]:
        # The package's module can be imported only where the operators that torchvision lacks are declared.
        return Lpips, (self._trunk, str(self.device))

    def facts(self) -> dict[str, str]:
        """What the distances depend on, for the record."""
        return {
            "lpips_heads": "lpips v0.1 alex",
            "lpips_trunk": "ImageNet AlexNet",
            "lpips_trunk_sha256": TRUNK_SHA256,
            "lpips_input": "[-1, 1]",
        }

    @torch.inference_mode()
    def features(self, maps: torch.Tensor) -> Features:
        """The normalised features of maps (N, 1 or 3, H, W) in [0, 1]: about 10 floats per pixel."""
        import lpips

        stages: list[Features] = []
        for part in maps.split(images_at_once(maps, self.device)):
            scaled = part.to(self.device, torch.float32).expand(-1, 3, -1, -1) * 2 - 1
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # a GPU rounds to 10 bits otherwise
                outputs = self.network.net(self.network.scaling_layer(scaled))
            stages.append([lpips.normalize_tensor(output) for output in outputs])
        return [torch.cat(parts) for parts in zip(*stages, strict=True)]

    @torch.inference_mode()
    def all_distances(self, features: Features) -> torch.Tensor:
        """LPIPS (M, M) float64 between every two of M maps, from their features.

        A weighted squared distance is |a|^2 + |b|^2 - 2 ab: one matrix product per stage instead of a pass over the
        features for every pair. What all maps share is taken off first, so that nothing cancels.
        """
        total = torch.zeros(len(features[0]), len(features[0]), dtype=torch.float64)
        for head, stage in zip(self.network.lins, features, strict=True):
            weights = head.model[-1].weight.double().view(-1, 1)
            apart = (stage - stage.mean(0)).flatten(2).double()  # (M, C, pixels)
            products = ((apart * weights).flatten(1) @ apart.flatten(1).T / apart.shape[-1]).cpu()
            squares = products.diagonal()
            total += squares[:, None] + squares - products - products.T
        return total.clamp(min=0)


def _network(trunk: Trunk) -> Any:
    from sdseg.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    try:
        import lpips
    except Exception as error:
        raise LpipsUnavailable(f"the package lpips cannot be imported: {error}") from error
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # it starts from a random trunk
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    stages = (getattr(network.net, f"slice{number}") for number in range(1, 6))
    parameters = {f"features.{name}": value for stage in stages for name, value in stage.named_parameters()}
    if parameters.keys() != trunk.tensors.keys():
        raise LpipsUnavailable("the package lpips lays out its trunk differently; version 0.1.4 is known to work")
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(trunk.tensors[name])
    return network.requires_grad_(False).eval()
