"""`sdseg import-weights`: other people's checkpoints into safetensors that this project and diffusers load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DModel

from sdseg.architecture import ARCHITECTURES
from sdseg.denoiser import build_unet
from sdseg.mask_codec import build_autoencoder
from sdseg.model_card import write_model_card
from sdseg.weights.names import codec_rows, rename
from sdseg.weights.official import CODEC, EMA, VISION, sdseg_from_official
from sdseg.weights.pretrained import UNET, fill, part, release_unet
from sdseg.weights.reading import read_state_dict
from sdseg.weights.shapes import coder_shape, unet_shape

_KNOWN = (
    "an SDSeg checkpoint, latent diffusion's kl-f8 or lsun_churches256, Stable Diffusion's (its autoencoder is taken), "
    "or a folder of diffusers' AutoencoderKL or UNet2DModel"
)


class _Import(NamedTuple):
    model: Any  # has save_pretrained
    what: str  # one line
    facts: dict[str, Any]  # for the model card


def import_weights(src: Path, out: Path) -> str:
    """Write the model found in `src` into the new or empty folder `out`; returns one line that says what it is.

    An SDSeg checkpoint becomes what `SDSeg.from_pretrained` loads, an autoencoder or a U-Net what diffusers and the
    options `autoencoder` and `denoiser_weights` load. Raises ValueError naming a source that is none of these, or a
    folder `out` that holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: not empty; choose a new folder")
    imported = _from_folder(src) if src.is_dir() else _from_file(src)
    out.mkdir(parents=True, exist_ok=True)
    imported.model.save_pretrained(out)
    write_model_card(out, {"source": src.name, **imported.facts})
    return f"{src}: {imported.what}"


def _from_file(src: Path) -> _Import:
    state = read_state_dict(src)
    try:
        if part(state, UNET) and part(state, CODEC) and f"{VISION}out.weight" in state:
            return _sdseg(state)
        if any(".transformer_blocks." in name for name in part(state, UNET)):
            return _autoencoder(part(state, CODEC), "the autoencoder of a Stable Diffusion checkpoint")
        if part(state, UNET):
            return _unet(part(state, UNET))
        codec = {name: tensor for name, tensor in state.items() if not name.startswith(("loss.", EMA))}
        if "encoder.conv_in.weight" in codec and "decoder.conv_in.weight" in codec:
            return _autoencoder(codec, "a KL autoencoder of latent diffusion")
        raise ValueError(f"it begins with {next(iter(state))}")
    except ValueError as error:
        raise ValueError(f"{src}: not a checkpoint known here ({error}); expected {_KNOWN}") from error


def _sdseg(state: Mapping[str, torch.Tensor]) -> _Import:
    model = sdseg_from_official(state)
    averaged = "averaged" if part(state, EMA) else "raw"
    several = f", {model.config.labels} labels" if model.config.labels > 1 else ""
    size = sum(p.numel() for p in model.parameters())
    facts = {"title": "SDSeg", "architecture": model.config.architecture.model_dump(), "parameters": size}
    what = f"SDSeg of the released code with {averaged} U-Net{several}, {size / 1e6:.1f} M parameters"
    return _Import(model, what, {**facts, "weights": f"{averaged} U-Net, raw vision encoder"})


def _autoencoder(state: Mapping[str, torch.Tensor], what: str) -> _Import:
    shape = coder_shape(state)
    rows = codec_rows(shape.blocks, len(shape.widths))
    layout = {"codec_widths": shape.widths, "codec_blocks": shape.blocks, "latent_channels": shape.latent_channels}
    model = build_autoencoder(ARCHITECTURES["paper"].model_copy(update=layout))
    fill(model, rename(state, rows), rows)
    return _named(model, what, "Mask autoencoder for SDSeg")


def _unet(state: Mapping[str, torch.Tensor]) -> _Import:
    shape, (tensors, rows) = unet_shape(state), release_unet(state)
    inputs, outputs = state["input_blocks.0.0.weight"].shape[1], state["out.2.weight"].shape[0]
    layout = {"unet_widths": shape.widths, "unet_blocks": shape.blocks, "attention_levels": shape.attention}
    paper = ARCHITECTURES["paper"].model_copy(update={**layout, "latent_channels": outputs})
    with torch.device("meta"):
        config = build_unet(paper, len(state.get("label_emb.weight", ()))).config
    model = UNet2DModel.from_config({**config, "in_channels": inputs})
    fill(model, tensors, rows)
    what = f"a latent-diffusion U-Net with {inputs} input channels and {paper.heads} heads at every width, raw weights"
    return _named(model, what, "U-Net to start SDSeg's denoiser from")


def _named(model: Any, what: str, title: str) -> _Import:
    size = sum(p.numel() for p in model.parameters())
    return _Import(
        model, f"{what}, {size / 1e6:.1f} M parameters", {"title": title, "parameters": size, "weights": what}
    )


def _from_folder(src: Path) -> _Import:
    for kind in (AutoencoderKL, UNet2DModel):
        for folder in (src, src / "vae", src / "unet"):
            config = folder / "config.json"
            if config.is_file() and f'"{kind.__name__}"' in config.read_text(encoding="utf-8", errors="replace"):
                try:
                    model = kind.from_pretrained(folder)
                except Exception as error:
                    reason = str(error).splitlines()[0]
                    raise ValueError(f"{folder}: no readable {kind.__name__} ({reason}); copy it again") from error
                return _named(model, f"diffusers' {kind.__name__}", f"{kind.__name__} for SDSeg")
    raise ValueError(f"{src}: no model known here (no config.json of one); expected {_KNOWN}")
