"""Checkpoints of the released SDSeg code to a model and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sdseg.config import SDSegConfig
from sdseg.model import SDSeg
from sdseg.schedule import NoiseSchedule
from sdseg.weights.names import codec_rows, encoder_rows, rename, rename_back, unet_rows
from sdseg.weights.pretrained import UNET, fill, part, release_unet
from sdseg.weights.shapes import sdseg_architecture

CODEC, VISION, EMA, SCALE = "first_stage_model.", "cond_stage_model.", "model_ema.", "scale_factor"


def sdseg_from_official(state: Mapping[str, torch.Tensor], use_ema: bool = True) -> SDSeg:
    """The model of a released checkpoint's state dict, its architecture read off the shapes.

    `use_ema` takes the averaged U-Net, as the release predicts with, where there is one. Raises ValueError naming
    the tensor that is missing, surplus or misshapen.
    """
    unet, codec, vision = (_required(state, prefix) for prefix in (UNET, CODEC, VISION))
    shape = sdseg_architecture(unet, codec, vision)
    averaged = part(state, EMA)
    if use_ema and averaged:
        unet = {name: _averaged(averaged, name) for name in unet}
    classes = len(unet.get("label_emb.weight", ()))
    if classes in (1, 2):
        raise ValueError(f"label_emb.weight has {classes} rows; expected none, or the labels and their union")
    options = {"labels": classes - 1, "multiclass": "softmax", "label_lr_scale": 100.0} if classes else {}
    if SCALE not in state:
        raise ValueError(f"{SCALE} is missing: training had not begun")
    scale = float(state[SCALE])
    model = SDSeg(SDSegConfig.model_validate({"architecture": shape, "latent_scale": scale, **options}))
    _check_schedule(state)
    codec_names = codec_rows(shape.codec_blocks, len(shape.codec_widths))
    vision_names = encoder_rows(shape.vision_blocks, len(shape.vision_widths))
    assert model.vision_encoder is not None
    for prefix, module, tensors, rows in (
        (UNET, model.denoiser.unet, *release_unet(unet)),
        (CODEC, model.codec.autoencoder, rename(codec, codec_names), codec_names),
        (VISION, model.vision_encoder, rename(vision, vision_names), vision_names),
    ):
        try:
            fill(module, tensors, rows)
        except ValueError as error:
            raise ValueError(f"{prefix}{error}") from error
    model.codec.latent_scale.fill_(scale)
    return model.eval()


def _required(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    tensors = part(state, prefix)
    if not tensors:
        prefixes = sorted({name.split(".")[0] for name in state})
        raise ValueError(f"no tensors below {prefix}, as SDSeg has; it holds {', '.join(prefixes[:6])}")
    return tensors


def _averaged(averaged: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    flat = _flat(name)
    if flat not in averaged:
        raise ValueError(f"{EMA}{flat} is missing, the averaged {UNET}{name}")
    return averaged[flat]


def _flat(name: str) -> str:
    # A buffer's name may hold no dots; the release drops them.
    return f"diffusion_model{name.replace('.', '')}"


def _check_schedule(state: Mapping[str, torch.Tensor]) -> None:
    theirs, ours = state.get("alphas_cumprod"), NoiseSchedule.scaled_linear().alphas_cumprod
    if theirs is not None and not (theirs.shape == ours.shape and torch.allclose(theirs.float(), ours, rtol=1e-4)):
        raise ValueError("alphas_cumprod is another noise schedule; expected 1000 steps from 0.0015 to 0.0155")


def to_official(model: SDSeg) -> dict[str, torch.Tensor]:
    """State dict that the released code loads; raw and averaged U-Net are both the model's present one.

    Raises ValueError for a model that the released code has no configuration for.
    """
    config, shape = model.config, model.config.architecture
    demands = {
        "prediction=eps": config.prediction == "eps" and not shape.precondition,
        "schedule=null": config.schedule is None,
        "conditioning=concat": config.conditioning == "concat",
        "vision_encoder=trainable": config.vision_encoder == "trainable",
        "multiclass=softmax": config.labels == 1 or config.multiclass == "softmax",
        "32 norm groups": shape.norm_groups == 32,
        "attention in encoder and decoder": shape.codec_attention and shape.vision_attention,
    }
    if not all(demands.values()):
        lacking = next(name for name, fulfilled in demands.items() if not fulfilled)
        raise ValueError(f"the released code cannot hold this model: it needs {lacking}")
    unet = official_unet(model, model.denoiser.unet.state_dict())
    codec = rename_back(model.codec.autoencoder.state_dict(), codec_rows(shape.codec_blocks, len(shape.codec_widths)))
    assert model.vision_encoder is not None
    return {
        **_schedule_buffers(),
        SCALE: model.codec.latent_scale.detach().clone(),
        **{UNET + name: tensor for name, tensor in unet.items()},
        f"{EMA}decay": torch.tensor(0.9999),
        f"{EMA}num_updates": torch.tensor(0, dtype=torch.int32),
        **{EMA + _flat(name): tensor for name, tensor in unet.items()},
        **{CODEC + name: tensor for name, tensor in codec.items()},
        **{VISION + n: t for n, t in official_vision(model, model.vision_encoder.state_dict()).items()},
    }


def official_unet(model: SDSeg, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors named as in `model.denoiser.unet` (weights or gradients) under the release's names, without prefix."""
    shape = model.config.architecture
    return rename_back(tensors, unet_rows(shape.unet_blocks, shape.attention_levels), shape.heads)


def official_vision(model: SDSeg, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors named as in `model.vision_encoder` under the release's names, without prefix."""
    shape = model.config.architecture
    return rename_back(tensors, encoder_rows(shape.vision_blocks, len(shape.vision_widths)))


def _schedule_buffers(start: float = 0.0015, end: float = 0.0155, timesteps: int = 1000) -> dict[str, torch.Tensor]:
    # The constants of `NoiseSchedule.scaled_linear`; float64 until the end, as released.
    betas = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2
    now = torch.cumprod(1 - betas, dim=0)
    before = torch.cat([now.new_ones(1), now[:-1]])
    variance = betas * (1 - before) / (1 - now)
    buffers = {
        "betas": betas,
        "alphas_cumprod": now,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": now.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - now).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - now).log(),
        "sqrt_recip_alphas_cumprod": (1 / now).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / now - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - now),
        "posterior_mean_coef2": (1 - before) * (1 - betas).sqrt() / (1 - now),
    }
    return {name: buffer.float() for name, buffer in buffers.items()}
