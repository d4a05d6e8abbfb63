"""MedSegDiff's network: guided diffusion's U-Net as diffusers has it, and the highway network that guides it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.functional import conv2d

from baselines.diffusion import LinearSchedule
from baselines.medsegdiff.config import MedSegDiffConfig
from baselines.medsegdiff.highway import Highway
from baselines.medsegdiff.paper import SSFormer, UncertainSpatialAttention
from baselines.medsegdiff.residual import make_lean

_BOTTLENECK_SEED = 0


class Guide(NamedTuple):
    """What V2 knows of an image before any noise: the same at every time, so computed once."""

    anchors: torch.Tensor  # (B, width, H, W); in `v2_paper` the highway's last features
    bottleneck: torch.Tensor  # used by `v2_paper` alone
    cal: torch.Tensor  # (B, L, H, W)

    def rows(self, index: torch.Tensor) -> Guide:
        """The guides of these images."""
        return Guide(*(x[index] for x in self))


class NetworkOutput(NamedTuple):
    """Predicted noise, variance logit and calibrated map, each (B, L, H, W); no map where it was not asked for.

    Of a network that predicts the clean mask the noise is what would lead from there to x_t.
    """

    eps: torch.Tensor
    v: torch.Tensor
    cal: torch.Tensor | None
    logit: torch.Tensor | None = None  # of the clean mask, where that is what the network predicts


def build_core(config: MedSegDiffConfig) -> UNet2DModel:
    """The denoiser on [image, x_t], with noise and variance logit as output."""
    names = ["AttnDownBlock2D" if a else "DownBlock2D" for a in config.attention]
    unet = UNet2DModel(
        in_channels=config.channels + config.labels,
        out_channels=2 * config.labels,
        layers_per_block=config.blocks,
        block_out_channels=config.widths,
        down_block_types=tuple(names),
        up_block_types=tuple(n.replace("Down", "Up") for n in reversed(names)),
        attention_head_dim=config.norm_groups,  # any divisor of the widths; set right below
        norm_num_groups=config.norm_groups,
        downsample_padding=1,
        freq_shift=0,
        flip_sin_to_cos=True,
        norm_eps=1e-5,
    )
    make_lean(unet)
    for module in unet.modules():
        if isinstance(module, Attention):  # one head at every width
            module.heads, module.scale = 1, module.inner_dim**-0.5
    # As in the release: every residual branch and the output begin as nothing.
    branches = [m.conv2 for m in unet.modules() if isinstance(m, ResnetBlock2D)]
    branches += [m.to_out[0] for m in unet.modules() if isinstance(m, Attention)]
    for layer in [*branches, unet.conv_out]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return unet


class MedSegDiffNetwork(nn.Module):
    """V1: the denoiser's features modulate the highway. V2: the highway's features are added to the denoiser's.

    Runs in float32 whatever autocast says, as released: it predicts noise, whose error is amplified.
    """

    bottleneck_weight: torch.Tensor
    bottleneck_bias: torch.Tensor
    log_alpha_bar: torch.Tensor

    def __init__(self, config: MedSegDiffConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = build_core(config)
        self.hwm = Highway(config)
        logs = LinearSchedule().alphas_cumprod.log().float()
        self.register_buffer("log_alpha_bar", logs, persistent=False)
        if config.version == "v1" and config.v1_bottleneck == "seeded":
            self._add_bottleneck(self.hwm.bottleneck_channels, config.widths[-1])
        if config.version == "v2_paper":
            deepest, time = config.widths[-1], 4 * config.width
            self.anchor = UncertainSpatialAttention(config.highway_base, config.width)
            self.ss_former = SSFormer(deepest, self.hwm.bottleneck_channels, time, config.norm_groups)

    def _add_bottleneck(self, inputs: int, outputs: int) -> None:
        # Fixed and never trained, so not part of the state dict either; drawn like any convolution.
        generator = torch.Generator().manual_seed(_BOTTLENECK_SEED)
        bound = inputs**-0.5
        for name, shape in (("weight", (outputs, inputs, 1, 1)), ("bias", (outputs,))):
            drawn = (2 * torch.rand(shape, generator=generator) - 1) * bound
            self.register_buffer(f"bottleneck_{name}", drawn, persistent=False)

    def guide(self, image: torch.Tensor) -> Guide | None:
        """V2's part that needs no noise, for images (B, C, H, W) in [0, 1]; V1 has none."""
        if self.config.version == "v1":
            return None
        with torch.autocast(image.device.type, enabled=False):
            highway = self.hwm(image.float())
            anchors = highway.anchors(self.config.width) if self.config.version == "v2" else highway.decoded[-1]
            if self.config.version == "v2" and self.config.detach_anchors:
                anchors = anchors.detach()
            return Guide(anchors, highway.bottleneck, highway.cal)

    def forward(
        self,
        image: torch.Tensor,
        x_t: torch.Tensor,
        t: torch.Tensor,
        guide: Guide | None = None,
        calibrate: bool = True,
    ) -> NetworkOutput:
        """For images (B, C, H, W) in [0, 1], noisy masks x_t (B, L, H, W) and times t (B,), whole or not.

        `guide` saves V2 its highway; without `calibrate` V1 leaves out its own where nothing else needs it.
        """
        with torch.autocast(image.device.type, enabled=False):
            image, x_t = image.float(), x_t.float()
            guide = guide or self.guide(image)
            output, cal = self._denoise(torch.cat([image, x_t], dim=1), t, guide, calibrate)
            output, v = output.split(self.config.labels, dim=1)
            eps = self._noise(output, x_t, t)
        return NetworkOutput(eps, v, cal, output if self.config.prediction == "mask" else None)

    def _noise(self, output: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        now = self._alpha_bar(t).view(-1, 1, 1, 1)
        if self.config.prediction is not None:
            x0 = output.sigmoid() if self.config.prediction == "mask" else output
            return (x_t - now.sqrt() * x0) / (1 - now).sqrt()
        return (1 - now).sqrt() * x_t + now.sqrt() * output if self.config.precondition else output

    def _alpha_bar(self, t: torch.Tensor) -> torch.Tensor:
        logs, whole = self.log_alpha_bar, t.long()
        after = (whole + 1).clamp(max=len(logs) - 1)
        return torch.lerp(logs[whole], logs[after], (t - whole).to(logs.dtype)).exp()

    def _denoise(
        self, x: torch.Tensor, t: torch.Tensor, guide: Guide | None, calibrate: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        unet = self.unet
        emb = unet.time_embedding(unet.time_proj(t))
        h = unet.conv_in(x)
        if guide is not None:
            h = h + guide.anchors if self.config.version == "v2" else self.anchor(h, guide.anchors)
        skips: list[torch.Tensor] = [h]
        downsampled: list[torch.Tensor] = []
        cal: torch.Tensor | None
        for block in unet.down_blocks:
            h, outputs = block(h, emb)
            skips += outputs
            downsampled.append(h)
        if guide is not None:
            cal = guide.cal
            if self.config.version == "v2_paper":
                h = self.ss_former(h, guide.bottleneck, emb)
        else:
            h, cal = self._highway_of_v1(x[:, : self.config.channels], h, downsampled, calibrate)
        h = unet.mid_block(h, emb)
        for block in unet.up_blocks:
            count = len(block.resnets)
            h = block(h, tuple(skips[-count:]), emb)
            del skips[-count:]
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(h))), cal

    def _highway_of_v1(
        self, image: torch.Tensor, h: torch.Tensor, downsampled: list[torch.Tensor], calibrate: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        adds = self.config.v1_bottleneck == "seeded"
        if not (adds or calibrate):
            return h, None
        highway = self.hwm(image, downsampled[: self.config.modulated])
        if adds:
            h = h + conv2d(highway.bottleneck, self.bottleneck_weight, self.bottleneck_bias)
        return h, highway.cal
