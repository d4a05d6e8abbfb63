"""The shape and the training switches of a MedSegDiff model; the defaults are the released 256-pixel configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sdseg.control import Control, check_control


class MedSegDiffConfig(BaseModel):
    """What makes one trained model another."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal["v1", "v2", "v2_paper"] = "v2"  # v2_paper: see `baselines.medsegdiff.paper`
    channels: int = Field(default=3, gt=0)  # of the image
    # Masks that are diffused together, one channel each. The release is binary; this is its plain extension.
    labels: int = Field(default=1, gt=0)
    image_size: int = Field(default=256, gt=0)  # V1's frequency filters and the place of the attention depend on it
    width: int = Field(default=128, gt=0)  # channels at full resolution
    # The highway network begins with width / highway_share channels; V2 then adds as many of its features as fit.
    highway_share: Literal[1, 2, 4] = 4
    channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = Field(default=2, gt=0)  # residual blocks per level
    attention_px: int = 16  # side of the level that attends
    norm_groups: int = Field(default=32, gt=0)
    poolings: int = Field(default=5, gt=0)  # of the highway network
    # What V1 adds to the denoiser's bottleneck: nothing, or a fixed random 1x1 convolution of the highway's.
    # (The release draws a new one in every call and never trains it.)
    v1_bottleneck: Literal["zero", "seeded"] = "zero"
    # What the network puts out: the noise (null, as released), the clean mask (x0), learned by its squared error, or
    # its logit (mask), learned by Dice + cross-entropy.
    prediction: Literal["x0", "mask"] | None = None
    # Helps for networks that must learn from nothing in minutes; as released none of them. Times are
    # 1000 u^(1 / (1 + late_times)), u uniform: more of those at which only the image shows where the mask is.
    late_times: float = Field(default=0.0, ge=0)
    detach_anchors: bool = True  # of V2: without it the denoiser's loss trains the highway too
    highway_dropout: float = Field(default=0.5, ge=0, lt=1)
    highway_lr_scale: float = Field(default=1.0, gt=0)
    # Two more for a network that predicts the noise. It is sqrt(1 - alpha_bar) x_t + sqrt(alpha_bar) times the output,
    # so that the copy of x_t need not be learned; the clean estimate's squared error joins the loss.
    precondition: bool = False
    estimate_weight: float = Field(default=0.0, ge=0)
    control: Control | None = None  # see `sdseg.control`
    # Soft masks become foreground from one half on, or as released from any trace.
    mask_binarise: Literal["ge_half", "gt0"] = "ge_half"

    @model_validator(mode="after")
    def _fits(self) -> MedSegDiffConfig:
        deepest = 2 ** max(self.poolings, len(self.channel_mult) - 1)
        if self.image_size % deepest:
            raise ValueError(f"image size {self.image_size} is not divisible by {deepest}, as this network needs")
        odd = [w for w in self.widths if w % self.norm_groups]
        if odd or self.width % 4:
            raise ValueError(
                f"width={self.width} must divide by 4 and all of {self.widths} by {self.norm_groups} groups"
            )
        if self.version == "v2" and (self.channel_mult[0] != 1 or self.poolings < 3):
            raise ValueError(
                "v2 adds the third-last stage's anchors: channel_mult must begin with 1, poolings be 3 or more"
            )
        if self.version == "v1" and self.v1_bottleneck == "seeded" and self.poolings != len(self.channel_mult) - 1:
            raise ValueError(f"v1_bottleneck=seeded needs poolings={len(self.channel_mult) - 1}, one less than levels")
        return self

    @model_validator(mode="after")
    def _controls(self) -> MedSegDiffConfig:
        check_control(self.control, self.prediction is not None, "set prediction=x0 or mask")
        if self.control == "none" and self.version == "v2_paper":
            raise ValueError("control=none: the paper's anchor loss is of every fifth time, and there is one; take v2")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every level of the denoiser, finest first."""
        return tuple(self.width * m for m in self.channel_mult)

    @property
    def attention(self) -> tuple[bool, ...]:
        """Which levels attend."""
        return tuple(self.image_size >> level == self.attention_px for level in range(len(self.channel_mult)))

    @property
    def highway_base(self) -> int:
        """Channels of the highway network's first stage."""
        return self.width // self.highway_share

    @property
    def modulated(self) -> int:
        """How many of the highway's first stages V1 modulates by the denoiser's down-samplers."""
        return min(4, self.poolings - 1, len(self.channel_mult) - 1) if self.version == "v1" else 0
