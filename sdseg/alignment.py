"""Optional feature alignment: in training a U-Net feature is pulled towards a frozen image encoder's patch tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sdseg.architecture import Architecture
from sdseg.config import Alignment
from sdseg.weights.reading import read_state_dict

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureAlignment(nn.Module):
    """Negative cosine similarity of projected U-Net features and teacher tokens (LEAF, after REPA).

    The projector is trained and has no part in prediction. The teacher is loaded when it is first needed, follows the
    module to its device, and is neither a parameter nor in the state_dict. Any module that maps images (B, 1 or 3, H,
    W) in [-1, 1] to (B, teacher_width, h, w) may be given in its place.
    """

    def __init__(self, config: Alignment, shape: Architecture, teacher: nn.Module | None = None) -> None:
        super().__init__()
        if config.level >= len(shape.unet_widths):
            raise ValueError(f"alignment.level={config.level}: this U-Net has levels 0 to {len(shape.unet_widths) - 1}")
        self.config = config
        hidden = config.projector_width
        self.projector = nn.Sequential(
            nn.Linear(shape.unet_widths[config.level], hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, config.teacher_width),
        )
        # In a tuple, where state_dict, the optimiser and DDP do not look.
        self._teacher = () if teacher is None else (teacher.requires_grad_(False).eval(),)
        self._feature: torch.Tensor | None = None

    def watch(self, down_blocks: nn.ModuleList) -> None:
        """Keep the output of the configured down block of a diffusers U-Net in every forward pass with gradients."""
        self._hook = down_blocks[self.config.level].register_forward_hook(self._keep)

    def unwatch(self) -> None:
        """End what `watch` began."""
        self._hook.remove()

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self._feature = output[0]

    def load(self) -> nn.Module:
        """The teacher, loaded if it was not yet; raises ValueError where it cannot be."""
        if not self._teacher:
            self._teacher = (load_teacher(self.config).to(next(self.parameters()).device),)
        return self._teacher[0]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FeatureAlignment:
        for teacher in self._teacher:
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The loss, in [-1, 1], of images (B, C, H, W) in [-1, 1] whose denoising the U-Net has just passed.

        Tokens are resized bilinearly to the feature's grid. Raises ValueError where the teacher has another width.
        """
        feature, self._feature = self._feature, None
        if feature is None:
            raise RuntimeError("alignment needs a forward pass of the watched U-Net with gradients first")
        with torch.no_grad():
            tokens = self.load()(image).float()
        if tokens.shape[1] != self.config.teacher_width:
            raise ValueError(
                f"alignment.teacher_width={self.config.teacher_width}: this teacher's tokens are {tokens.shape[1]} wide"
            )
        tokens = F.interpolate(tokens, feature.shape[-2:], mode="bilinear", align_corners=False)
        projected = self.projector(feature.flatten(2).transpose(1, 2))  # (B, h * w, teacher_width)
        return -F.cosine_similarity(projected.float(), tokens.flatten(2).transpose(1, 2), dim=-1).mean()


class PatchTokens(nn.Module):
    """Patch tokens of a timm vision transformer as a map, without its class and register tokens."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, vit: Any, size: int) -> None:
        super().__init__()
        self.vit, self.size = vit, size
        facts = vit.pretrained_cfg
        for name, usual in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(facts.get(name) or usual).view(3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, width, h, w) of images (B, 1 or 3, H, W) in [-1, 1], brought to size x size pixels."""
        pixels = (image.expand(-1, 3, -1, -1) + 1) / 2
        pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        tokens = self.vit.forward_features((pixels - self.mean) / self.std)[:, self.vit.num_prefix_tokens :]
        return tokens.transpose(1, 2).unflatten(2, self.vit.patch_embed.grid_size)


def load_teacher(config: Alignment) -> PatchTokens:
    """The pretrained teacher, frozen, from the hub or from `config.weights`; never a randomly initialised one.

    Raises ValueError where timm is missing, does not know the name, or there are no weights that fit.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError("feature alignment needs timm: pip install 'sdseg-bench[alignment]'") from error
    name = f"alignment.teacher={config.teacher}"
    if not timm.is_model(config.teacher.split(".")[0]):
        raise ValueError(f"{name}: timm knows no such model; vit_base_patch14_dinov2.lvd142m is the default")
    source = {} if config.weights is None else _local_source(Path(config.weights))
    try:
        with torch.random.fork_rng(devices=[]):  # what a step draws must not depend on when the teacher was loaded
            vit: Any = timm.create_model(
                config.teacher,
                pretrained=True,
                num_classes=0,
                img_size=config.teacher_size,
                pretrained_cfg_overlay=source,
            )
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if config.weights is not None:
            raise ValueError(
                f"{config.weights}: does not fit {name} ({reason}); expected that model's weights"
            ) from error
        raise ValueError(f"{name}: cannot be had from the hub ({reason}); give alignment.weights=FILE") from error
    if not hasattr(vit, "num_prefix_tokens"):
        raise ValueError(f"{name}: not a vision transformer with patch tokens")
    vit.pretrained_cfg.pop("state_dict", None)  # the file's tensors, no longer needed
    return PatchTokens(vit, config.teacher_size).requires_grad_(False).eval()


def _local_source(path: Path) -> dict[str, Any]:
    # Without the classifier, and with no classifier expected: then timm loads strictly.
    state = {k: v for k, v in read_state_dict(path).items() if not k.startswith("head.")}
    if not state:
        raise ValueError(f"{path}: holds no tensors; expected a teacher's weights")
    return {"state_dict": state, "num_classes": 0, "label_offset": 0}
