"""Inference that wastes nothing: precision of each part, doubling within a convolution, layout, compilation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from sdseg.cross_attention import ConditionedAttention
from sdseg.fast.constant_folding import fold_upsampling
from sdseg.fast.distillation import answering_exactly
from sdseg.fast.light_decoder import use_light_decoder
from sdseg.fast.winograd import gains, use_winograd, winograd_available
from sdseg.model import SDSeg

DType = Literal["auto", "float32", "float16", "bfloat16"]
PARTS = ("encoder", "denoiser", "decoder")


class Precision(BaseModel):
    """Arithmetic of each part. `auto` halves it on a GPU, but for a denoiser that predicts noise, and not on a CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: DType = "auto"
    denoiser: DType = "auto"
    decoder: DType = "auto"


class InferenceSettings(BaseModel):
    """How a trained model predicts. Only `decoder` and `recheck` change the model; the others change rounding."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Precision = Field(default_factory=Precision)
    # Lets a network that predicts noise run in half precision, where its error counts 38.7 times: to measure that.
    allow_amplified: bool = False
    # `nnpack` convolves by Winograd's algorithm, in float32 on a CPU; auto takes it for large encoders and decoders.
    backend: Literal["auto", "torch", "nnpack"] = "auto"
    fold_upsampling: bool = True  # these two of `torch` alone
    channels_last: bool = True
    compile: Literal["none", "default", "reduce-overhead"] = "none"  # the last one: CUDA graphs
    decoder: Literal["frozen", "light"] = "frozen"
    light_decoder: str | None = None  # a file; None is the shipped one
    # An image with more pixels than this near one half is computed again without light parts; None: never.
    recheck: int | None = Field(default=None, ge=0)


def policy(model: SDSeg, settings: InferenceSettings, device: torch.device) -> dict[str, torch.dtype]:
    """The arithmetic of each part on a device.

    Raises ValueError where half precision would be amplified and `allow_amplified` is false.
    """
    half = "float32"
    if device.type == "cuda":
        half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    amplified = model.config.prediction == "eps"
    dtypes = {}
    for part in PARTS:
        asked = getattr(settings.precision, part)
        name = asked if asked != "auto" else "float32" if part == "denoiser" and amplified else half
        if part == "denoiser" and amplified and name != "float32" and not settings.allow_amplified:
            raise ValueError(
                f"precision.denoiser={name}: a network that predicts noise stays in float32, its error counts 38.7"
                " times; use prediction z0 or v, or set allow_amplified=true to measure what it costs"
            )
        dtypes[part] = getattr(torch, name)
    return dtypes


def backends(
    model: SDSeg, settings: InferenceSettings, precision: dict[str, torch.dtype], device: torch.device
) -> dict[str, str]:
    """What computes the convolutions of each part, nnpack or torch.

    Raises ValueError where `nnpack` is asked for and cannot be had.
    """
    cpu, asked = device.type == "cpu", settings.backend
    can = {name: cpu and dtype == torch.float32 and winograd_available() for name, dtype in precision.items()}
    if asked == "nnpack" and not all(can.values()):
        raise ValueError(
            "method.inference.backend=nnpack needs a CPU that NNPACK runs on, and float32; use backend=auto"
        )
    # The images of the denoiser are too small for it to gain.
    takes = {n: n != "denoiser" and asked == "auto" and can[n] and gains(m) for n, m in _parts(model).items()}
    return {name: "nnpack" if asked == "nnpack" or taken else "torch" for name, taken in takes.items()}


def optimize(model: SDSeg, settings: InferenceSettings) -> dict[str, Any]:
    """Make a trained model ready to predict, in place; returns what was done, for the record.

    The model must lie on its device and in float32. Afterwards it can neither be trained nor take other weights.
    Its inputs, outputs and Eq. 2 stay float32. Raises ValueError as `policy`, `backends` and `use_light_decoder` do.
    """
    device = model.codec.latent_scale.device
    precision = policy(model, settings, device)
    model.eval().requires_grad_(False)
    if model.alignment is not None:
        model.alignment.unwatch()
    if settings.decoder == "light":
        use_light_decoder(model.codec, model.config.architecture, settings.light_decoder)
    backend = backends(model, settings, precision, device)
    if settings.fold_upsampling and backend["decoder"] == "torch":
        fold_upsampling(model.codec.autoencoder.decoder)
    parts = list(_parts(model).items())
    if settings.recheck is not None:
        with answering_exactly(model):
            parts += [(name, module) for name, module in _parts(model).items() if (name, module) not in parts]
    for name, module in parts:
        _use_fused_attention(module)
        # Either way: the layout that training left must not decide the rounding.
        plain = backend[name] == "nnpack" or not settings.channels_last
        module.to(memory_format=torch.contiguous_format if plain else torch.channels_last)  # type: ignore[call-overload]
        if backend[name] == "nnpack":
            use_winograd(module)
        _run_in(module, precision[name], copy=settings.compile == "reduce-overhead")
    if settings.compile != "none":
        for _, module in parts:
            module.compile(mode=settings.compile)
    return {
        **settings.model_dump(exclude={"allow_amplified", "light_decoder"}),
        "precision": {name: str(dtype).removeprefix("torch.") for name, dtype in precision.items()},
        "backend": backend,
    }


def _parts(model: SDSeg) -> dict[str, nn.Module]:
    # What runs at inference. The 1x1 convolutions between them work on the latent grid and stay as they are.
    autoencoder, vision_encoder = model.codec.autoencoder, model.vision_encoder
    return {
        "encoder": autoencoder.encoder if vision_encoder is None else vision_encoder.encoder,
        "denoiser": model.denoiser.unet,
        "decoder": autoencoder.decoder if model.codec.light is None else model.codec.light,
    }


def _use_fused_attention(module: nn.Module) -> None:
    # The newer processor is torch's scaled_dot_product_attention; it reads `heads`, never `scale`.
    for attention in module.modules():
        if isinstance(attention, Attention) and not isinstance(attention.processor, AttnProcessor2_0):
            attention.set_processor(AttnProcessor2_0())


def _run_in(module: nn.Module, dtype: torch.dtype, copy: bool) -> None:
    """Cast a part and have it take and give float32, in place: no name of a weight changes.

    `copy` is for outputs that the next call overwrites, as those of a CUDA graph.
    """
    conditioned = [m for m in module.modules() if isinstance(m, ConditionedAttention)]

    def cast(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        for attention in conditioned:
            attention.context = None if attention.context is None else attention.context.to(dtype)
        return tuple(a.to(dtype) if torch.is_tensor(a) and a.is_floating_point() else a for a in arguments)

    def restore(_: nn.Module, __: object, output: Any) -> Any:
        if torch.is_tensor(output):
            return output.to(torch.float32, copy=copy)
        output.sample = output.sample.to(torch.float32, copy=copy)
        return output

    nn.Module.to(module, dtype)  # diffusers' own warns of what is meant here
    module.register_forward_pre_hook(cast)
    module.register_forward_hook(restore)
