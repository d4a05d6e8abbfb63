"""A U-Net whose encoder is a classification network, of segmentation-models-pytorch; weights by name or from a file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from baselines.networks.starting import start_from
from baselines.normalising import Normalise, check_normalise, normalised


def _library() -> ModuleType:
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise ValueError("needs segmentation-models-pytorch: pip install 'sdseg-bench[networks]'") from error
    return segmentation_models_pytorch


class EncoderUNet(nn.Module):
    """Logits (B, L, H, W) of images (B, C, H, W) in [-1, 1], of any size.

    Grey images are shown as RGB, so that weights of RGB images fit. `normalise`: which values the encoder expects
    (`baselines.normalising`; ImageNet's weights "imagenet"). `norm_momentum` is the share of a step's
    statistics in those that batch norms predict with; None leaves the encoder's own, which for an EfficientNet is 0.01
    and takes thousands of steps. Raises ValueError naming the option.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        encoder: str = "resnet50",
        normalise: Normalise = "imagenet",
        norm_momentum: float | None = None,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"method.options.dims={spatial_dims}: these encoders see images; use dims=2")
        check_normalise(normalise, in_channels, "method.options.options.normalise")
        self.channels = 3 if in_channels == 1 else in_channels
        self.encoder_name, self.normalise = encoder, normalise
        library = _library()
        try:
            self.unet = library.Unet(encoder, encoder_weights=None, in_channels=self.channels, classes=out_channels)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0].partition("supported encoders")[0].strip(" ,\"'")
            raise ValueError(
                f"method.options.options.encoder={encoder}: {reason}; resnet50 and efficientnet-b5 are known, "
                "and tu-NAME for timm's"
            ) from error
        if norm_momentum is not None:
            for norm in (m for m in self.unet.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.momentum = norm_momentum

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits at the image's size."""
        return self.unet(normalised(image.expand(-1, self.channels, -1, -1), self.normalise))

    def load_pretrained(self, weights: str) -> None:
        """Start from `weights`: a name that the library downloads (imagenet), or a file, read as data.

        A file holds the encoder (in the library's names, which for a ResNet are torchvision's and timm's; encoders
        tu-NAME have timm's) or the whole U-Net. Raises ValueError naming the weights and what does not fit.
        """
        if self.channels != 3:
            raise ValueError(f"{weights}: weights of RGB images; this dataset has {self.channels} channels")
        if not _names_file(weights):
            self._download(weights)
            return
        names = f"the encoder {self.encoder_name}, or the whole U-Net, in the names of segmentation-models-pytorch"
        start_from(weights, self.unet, self.unet.encoder, "segmentation_head.", names)

    def _download(self, name: str) -> None:
        library = _library()
        known = library.encoders.encoders.get(self.encoder_name, {}).get("pretrained_settings", {name: None})
        if name not in known:
            raise ValueError(
                f"method.options.weights={name}: no such file, and the weights of {self.encoder_name} are called "
                f"{', '.join(known) or 'nothing'}"
            )
        try:
            encoder = library.encoders.get_encoder(self.encoder_name, weights=name)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"method.options.weights={name}: cannot be had from the hub ({reason}); give a file instead, "
                f"weights=FILE with the state dict of {self.encoder_name}"
            ) from error
        self.unet.encoder.load_state_dict(encoder.state_dict())


def _names_file(weights: str) -> bool:
    return Path(weights).exists() or "/" in weights or bool(Path(weights).suffix)
