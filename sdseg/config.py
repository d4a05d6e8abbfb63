"""Everything that defines an SDSeg model besides its weights: the paper's switches and the variants that came after."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sdseg.architecture import Architecture
from sdseg.control import Control, check_control
from sdseg.schedule import PredictionType


class Alignment(BaseModel):
    """Alignment of a U-Net feature with a frozen teacher's patch tokens while training (see `sdseg.alignment`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: str = "vit_base_patch14_dinov2.lvd142m"  # a vision transformer of timm
    weights: str | None = None  # a file of its weights (.safetensors, .pth); the hub's otherwise
    weight: float = Field(default=0.75, gt=0)
    level: int = Field(default=0, ge=0)  # the U-Net's down block; 0 ends at half the latent grid, 16 x 16 at 256 pixels
    teacher_size: int = Field(default=224, gt=0)  # pixels per side that the teacher sees
    teacher_width: int = Field(default=768, gt=0)
    projector_width: int = Field(default=2048, gt=0)


class SDSegConfig(BaseModel):
    """The defaults are the paper's method; Table 6 names conditioning, vision_encoder and latent_weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture
    labels: int = Field(default=1, gt=0)
    # How z_c reaches the U-Net, and whether the encoder that makes it learns. Frozen means the codec's own encoder,
    # light a small one that learns.
    conditioning: Literal["concat", "cross_attention"] = "concat"
    vision_encoder: Literal["trainable", "light", "frozen"] = "trainable"
    prediction: PredictionType = "eps"
    latent_weight: float = Field(default=1.0, ge=0)  # lambda of Eq. 3; 0 is "no latent loss"
    # Weight of Dice + BCE between the decoded estimate and the mask: fine-tuning end to end.
    pixel_weight: float = Field(default=0.0, ge=0)
    # "last" with noise "zeros" makes a deterministic network of the same parts: what does the noise buy?
    timesteps: Literal["uniform", "last"] = "uniform"
    noise: Literal["gaussian", "zeros"] = "gaussian"
    # Of the noise: null, SDSeg's, or linear in beta (LEAF). "flow" has its own (`sdseg.schedule.RectifiedFlow`).
    schedule: Literal["linear"] | None = None
    # What the U-Net sees in place of its own case's z_t (see `sdseg.control`); "none" is timesteps=last, noise=zeros.
    control: Control | None = None
    # 1 / std of the latents of the first batch (as released) or of all training masks, or a number.
    latent_scale: Literal["first_batch", "dataset"] | float = "first_batch"
    # Several labels: a threshold each, or the release's softmax over the labels and their union.
    multiclass: Literal["independent", "softmax"] = "independent"
    label_lr_scale: float = Field(default=1.0, gt=0)  # of the class embedding; 100 in the release
    alignment: Alignment | None = None
    # Pretrained weights to start from: folders or files that `sdseg import-weights` wrote, or names on the hub.
    autoencoder: str | None = None
    denoiser_weights: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_diffusion(cls, values: Any) -> Any:
        none = isinstance(values, dict) and values.get("control") == "none"
        return {**values, "timesteps": "last", "noise": "zeros"} if none else values

    @model_validator(mode="after")
    def _noise_to_predict(self) -> SDSegConfig:
        check_control(self.control, self.prediction == "z0", "set prediction=z0")
        if self.noise == "zeros" and self.control not in (None, "none"):
            raise ValueError(f"control={self.control} needs noise=gaussian")
        if self.prediction == "flow" and (self.schedule or self.noise == "zeros"):
            raise ValueError(
                "prediction=flow has a path of its own from gaussian noise; leave schedule=null, noise=gaussian"
            )
        if self.noise == "zeros" and self.prediction == "eps":
            raise ValueError("noise=zeros leaves no noise to predict; set prediction to z0 or v")
        return self

    @property
    def classes(self) -> int:
        """Rows of the class embedding; 0 where a single mask needs none."""
        if self.labels == 1:
            return 0
        return self.labels + (self.multiclass == "softmax")
